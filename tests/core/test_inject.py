"""Which layers get an adapter, what is frozen, and the parameter counts that the paper prints."""

from pathlib import Path

import pytest
import torch
import yaml
from helpers.toys import KINDS, adapted, encoder, tokens
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from lora2.common.errors import UserError
from lora2.core.counts import DEBERTA_V3_BASE, ROBERTA_LARGE, lora2_parameters
from lora2.core.heads import head_parameters
from lora2.core.inject import LoRA2Config, inject
from lora2.core.layers import LoRA2Linear
from lora2.core.matrices import MATRICES, SUBSETS
from lora2.core.targets import find_targets

MODELS = Path(__file__).parents[2] / "configs" / "model"

ENDINGS = {  # what each matrix is called, written out once more
    "bert": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "roberta": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "deberta-v2": ("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
    "mpnet": ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
}
ATTN_OUTPUT = {"mpnet": "attention.attn.o"}  # elsewhere as BERT has it
PREFIX = {"bert": "bert", "roberta": "roberta", "deberta-v2": "deberta", "mpnet": "mpnet"}


def expected_names(kind: str, layer: int) -> dict[str, str]:
    attn_output = ATTN_OUTPUT.get(kind, "attention.output.dense")
    endings = (*ENDINGS[kind], attn_output, "intermediate.dense", "output.dense")
    stem = f"{PREFIX[kind]}.encoder.layer.{layer}"
    return {matrix: f"{stem}.{ending}" for matrix, ending in zip(MATRICES, endings, strict=True)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_six_matrices_of_every_layer_are_found_in_the_models_order(kind):
    found = find_targets(encoder(kind), MATRICES)
    expected = {name: f"layer.{i}.{matrix}" for i in range(2) for matrix, name in expected_names(kind, i).items()}
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrix", MATRICES)
def test_each_matrix_alone(kind, matrix):
    assert find_targets(encoder(kind), [matrix]) == {
        expected_names(kind, i)[matrix]: f"layer.{i}.{matrix}" for i in range(2)
    }


@pytest.mark.parametrize("kind", KINDS)
def test_output_dense_is_not_the_attention_output_dense(kind):
    assert not [name for name in find_targets(encoder(kind), ["ffn_w2"]) if "attention" in name]
    assert all("attention" in name for name in find_targets(encoder(kind), ["attn_output"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("subset", "letters"), [("qk", "query key"), ("qv", "query value"), ("qkv", "query key value")]
)
def test_the_subsets_of_table_4(kind, subset, letters):
    assert SUBSETS[subset] == tuple(letters.split())
    found = find_targets(encoder(kind), SUBSETS[subset])
    assert sorted(found.values()) == sorted(f"layer.{i}.{matrix}" for i in range(2) for matrix in letters.split())


def test_the_order_of_the_wish_does_not_matter():
    model = encoder("bert")
    assert list(find_targets(model, MATRICES[::-1]).items()) == list(find_targets(model, MATRICES).items())


@pytest.mark.parametrize(
    ("kind", "wish", "near"),
    [("bert", "querry", "query"), ("roberta", "ffn_w3", "ffn_w2"), ("deberta-v2", "query_prok", "query_proj")],
)
def test_a_pattern_that_matches_nothing_names_near_matches(kind, wish, near):
    with pytest.raises(UserError) as error:
        find_targets(encoder(kind), ["key", wish])
    assert f"method.targets: {wish!r} matches no linear layer" in str(error.value)
    assert near in str(error.value).split("Nearest:")[1]


def test_other_models_are_matched_by_the_ends_of_names():
    model = nn.Sequential()
    model.add_module("mlp", nn.ModuleDict({"up_proj": nn.Linear(3, 4), "proj": nn.Linear(4, 3)}))
    assert find_targets(model, ["up_proj"]) == {"mlp.up_proj": "mlp.up_proj"}
    assert find_targets(model, ["proj"]) == {"mlp.proj": "mlp.proj"}  # a whole part of the name, not its tail
    with pytest.raises(UserError, match="up_proj"):
        find_targets(model, ["up_pro"])
    with pytest.raises(UserError, match=r"no linear layer$"):
        find_targets(nn.ReLU(), ["query"])


def test_injecting_twice_is_an_error():
    model, _ = adapted("bert")
    with pytest.raises(UserError, match="matches no linear layer"):
        inject(model, LoRA2Config())


@pytest.mark.parametrize("kind", KINDS)
def test_everything_but_the_factors_is_frozen(kind):
    model, adapter = adapted(kind)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        f"lora2.{name}" for name, _ in adapter.named_parameters()
    }
    assert sum(isinstance(module, LoRA2Linear) for module in model.modules()) == len(adapter.layers) == 12


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_state_keeps_the_backbones_names(kind):
    plain, (model, adapter) = set(encoder(kind).state_dict()), adapted(kind)
    assert set(model.state_dict()) == plain | {f"lora2.{name}" for name in adapter.state_dict()}


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_pooler_and_classifier(kind):
    model = encoder(kind)
    head = dict(head_parameters(model))
    outside = {
        name
        for name, _ in model.named_parameters()
        if not name.startswith((f"{PREFIX[kind]}.encoder", f"{PREFIX[kind]}.embeddings"))
    }
    assert set(head) == outside


@pytest.mark.parametrize("form", ["squared", "norm"])
@pytest.mark.parametrize("terms", [("uv",), ("uv", "UV"), ("uv", "UV", "PQ")], ids="+".join)
def test_the_adapters_penalties_are_the_oracles_over_all_matrices(terms, form):
    from helpers import oracle
    from helpers.toys import matrix

    _, adapter = adapted("bert", k=3, r=5)
    naive = oracle.penalties([matrix(layer) for layer in adapter.layers.values()], terms, form)
    ours = adapter.penalties(frozenset(terms), form)
    assert list(ours) == sorted(terms)
    for term, value in ours.items():
        assert float(value.detach()) == pytest.approx(float(naive[term]), rel=1e-5)


def test_the_norm_form_is_adaloras_mean_over_all_grams():
    """At N(0, 0.02²) every Gram is about 0, so every distance is about ‖I‖ = √k, or √r for the products."""
    _, adapter = adapted("bert", random_factors=False, k=4, r=9, init="paper")
    total = sum(float(value.detach()) for value in adapter.penalties(frozenset({"uv", "UV", "PQ"}), "norm").values())
    assert total == pytest.approx((2 * 2 + 2 * 2 + 2 * 3) / 6, rel=0.05)


def test_kept_counts_what_is_not_zero():
    _, adapter = adapted("bert", r=4)
    with torch.no_grad():
        adapter.layers["layer.1.key"].stack.lam[adapter.layers["layer.1.key"].index, 1:] = 0
    assert adapter.ranks() == dict.fromkeys(adapter.layers, 4) | {"layer.1.key": 1}


def test_alpha_over_r_is_the_scale():
    _, adapter = adapted("bert", r=4, alpha=32)
    assert {stack.scale for stack in adapter.factor_stacks()} == {8.0}


# ------------------------------------------------------------------------------ the paper's counts, on meta tensors


def on_meta(name: str, num_labels: int = 2) -> nn.Module:
    spec = yaml.safe_load((MODELS / f"{name}.yaml").read_text())
    config = AutoConfig.for_model(spec["model_type"], **spec["architecture"], num_labels=num_labels)
    with torch.device("meta"):
        return AutoModelForSequenceClassification.from_config(config)


COUNTS = [
    ("deberta_v3_base", "all", 1, 8, 167_616),
    ("deberta_v3_base", "all", 8, 8, 1_336_896),
    ("deberta_v3_base", "all", 8, 4, 1_332_000),
    ("deberta_v3_base", "qk", 1, 8, 37_440),
    ("deberta_v3_base", "qv", 1, 8, 37_440),
    ("deberta_v3_base", "qkv", 1, 8, 56_160),
    ("roberta_large", "all", 1, 8, 445_824),
]


@pytest.fixture(scope="module")
def backbones():
    return {name: on_meta(name) for name in ("deberta_v3_base", "roberta_large")}


@pytest.mark.parametrize(("name", "targets", "k", "r", "count"), COUNTS)
def test_parameter_counts(name, targets, k, r, count, backbones):
    backbone = {"deberta_v3_base": DEBERTA_V3_BASE, "roberta_large": ROBERTA_LARGE}[name]
    assert lora2_parameters(backbone, k, r, SUBSETS[targets]) == count
    shapes = [
        backbones[name].get_submodule(path).weight.shape for path in find_targets(backbones[name], SUBSETS[targets])
    ]
    assert sum(k * sum(shape) + 2 * k * r + r for shape in shapes) == count


@pytest.mark.parametrize(("name", "k", "count"), [("deberta_v3_base", 8, 1_336_896), ("roberta_large", 1, 445_824)])
def test_the_injected_parameters_are_as_many(name, k, count):
    model = on_meta(name)
    with torch.device("meta"):
        adapter = inject(model, LoRA2Config(k=k, r=8), train_head=False)
    assert sum(p.numel() for p in adapter.parameters()) == count
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == count
    assert len(adapter.layers) == {"deberta_v3_base": 72, "roberta_large": 144}[name]
    assert len(adapter.stacks) == 3  # attention, FF W1, FF W2: five tensors each, not five for each matrix


def test_an_adapted_encoder_still_trains_a_step():
    model, adapter = adapted("roberta", random_factors=False, init="orthogonal")
    model(**tokens()).logits.square().sum().backward()
    assert all(p.grad is not None for p in adapter.parameters())
    assert any(stack.lam.grad.any() for stack in adapter.factor_stacks())  # Λ moves first: it is what is zero
