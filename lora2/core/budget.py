"""The rank budget b(t): the number of singular values of all matrices together that each optimizer step may keep."""

from dataclasses import dataclass
from typing import Literal

from lora2.common.errors import UserError

Schedule = Literal["released", "printed"]


@dataclass(frozen=True)
class BudgetSchedule:
    """Hold the budget b(t): `initial` up to step t_i, then a cubic down to `target`, then t_f steps with a fixed mask.

    Steps are counted from 0. LoRA² takes the schedule over from AdaLoRA (eq. 14 there).

    Args:
        total: T, optimizer steps of the run.
        initial: b_0, singular values of all matrices together at the start.
        target: b_T, singular values of all matrices together at the end.
        t_i: steps before the decay.
        t_f: steps after the decay.
        interval: ΔT; masks are renewed at steps divisible by it while the budget shrinks.
        kind: "released" has the numerator t − t_i, as AdaLoRA's and LoRA²'s code; "printed" has AdaLoRA's printed
            t − t_i − t_f, which would start above b_0 (cut to b_0 here) and ends above b_T, from where it jumps.

    Raises:
        UserError: the target is out of range, or the phases do not fit into `total`; the message says what would fit.

    >>> schedule = BudgetSchedule(total=100, initial=96, target=24, t_i=10, t_f=30)
    >>> [schedule.at(step) for step in (0, 10, 20, 40, 69, 70, 99)]
    [96, 96, 65, 33, 24, 24, 24]
    """

    total: int
    initial: int
    target: int
    t_i: int
    t_f: int
    interval: int = 1
    kind: Schedule = "released"

    def __post_init__(self) -> None:
        require_target(self.target, self.initial)
        require_phases(self.total, self.t_i, self.t_f)

    @property
    def final(self) -> int:
        """First step of the last phase; the mask that is chosen here is the final one."""
        return self.total - self.t_f

    def at(self, step: int) -> int:
        """Return b(step), a number of singular values from `target` to `initial`.

        Args:
            step: number of the optimizer step, from 0.
        """
        if step < self.t_i:
            return self.initial
        if step >= self.final:
            return self.target
        elapsed = step - self.t_i - (self.t_f if self.kind == "printed" else 0)
        remaining = 1 - elapsed / (self.final - self.t_i)
        return min(self.initial, int(self.target + (self.initial - self.target) * remaining**3))

    def updates_mask(self, step: int) -> bool:
        """Return whether a new mask is chosen after optimizer step `step`."""
        return step == self.final or (self.t_i < step < self.final and step % self.interval == 0)


def require_target(target: int, initial: int) -> None:
    """Raise UserError unless `target` singular values can be left of `initial` ones."""
    if not 1 <= target <= initial:
        cure = "raise budget.target_rank" if target < 1 else "lower budget.target_rank or raise rank.r"
        raise UserError(
            f"budget.target_rank: {target} singular values in all; keep from 1 to the {initial} that there are at "
            f"the start: {cure}"
        )


def require_phases(total: int, t_i: int, t_f: int) -> None:
    """Raise UserError unless the phases of a schedule fit into `total` steps; says what would fit."""
    if not phases_fit(total, t_i, t_f):
        raise UserError(_does_not_fit(total, t_i, t_f))


def phases_fit(total: int, t_i: int, t_f: int) -> bool:
    """Return whether `total` optimizer steps leave at least one for the decay and one for the last phase."""
    return t_i >= 0 and t_f >= 1 and t_i + t_f < total


def shrink_phases(total: int, t_i: int, t_f: int) -> tuple[int, int]:
    """Shrink t_i and t_f in proportion, so that together they take two thirds of `total` optimizer steps.

    A third is left for the decay, as in the authors' scripts (MRPC: 600 + 1800 of 3450 steps).

    Returns:
        t_i and t_f, in optimizer steps.
    """
    t_i, t_f = max(0, t_i), max(0, t_f)
    share = 2 * total / 3 / max(t_i + t_f, 1)
    last = max(1, int(t_f * share))
    return max(0, min(int(t_i * share), total - last - 1)), last


def _does_not_fit(total: int, t_i: int, t_f: int) -> str:
    if total < 2:
        return f"budget.t_i, budget.t_f: a run of {total} optimizer step has room for no schedule; use budget=none"
    first, last = shrink_phases(total, t_i, t_f)
    return (
        f"budget.t_i={t_i} and budget.t_f={t_f} do not fit into the {total} optimizer steps of this run, which need "
        f"t_i >= 0 and t_f >= 1 with t_i + t_f < {total}: use for example budget.t_i={first} budget.t_f={last}, "
        f"or budget.scale=auto, which shrinks both in proportion"
    )
