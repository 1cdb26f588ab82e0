"""Modules that hold the parameters of LoRA²: a stack of factors for each weight shape, and the adapted linear layer.

All matrices of one shape share one stack. So the regulariser, the importance, the optimizer and the allocator see
five tensors for each shape instead of five for each matrix.
"""

from collections.abc import Callable
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from lora2.core import functional
from lora2.core.bf16 import upcast_if_emulated
from lora2.core.frozen import FrozenCopy
from lora2.core.functional import Factors
from lora2.core.linear import Impl, lowrank_linear

Init = Literal["paper", "orthogonal"]
Pair = tuple[Tensor, Tensor]  # A and B
Folds = dict[tuple[bool, torch.dtype, bool], list[Pair]]  # (are gradients on, dtype, joined) -> every pair
INIT_STD = 0.02  # released code, loralib/LoRA2.py; the paper says only "random Gaussian"


class FactorStack(nn.Module):
    """Hold the five factors of n matrices (o, d), stacked along the first axis.

    Shapes: u (n, r, k), v (n, k, d), lam (n, r), U (n, r, k), V (n, k, o). They are float32, and Λ starts at 0, so
    that ΔW = 0 at the start. Without an outer width there is one scale, as in AdaLoRA: u (n, r, d), lam (n, r),
    U (n, r, o).

    The inner rank is folded away, see functional.low_rank. Within a forward pass of the adapted model the whole stack
    is folded once, by its first layer, and the result is dropped when the pass ends (docs/METHOD.md, "The fold").

    Args:
        n: number of matrices.
        d: in-features.
        o: out-features.
        k: outer width, or None for one scale.
        r: inner rank.
        scale: alpha / r.
        init: initial values of u, v, U and V, see LoRA2Config.
    """

    def __init__(self, n: int, d: int, o: int, k: int | None, r: int, scale: float, init: Init) -> None:
        super().__init__()
        self.d, self.o, self.k, self.scale = d, o, k, scale
        self.u = nn.Parameter(torch.empty(n, r, d if k is None else k))
        self.v = None if k is None else nn.Parameter(torch.empty(n, k, d))
        self.lam = nn.Parameter(torch.zeros(n, r))
        self.U = nn.Parameter(torch.empty(n, r, o if k is None else k))
        self.V = None if k is None else nn.Parameter(torch.empty(n, k, o))
        for stack in (self.u, self.v, self.U, self.V):
            for matrix in () if stack is None else stack.detach():
                INITS[init](matrix)
        self._folds: Folds | None = None  # of the forward pass that runs now; None outside of one
        self._alone = [range(index, index + 1) for index in range(n)]
        self._units = self._alone  # what is folded into one pair each for passes in 16 bits

    @property
    def factors(self) -> Factors:
        """The parameters as one tuple."""
        return Factors(self.u, self.v, self.lam, self.U, self.V)

    def join(self, unit: range) -> None:
        """Fold these matrices into one wider pair for passes in 16 bits, see `joined`."""
        self._units = sorted([unit, *(x for x in self._units if x.start not in unit)], key=lambda x: x.start)

    def low_rank(self, index: int, dtype: torch.dtype, *, joined: bool = False) -> Pair:
        """Return A (k, d) and B (k, o) of one matrix, with ΔW = Bᵀ A; (r, d) and (r, o) with one scale.

        Args:
            index: position of the matrix in the stack.
            dtype: of the result; the fold itself is computed in float32.
            joined: whether the pass folds what was joined together, for `joined`.
        """
        unit, (a, b) = self._pair(index, dtype, joined)
        if len(unit) == 1:
            return a, b
        g, place = len(unit), index - unit.start
        return a.view(g, -1, self.d)[place], b.view(g, -1, g, self.o)[place, :, place]

    def joined(self, index: int, dtype: torch.dtype) -> Pair:
        """Return A (g·k, d) and block-diagonal B (g·k, g·o) of the g matrices that this one was joined with."""
        return self._pair(index, dtype, True)[1]

    def _pair(self, index: int, dtype: torch.dtype, joined: bool) -> tuple[range, Pair]:
        """Return the unit that a matrix is folded in, and its pair."""
        units = self._units if joined else self._alone
        number, unit = next((number, unit) for number, unit in enumerate(units) if index in unit)
        if self._folds is None:
            part = self.factors.map(lambda factor: factor[unit.start : unit.stop])
            return unit, self._fold(part, dtype, [len(unit)])[0]
        key = (torch.is_grad_enabled(), dtype, joined)  # a part of a forward pass may run without gradients
        if key not in self._folds:
            self._folds[key] = self._fold(self.factors, dtype, [len(unit) for unit in units])
        return unit, self._folds[key][number]

    def begin_forward(self) -> None:
        """Fold at most once from here to `end_forward`."""
        self._folds = {}

    def end_forward(self) -> None:
        """Drop the fold: it belongs to the graph and to the parameters of the pass that has ended."""
        self._folds = None

    def _fold(self, factors: Factors, dtype: torch.dtype, sizes: list[int]) -> list[Pair]:
        """Return A and B of every unit of `factors`, which have so many matrices each."""
        # Autocast is off because the k x k core stays in float32. Gradient checkpointing counts the tensors that a
        # layer saves; the hooks hide from it those of the fold, which belongs to no layer.
        with torch.autocast(self.lam.device.type, enabled=False), saved_tensors_hooks(_unchanged, _unchanged):
            a, b = functional.low_rank(factors, self.scale)
            a, b = a.to(dtype), b.to(dtype)
            pairs = list(zip(a.split(sizes), b.split(sizes), strict=True))  # each (g, k, d), (g, k, o)
            for g in set(sizes) - {1}:
                joined = [number for number, size in enumerate(sizes) if size == g]
                blocks = functional.block_diagonal(torch.stack([pairs[number][1] for number in joined]))
                for number, block in zip(joined, blocks.unbind(), strict=True):
                    pairs[number] = pairs[number][0], block.unsqueeze(0)
        return [(a.flatten(0, 1), b.flatten(0, 1)) for a, b in pairs]


