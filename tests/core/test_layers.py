"""The adapted layer in real models: bit-equal to the backbone at the start, right afterwards, however it is called."""

import copy

import pytest
import torch
from helpers import oracle
from helpers.toys import KINDS, adapted, encoder, matrix, randomise_factors, tokens
from torch import Tensor, nn

from lora2.core import bf16, functional
from lora2.core.bf16 import EmulatedProducts
from lora2.core.inject import LoRA2Config, inject
from lora2.core.layers import INIT_STD, FactorStack, LoRA2Linear
from lora2.core.matrices import MATRICES

IMPLS = ("plain", "fused", "auto")
SHAPES = [(1, 8), (8, 8), (8, 4), (3, 5)]  # (k, r)
NAMES = ("u", "v", "lam", "U", "V")


def one_layer(k: int = 3, r: int = 5, impl: str = "plain", *, bias: bool = True, n: int = 2) -> LoRA2Linear:
    """The second of n layers (6 -> 5) of one stack, with random factors; scale 16 / r."""
    torch.manual_seed(0)
    stack = FactorStack(n, 6, 5, k, r, 16 / r, "paper")
    with torch.no_grad():
        for p in stack.parameters():
            p.copy_(torch.randn_like(p))
    base = nn.Linear(6, 5, bias=bias).requires_grad_(False)
    return LoRA2Linear(base, stack, n - 1, impl)


def loss_and_gradients(model: nn.Module, adapter: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, list[Tensor]]:
    loss = model(**batch).logits.square().sum()
    return loss.detach(), list(torch.autograd.grad(loss, list(adapter.parameters())))


def assert_same(mine: list[Tensor], theirs: list[Tensor], tolerance: float = 1e-5) -> None:
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * float(other.abs().max()))


# ------------------------------------------------------------------------------------------------------ one layer


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_a_layer_is_the_oracles_in_value_and_gradient(k, r, bias, impl):
    layer = one_layer(k, r, impl, bias=bias).double()
    x = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    m = matrix(layer)
    leaves = [factor.requires_grad_() for factor in m.named().values()]
    naive = oracle.forward(x.reshape(6, 6), layer.weight, layer.bias, m, alpha=16.0).view(2, 3, 5)
    for p in layer.stack.parameters():
        p.data = p.data.double()
    ours = layer(x)
    torch.testing.assert_close(ours, naive, rtol=1e-11, atol=1e-10)
    probe = torch.randn_like(naive)
    grads = torch.autograd.grad((ours * probe).sum(), [x, *layer.stack.factors])
    expected = torch.autograd.grad((naive * probe).sum(), [x, *leaves])
    torch.testing.assert_close(grads[0], expected[0], rtol=1e-10, atol=1e-9)
    for mine, theirs in zip(grads[1:], expected[1:], strict=True):
        torch.testing.assert_close(mine[layer.index], theirs, rtol=1e-10, atol=1e-9)
        assert not mine[: layer.index].any()  # the other matrices of the stack took no part


@pytest.mark.parametrize("impl", ["plain", "fused"])
def test_gradcheck_through_a_whole_stack(impl):
    layer = one_layer(2, 3, impl).double()
    stack = layer.stack.double()
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, *factors: Tensor) -> Tensor:
        return torch.func.functional_call(stack_and_layer, dict(zip(names, factors, strict=True)), (x,))

    stack_and_layer = nn.Module()
    stack_and_layer.stack, stack_and_layer.layer = stack, layer
    stack_and_layer.forward = lambda x: layer(x)
    names = [f"stack.{name}" for name in NAMES]
    assert torch.autograd.gradcheck(run, (x, *stack.factors))


@pytest.mark.parametrize("impl", ["plain", "fused"])
@pytest.mark.parametrize("emulated", [False, True], ids=["native", "emulated"])
@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_bf16_autocast_is_near_the_oracle_in_value_and_gradient(k, r, emulated, impl, monkeypatch):
    monkeypatch.setattr(bf16, "needs_emulation", lambda device: emulated)
    layer = one_layer(k, r, impl)
    x = torch.randn(16, 6, requires_grad=True)
    m = matrix(layer)
    leaves = [factor.requires_grad_() for factor in m.named().values()]
    wide = x.detach().double().requires_grad_()
    naive = oracle.forward(wide, layer.weight.double(), layer.bias.double(), m, alpha=16.0)
    with torch.autocast("cpu", dtype=torch.bfloat16), EmulatedProducts():
        ours = layer(x)
    assert ours.dtype == torch.bfloat16
    probe = torch.randn_like(ours)
    grads = torch.autograd.grad(ours, [x, *layer.stack.factors], probe)
    expected = torch.autograd.grad(naive, [wide, *leaves], probe.double())
    mine = [ours, grads[0], *(grad[layer.index] for grad in grads[1:])]
    for low, exact in zip(mine, [naive, *expected], strict=True):
        error = float((low.double() - exact).detach().norm() / exact.detach().norm())
        assert error < 2**-6
    assert all(grad.dtype == torch.float32 for grad in grads)


