"""Which runs stand behind one cell of a table: never an average over settings or caveats, clean runs before marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora2.common.errors import UserError
from lora2.runs.caveats import FALLEN, Caveat, in_order
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
    def fallen(self) -> tuple[Counter[Caveat], int]:
        """Count the seeds of the setting that collapsed or diverged, and all of them; other caveats being equal.

        A fallen seed is never averaged with the others, but a mean without it is not the mean of the method.
        """
        others = _but_fallen(self.runs[0])
        alike = [
            run
            for run in (*self.runs, *self.left_out)
            if run.setting_id == self.runs[0].setting_id and _but_fallen(run) == others
        ]
        seeds = {kind: {run.seed for run in alike if kind in run.caveats} for kind in FALLEN}
        return Counter({kind: len(found) for kind, found in seeds.items() if found}), len({run.seed for run in alike})

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """List what makes the numbers of the cell no clean ones; a seed that fell and is left out is one of it."""
        return in_order((*self.runs[0].caveats, *self.fallen[0]))


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
    """The least stands: clean settings, clean seeds of a setting of which others fell, the rest; then most seeds."""
    first = cell.runs[0]
    return bool(cell.caveats), bool(first.caveats), -len(cell.runs), first.setting_id, first.caveats


def _but_fallen(run: Run) -> set[Caveat]:
    return set(run.caveats) - set(FALLEN)
