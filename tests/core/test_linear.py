"""The adapted linear layer as one autograd node: both ways equal the oracle, in values and gradients."""

import itertools

import pytest
import torch
from helpers import oracle
from torch import Tensor

from lora2.core import bf16
from lora2.core.functional import Factors, low_rank
from lora2.core.linear import lowrank_linear, prefers_fused

IMPLS = ("plain", "fused")
SHAPES = [(1, 8), (8, 8), (8, 4), (3, 5)]  # (k, r)
T, D, OUT = 4, 6, 5


def inputs(k: int, *, bias: bool, dtype: torch.dtype = torch.float64, x_grad: bool = True) -> list[Tensor | None]:
    """x, weight, bias, a, b."""
    g = torch.Generator().manual_seed(3)
    x, weight, b0, a, b = (
        torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
        for shape in ((T, D), (OUT, D), (OUT,), (k, D), (k, OUT))
    )
    return [x.requires_grad_(x_grad), weight, b0 if bias else None, a.requires_grad_(), b.requires_grad_()]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize(("bias", "x_grad"), list(itertools.product([True, False], [True, False])))
@pytest.mark.parametrize("k", [1, 3, 8])
def test_gradcheck(impl, k, bias, x_grad):
    x, weight, b0, a, b = inputs(k, bias=bias, x_grad=x_grad)
    assert torch.autograd.gradcheck(lambda x, a, b: lowrank_linear(x, weight, b0, a, b, impl), (x, a, b))


@pytest.mark.parametrize("impl", [*IMPLS, "auto"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("k", "r"), SHAPES)
def test_value_and_gradients_are_the_oracles(impl, k, r, bias):
    x, weight, b0, _, _ = inputs(k, bias=bias)
    g = torch.Generator().manual_seed(4)
    shapes = ((r, k), (k, D), (r,), (r, k), (k, OUT))
    m = oracle.Matrix(*(torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes))
    a, b = low_rank(Factors(*(factor.unsqueeze(0) for factor in m.named().values())), 16 / r)
    ours = lowrank_linear(x, weight, b0, a[0], b[0], impl)
    naive = oracle.forward(x, weight, b0, m, alpha=16.0)
    torch.testing.assert_close(ours, naive, rtol=1e-11, atol=1e-10)
    probe, leaves = torch.randn_like(naive), [x, *m.named().values()]
    mine = torch.autograd.grad((ours * probe).sum(), leaves)
    theirs = torch.autograd.grad((naive * probe).sum(), leaves)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-9)


def relative_errors(dtype: torch.dtype, impl: str) -> list[float]:
    """Error of value and gradients of x, A, B against float64 on the same rounded numbers, over the largest value."""

    def run(cast: torch.dtype) -> list[Tensor]:
        x, weight, b0, a, b = (
            t.detach().to(dtype).to(cast) for t in inputs(8, bias=True, dtype=dtype) if t is not None
        )
        leaves = [x.requires_grad_(), a.requires_grad_(), b.requires_grad_()]
        y = lowrank_linear(x, weight, b0, a, b, impl)
        probe = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(dtype).to(cast)
        return [y, *torch.autograd.grad(y, leaves, probe)]

    return [
        float((low.double() - exact).detach().abs().max() / exact.detach().abs().max())
        for low, exact in zip(run(dtype), run(torch.float64), strict=True)
    ]


@pytest.mark.parametrize("impl", IMPLS)
def test_float32_is_exact_to_rounding(impl):
    assert max(relative_errors(torch.float32, impl)) < 2e-6


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("emulated", [False, True])
def test_bf16_is_within_a_few_roundings(impl, emulated, monkeypatch):
    monkeypatch.setattr(bf16, "needs_emulation", lambda device: emulated)
    # bf16 rounds each number by 2^-9 of itself; natively the intermediate sums are rounded too
    assert max(relative_errors(torch.bfloat16, impl)) < (2**-8 if emulated else 2**-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_leading_dimensions_and_strides_do_not_matter(impl):
    x, weight, b0, a, b = inputs(3, bias=True, x_grad=False)
    batched = x.view(2, 2, D).transpose(0, 1)  # not contiguous
    y = lowrank_linear(batched, weight, b0, a, b, impl)
    assert y.shape == (2, 2, OUT)
    torch.testing.assert_close(y.transpose(0, 1).reshape(T, OUT), lowrank_linear(x, weight, b0, a, b, impl))
    y.sum().backward()  # the gradient that arrives is an expanded scalar


@pytest.mark.parametrize("impl", IMPLS)
def test_the_frozen_weight_gets_no_gradient_and_x_only_if_it_wants_one(impl):
    x, weight, b0, a, b = inputs(3, bias=True, x_grad=False)
    weight.requires_grad_()
    lowrank_linear(x, weight, b0, a, b, impl).sum().backward()
    assert weight.grad is None
    assert x.grad is None
    assert a.grad is not None
    assert b.grad is not None


def test_auto_counts_bytes_and_stays_plain_in_16_bits():
    weight = torch.empty(768, 768)
    assert prefers_fused(torch.empty(4096, 768), weight)
    assert not prefers_fused(torch.empty(32, 768), weight)
    assert not prefers_fused(torch.empty(4096, 768, dtype=torch.bfloat16), weight)


def test_double_backward_is_refused_rather_than_wrong():
    x, weight, b0, a, b = inputs(3, bias=True)
    (grad,) = torch.autograd.grad(lowrank_linear(x, weight, b0, a, b, "plain").square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
