"""DeBERTa's attention against transformers' own, in values and gradients, on every width."""

import copy
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from helpers.toys import EXTRA, SIZES, encoder, tokens
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForSequenceClassification
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention

from lora2.core import bf16
from lora2.models.deberta import LeanAttention, PositionTable, _at_positions, use_lean_attention

WIDTHS = [1, 3, 7, 20]  # with 4 buckets a side every width from 4 on has positions that several distances share


def model_of(dropout: float = 0.0, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = AutoConfig.for_model("deberta-v2", **{**SIZES, **EXTRA["deberta-v2"], **rates, **changes})
    return AutoModelForSequenceClassification.from_config(config).double()


def values_and_gradients(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    found = model(**inputs, output_attentions=True)
    found.logits.square().sum().backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    return [found.logits.detach(), *(x.detach() for x in found.attentions), *grads]


@pytest.mark.parametrize("buckets", [4, 64, -1], ids=["shared", "once", "without buckets"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_is_transformers_attention(width, buckets):
    plain = model_of(position_buckets=buckets)
    lean = copy.deepcopy(plain)
    use_lean_attention(lean)
    expected, got = (values_and_gradients(model, tokens(width=width)) for model in (plain, lean))
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-9)  # its scale is a float32


def test_so_it_is_for_tokens_that_are_padding():
    """Which no head reads, but a library's user may."""
    plain = model_of()
    lean = copy.deepcopy(plain)
    use_lean_attention(lean)
    grads = []
    for model in (plain, lean):
        hidden = model.deberta(**tokens()).last_hidden_state
        (hidden * torch.arange(hidden.numel()).view_as(hidden)).sum().backward()
        grads.append([hidden.detach(), *(p.grad for p in model.deberta.parameters() if p.grad is not None)])
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-7, atol=1e-7)


def test_transformers_attention_is_still_the_one_that_it_was_made_for():
    """A version with other arguments, or that calls its attention otherwise, must be looked at anew."""
    model = model_of()
    use_lean_attention(model)
    assert all(type(layer.attention.self) is LeanAttention for layer in model.deberta.encoder.layer)
    assert issubclass(LeanAttention, DisentangledSelfAttention)
    asked: list[object] = []
    handle = model.deberta.encoder.layer[0].attention.self.query_proj.register_forward_hook(
        lambda module, inputs, output: asked.append(tuple(inputs[0].shape))
    )
    model(**tokens(width=7))
    handle.remove()
    assert asked == [(3 * 7 + 8, 16)]


@pytest.mark.parametrize(("width", "positions"), [(7, 16), (64, 128)])
def test_only_the_positions_that_occur_are_projected(width, positions):
    """2w − 1, and as many more as make it a multiple of eight."""
    model = model_of(position_buckets=64)
    use_lean_attention(model)
    rows: list[int] = []
    model.deberta.encoder.layer[0].attention.self.key_proj.register_forward_hook(
        lambda module, inputs, output: rows.append(len(inputs[0]))
    )
    model(**tokens(width=width))
    assert rows == [3 * width + positions]


def test_the_positions_of_a_width_are_made_once():
    model = model_of()
    use_lean_attention(model)
    table = model.deberta.encoder.get_rel_pos
    assert isinstance(table, PositionTable)
    first, again, other = (table(torch.zeros(2, width, 16)) for width in (5, 5, 6))
    assert first is again
    assert other is not first
    use_lean_attention(model)
    assert model.deberta.encoder.get_rel_pos is table


def test_states_of_other_queries_go_to_transformers():
    plain = model_of()
    lean = copy.deepcopy(plain)
    use_lean_attention(lean)
    x, queries, mask = torch.randn(2, 5, 16).double(), torch.randn(2, 5, 16).double(), torch.ones(2, 5)
    expected, got = (m.deberta.encoder(x, mask, query_states=queries).last_hidden_state for m in (plain, lean))
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    "changes",
    [{"share_att_key": False}, {"pos_att_type": ["c2p"]}, {"pos_att_type": ["p2c"], "share_att_key": False}],
)
def test_of_another_kind_of_deberta_the_positions_are_kept_alone(changes):
    plain = model_of(**changes)
    kept = copy.deepcopy(plain)
    use_lean_attention(kept)
    assert not any(isinstance(module, LeanAttention) for module in kept.modules())
    table = kept.deberta.encoder.get_rel_pos
    assert isinstance(table, PositionTable)
    for _ in range(2):
        expected, got = (values_and_gradients(model, tokens()) for model in (plain, kept))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(got, expected, strict=True))
    x = torch.zeros(1, 7, 16)
    assert table(x) is table(x)