def _unchanged(saved: Tensor) -> Tensor:
    return saved


def _normal(matrix: Tensor) -> object:
    return nn.init.normal_(matrix, std=INIT_STD)


INITS: dict[Init, Callable[[Tensor], object]] = {"paper": _normal, "orthogonal": nn.init.orthogonal_}


class Joint(Protocol):
    """Layers that are computed together, see core/joint.py."""

    def output(self, place: int, x: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Return the output of one of them, or None if it must compute alone."""
        ...


class LoRA2Linear(nn.Module):
    """Compute W⁰x + b + ΔW x with ΔW = scale · (uv)Λ(𝒰𝒱), and W⁰ and b frozen (eq. 4).

    The factors are in a FactorStack that several layers share; this module owns only the frozen weight.

    Args:
        base: the layer to replace, (d) -> (o).
        stack: holds the factors.
        index: position of this matrix in the stack.
        impl: "plain", "fused" or "auto", see lowrank_linear.
    """

    def __init__(self, base: nn.Linear, stack: FactorStack, index: int, impl: Impl) -> None:
        super().__init__()
        self.weight: Tensor = base.weight  # (o, d)
        self.bias = base.bias  # (o,) or None
        self.impl = impl
        self.index = index
        # The tuples hide their content from nn.Module: the adapter owns the stack, and the original weight is not a
        # second parameter while the layer is merged.
        self._stack = (stack,)
        self._original: tuple[Tensor] | None = None
        self._cast = FrozenCopy()  # of the unmerged layer
        self._joint: tuple[Joint, int] | None = None  # with its siblings, and the place among them

    @property
    def stack(self) -> FactorStack:
        """Stack that holds this layer's factors at position `index`."""
        return self._stack[0]

    @property
    def is_merged(self) -> bool:
        """Whether `weight` holds W⁰ + ΔW now."""
        return self._original is not None

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., o), in the autocast dtype where autocast is on."""
        dtype = _compute_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            joined = dtype != self.weight.dtype  # only where the frozen weights must be copied anyway
            if joined and self._joint is not None:
                joint, place = self._joint
                y = joint.output(place, x, dtype)
                if y is not None:
                    return y
            weight, bias = self._frozen(dtype)
            if self.is_merged:
                x_wide, weight_wide = upcast_if_emulated(x.to(dtype), weight)
                wide_bias = None if bias is None else bias.to(x_wide.dtype)
                return nn.functional.linear(x_wide, weight_wide, wide_bias).to(dtype)
            a, b = self.stack.low_rank(self.index, dtype, joined=joined)
            return lowrank_linear(x.to(dtype), weight, bias, a, b, self.impl)

    def join(self, joint: Joint, place: int) -> None:
        """Compute together with other layers where `joint` can."""
        self._joint = (joint, place)

    def _frozen(self, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return weight and bias in the compute dtype, of which autocast would make a new copy in every pass."""
        if dtype == self.weight.dtype:
            return self.weight, self.bias
        if self.is_merged:
            return self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype)
        return self._cast.of([self.weight], [self.bias], dtype)

    @torch.no_grad()
    def delta_weight(self) -> Tensor:
        """Return ΔW, (o, d) in float32."""
        one = self.stack.factors.map(lambda factor: factor[self.index : self.index + 1].float())
        return functional.delta_weight(one, self.stack.scale)[0]

    @torch.no_grad()
    def lora_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights of the LoRA that equals this layer, ΔW = B A, with the least rank: q = min(k, kept).

        With q = k, Λ and the inner factors are folded into B (functional.low_rank). Else A and B are the rows of P and
        Q whose singular value is not zero; so they are with one scale. Both are multiplied out in float64. The scale
        alpha / r is inside B.

        Returns:
            A: (q, d) in float32.
            B: (o, q) in float32.
        """
        f = self.stack.factors.map(lambda factor: factor[self.index].double())
        alive = f.lam != 0  # (r,)
        if self.stack.k is not None and int(alive.sum()) >= self.stack.k:
            one = f.map(lambda factor: factor.unsqueeze(0))
            a, b = (stack[0] for stack in functional.low_rank(one, self.stack.scale))  # (k, d), (k, o)
        else:
            a, q = functional.sides(f._replace(u=f.u[alive], U=f.U[alive]))  # (kept, d), (kept, o)
            b = self.stack.scale * f.lam[alive].unsqueeze(-1) * q
        return a.float().contiguous(), b.T.float().contiguous()

    def merge(self, delta: Tensor | None = None) -> None:
        """Replace the weight by W⁰ + ΔW, and keep W⁰ for `unmerge`. Merging twice changes nothing.

        Args:
            delta: another ΔW (o, d) to add instead of this layer's own.
        """
        if self._original is None:
            self._original = (self.weight,)
            merged = self.weight.float() + (self.delta_weight() if delta is None else delta)
            self.weight = nn.Parameter(merged.to(self.weight.dtype), requires_grad=False)

    def unmerge(self) -> None:
        """Restore the very tensor that `merge` replaced."""
        if self._original is not None:
            self.weight, self._original = self._original[0], None

    def extra_repr(self) -> str:
        """Return the shapes, as nn.Linear shows them."""
        (o, d), r = self.weight.shape, self.stack.lam.shape[1]
        return f"in_features={d}, out_features={o}, k={self.stack.k}, r={r}, merged={self.is_merged}"


def _compute_dtype(x: Tensor) -> torch.dtype:
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
