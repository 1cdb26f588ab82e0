"""Statistics of one cell, over its seeds; lora2/analysis/comparison.py sets two methods side by side.

Legend: n = number of seeds, all values of one cell in one unit (percentage points in the tables). Every function is
pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lora2.common.errors import UserError

Verdict = Literal["reproduced", "above", "below", "too few seeds"]
MIN_SEEDS = 3
ROUNDING = 0.005  # papers print two decimals of a percentage: half a unit of print is not a difference


@dataclass(frozen=True, slots=True)
class Summary:
    """What a cell shows. `std` is None for one seed, where a spread does not exist (0 would claim that there is
    none).
    """

    n: int
    mean: float
    std: float | None
    median: float

    @property
    def text(self) -> str:
        """Write `81.13 ± 1.04`; the mean alone of one seed."""
        return f"{self.mean:.2f}" if self.std is None else f"{self.mean:.2f} ± {self.std:.2f}"


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the values of one cell: mean, standard deviation (ddof=1) and median.

    Args:
        values: (n,) one number for each seed.

    Raises:
        UserError: there is none, or one is not finite.
    """
    array = finite(values)
    std = float(array.std(ddof=1)) if array.size > 1 else None
    return Summary(n=int(array.size), mean=float(array.mean()), std=std, median=float(np.median(array)))


def student_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Estimate the interval of the mean over seeds by Student's t: mean ± t(n − 1) · std / √n.

    With three seeds a percentile bootstrap of level 0.95 holds the mean in three cases of four, t in 95 of 100
    (tests/analysis/test_coverage.py simulates both).

    >>> low, high = student_interval([89.1, 89.7, 89.9, 90.0, 90.4])
    >>> print(f"{low:.2f} to {high:.2f}")
    89.23 to 90.41

    Args:
        values: (n,) one number for each seed.
        level: how often such an interval holds the mean, between 0 and 1.

    Returns:
        (low, high) in the unit of `values`.

    Raises:
        UserError: `values` has fewer than two numbers or one that is not finite, or `level` lies outside (0, 1).
    """
    array = finite(values)
    if array.size < 2:
        raise UserError(f"values: an interval needs at least two numbers, got {list(values)}")
    half = t_quantile(array.size - 1, level) * float(array.std(ddof=1)) / math.sqrt(array.size)
    mean = float(array.mean())
    return mean - half, mean + half


def t_quantile(freedom: float, level: float = 0.95) -> float:
    """Return how many standard errors an interval of this level reaches to either side of the mean.

    Args:
        freedom: degrees of freedom; need not be whole.
        level: of the interval, both sides together.

    Raises:
        UserError: `level` lies outside (0, 1).
    """
    if not 0.0 < level < 1.0:
        raise UserError(f"level: got {level}, allowed: between 0 and 1, for example 0.95")
    from scipy.special import stdtrit  # half a second, which a table without intervals need not wait for

    return float(stdtrit(freedom, (1.0 + level) / 2.0))


def verdict(values: Sequence[float], paper_value: float, *, tolerance: float = ROUNDING) -> Verdict:
    """Say where our runs stand to one printed number: it lies in our interval of Student's t, we are above it or below
    it, or nothing can be said.

    `above` means that our runs are better than the printed value. With n < 3 nothing is said: t's interval of two
    seeds reaches nine times their distance. The word is never "significant": the paper's own spread is unknown, and a
    table compares many cells at once.
    """
    if len(values) < MIN_SEEDS:
        return "too few seeds"
    low, high = student_interval(values)
    if low - tolerance <= paper_value <= high + tolerance:
        return "reproduced"
    return "above" if low > paper_value else "below"


def glue_average(scores: Mapping[str, Sequence[float]]) -> float:
    """Take the paper's row average: mean over tasks, where a task with two printed numbers (QQP acc/F1, MNLI m/mm)
    counts as their mean.

    This formula gives every printed average of Table 1 to 0.01 except LoRA² k=8.

    >>> glue_average({"rte": [80.0], "qqp": [92.0, 88.0]})
    85.0

    Args:
        scores: the numbers of each task, all in one unit.

    Raises:
        UserError: there is no task, or one without a number.
    """
    if not scores:
        raise UserError("scores: an average needs at least one task")
    return float(np.mean([finite(values).mean() for values in scores.values()]))


def pearson(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Correlate two (n,) sequences linearly (Pearson); None where one is constant and no correlation is defined.

    Raises:
        UserError: the two differ in length, or hold no number or one that is not finite.
    """
    x, y = finite(left), finite(right)
    if x.size != y.size:
        raise UserError(f"correlation: the two sides have {x.size} and {y.size} values")
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:  # asked before centring, whose rounding would leave a norm of 1e-17
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Correlate the ranks of two (n,) sequences (Spearman), equals sharing their mean rank; None as for `pearson`."""
    return pearson(ranks(left).tolist(), ranks(right).tolist())


def ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Rank `values` (n,) from 1 to n, equals sharing their mean rank; returns (n,)."""
    _, inverse, counts = np.unique(finite(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # (distinct,) rank of the last of each group of equals
    mean_rank: npt.NDArray[np.float64] = last - (counts - 1) / 2.0
    return mean_rank[inverse]


def finite(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return (n,) numbers as an array.

    Raises:
        UserError: there is none, or one is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"values: need at least one number and finite ones only, got {list(values)}")
    return array
