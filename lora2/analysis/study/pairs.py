"""LoRA² against each method of its size: differences paired by seed and task, beside the paper's printed margin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lora2.analysis.comparison import (
    MarginVerdict,
    Pooled,
    margin_verdict,
    pooled,
    probability_of_improvement,
    seeds_to_decide,
    stratified_bootstrap,
)
from lora2.analysis.paper import PaperTable
from lora2.analysis.stats import glue_average
from lora2.analysis.study.gather import PAIRS, Study, StudyCell
from lora2.glue.tasks import TASKS


@dataclass(frozen=True, slots=True)
class Pair:
    """Two methods of equal size on the tasks that both ran.

    Attributes:
        ours, theirs: variants.
        cells: by task, theirs behind ours.
        margin: the printed difference, mean over the tasks with a difference by the same metric, or over all.
    """

    ours: str
    theirs: str
    cells: Mapping[str, tuple[StudyCell, StudyCell]]
    margin: float

    @property
    def differences(self) -> dict[str, list[float]]:
        """Return ours minus theirs, (n,) of the seeds with a score of both, by task; no task is empty."""
        return differences(self.cells)

    @property
    def lost(self) -> list[str]:
        """List the tasks without a difference of which a run diverged."""
        known = self.differences
        return [task for task, both in self.cells.items() if task not in known and any(cell.diverged for cell in both)]

    @property
    def diverged(self) -> bool:
        """Say whether a run of either did, on any task that both ran: then the others' differences are a selection."""
        return any(cell.diverged for both in self.cells.values() for cell in both)

    @property
    def probability(self) -> float:
        """Return how probably a run of ours scores higher than one of theirs, mean over all tasks that both ran."""
        ours, theirs = zip(*self.cells.values(), strict=True)
        return probability_of_improvement([cell.ordered() for cell in ours], [cell.ordered() for cell in theirs])

    @property
    def strata(self) -> list[list[float]]:
        """List the differences, task by task."""
        return list(self.differences.values())

    @property
    def mean(self) -> float:
        """Return the mean over tasks of the mean difference; not a number where there is no difference."""
        return float(np.mean([np.mean(values) for values in self.strata])) if self.strata else math.nan

    @property
    def seeds(self) -> int:
        """Return how many pairs the task with fewest has; 0 where there is no difference."""
        return min(map(len, self.strata), default=0)

    @property
    def pooled(self) -> Pooled | None:
        """Return the pooled difference with its error; None where a task has a single pair."""
        return pooled(self.strata) if self.seeds >= 2 else None

    @property
    def bootstrap(self) -> tuple[float, float] | None:
        """Return the stratified bootstrap interval; None where a task has a single pair."""
        return stratified_bootstrap(self.strata) if self.seeds >= 2 else None

    @property
    def verdict(self) -> MarginVerdict:
        """Return what this makes of the printed margin."""
        return "seeds diverged" if self.diverged else margin_verdict(self.strata, self.margin)

    @property
    def seeds_needed(self) -> int | None:
        """Return how many seeds would decide; None: it cannot be told, or no number in reach would."""
        return seeds_to_decide(self.strata, self.margin) if self.seeds >= 2 and not self.diverged else None


def pairs(study: Study, paper: PaperTable) -> list[Pair]:
    """Pair LoRA² with each method of its size that ran on a task beside it, though runs that diverged left no seed.

    Args:
        study: one comparison on one model.
        paper: Table 1, whose margins are judged.
    """
    found = [_pair(study, ours, theirs, paper) for ours, others in PAIRS.items() for theirs in others]
    return [pair for pair in found if pair is not None]


def printed_margin(paper: PaperTable, ours: str, theirs: str, tasks: list[str]) -> float:
    """Return the printed difference of two rows, mean over `tasks` by their main metrics."""
    left, right = ({task: [_printed(paper, row, task)] for task in tasks} for row in (ours, theirs))
    return glue_average(left) - glue_average(right)


def _printed(paper: PaperTable, variant: str, task: str) -> float:
    return paper.rows[variant].scores[task][TASKS[task].main_metric]


def _pair(study: Study, ours: str, theirs: str, paper: PaperTable) -> Pair | None:
    both = {
        task: (study.cells[ours, task], study.cells[theirs, task])
        for task in study.tasks
        if (ours, task) in study.cells and (theirs, task) in study.cells
    }
    if not both:
        return None
    pair = Pair(ours, theirs, both, printed_margin(paper, ours, theirs, list(differences(both) or both)))
    return pair if pair.differences or pair.lost else None


def differences(cells: Mapping[str, tuple[StudyCell, StudyCell]]) -> dict[str, list[float]]:
    """Return the paired differences of each task that has one."""
    return {task: values for task, both in cells.items() if (values := paired(*both))}


def paired(ours: StudyCell, theirs: StudyCell) -> list[float]:
    """List ours minus theirs of the seeds that both ran, best checkpoints, in points."""
    left, right = ours.by_seed(), theirs.by_seed()
    return [left[seed] - right[seed] for seed in sorted(left.keys() & right.keys())]
