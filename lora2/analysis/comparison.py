"""Two methods side by side, over tasks and seeds: how far apart, how sure, and what that says of a printed margin.

Legend: T = tasks, n = seeds of a task; differences are ours minus theirs, paired by seed, in percentage points. A
stratum is the (n,) differences of one task. All tasks weigh the same. Every function is pure; the bootstrap takes its
seed as an argument, so the same numbers always print the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from lora2.analysis.stats import MIN_SEEDS, finite, t_quantile
from lora2.common.errors import UserError

Strata = Sequence[Sequence[float]]  # (T, n of each)
MarginVerdict = Literal["supported", "contradicted", "undecided", "too few seeds", "one task", "seeds diverged"]
MOST_SEEDS = 1000  # beyond it nobody runs the study


@dataclass(frozen=True, slots=True)
class Pooled:
    """A mean over tasks, with its standard error and the degrees of freedom of that."""

    mean: float
    error: float
    freedom: float

    def half_width(self, level: float = 0.95) -> float:
        """Return half the width of the t-interval around the mean."""
        return t_quantile(self.freedom, level) * self.error if self.error > 0.0 else 0.0

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the t-interval around the mean."""
        half = self.half_width(level)
        return self.mean - half, self.mean + half


def pooled(strata: Strata, seeds: int | None = None) -> Pooled:
    """Pool differences over tasks: the mean of the tasks' means, each task with a spread of its own.

    The degrees of freedom are Welch and Satterthwaite's; one task gives the paired t-interval.

    Args:
        strata: (T, n) the differences of each task, two or more.
        seeds: as if each task had so many seeds of the same spread; None: as many as it has.

    Raises:
        UserError: there is no task, or one has fewer than two differences.
    """
    if not strata or any(len(values) < 2 for values in strata):
        raise UserError("strata: pooling needs at least one task and two differences in each")
    arrays = [finite(values) for values in strata]
    counts = np.array([seeds or array.size for array in arrays], dtype=np.float64)  # (T,)
    parts = np.array([array.var(ddof=1) for array in arrays]) / counts  # (T,) squared errors of the tasks' means
    total = float(parts.sum())
    freedom = total**2 / float((parts**2 / (counts - 1.0)).sum()) if total > 0.0 else float((counts - 1.0).sum())
    mean = float(np.mean([array.mean() for array in arrays]))
    return Pooled(mean=mean, error=math.sqrt(total) / len(arrays), freedom=freedom)


def stratified_bootstrap(
    strata: Strata, *, seed: int = 0, level: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Estimate the percentile interval of the mean over tasks, drawing seeds anew within each task (as rliable does).

    It covers less than its level where seeds are few: 80 % of 95 with two tasks of three seeds
    (tests/analysis/test_coverage.py). So it is shown, and verdicts are taken from `pooled`.

    >>> low, high = stratified_bootstrap([[0.0, 1.0, 2.0], [4.0, 4.0, 4.0]])
    >>> print(f"{low:.2f} to {high:.2f}")
    2.00 to 3.00

    Args:
        strata: (T, n) the differences of each task.
        seed: of the draws; the same seed gives the same interval.
        level: share of the draws' means that the interval holds.
        resamples: number of draws.

    Raises:
        UserError: there is no task, one is empty or not finite, or `level` lies outside (0, 1).
    """
    if not strata or not 0.0 < level < 1.0:
        raise UserError(
            f"stratified bootstrap: got {len(strata)} tasks and level {level}; needs a task, and 0 < level < 1"
        )
    generator = np.random.default_rng(seed)
    means = np.zeros(resamples)
    for values in strata:
        array = finite(values)
        draws = generator.integers(0, array.size, size=(resamples, array.size))  # (resamples, n)
        means += array[draws].mean(axis=1) / len(strata)
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(means, (tail, 1.0 - tail))
    return float(low), float(high)


def probability_of_improvement(ours: Strata, theirs: Strata) -> float:
    """Estimate how probably a run of ours scores higher than a run of theirs: rliable's P(X > Y), mean over tasks.

    Seeds are not paired here: each run of ours meets each of theirs, and equals count half. Only the order counts, so a
    run that diverged may stand as -inf.

    >>> probability_of_improvement([[1.0, 3.0]], [[2.0, 3.0]])
    0.375

    Args:
        ours, theirs: (T, n) scores of the same tasks in the same order.

    Raises:
        UserError: the tasks differ in number, or one has no score or NaN.
    """
    if len(ours) != len(theirs) or not ours:
        raise UserError(f"probability of improvement: got {len(ours)} and {len(theirs)} tasks; needs the same ones")
    shares = []
    for left, right in zip(ours, theirs, strict=True):
        x, y = _ordered(left)[:, None], _ordered(right)[None, :]  # (n, 1), (1, m)
        shares.append(float(((x > y) + 0.5 * (x == y)).mean()))
    return float(np.mean(shares))


def margin_verdict(strata: Strata, margin: float) -> MarginVerdict:
    """Say what our differences make of a printed one.

    supported: ours lies on the printed side of zero, and may be as large as printed or larger; contradicted: it is
    smaller than printed, or on the other side; undecided: the interval holds both zero and the printed margin.
    With one task, or fewer than three pairs in one, nothing is said, and no verdict is ever called significant: the
    paper's own spread is unknown, and a page compares many pairs at once.

    Args:
        strata: (T, n) our differences.
        margin: the paper's, over the same tasks.
    """
    if not strata or min(map(len, strata)) < MIN_SEEDS:
        return "too few seeds"
    if len(strata) < 2:
        return "one task"
    found = pooled(strata)
    mean, printed = _towards(found.mean, margin)
    half = found.half_width()
    if mean + half < printed:
        return "contradicted"
    return "supported" if mean - half > 0.0 else "undecided"


def seeds_to_decide(strata: Strata, margin: float) -> int | None:
    """Estimate how many seeds of each task would decide about a margin, if mean and spread stayed what they are.

    It is decided once the half-width of the t-interval is below the distance to zero (supported) or below the distance
    to the printed margin (contradicted).

    Returns:
        None for more than MOST_SEEDS.
    """
    mean, printed = _towards(pooled(strata).mean, margin)
    distance = max(mean, printed - mean)
    widths = ((seeds, pooled(strata, seeds).half_width()) for seeds in range(MIN_SEEDS, MOST_SEEDS + 1))
    return next((seeds for seeds, half in widths if half < distance), None)


def _ordered(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """Numbers that have an order, (n,), as an array."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or np.isnan(array).any():
        raise UserError(f"values: need at least one number and no NaN, got {list(values)}")
    return array


def _towards(mean: float, margin: float) -> tuple[float, float]:
    """Turn both so that the printed margin is positive: a paper that is behind claims the other's lead."""
    return (mean, margin) if margin >= 0.0 else (-mean, -margin)
