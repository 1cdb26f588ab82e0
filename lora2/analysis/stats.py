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
    """Mean, standard deviation (ddof=1) and median of `values` (n,). Raises UserError when empty or not finite."""
    array = _finite(values)
    std = float(array.std(ddof=1)) if array.size > 1 else None
    return Summary(int(array.size), float(array.mean()), std, float(np.median(array)))


def bootstrap_interval(
    values: Sequence[float], *, seed: int = 0, level: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval (low, high) of the mean of `values` (n,) over seeds.

    Raises UserError when `values` is empty or not finite, or `level` lies outside (0, 1).
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
    """Where our runs stand to one printed number: inside our bootstrap interval, above it, below it, or not to be
    said.

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
    """The paper's row average: mean over tasks, where a task with two printed numbers (QQP acc/F1, MNLI m/mm) counts
    as their mean.

    This formula gives every printed average of Table 1 to 0.01 except LoRA² k=8. Raises UserError when a task has no
    number.
    """
    if not scores:
        raise UserError("scores: an average needs at least one task")
    return float(np.mean([_finite(values).mean() for values in scores.values()]))


def pearson(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Pearson correlation of two (n,) sequences; None where one of them is constant (the correlation is undefined
    there).
    """
    x, y = _finite(left), _finite(right)
    if x.size != y.size:
        raise UserError(f"correlation: the two sides have {x.size} and {y.size} values")
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:  # asked before centring, whose rounding would leave a norm of 1e-17
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / (np.linalg.norm(x) * np.linalg.norm(y)), -1.0, 1.0))


def spearman(left: Sequence[float], right: Sequence[float]) -> float | None:
    """Spearman rank correlation with tied values sharing their mean rank; None where one side is constant."""
    return pearson(ranks(left).tolist(), ranks(right).tolist())


def ranks(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Ranks 1..n of `values` (n,), ties sharing their mean rank."""
    _, inverse, counts = np.unique(_finite(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # (distinct,) rank of the last of each group of equals
    mean_rank: npt.NDArray[np.float64] = last - (counts - 1) / 2.0
    return mean_rank[inverse]


def _finite(values: Sequence[float]) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise UserError(f"values: need at least one number and finite ones only, got {list(values)}")
    return array
