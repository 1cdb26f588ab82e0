"""Query, key and value computed together: the same as each alone, only where they are called with the same tensor."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from helpers.host_tensors import NoHostUse, without_autocast
from helpers.toys import KINDS, adapted, encoder, randomise_factors, tokens
from torch import Tensor, nn

from lora2.core import joint, layers
from lora2.core.adapter import Adapter
from lora2.core.functional import block_diagonal
from lora2.core.inject import LoRA2Config, inject
from lora2.core.joint import side_by_side
from lora2.core.layers import LoRA2Linear
from lora2.core.targets import siblings

QKV = ("query", "key", "value")


def projections(adapter: Adapter, layer: int = 1) -> list[LoRA2Linear]:
    return [adapter.layers[f"layer.{layer}.{name}"] for name in QKV if f"layer.{layer}.{name}" in adapter.layers]


@contextmanager
def inside_the_attention(layer: LoRA2Linear) -> Iterator[None]:
    """As if the layer's parent were called."""
    assert layer._joint is not None
    together = layer._joint[0]
    together.begin()
    try:
        yield
    finally:
        together.end()


@pytest.fixture
def products(monkeypatch) -> list[tuple[int, ...]]:
    """The shape of the weight of every product of an adapted layer, in their order."""
    seen: list[tuple[int, ...]] = []
    inner = layers.lowrank_linear

    def counting(x: Tensor, weight: Tensor, *rest: object) -> Tensor:
        seen.append(tuple(weight.shape))
        return inner(x, weight, *rest)

    monkeypatch.setattr(layers, "lowrank_linear", counting)
    monkeypatch.setattr(joint, "lowrank_linear", counting)
    return seen


@pytest.mark.parametrize("k", [1, 3, None], ids=["k1", "k3", "one scale"])
@pytest.mark.parametrize("kind", KINDS)
def test_together_they_give_the_values_and_gradients_of_each_alone(kind, k, products):
    """In float64, to which the float32 weights are cast as they would be to bf16."""
    _, adapter = adapted(kind, k=k, r=4)
    three = projections(adapter)
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    leaves = [x, *adapter.parameters()]
    probe = torch.randn(3, 2, 5, 16, dtype=torch.float64)

    def run() -> tuple[Tensor, tuple[Tensor, ...]]:
        y = torch.stack([layer(x) for layer in three])
        return y, torch.autograd.grad((y * probe).sum(), leaves, allow_unused=True)

    alone, expected = run()
    assert products == [(16, 16)] * 3
    products.clear()
    with inside_the_attention(three[0]):
        together, got = run()
    assert products == [(48, 16)]
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-7)  # the fold is made in float32
    for mine, theirs in zip(got, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def bf16_gradients(model: nn.Module, adapter: Adapter) -> tuple[Tensor, list[Tensor]]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(**tokens()).logits
    return logits.detach(), list(torch.autograd.grad(logits.float().square().sum(), list(adapter.parameters())))


def part(layer: LoRA2Linear) -> None:
    layer._joint = None


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_in_bf16_is_as_near_to_float32_as_with_each_alone(kind):
    model, adapter = adapted(kind, k=3, r=4)
    exact = torch.autograd.grad(model(**tokens()).logits.square().sum(), list(adapter.parameters()))

    def error(found: list[Tensor]) -> float:
        return max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))

    together = error(bf16_gradients(model, adapter)[1])
    for layer in adapter.layers.values():
        part(layer)
    assert together < 1.5 * error(bf16_gradients(model, adapter)[1]) < 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_an_attention_in_bf16_makes_one_product_of_three(kind, products):
    model, adapter = adapted(kind)
    bf16_gradients(model, adapter)
    wide = 2 if kind == "deberta-v2" else 1  # once more for DeBERTa's relative positions
    assert sorted(products) == sorted(2 * (wide * [(48, 16)] + [(16, 16), (24, 16), (16, 24)]))


def test_float32_stays_as_it_is(products):
    model, _ = adapted("bert")
    model(**tokens())
    assert (48, 16) not in products


def test_another_tensor_is_computed_anew(products):
    _, adapter = adapted("bert")
    query, key, _ = projections(adapter)
    x = torch.randn(2, 16, dtype=torch.float64)
    with inside_the_attention(query):
        assert torch.equal(query(x), query(x))
        assert len(products) == 1
        assert not torch.equal(key(x + 1), key(x))
        with torch.no_grad():
            assert not key(x).requires_grad
        assert key(x).requires_grad
    alone = query(x)
    torch.testing.assert_close(alone, query(x), rtol=0, atol=0)
    assert products[-1] == (16, 16)


