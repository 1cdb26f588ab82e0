"""Encoders of transformers beyond the four of the configurations: their six matrices and their heads, by structure."""

from pathlib import Path

import pytest
import torch
from helpers.toys import tokens
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from lora2 import LoRA2Config, inject
from lora2.common.errors import UserError
from lora2.core.heads import head_modules
from lora2.core.matrices import MATRICES
from lora2.core.targets import find_targets

# peft 0.21 asks transformers 5.23 for a name that it will drop
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")

SIZES = {
    "vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 40, "pad_token_id": 1,
}  # fmt: skip
HEADS = {  # what is trained besides the adapter
    "albert": ("albert.pooler", "classifier"),
    "camembert": ("classifier",),
    "data2vec-text": ("classifier",),
    "deberta-v2": ("pooler", "classifier"),
    "distilbert": ("pre_classifier", "classifier"),
    "electra": ("classifier",),
    "ernie": ("ernie.pooler", "classifier"),
    "megatron-bert": ("bert.pooler", "classifier"),
    "xlm-roberta": ("classifier",),
}
LAYERS = {"albert": 1}  # its layers share their weights


def classifier(kind: str, **more: object) -> PreTrainedModel:
    """A two-layer classifier of three classes with random weights, in evaluation mode."""
    torch.manual_seed(0)
    names = {"hidden_dim": 24} if kind == "distilbert" else {}
    sizes = {"embedding_size": 16} if kind in ("albert", "electra") else {}
    config = AutoConfig.for_model(kind, **SIZES, **names, **sizes, **more, num_labels=3)
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("kind", HEADS)
def test_six_matrices_of_every_layer_are_found(kind: str):
    model = classifier(kind)
    found = find_targets(model, MATRICES)
    layers = LAYERS.get(kind, 2)
    assert sorted(found.values()) == sorted(f"layer.{i}.{matrix}" for i in range(layers) for matrix in MATRICES)
    shapes = {matrix: tuple(model.get_submodule(name).weight.shape) for name, matrix in found.items()}
    assert {shapes[f"layer.0.{matrix}"] for matrix in MATRICES[:4]} == {(16, 16)}
    assert (shapes["layer.0.ffn_w1"], shapes["layer.0.ffn_w2"]) == ((24, 16), (16, 24))
    outputs = {matrix: name for name, matrix in found.items() if matrix.endswith(("attn_output", "value"))}
    for i in range(layers):  # the output lies in the attention, as the value does
        start = outputs[f"layer.{i}.value"].split("attention")[0]
        assert outputs[f"layer.{i}.attn_output"].startswith(f"{start}attention")


@pytest.mark.parametrize("kind", HEADS)
def test_a_step_trains_adapter_and_head_and_nothing_else(kind: str):
    model = classifier(kind)
    adapter = inject(model, LoRA2Config(k=2, r=2))
    assert head_modules(model) == HEADS[kind]
    expected = {f"lora2.{name}" for name, _ in adapter.named_parameters()}
    expected |= {name for name, _ in model.named_parameters() if name.startswith(tuple(f"{x}." for x in HEADS[kind]))}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(adapter.param_groups(lr=0.01), weight_decay=0.0)
    for _ in range(2):  # in the first, Λ alone of the adapter has a gradient
        loss = model(**tokens(), labels=torch.tensor([0, 1, 2])).loss
        (loss + adapter.penalty(0.1)).backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, p in model.named_parameters() if not torch.equal(before[name], p)}
    assert moved == expected


