"""The rank budget b(t): how many singular values of all matrices together are kept at each optimizer step."""

from dataclasses import dataclass
from typing import Literal

from lora2.common.errors import UserError

Schedule = Literal["released", "printed"]


@dataclass(frozen=True)
class BudgetSchedule:
    """b(t): `initial` up to step t_i, then a cubic down to `target`, then t_f steps with the pattern fixed.

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
        UserError: the target is out of range, or the phases do not fit into `total`; says what would fit.
    """

    total: int
    initial: int
    target: int
    t_i: int
    t_f: int
    interval: int = 1
    kind: Schedule = "released"

    def __post_init__(self) -> None:
        if not 1 <= self.target <= self.initial:
            cure = "raise budget.target_rank" if self.target < 1 else "lower budget.target_rank or raise rank.r"
            raise UserError(
                f"budget.target_rank: {self.target} singular values in all; allowed are from 1 to the "
                f"{self.initial} there are at the start: {cure}"
            )
        if not fits(self.total, self.t_i, self.t_f):
            raise UserError(_does_not_fit(self.total, self.t_i, self.t_f))

    @property
    def final(self) -> int:
        """The first step of the last phase; the mask chosen here is the final one."""
        return self.total - self.t_f

    def at(self, step: int) -> int:
        """b(step)."""
        if step < self.t_i:
            return self.initial
        if step >= self.final:
            return self.target
        elapsed = step - self.t_i - (self.t_f if self.kind == "printed" else 0)
        remaining = 1 - elapsed / (self.final - self.t_i)
        return min(self.initial, int(self.target + (self.initial - self.target) * remaining**3))

    def renews(self, step: int) -> bool:
        """Whether a new mask is chosen after this step."""
        return step == self.final or (self.t_i < step < self.final and step % self.interval == 0)


def fits(total: int, t_i: int, t_f: int) -> bool:
    """Whether `total` steps leave at least one for the decay and one for the last phase."""
    return t_i >= 0 and t_f >= 1 and t_i + t_f < total


def fit_phases(total: int, t_i: int, t_f: int) -> tuple[int, int]:
    """t_i and t_f shrunk in proportion to two thirds of `total`, so that a third is left for the decay.

    The authors' scripts leave about a third too (MRPC: 600 + 1800 of 3450 steps).
    """
    t_i, t_f = max(0, t_i), max(0, t_f)
    share = 2 * total / 3 / max(t_i + t_f, 1)
    last = max(1, int(t_f * share))
    return max(0, min(int(t_i * share), total - last - 1)), last


def _does_not_fit(total: int, t_i: int, t_f: int) -> str:
    if total < 2:
        return f"budget.t_i, budget.t_f: a run of {total} optimizer step has room for no schedule; use budget=none"
    first, last = fit_phases(total, t_i, t_f)
    return (
        f"budget.t_i={t_i} and budget.t_f={t_f} do not fit into the {total} optimizer steps of this run: allowed are "
        f"t_i >= 0 and t_f >= 1 with t_i + t_f < {total}. Use for example budget.t_i={first} budget.t_f={last}, "
        f"or budget.scale=auto, which shrinks both in proportion"
    )
