"""Frozen weights in the compute dtype, of which autocast would make a new copy in every forward pass."""

from collections.abc import Sequence

import torch
from torch import Tensor


class FrozenCopy:
    """Keep the weights and biases of frozen layers in another dtype, one layer below the other, as long as they stay.

    A captured CUDA graph reads this memory at every replay, so only other weights may replace it.
    """

    def __init__(self) -> None:
        # The tensors that it was made of, which keeps their addresses from being given to others; what they held; the
        # weight and the bias.
        self._made: tuple[list[Tensor], tuple[object, ...], Tensor, Tensor | None] | None = None

    def of(
        self, weights: Sequence[Tensor], biases: Sequence[Tensor | None], dtype: torch.dtype
    ) -> tuple[Tensor, Tensor | None]:
        """Return the weights (Σo, d) and the biases (Σo,) in `dtype`; None for biases, all or none of which there are.

        Args:
            weights: each (o, d).
            biases: each (o,).
            dtype: of the copy.
        """
        there = [bias for bias in biases if bias is not None]
        key = (dtype, *(x for tensor in (*weights, *there) for x in _content(tensor)))
        if self._made is None or self._made[1] != key:
            with torch.inference_mode(False):  # else no later pass could train with it
                self._made = [*weights, *there], key, _below(weights, dtype), _below(there, dtype) if there else None
        return self._made[2], self._made[3]


def _content(tensor: Tensor) -> tuple[int, int]:
    """Return what changes when a tensor is replaced or written to."""
    return tensor.data_ptr(), tensor._version


def _below(tensors: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat([tensor.detach().to(dtype) for tensor in tensors])