def test_emulated_products_are_products_of_rounded_operands():
    torch.manual_seed(0)
    x, w = torch.randn(9, 7), torch.randn(5, 7)
    exact = torch.nn.functional.linear(x.bfloat16().float(), w.bfloat16().float())
    with EmulatedProducts():
        assert torch.nn.functional.linear(x, w).dtype == torch.float32  # no autocast: untouched
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = [torch.nn.functional.linear(x, w), x @ w.T, torch.matmul(x, w.T), torch.bmm(x[None], w.T[None])[0]]
    for value in low:
        assert torch.equal(value, exact.bfloat16())


def test_delta_weight_of_a_layer_is_the_oracles():
    layer = one_layer()
    naive = oracle.delta_weight(matrix(layer), alpha=16.0)
    torch.testing.assert_close(layer.delta_weight().double(), naive, rtol=1e-5, atol=1e-4)


def test_the_paper_init_is_a_small_gaussian_and_lambda_is_zero():
    torch.manual_seed(0)
    stack = FactorStack(4, 64, 64, 8, 8, 2.0, "paper")
    assert not stack.lam.any()
    for name in ("u", "v", "U", "V"):
        values = getattr(stack, name).detach()
        assert abs(float(values.mean())) < 0.005
        assert float(values.std()) == pytest.approx(INIT_STD, rel=0.1)
    assert INIT_STD == 0.02


@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_the_orthogonal_init_has_orthonormal_short_sides(k, r):
    stack = FactorStack(3, 12, 10, k, r, 2.0, "orthogonal")
    for name in ("u", "v", "U", "V"):
        for one in getattr(stack, name).detach():
            short = one if one.shape[0] <= one.shape[1] else one.T
            torch.testing.assert_close(short @ short.T, torch.eye(len(short)), atol=1e-5, rtol=0)
    assert not stack.lam.any()
    assert not torch.equal(stack.v[0], stack.v[1])


# ------------------------------------------------------------------------------------------------------ the start


@pytest.mark.parametrize(("k", "r"), [(1, 1), (8, 8)])  # the sceptic's smallest, and the paper's
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_bit_identical_to_the_backbone_at_step_0(kind, impl, k, r):
    backbone = encoder(kind).eval()
    model, adapter = adapted(kind, random_factors=False, impl=impl, k=k, r=r)
    batch = tokens()
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, backbone(**batch).logits)
    assert torch.equal(model(**batch).logits, backbone(**batch).logits)
    assert not any(layer.delta_weight().any() for layer in adapter.layers.values())
    assert adapter.ranks() == dict.fromkeys(adapter.layers, 0)


@pytest.mark.parametrize("emulated", [False, True], ids=["native", "emulated"])
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_bit_identical_under_bf16_autocast_too(kind, emulated, monkeypatch):
    monkeypatch.setattr(bf16, "needs_emulation", lambda device: emulated)
    backbone = encoder(kind).eval()
    model, _ = adapted(kind, random_factors=False, impl="plain")
    mode = EmulatedProducts() if emulated else torch.autocast("cpu", dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16), mode:
        assert torch.equal(model(**tokens()).logits, backbone(**tokens()).logits)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_model_equals_one_whose_weights_hold_the_oracles_delta(kind):
    """Values and the gradient of every factor, through attention, shared stacks and DeBERTa's doubled query_proj."""
    model, adapter = adapted(kind, k=3, r=5, alpha=10.0)
    randomise_factors(adapter, 0.3)
    plain, batch = encoder(kind).eval().double(), tokens()
    factors = {name: matrix(layer) for name, layer in adapter.layers.items()}
    leaves = {name: [f.requires_grad_() for f in m.named().values()] for name, m in factors.items()}
    where = {name: path for path, module in model.named_modules() for name, x in adapter.layers.items() if x is module}
    weights = {
        f"{where[name]}.weight": plain.get_submodule(where[name]).weight.detach() + oracle.delta_weight(m, 10.0)
        for name, m in factors.items()
    }
    naive = torch.func.functional_call(plain, weights, kwargs=batch).logits
    ours = model(**batch).logits
    torch.testing.assert_close(ours.double(), naive, rtol=1e-4, atol=1e-5)
    naive.square().sum().backward()
    ours.square().sum().backward()
    for name, layer in adapter.layers.items():
        for factor, leaf in zip(layer.stack.factors, leaves[name], strict=True):
            close = 1e-4 * float(leaf.grad.abs().max()) + 1e-9
            torch.testing.assert_close(factor.grad[layer.index].double(), leaf.grad, rtol=1e-3, atol=close)


