"""Parameter counts of adapters from layer shapes alone, without a model.

Legend: d = in-features, o = out-features, k = outer width, r = inner rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lora2.core.matrices import MATRICES


@dataclass(frozen=True, slots=True)
class Backbone:
    """Hold the shapes of an encoder that an adapter's size depends on.

    Attributes:
        name: as the tables print it.
        layers: number of encoder layers.
        hidden: width of the residual stream.
        intermediate: inner width of the feed-forward part.
    """

    name: str
    layers: int
    hidden: int
    intermediate: int

    def shape(self, matrix: str) -> tuple[int, int]:
        """Return (in-features, out-features) of one of MATRICES."""
        if matrix == "ffn_w1":
            return self.hidden, self.intermediate
        return (self.intermediate, self.hidden) if matrix == "ffn_w2" else (self.hidden, self.hidden)


DEBERTA_V3_BASE = Backbone("DeBERTaV3-base", layers=12, hidden=768, intermediate=3072)
ROBERTA_LARGE = Backbone("RoBERTa-large", layers=24, hidden=1024, intermediate=4096)


def lora2_parameters(backbone: Backbone, k: int, r: int, matrices: Iterable[str] = MATRICES) -> int:
    """Count a LoRA² adapter: Σ over matrices of k(d+o) + 2kr + r.

    These are the two projections (k, d) and (k, o), the two (r, k) factors, and the r singular values.
    """
    return sum(large_entries(backbone, k, m) + small_entries(k, r) for m in matrices) * backbone.layers


def lora_parameters(backbone: Backbone, r: int, matrices: Iterable[str] = MATRICES) -> int:
    """Count a LoRA adapter: Σ over matrices of r(d+o)."""
    return sum(r * sum(backbone.shape(matrix)) for matrix in matrices) * backbone.layers


def large_entries(backbone: Backbone, k: int, matrix: str) -> int:
    """Count the entries of the two outer projections of one matrix: k(d+o)."""
    return k * sum(backbone.shape(matrix))


def small_entries(k: int, r: int) -> int:
    """Count the entries of the two inner factors and Λ of one matrix: 2kr + r."""
    return 2 * k * r + r


def share_without_large(backbone: Backbone, k: int, r: int, matrices: Iterable[str] = MATRICES) -> float:
    """Return the share of entries, 0 to 1, that need no sensitivity when only the inner factors and Λ are scored.

    That is what the released code does.
    """
    names = tuple(matrices)
    large = sum(large_entries(backbone, k, matrix) for matrix in names)
    return large / (large + len(names) * small_entries(k, r))


def share_without_small(backbone: Backbone, k: int, r: int, matrices: Iterable[str] = MATRICES) -> float:
    """Return the share of entries, 0 to 1, that need no sensitivity when the two inner factors are left out instead.

    That is eq. 9 by its letters, with the shapes of eq. 4.
    """
    names = tuple(matrices)
    dropped = 2 * k * r * len(names)
    return dropped / (sum(large_entries(backbone, k, matrix) for matrix in names) + len(names) * small_entries(k, r))
