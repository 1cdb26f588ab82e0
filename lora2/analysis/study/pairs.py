"""LoRA² against each method of its size: differences paired by seed and task, beside the paper's printed margin."""

from __future__ import annotations

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
        differences: by task, (n,) ours minus theirs of the seeds that both ran, best checkpoints, in points.
        probability: that a run of ours scores higher than one of theirs, mean over the tasks.
        margin: the printed difference, mean over the same tasks by the same metric.
        diverged: whether a run of either did, on any task that both ran: then the others' differences are a selection.
    """

    ours: str
    theirs: str
    differences: Mapping[str, list[float]]
    probability: float
    margin: float
    diverged: bool = False

    @property
    def strata(self) -> list[list[float]]:
        """List the differences, task by task."""
        return list(self.differences.values())

    @property
    def mean(self) -> float:
        """Return the mean over tasks of the mean difference."""
        return float(np.mean([np.mean(values) for values in self.strata]))

    @property
    def seeds(self) -> int:
        """Return how many pairs the task with fewest has."""
        return min(map(len, self.strata))

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
    """Pair LoRA² with each method of its size that ran on a task beside it.

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
    differences = {task: paired(*cells) for task, cells in both.items()}
    tasks = [task for task, values in differences.items() if values]
    if not tasks:
        return None
    return Pair(
        ours=ours,
        theirs=theirs,
        differences={task: differences[task] for task in tasks},
        probability=probability_of_improvement(
            [both[task][0].ordered() for task in tasks], [both[task][1].ordered() for task in tasks]
        ),
        margin=printed_margin(paper, ours, theirs, tasks),
        diverged=any(cell.diverged for cells in both.values() for cell in cells),
    )


def paired(ours: StudyCell, theirs: StudyCell) -> list[float]:
    """List ours minus theirs of the seeds that both ran, best checkpoints, in points."""
    left, right = ours.by_seed(), theirs.by_seed()
    return [left[seed] - right[seed] for seed in sorted(left.keys() & right.keys())]
