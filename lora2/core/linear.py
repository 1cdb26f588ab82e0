"""y = x Wᵀ + b + (x Aᵀ) B with W frozen: two ways to compute it, equal in value and gradient.

Legend: t tokens, d in-features, o out-features, k rank.

The bytes that must move decide which way is faster: `plain` passes over y (t, o) once more, `fused` writes W + ΔW
(o, d) once more. Gradients of A and B always take the rank-k route, so the (o, d) gradient of the weight is never
formed.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lora2.core.bf16 import upcast_if_emulated

Impl = Literal["auto", "plain", "fused"]


class _LowRankLinear(torch.autograd.Function):
    """Make the adapted linear layer one node of the graph.

    It saves x, A and B; besides W and the thin product A xᵀ (k, t), or W + ΔW if fused.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, fused: bool) -> Tensor:
        ctx.fused = fused
        wide_x, wide_weight, wide_a, wide_b = upcast_if_emulated(x, weight, a, b)
        bias = None if bias is None else bias.to(wide_x.dtype)
        if fused:
            weight = torch.addmm(wide_weight, wide_b.t(), wide_a)  # W + ΔW (o, d), kept for the backward pass
            y = F.linear(wide_x, weight, bias)  # (t, o)
            h = None
        else:
            h = wide_a @ wide_x.t()  # (k, t)
            y = F.linear(wide_x, wide_weight, bias).addmm_(h.t(), wide_b)  # (t, o)
        ctx.save_for_backward(x, weight, a, b, h)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dtype = grad.dtype
        *saved, h = ctx.saved_tensors
        grad, x, weight, a, b = upcast_if_emulated(grad, *saved)
        # With k rows and t columns the thin products run 2 to 10 times faster than the other way (docs/LOG.md).
        grad_h = b @ grad.t()  # (k, t)
        grad_a = grad_h @ x  # (k, d)
        grad_b = (a @ x.t() if h is None else h) @ grad  # (k, o)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ weight  # (t, d)
            if not ctx.fused:
                grad_x = grad_x.addmm_(grad_h.t(), a)
            grad_x = grad_x.to(dtype)
        return grad_x, None, None, grad_a.to(dtype), grad_b.to(dtype), None


def lowrank_linear(x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, impl: Impl) -> Tensor:
    """Return x Wᵀ + bias + (x Aᵀ) B. All tensors must share one dtype.

    Args:
        x: (..., d).
        weight: W (o, d), frozen: it gets no gradient.
        bias: (o,) or None, frozen.
        a: A (k, d).
        b: B (k, o), so that ΔW = Bᵀ A.
        impl: "plain", "fused", or "auto", which chooses by `prefers_fused`.

    Returns:
        (..., o).
    """
    flat = x.reshape(-1, x.shape[-1])  # (t, d)
    fused = prefers_fused(flat, weight) if impl == "auto" else impl == "fused"
    y: Tensor = _LowRankLinear.apply(flat, weight, bias, a, b, fused)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], weight.shape[0])


def prefers_fused(x: Tensor, weight: Tensor) -> bool:
    """Return whether writing W + ΔW (o·d numbers) moves less than a second pass over y (t·o) and over grad_x (t·d).

    W + ΔW is kept from the forward to the backward pass. By this rule it never takes more memory than x and y together.
    In 16 bits the sum W + ΔW would be rounded to 8 bits of mantissa and lose a small ΔW, so `plain` is taken.

    Args:
        x: (t, d).
        weight: (o, d).
    """
    (t, d), o = x.shape, weight.shape[0]
    return x.dtype == torch.float32 and o * d <= t * (o + d)