@pytest.mark.parametrize("kind", HEADS)
@torch.no_grad()
def test_merged_and_exported_models_are_the_trained_one(kind: str, tmp_path: Path):
    model = classifier(kind)
    adapter = inject(model, LoRA2Config(k=2, r=3))
    for parameter in [*adapter.parameters(), *model.get_submodule(HEADS[kind][-1]).parameters()]:
        parameter.add_(0.3 * torch.randn_like(parameter))
    trained, frozen = model(**tokens()).logits, classifier(kind)(**tokens()).logits
    assert (trained - frozen).abs().max() > 1e-3
    with adapter.merged():
        torch.testing.assert_close(model(**tokens()).logits, trained, rtol=1e-4, atol=1e-5)
    ranks = adapter.save_peft(tmp_path)
    assert set(ranks.values()) == {2}
    loaded = PeftModel.from_pretrained(classifier(kind), str(tmp_path)).eval()
    torch.testing.assert_close(loaded(**tokens()).logits, trained, rtol=1e-4, atol=1e-5)


def test_deberta_without_shared_position_keys_keeps_its_six():
    model = classifier("deberta-v2", relative_attention=True, share_att_key=False, pos_att_type=["p2c", "c2p"])
    assert any("pos_key_proj" in name for name, _ in model.named_modules())
    assert len(find_targets(model, MATRICES)) == 12


@pytest.mark.parametrize(
    ("kind", "shown"), [("modernbert", "attn.Wqkv (Linear (48, 16))"), ("gpt2", "attn.c_attn (Conv1D (16, 48))")]
)
def test_a_layout_that_is_not_understood_is_named_with_what_it_holds(kind: str, shown: str):
    with pytest.raises(UserError) as error:
        inject(classifier(kind), LoRA2Config())
    assert "method.targets: 'query'" in str(error.value)
    assert f"model_type {kind}" in str(error.value)
    assert shown in str(error.value)


def test_a_layer_without_a_wanted_matrix_is_refused():
    """MobileBERT has six linear layers more in each layer, so that only the projections are sure."""
    model = classifier("mobilebert", embedding_size=16, intra_bottleneck_size=16)
    assert len(find_targets(model, ("query", "key", "value"))) == 6
    with pytest.raises(UserError, match=r"'attn_output' is not understood in 2 of the 2 layers .* mobilebert"):
        find_targets(model, MATRICES)
    one = classifier("ernie")
    del one.ernie.encoder.layer[1].output
    with pytest.raises(UserError, match=r"'ffn_w2' is not understood in 1 of the 2 layers"):
        find_targets(one, ("query", "ffn_w2"))


@pytest.mark.parametrize("part", ["attention.output.dense", "intermediate.dense", "output.dense"])
def test_three_linear_layers_of_other_shapes_are_no_output_and_feed_forward(part: str):
    """As many as an encoder's layer has beside the projections, one of them with a size that fits no other."""
    model = classifier("ernie")
    for layer in model.ernie.encoder.layer:
        old = layer.get_submodule(part)
        layer.set_submodule(part, torch.nn.Linear(old.in_features + 1, old.out_features + 1))
    with pytest.raises(UserError, match=r"'attn_output' is not understood in 2 of the 2 layers"):
        find_targets(model, MATRICES)


def test_patterns_choose_any_linear_layers():
    model = classifier("modernbert")
    assert set(find_targets(model, ("attn.Wqkv", "layers.1.*Wo"))) == {
        "model.layers.0.attn.Wqkv",
        "model.layers.1.attn.Wqkv",
        "model.layers.1.attn.Wo",
        "model.layers.1.mlp.Wo",
    }
    adapter = inject(model, LoRA2Config(k=2, targets=("attn.Wqkv", "mlp.Wo")))
    assert len(adapter.layers) == 4


def test_a_language_model_has_no_head():
    from transformers import BertForMaskedLM

    model = BertForMaskedLM(classifier("bert").config)
    assert head_modules(model) == ()
    adapter = inject(model, LoRA2Config(k=2))
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"lora2"}
    assert len(adapter.layers) == 12


def test_the_head_can_be_left_frozen_and_is_then_not_exported(tmp_path: Path):
    from safetensors.torch import load_file

    model = classifier("bert")
    adapter = inject(model, LoRA2Config(k=2), train_head=False)
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"lora2"}
    adapter.save_peft(tmp_path)
    assert not [name for name in load_file(tmp_path / "adapter_model.safetensors") if "classifier" in name]
