"""Which runs stand behind one cell of a table: never an average over settings or caveats, clean runs before marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora2.common.errors import UserError
from lora2.runs.caveats import Caveat, in_order
from lora2.runs.reader import Run


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs behind one cell: one setting, one run per seed, all with the same caveats.

    Attributes:
        left_out: runs of the same cell that are not among them.
    """

    runs: tuple[Run, ...]
    left_out: tuple[Run, ...] = ()

    @property
    def dropped_settings(self) -> int:
        """Count the other settings."""
        return len({run.setting_id for run in self.left_out} - {self.runs[0].setting_id})

    @property
    def dropped_runs(self) -> int:
        """Count the runs that are left out."""
        return len(self.left_out)

    @property
    def collapsed(self) -> tuple[int, int]:
        """Return how many seeds of the setting collapsed, and of how many; what else is wrong with a run being equal.

        A collapsed seed is never averaged with the others, but a mean without it is not the mean of the method.
        """
        others = _but_collapsed(self.runs[0])
        alike = [
            run
            for run in (*self.runs, *self.left_out)
            if run.setting_id == self.runs[0].setting_id and _but_collapsed(run) == others
        ]
        seeds = {run.seed for run in alike}
        return len(seeds & {run.seed for run in alike if "collapsed" in run.caveats}), len(seeds)

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """List what makes the numbers of the cell no clean ones; a seed that collapsed and is left out is one of it."""
        return in_order((*self.runs[0].caveats, *(("collapsed",) if self.collapsed[0] else ())))


def choose(runs: Iterable[Run]) -> Cell:
    """Choose the runs of one cell: never an average over different settings or caveats, never one seed twice.

    Takes a setting without a caveat before all others, whatever the number of its seeds; then the setting with most
    seeds (ties: the first id in alphabetical order) and, of each seed, the first run id.

    Raises:
        UserError: there is no run.
    """
    ordered = sorted(runs, key=lambda run: run.run_id)
    if not ordered:
        raise UserError("runs: a cell needs at least one run")
    groups: dict[tuple[tuple[Caveat, ...], str], dict[int, Run]] = {}
    for run in ordered:
        groups.setdefault((run.caveats, run.setting_id), {}).setdefault(run.seed, run)
    return min((_cell(seeds, ordered) for seeds in groups.values()), key=_rank)


def _cell(seeds: Mapping[int, Run], runs: Sequence[Run]) -> Cell:
    """The cell of these seeds, of all the runs that might stand in it."""
    chosen = {id(run) for run in seeds.values()}
    return Cell(tuple(seeds[seed] for seed in sorted(seeds)), tuple(run for run in runs if id(run) not in chosen))


def _rank(cell: Cell) -> tuple[bool, bool, int, str, tuple[Caveat, ...]]:
    """The least stands: clean settings, clean seeds of a setting that also collapsed, the others; then most seeds."""
    first = cell.runs[0]
    return bool(cell.caveats), bool(first.caveats), -len(cell.runs), first.setting_id, first.caveats


def _but_collapsed(run: Run) -> set[Caveat]:
    return set(run.caveats) - {"collapsed"}