def test_a_configuration_that_says_nothing_of_shared_projections_has_none():
    model = model_of()
    del model.config.share_att_key
    use_lean_attention(model)
    assert not any(isinstance(module, LeanAttention) for module in model.modules())


def test_a_deberta_without_relative_positions_stays_as_it_is():
    model = model_of(relative_attention=False)
    use_lean_attention(model)
    assert "get_rel_pos" not in vars(model.deberta.encoder)


def test_no_other_model_changes():
    for model in (encoder("bert"), nn.Linear(2, 2)):
        before = {type(module) for module in model.modules()}
        use_lean_attention(model)
        assert {type(module) for module in model.modules()} == before


class Bf16Products(TorchDispatchMode):
    """Notes the products of bf16 matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "mm" in str(func) and any(isinstance(x, Tensor) and x.dtype == torch.bfloat16 for x in args):
            self.seen.add(str(func))
        return func(*args, **(kwargs or {}))


def test_every_product_is_emulated_where_a_processor_lacks_bf16(monkeypatch):
    """Else it runs in loops 10 to 80 times slower."""
    monkeypatch.setattr(bf16, "needs_emulation", lambda device: True)
    model = model_of().float().requires_grad_(False)
    model.deberta.embeddings.requires_grad_(True)
    use_lean_attention(model)
    with Bf16Products() as products, bf16.EmulatedProducts():
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**tokens()).logits
        logits.float().sum().backward()
    assert products.seen == set()
    assert model.deberta.embeddings.word_embeddings.weight.grad is not None


@pytest.mark.parametrize("beta", [0.0, 0.5])
@pytest.mark.parametrize("emulated", [True, False])
def test_a_product_is_added(monkeypatch, emulated, beta):
    monkeypatch.setattr(bf16, "needs_emulation", lambda device: emulated)
    onto, a, b = (torch.randn(shape).bfloat16() for shape in [(2, 3, 4), (2, 3, 5), (2, 5, 4)])
    expected = 2 * (a.float() @ b.float()) + beta * onto.float()
    if beta == 0:
        onto.fill_(torch.nan)
    bf16.add_product_(onto, a, b, beta=beta, alpha=2)
    torch.testing.assert_close(onto.float(), expected, rtol=0.02, atol=0.02)


def test_emulated_products_are_those_of_bf16(monkeypatch):
    made = model_of().float()
    use_lean_attention(made)
    logits = []
    for emulated in (False, True):
        monkeypatch.setattr(bf16, "needs_emulation", lambda device, emulated=emulated: emulated)
        with torch.autocast("cpu", torch.bfloat16), bf16.EmulatedProducts() if emulated else nullcontext():
            logits.append(made(**tokens()).logits.float())
    torch.testing.assert_close(*logits, rtol=0.02, atol=0.01)


def test_dropout_takes_part_in_training_alone():
    model = model_of(dropout=0.5)
    use_lean_attention(model)
    model.train()
    assert not torch.equal(model(**tokens()).logits, model(**tokens()).logits)
    model.eval()
    assert torch.equal(model(**tokens()).logits, model(**tokens()).logits)


@pytest.mark.parametrize("buckets", [4, 64], ids=["shared", "once"])
def test_the_gradient_goes_back_to_the_positions_it_came_from(buckets):
    model = model_of(position_buckets=buckets)
    use_lean_attention(model)
    positions = model.deberta.encoder.get_rel_pos(torch.zeros(1, 5, 16))
    x = torch.randn(2, 3, *positions.nowhere.shape[1:], dtype=torch.float64, requires_grad=True)
    p2c, c2p = x.gather(-1, positions.column.unsqueeze(1).expand(-1, 3, -1, -1))
    scores = c2p + p2c.mT
    probe = torch.randn_like(scores)
    (expected,) = torch.autograd.grad((scores * probe).sum(), x)
    torch.testing.assert_close(_at_positions(probe, positions), expected)


def test_dropout_of_positions_takes_part():
    model = model_of(dropout=0.5).train()
    use_lean_attention(model)
    attention = model.deberta.encoder.layer[0].attention.self
    rows: list[Tensor] = []
    attention.key_proj.register_forward_hook(lambda module, inputs, output: rows.append(inputs[0]))
    model(**tokens())
    share = float((rows[-1][3 * 7 :] == 0).double().mean())
    assert 0.3 < share < 0.7


def test_the_gradient_adds_nothing_up_where_each_position_occurs_once():
    """On a GPU a sum in any order is another number each time."""
    model = model_of(position_buckets=64)
    use_lean_attention(model)
    positions = model.deberta.encoder.get_rel_pos(torch.zeros(1, 9, 16))
    assert positions.place is not None
    shared = model_of()
    use_lean_attention(shared)
    assert shared.deberta.encoder.get_rel_pos(torch.zeros(1, 9, 16)).place is None