def test_weights_that_change_between_two_calls_of_the_attention_count():
    model, adapter = adapted("bert")
    attention = model.bert.encoder.layer[1].attention.self
    x = torch.randn(1, 4, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        before = attention(x)[0]
        assert torch.equal(attention(x)[0], before)
        randomise_factors(adapter, 2.0)
        assert not torch.equal(attention(x)[0], before)


def test_an_error_inside_the_attention_ends_it(products):
    model, adapter = adapted("bert")
    attention = model.bert.encoder.layer[1].attention.self
    handle = adapter.layers["layer.1.value"].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), torch.autocast("cpu", dtype=torch.bfloat16):
        attention(torch.randn(1, 4, 16))
    handle.remove()
    products.clear()
    adapter.layers["layer.1.query"](torch.randn(1, 16, dtype=torch.float64))
    assert products == [(16, 16)]


@pytest.mark.parametrize("k", [3, None], ids=["k3", "one scale"])
def test_a_graph_can_record_it(k, products):
    """On the meta device, where every tensor on "cpu" is the host's: nothing is read from there or copied to it."""
    model, adapter = adapted("bert", k=k, r=4)
    model.to("meta")
    three = projections(adapter)
    x = torch.randn(2, 5, 16, dtype=torch.float64, device="meta", requires_grad=True)
    for watched in (nullcontext(), NoHostUse()):  # in the first pass the frozen weights are copied
        with inside_the_attention(three[0]), watched, without_autocast():
            adapter.begin_forward()
            torch.stack([layer(x) for layer in three]).sum().backward()
            adapter.end_forward()
    assert products == [(48, 16)] * 2