# ---------------------------------------------------------------------------------------------------------- merging


@pytest.mark.parametrize("kind", KINDS)
def test_merge_then_unmerge_restores_every_bit_and_the_very_tensor(kind):
    model, adapter = adapted(kind)
    before = {name: (layer.weight, layer.weight.clone()) for name, layer in adapter.layers.items()}
    plain = model(**tokens()).logits.detach()
    adapter.merge()
    merged = model(**tokens()).logits.detach()
    assert any(not torch.equal(layer.weight, before[name][1]) for name, layer in adapter.layers.items())
    torch.testing.assert_close(merged, plain, rtol=1e-4, atol=1e-5)
    adapter.unmerge()
    for name, layer in adapter.layers.items():
        assert layer.weight is before[name][0]
        assert torch.equal(layer.weight, before[name][1])
    assert torch.equal(model(**tokens()).logits, plain)


def test_merging_twice_is_merging_once_and_unmerging_twice_is_unmerging_once():
    layer = one_layer()
    x, before = torch.randn(3, 6), layer.weight.clone()
    y = layer(x)
    layer.merge()
    once = layer.weight.clone()
    layer.merge()
    assert torch.equal(layer.weight, once)
    torch.testing.assert_close(layer(x), y, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(
        once.double(), before.double() + oracle.delta_weight(matrix(layer), 16.0), rtol=1e-5, atol=1e-4
    )
    layer.unmerge()
    layer.unmerge()
    assert torch.equal(layer.weight, before)
    assert torch.equal(layer(x), y)


def test_merged_is_a_context_that_ends_even_after_an_error():
    _, adapter = adapted()
    layer = adapter.layers["layer.0.query"]
    before = layer.weight
    with pytest.raises(ZeroDivisionError), adapter.merged():
        _ = 1 / int(layer.weight is before)
    assert layer.weight is before
    assert adapter.layers["layer.0.query"].is_merged is False


def test_a_merged_model_also_computes_in_bf16():
    model, adapter = adapted("bert", k=2, r=3)
    plain = model(**tokens()).logits.detach()
    with adapter.merged(), torch.autocast("cpu", dtype=torch.bfloat16), EmulatedProducts():
        low = model(**tokens()).logits
    torch.testing.assert_close(low.float(), plain, rtol=0.1, atol=0.05)
    torch.testing.assert_close(model(**tokens()).logits, plain)


# --------------------------------------------------------------------------------------- the fold is never stale


@pytest.fixture
def folds(monkeypatch) -> list[int]:
    """How many matrices each fold was for, in the order of the folds."""
    counted: list[int] = []
    fold = functional.low_rank

    def counting(factors: functional.Factors, scale: float) -> tuple[Tensor, Tensor]:
        counted.append(len(factors.lam))
        return fold(factors, scale)

    monkeypatch.setattr(functional, "low_rank", counting)
    return counted


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_pass_folds_each_stack_once(kind, folds):
    model, adapter = adapted(kind)
    for _ in range(2):
        folds.clear()
        model(**tokens()).logits.sum().backward()
        assert sorted(folds) == sorted(len(stack.lam) for stack in adapter.factor_stacks())


def test_outside_of_the_adapted_models_forward_a_layer_folds_for_itself(folds):
    model, adapter = adapted()
    model.bert(**tokens())
    assert folds == [1] * len(adapter.layers)


def test_a_part_of_the_pass_may_run_without_gradients():
    model, adapter = adapted()
    expected = loss_and_gradients(model, adapter, tokens())[1]
    layer = adapter.layers["layer.0.query"]

    @torch.no_grad()
    def look(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        layer.forward(args[0])  # the first fold of this pass has no graph

    layer.register_forward_pre_hook(look)
    assert_same(loss_and_gradients(model, adapter, tokens())[1], expected)


def test_the_fold_ends_with_the_pass_even_after_an_error():
    model, adapter = adapted()

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    handle = model.classifier.register_forward_pre_hook(fail)
    with pytest.raises(ZeroDivisionError):
        model(**tokens())
    handle.remove()
    before = model.bert(**tokens()).last_hidden_state
    randomise_factors(adapter, 0.1)
    assert not torch.equal(model.bert(**tokens()).last_hidden_state, before)


@pytest.mark.parametrize("call", ["head", "encoder"])
def test_the_fold_follows_a_change_that_raises_no_version(call):
    """The replay of a CUDA graph changes parameters behind the back of autograd, as an assignment to `.data` does."""
    model, adapter = adapted()
    run = model if call == "head" else model.bert
    with torch.no_grad():
        before, _ = model(**tokens()).logits, run(**tokens())
        versions = [p._version for p in adapter.parameters()]
        for p in adapter.parameters():
            p.data.mul_(2)
        assert [p._version for p in adapter.parameters()] == versions
        after = run(**tokens())[0]
        assert not torch.equal(model(**tokens()).logits, before)
        other = copy.deepcopy(model)
        assert torch.equal((other if call == "head" else other.bert)(**tokens())[0], after)


def test_the_fold_follows_an_optimizer_step():
    model, adapter = adapted("deberta-v2")
    inner, batch = model.deberta, tokens()  # called directly, so the head model's hooks do not run
    for optimizer in (
        torch.optim.SGD(adapter.parameters(), 0.1),
        torch.optim.AdamW(adapter.parameters(), 0.1, fused=True),
    ):
        before = inner(**batch).last_hidden_state
        before.square().sum().backward()
        optimizer.step()
        after = inner(**batch).last_hidden_state.detach()
        assert torch.equal(after, inner(**batch).last_hidden_state.detach())
        assert not torch.equal(after, before.detach())


def test_the_fold_follows_a_change_without_backward():
    model, adapter = adapted()
    with torch.no_grad():
        before = model.bert(**tokens()).last_hidden_state
        adapter.factor_stacks()[0].lam.masked_fill_(torch.tensor(True), 0)
        after = model.bert(**tokens()).last_hidden_state
        assert not torch.equal(before, after)


def test_the_fold_follows_load_state_dict():
    model, adapter = adapted()
    with torch.no_grad():
        before = model.bert(**tokens()).last_hidden_state
        state = {name: tensor.clone() for name, tensor in adapter.state_dict().items()}
        randomise_factors(adapter, 0.1)
        assert not torch.equal(model.bert(**tokens()).last_hidden_state, before)
        adapter.load_state_dict(state)
        assert torch.equal(model.bert(**tokens()).last_hidden_state, before)


@pytest.mark.parametrize("call", ["head", "encoder"])
def test_gradients_survive_a_forward_without_them(call):
    model, adapter = adapted()
    run = model if call == "head" else lambda **batch: model.bert(**batch)
    expected = loss_and_gradients(model, adapter, tokens())[1]
    with torch.no_grad():
        run(**tokens())
    with torch.inference_mode():
        run(**tokens())
    with torch.no_grad():
        run(**tokens())
    assert_same(loss_and_gradients(model, adapter, tokens())[1], expected)
    loss = model(**tokens()).logits.square().sum()
    with torch.no_grad():  # an evaluation between forward and backward
        run(**tokens(2))
    assert_same(list(torch.autograd.grad(loss, list(adapter.parameters()))), expected)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_the_encoder_alone_notices_that_gradients_were_switched_on_and_off(off):
    model, adapter = adapted()
    before = model.bert(**tokens()).last_hidden_state
    with off():
        assert torch.equal(model.bert(**tokens()).last_hidden_state, before)
    out = model.bert(**tokens()).last_hidden_state
    grads = torch.autograd.grad(out.square().sum(), list(adapter.parameters()))
    expected = torch.autograd.grad(before.square().sum(), list(adapter.parameters()))
    assert_same(list(grads), list(expected), 1e-6)
    with off():
        model.bert(**tokens())
    assert model.bert(**tokens()).last_hidden_state.requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_two_forwards_before_one_backward(kind):
    model, adapter = adapted(kind)
    one, two = tokens(3), tokens(2, 5)
    expected = [
        a + b
        for a, b in zip(
            loss_and_gradients(model, adapter, one)[1], loss_and_gradients(model, adapter, two)[1], strict=True
        )
    ]
    total = model(**one).logits.square().sum() + model(**two).logits.square().sum()
    assert_same(list(torch.autograd.grad(total, list(adapter.parameters()))), expected)


def test_two_forwards_then_two_backwards():
    model, adapter = adapted()
    alone = [loss_and_gradients(model, adapter, batch)[1] for batch in (tokens(), tokens(2))]
    expected = [a + b for a, b in zip(*alone, strict=True)]
    losses = [model(**batch).logits.square().sum() for batch in (tokens(), tokens(2))]
    for loss in losses:
        loss.backward()
    assert_same([p.grad for p in adapter.parameters()], expected)


def test_the_encoder_can_be_called_and_trained_without_the_head_model():
    model, adapter = adapted()
    for _ in range(2):
        out = model.bert(**tokens()).last_hidden_state
        grads = torch.autograd.grad(out.square().sum(), list(adapter.parameters()))
        again = model.bert(**tokens()).last_hidden_state
        assert torch.equal(out, again)
        assert_same(list(grads), list(torch.autograd.grad(again.square().sum(), list(adapter.parameters()))), 1e-6)


def test_deberta_calls_query_proj_twice_in_one_forward():
    model, adapter = adapted("deberta-v2")
    calls = []
    layer = adapter.layers["layer.0.query"]
    hook = layer.register_forward_hook(lambda module, args, out: calls.append(args[0].shape))
    model(**tokens())
    hook.remove()
    assert len(calls) == 2  # content, and the relative position embeddings (share_att_key)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if encoder(kind).supports_gradient_checkpointing])
def test_gradient_checkpointing_gives_the_same_gradients(kind):
    model, adapter = adapted(kind)
    model.train()  # dropout is 0
    expected = loss_and_gradients(model, adapter, tokens())
    # the name since transformers 5; both take the keyword arguments of torch.utils.checkpoint
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    for _ in range(2):
        found = loss_and_gradients(model, adapter, tokens())
        torch.testing.assert_close(found[0], expected[0])
        assert_same(found[1], expected[1])


@pytest.mark.parametrize("when", ["before", "after a forward", "after no_grad", "after bf16"])
def test_a_deep_copy_is_a_model_of_its_own(when):
    model, adapter = adapted()
    if when == "after a forward":
        model(**tokens())
    elif when == "after no_grad":
        with torch.no_grad():
            model(**tokens())
    elif when == "after bf16":
        with torch.autocast("cpu", dtype=torch.bfloat16):
            model(**tokens())
    twin = copy.deepcopy(model)
    plain = model(**tokens()).logits.detach()
    assert torch.equal(twin(**tokens()).logits, plain)
    randomise_factors(twin.lora2, 0.1)
    assert not torch.equal(twin(**tokens()).logits, plain)
    assert torch.equal(model(**tokens()).logits, plain)
    assert_same(loss_and_gradients(model, adapter, tokens())[1], loss_and_gradients(model, adapter, tokens())[1])


def test_the_bf16_copy_of_a_frozen_weight_follows_the_weight():
    layer = one_layer()
    x = torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        before = layer(x)
        layer.weight.mul_(2)
        assert not torch.equal(layer(x), before)


def test_the_frozen_weights_are_bit_equal_after_steps():
    model, adapter = adapted("deberta-v2", random_factors=False, init="orthogonal")
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    start = [p.detach().clone() for p in adapter.parameters()]
    optimizer = torch.optim.AdamW(adapter.parameters(), 0.05, weight_decay=0.1)
    for _ in range(3):
        model(**tokens()).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = dict(model.named_parameters())
    assert all(torch.equal(moved[name], value) for name, value in frozen.items())
    assert all(not torch.equal(p, value) for p, value in zip(adapter.parameters(), start, strict=True))
    assert len(frozen) + len(start) == len(moved)


def test_repr_says_the_shapes():
    assert "in_features=6, out_features=5, k=3, r=5, merged=False" in repr(one_layer())


def test_all_six_matrices_are_there():
    _, adapter = adapted("roberta")
    assert list(adapter.layers) == [f"layer.{i}.{name}" for i in range(2) for name in MATRICES]
    assert sum(len(stack.lam) for stack in adapter.factor_stacks()) == 12
    assert inject(encoder("roberta"), LoRA2Config(targets=("query",))).stacks.keys() == {"16x16"}
