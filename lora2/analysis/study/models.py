"""All that is known of one model: its comparisons, their pairs, the trials, its cost, and what stands around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora2.analysis.paper import Figure3, PaperTable, load_figure3, load_table
from lora2.analysis.study.courses_drawn import Rates, by_rate
from lora2.analysis.study.further import further_lines, further_tables
from lora2.analysis.study.gather import COMPARISONS, Study, devices_text, gather, studied_models, trials
from lora2.analysis.study.pairs import Pair, pairs
from lora2.analysis.study.scores_drawn import CostPoint, cost_points, step_seconds, timed_runs
from lora2.common.table import Table
from lora2.runs.reader import Run

PLANNED = ("minilm", "mpnet")  # what can be had without a hub


@dataclass(frozen=True, slots=True)
class ModelStudy:
    """What the page and its pictures tell of one model.

    Attributes:
        model: its name.
        studies: the comparisons, in the order of COMPARISONS.
        pairs: of each comparison.
        trials: of the search for each method's values.
        seconds: of a step, by variant, timed side by side over the tasks of the first comparison that ran.
        timed_on: the devices of those steps.
        further: what has not run of the experiments around the study, and Figure 3, a line each.
        around: a table of each experiment that ran.
    """

    model: str
    studies: tuple[Study, ...]
    pairs: tuple[tuple[Pair, ...], ...]
    trials: Rates
    seconds: Mapping[str, float]
    timed_on: str
    further: tuple[str, ...]
    around: tuple[Table, ...]

    @property
    def comparisons(self) -> dict[str, tuple[Study, tuple[Pair, ...]]]:
        """Return each comparison and its pairs by the comparison's key."""
        return {each.comparison.key: (each, found) for each, found in zip(self.studies, self.pairs, strict=True)}

    @property
    def ran(self) -> bool:
        """Say whether there is a number to show."""
        return any(study.cells for study in self.studies) or bool(self.trials)

    @property
    def drawn(self) -> Study | None:
        """Return the comparison that stands for the model: each method at its best if it ran, else the shared rate."""
        return next((each for each in reversed(self.studies) if each.cells), None)

    @property
    def costs(self) -> list[CostPoint]:
        """List score and cost of the methods of `drawn` that ran on all of its tasks."""
        return cost_points(self.drawn, self.seconds) if self.drawn else []

    @property
    def ranked(self) -> Run | None:
        """Return the LoRA² run whose ranks are drawn: of those that were followed, the first of the widest variant."""
        runs = [run for study in self.studies for run in study.runs if run.method == "lora2"]
        return max((run for run in runs if run.history.get("monitor")), key=_width, default=None)


def model_studies(runs: Sequence[Run], papers: Path, model: str | None = None) -> list[ModelStudy]:
    """Gather what is known of each model of the study, those that are planned among them.

    Args:
        runs: every record.
        papers: the folder of the papers' numbers.
        model: only this one.
    """
    names = [model] if model else list(dict.fromkeys([*PLANNED, *studied_models(runs)]))
    table, figure = load_table("table1", papers), load_figure3(papers)
    return [_model_study(name, runs, table, figure) for name in names]


def last_drawn(studies: Sequence[ModelStudy]) -> tuple[ModelStudy, Study] | None:
    """Return the largest model that ran, and the comparison that stands for it.

    Args:
        studies: what is known of each model, from small to large.
    """
    return next(((study, study.drawn) for study in reversed(studies) if study.drawn is not None), None)


def picture_name(model: str, what: str) -> str:
    """Name a picture's file, without suffix."""
    return f"study_{model}_{what}"


def _model_study(model: str, runs: Sequence[Run], table: PaperTable, figure: Figure3) -> ModelStudy:
    studies = tuple(gather(model, comparison, runs) for comparison in COMPARISONS)
    tasks = next((study.tasks for study in studies if study.cells), ())
    return ModelStudy(
        model=model,
        studies=studies,
        pairs=tuple(tuple(pairs(study, table)) for study in studies),
        trials=by_rate(trials(model, runs)),
        seconds=step_seconds(model, tasks, runs) if tasks else {},
        timed_on=devices_text(timed_runs(model, tasks, runs)),
        further=tuple(further_lines(model, runs, figure)),
        around=tuple(further_tables(model, runs)),
    )


def _width(run: Run) -> int:
    return run.counts.get("adapter", 0)