@pytest.mark.parametrize("kind", [kind for kind in KINDS if encoder(kind).supports_gradient_checkpointing])
def test_gradient_checkpointing_in_bf16_gives_the_same_gradients(kind):
    model, adapter = adapted(kind)
    model.train()
    expected = bf16_gradients(model, adapter)
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    got = bf16_gradients(model, adapter)
    assert torch.equal(got[0], expected[0])
    for mine, theirs in zip(got[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.02, atol=0.02 * float(theirs.abs().max()))


def test_a_deep_copy_computes_with_its_own_layers():
    model, adapter = adapted("bert")
    expected, _ = bf16_gradients(model, adapter)
    twin = copy.deepcopy(model)
    assert torch.equal(bf16_gradients(twin, twin.lora2)[0], expected)
    randomise_factors(twin.lora2, 0.1)
    assert not torch.equal(bf16_gradients(twin, twin.lora2)[0], expected)
    assert torch.equal(bf16_gradients(model, adapter)[0], expected)


def test_merged_layers_compute_alone(products):
    model, adapter = adapted("bert")
    unmerged, _ = bf16_gradients(model, adapter)
    products.clear()
    with adapter.merged(), torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        merged = model(**tokens()).logits
    assert products == []
    torch.testing.assert_close(merged.float(), unmerged.float(), rtol=0.1, atol=0.1 * float(unmerged.abs().max()))


def test_the_copy_of_the_frozen_weights_survives_a_merge_and_follows_the_weights():
    """A graph that was captured before an evaluation reads it at every replay after it."""
    model, adapter = adapted("bert")
    together = adapter.layers["layer.0.query"]._joint[0]
    bf16_gradients(model, adapter)
    kept = together._frozen._made[2]
    with adapter.merged(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(**tokens())
    value = adapter.layers["layer.0.value"]
    value.merge()
    bf16_gradients(model, adapter)  # one of the three is merged
    value.unmerge()
    before, _ = bf16_gradients(model, adapter)
    assert together._frozen._made[2] is kept
    with torch.no_grad():
        adapter.layers["layer.0.value"].weight.mul_(3)
    assert not torch.equal(bf16_gradients(model, adapter)[0], before)


@pytest.mark.parametrize(
    ("targets", "joined"),
    [
        (("query", "value"), 2),
        (("query",), 0),
        (("query", "key", "value", "attn_output"), 3),
        (("*.query", "*.key"), 0),
    ],
)
def test_as_many_as_are_adapted_join(targets, joined, products):
    model = encoder("bert")
    adapter = inject(model, LoRA2Config(k=2, r=4, targets=targets), train_head=False)
    randomise_factors(adapter)
    assert sum(layer._joint is not None for layer in adapter.layers.values()) == 2 * joined
    bf16_gradients(model, adapter)
    if joined:
        assert (16 * joined, 16) in products


def test_layers_of_other_shapes_or_without_a_bias_do_not_join():
    model = encoder("bert")
    for layer in model.bert.encoder.layer:
        layer.attention.self.value.bias = None
    adapter = inject(model, LoRA2Config(k=2, r=4))
    assert all(layer._joint is None for layer in adapter.layers.values())


def test_siblings_are_those_of_one_parent_in_a_layer_that_is_understood():
    matrices = {
        "layer.0.self.q": "layer.0.query",
        "layer.0.self.k": "layer.0.key",
        "layer.0.other.v": "layer.0.value",
        "layer.1.cross.query": "layer.1.cross.query",  # asked for by its own name: its key may read another input
        "layer.1.cross.key": "layer.1.cross.key",
    }
    assert siblings(matrices) == [["layer.0.self.q", "layer.0.self.k"]]


def test_a_weight_that_is_replaced_gets_a_copy_of_its_own_whatever_its_address():
    """The address of the first could be given to the second."""
    model, adapter = adapted("bert")
    layer = adapter.layers["layer.0.query"]
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        for scale in range(1, 12):
            layer.weight = nn.Parameter(torch.full_like(layer.weight, scale), requires_grad=False)
            model(**tokens())
            assert layer._joint[0]._frozen._made[2][0, 0] == scale
            assert any(kept is layer.weight for kept in layer._joint[0]._frozen._made[0])


def test_a_model_that_was_first_used_for_inference_can_train():
    model, adapter = adapted("bert")
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(**tokens())
    assert all(torch.isfinite(grad).all() for grad in bf16_gradients(model, adapter)[1])


def test_the_outputs_may_be_written_to():
    _, adapter = adapted("bert")
    query, key, _ = projections(adapter)
    x = torch.randn(2, 16, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad((query(x) * 0.5 + key(x)).sum(), x)
    with inside_the_attention(query):
        got = torch.autograd.grad((query(x).mul_(0.5) + key(x)).sum(), x)
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_one_that_is_not_finite_leaves_its_siblings_alone():
    """A loss scale of fp16 that was too high skips a step by the true gradients alone."""
    b = torch.ones(1, 2, 3, 4)
    b[0, 1] = torch.inf
    found = block_diagonal(b.requires_grad_())
    assert torch.equal(found[0, :3, :4], torch.ones(3, 4))
    assert not found[0, :3, 4:].any()
    (grad,) = torch.autograd.grad(found, b, torch.full_like(found, 1).masked_fill(found == 0, torch.inf))
    assert torch.isfinite(grad).all()


def test_a_backbone_that_is_held_in_bf16_folds_each_matrix_alone(products):
    """Its weights need no copy, and copies for three layers at once would double them."""
    model, _ = adapted("bert")
    for name, p in model.named_parameters():
        if not name.startswith("lora2."):
            p.data = p.data.bfloat16()
    model(**tokens())
    assert (48, 16) not in products
    assert [*products].count((16, 16)) == 8


@pytest.mark.parametrize("leading", [(5,), (2, 5)])
def test_gradients_that_lie_side_by_side_are_not_copied(leading):
    whole = torch.randn(*leading, 3, 4)
    together = side_by_side(whole.unbind(-2))
    assert torch.equal(together, whole.flatten(-2))
    assert together.data_ptr() == whole.data_ptr()


def test_other_gradients_are_put_side_by_side():
    whole = torch.randn(5, 3, 4)
    first, second, third = whole.unbind(1)
    others = [
        (first, third, second),
        (first, second),
        (second, third, first),
        (first, second, third.clone()),
        (first, second, second),
        (first, torch.randn(5, 3, 4)[:, 1], third),
        whole.transpose(0, 1).unbind(0)[:1] * 3,
        torch.randn(3, 5, 4).unbind(0),
    ]
    for parts in others:
        together = side_by_side(parts)
        assert torch.equal(together, torch.cat(parts, -1))
        assert together.data_ptr() != whole.data_ptr()
