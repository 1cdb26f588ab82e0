"""Adapter parameters from layer shapes alone, for the claims audit: no model, no torch.

Legend: d = in-features, o = out-features, k = outer width, r = inner rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lora2.core.matrices import MATRICES


@dataclass(frozen=True, slots=True)
class Backbone:
    """The encoder shapes that an adapter depends on."""

    name: str
    layers: int
    hidden: int
    intermediate: int

    def shape(self, matrix: str) -> tuple[int, int]:
        """(d, o) of one matrix type."""
        if matrix == "ffn_w1":
            return self.hidden, self.intermediate
        return (self.intermediate, self.hidden) if matrix == "ffn_w2" else (self.hidden, self.hidden)


DEBERTA_V3_BASE = Backbone("DeBERTaV3-base", layers=12, hidden=768, intermediate=3072)
ROBERTA_LARGE = Backbone("RoBERTa-large", layers=24, hidden=1024, intermediate=4096)


def lora2_parameters(backbone: Backbone, k: int, r: int, matrices: Iterable[str] = MATRICES) -> int:
    """Σ over matrices of k(d+o) + 2kr + r: the two projections (d, k), (k, o), the two (k, r) factors, and Λ (r)."""
    return sum(large_entries(backbone, k, m) + small_entries(k, r) for m in matrices) * backbone.layers


def lora_parameters(backbone: Backbone, r: int, matrices: Iterable[str] = MATRICES) -> int:
    """Σ over matrices of r(d+o)."""
    return sum(r * sum(backbone.shape(matrix)) for matrix in matrices) * backbone.layers


def large_entries(backbone: Backbone, k: int, matrix: str) -> int:
    """Entries of the two outer projections of one matrix: k(d+o)."""
    return k * sum(backbone.shape(matrix))


def small_entries(k: int, r: int) -> int:
    """Entries of the two inner factors and Λ of one matrix: 2kr + r."""
    return 2 * k * r + r


def share_without_large(backbone: Backbone, k: int, r: int, matrices: Iterable[str] = MATRICES) -> float:
    """Share of entries whose sensitivity is not computed when only the two k×r factors and Λ are scored (the released
    code).
    """
    names = tuple(matrices)
    large = sum(large_entries(backbone, k, matrix) for matrix in names)
    return large / (large + len(names) * small_entries(k, r))


def share_without_small(backbone: Backbone, k: int, r: int, matrices: Iterable[str] = MATRICES) -> float:
    """Share of entries not computed when the two k×r factors are dropped instead: eq. 9's letters with eq. 4's
    shapes.
    """
    names = tuple(matrices)
    dropped = 2 * k * r * len(names)
    return dropped / (sum(large_entries(backbone, k, matrix) for matrix in names) + len(names) * small_entries(k, r))
