"""Statistics over seeds, in numpy alone.

Legend: n = number of seeds, all values of one cell in one unit (percentage points in the tables). Every function is
pure; the bootstrap takes its seed as an argument, so the same numbers always print the same interval.
"""

from __future__ import annotations

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


def summarise(values: Sequence[float]) -> Summary:
    """Summarise the values of one cell: mean, standard deviation (ddof=1) and median.

    Args:
        values: (n,) one number for each seed.

    Raises:
        UserError: there is none, or one is not finite.
    """
    array = _finite(values)
    std = float(array.std(ddof=1)) if array.size > 1 else None
    return Summary(n=int(array.size), mean=float(array.mean()), std=std, median=float(np.median(array)))


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, level: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Estimate a percentile bootstrap interval of the mean over seeds.

    >>> low, high = bootstrap_interval([89.1, 89.7, 89.9, 90.0, 90.4])
    >>> print(f"{low:.2f} to {high:.2f}")
    89.42 to 90.16

    Args:
        values: (n,) one number for each seed.
        seed: of the draws; the same seed gives the same interval.
        level: share of the draws' means that the interval holds, between 0 and 1.
        resamples: number of draws.

    Returns:
        (low, high) in the unit of `values`.

    Raises:
        UserError: `values` is empty or not finite, or `level` lies outside (0, 1).
    """
    array = _finite(values)
    if not 0.0 < level < 1.0:
        raise UserError(f"level: got {level}, allowed: between 0 and 1, for example 0.95")
    draws = np.random.default_rng(seed).integers(0, array.size, size=(resamples, array.size))  # (resamples, n)
    means = array[draws].mean(axis=1)  # (resamples,)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, (tail, 1.0 - tail))
    return float(low), float(high)


def verdict(values: Sequence[float], paper_value: float, *, tolerance: float = ROUNDING, seed: int = 0) -> Verdict:
    """Say where our runs stand to one printed number: it lies in our bootstrap interval, we are above it or below it,
    or nothing can be said.

    `above` means that our runs are better than the printed value. With n < 3 a percentile bootstrap has at most three
    distinct means and its interval is little more than [min, max], so nothing is said. The word is never
    "significant": with 3 to 5 seeds the interval covers less than its nominal 95 %, the paper's own spread is
    unknown, and a table compares many cells at once.
    """
    if len(values) < MIN_SEEDS:
        return "too few seeds"
    low, high = bootstrap_interval(values, seed=seed)
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
    return float(np.mean([_finite(values).mean() for values in scores.values()]))


def pearson(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Correlate two (n,) sequences linearly (Pearson); None where one is constant and no correlation is defined.

    Raises:
        UserError: the two differ in length, or hold no number or one that is not finite.
    """
    x, y = _finite(left), _finite(right)
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
    _, inverse, counts = np.unique(_finite(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # (distinct,) rank of the last of each group of equals
    mean_rank: npt.NDArray[np.float64] = last - (counts - 1) / 2.0
    return mean_rank[inverse]


def _finite(values: Sequence[float]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"values: need at least one number and finite ones only, got {list(values)}")
    return array
