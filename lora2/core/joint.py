"""Query, key and value of an attention as one wider layer: they read the same input.

Of g layers y_i = x W_iᵀ + b_i + (x A_iᵀ) B_i, the one that is asked first computes all: W and A below each other, B
block-diagonal. That is one adapted layer of width g·k with g·o outputs, so lowrank_linear computes it as any other.
A GPU then starts 4 kernels where it would start 12, and 8 in the backward pass for 20. The zeros of B cost nothing
there, as its units multiply in blocks of 16.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lora2.core.frozen import FrozenCopy
from lora2.core.layers import LoRA2Linear
from lora2.core.linear import lowrank_linear


class JointLinear:
    """Compute g layers together where they are called with the same tensor, within one call of their parent module.

    Args:
        layers: consecutive matrices of one stack, with a bias all or none.
    """

    def __init__(self, layers: Sequence[LoRA2Linear]) -> None:
        self._layers = layers
        self._frozen = FrozenCopy()
        self._open = False
        self._asked: tuple[Tensor, torch.dtype, bool] | None = None  # input, dtype, and whether gradients are on
        self._outputs: tuple[Tensor, ...] = ()

    def begin(self, *_: object) -> None:
        """Compute together from here on; a forward pre-hook of the parent."""
        self._open = True

    def end(self, *_: object) -> None:
        """Drop what was computed, and let every layer compute alone; a forward hook of the parent."""
        self._open, self._asked, self._outputs = False, None, ()

    def output(self, place: int, x: Tensor, dtype: torch.dtype) -> Tensor | None:
        """Return the output (..., o) of one layer, or None outside of a call of the parent or with a layer merged.

        Args:
            place: of the layer among all.
            x: (..., d).
            dtype: to compute in.
        """
        if not self._open or any(layer.is_merged for layer in self._layers):
            return None
        asked = (x, dtype, torch.is_grad_enabled())
        if self._asked is None or self._asked[0] is not x or self._asked[1:] != asked[1:]:
            self._asked, self._outputs = asked, self._compute(x, dtype)
        return self._outputs[place]

    def _compute(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
        first = self._layers[0]
        weight, bias = self._frozen.of([y.weight for y in self._layers], [y.bias for y in self._layers], dtype)
        a, b = first.stack.joined(first.index, dtype)
        y = lowrank_linear(x.to(dtype), weight, bias, a, b, first.impl)
        parts: tuple[Tensor, ...] = _Split.apply(y, len(first.weight))  # type: ignore[no-untyped-call]
        return parts


class _Split(torch.autograd.Function):
    """Cut y (..., g·o) into g parts (..., o), whose gradients are not copied where they lie side by side already."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, o: int) -> tuple[Tensor, ...]:
        return tuple(y.unsafe_split(o, dim=-1))  # they may be written to, as the outputs of each layer alone

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return side_by_side(grads), None


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Return parts (t, o) as one tensor (t, g·o): a view, if they are neighbours in memory already, else a copy.

    There may be more dimensions before the last.
    """
    first = parts[0]
    (*leading, o), strides, begin = first.shape, first.stride(), first.storage_offset()
    lie_so = strides[-2:] == (len(parts) * o, 1) and all(
        part.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        and (part.stride(), part.storage_offset()) == (strides, begin + place * o)
        for place, part in enumerate(parts)
    )
    return first.as_strided((*leading, len(parts) * o), strides, begin) if lie_so else torch.cat([*parts], dim=-1)
