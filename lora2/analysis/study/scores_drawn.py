"""Pictures of scores: every seed of every method for each task, and score against size and against time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lora2.analysis.methods import mark_of, method_name
from lora2.analysis.stats import MIN_SEEDS, student_interval
from lora2.analysis.study.drawing import Theme
from lora2.analysis.study.gather import Study, StudyCell, marked_score
from lora2.glue.tasks import metric_title, task_title
from lora2.runs.reader import Run

ROW = 0.3  # inches for each method
FRAME = 0.25  # share of the seeds' range that is shown to either side
WIDE = 10.0  # a range of costs beyond this ratio gets a logarithmic axis
NAME_HEIGHT = 13.0  # pixels of a method's name


def dots_height(study: Study) -> float:
    """Return the height of `draw_dots`, in inches."""
    return 1.2 + ROW * len(study.variants)


def draw_dots(figure: Any, theme: Theme, study: Study) -> None:
    """Draw methods x tasks: a dot for each seed, a bar at the mean, a line for its 95 % interval, x where
    collapsed; x on the left edge for a run that diverged.
    """
    panels = figure.subplots(1, len(study.tasks), sharey=True, squeeze=False)[0]
    for axes, task in zip(panels, study.tasks, strict=True):
        for row, variant in enumerate(study.variants):
            if (variant, task) in study.cells:
                _dots(axes, theme, study.cells[variant, task], row)
        axes.set_xlim(*seen_range([cell for cell in study.cells.values() if cell.task == task]))
        axes.set_title(task_title(task), fontsize=11, fontweight="bold")
        axes.set_xlabel(f"{metric_title(task)}, best of dev")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(study.variants)), [method_name(variant) for variant in study.variants])
    panels[0].set_ylim(len(study.variants) - 0.5, -0.5)
    for label, variant in zip(panels[0].get_yticklabels(), study.variants, strict=True):
        label.set(color=theme.colour(variant), fontweight="bold" if variant.startswith("lora2") else "normal")


def seen_range(cells: Sequence[StudyCell]) -> tuple[float, float]:
    """Return the range of scores that a panel shows: every seed, and room to either side."""
    seen = [score for cell in cells for score in cell.scores()] or [0.0, 100.0]
    room = FRAME * max(1.0, max(seen) - min(seen))
    return min(seen) - room, max(seen) + room


def _dots(axes: Any, theme: Theme, cell: StudyCell, row: int) -> None:
    colour = theme.colour(cell.variant)
    scores = cell.scores()
    if len(scores) >= MIN_SEEDS:
        axes.plot(student_interval(scores), (row, row), color=colour, linewidth=2.0, alpha=0.7, solid_capstyle="butt")
    if scores:
        axes.plot(np.mean(scores), row, "|", color=colour, markersize=15, markeredgewidth=2.4)
    collapsed = {run.seed for run in cell.collapsed}
    for marker, wanted, size in ((mark_of(cell.variant).matplotlib, False, 4.5), ("x", True, 7.0)):
        shown = [score for seed, score in cell.by_seed().items() if (seed in collapsed) == wanted]
        axes.plot(shown, [row] * len(shown), marker, color=colour, markersize=size, markeredgewidth=1.2, alpha=0.75)
    edge = {"transform": axes.get_yaxis_transform(), "clip_on": False}  # x as a share of the panel
    for _ in cell.diverged:
        axes.plot(0.0, row, "x", color=colour, markersize=7.0, markeredgewidth=1.2, alpha=0.75, **edge)


@dataclass(frozen=True, slots=True)
class CostPoint:
    """A method's mean score over the study's tasks beside its trained adapter weights and its seconds per step.

    Attributes:
        name: as it is shown, with the mark of a score that is not that of all its runs.
    """

    variant: str
    name: str
    score: float
    parameters: int
    seconds: float | None


def cost_points(study: Study, seconds: Mapping[str, float]) -> list[CostPoint]:
    """List the methods that ran on every task of the study.

    Args:
        study: one comparison on one model.
        seconds: of a step, by variant.
    """
    found = []
    for variant in study.variants:
        row = study.row(variant)
        counts = [run.counts["adapter"] for cell in row for run in cell.runs if "adapter" in run.counts]
        if len(row) < len(study.tasks) or not counts or not all(cell.scores() for cell in row):
            continue
        score = float(np.mean([np.mean(cell.scores()) for cell in row]))
        name = marked_score(method_name(variant), row)
        found.append(
            CostPoint(variant=variant, name=name, score=score, parameters=counts[0], seconds=seconds.get(variant))
        )
    return found


def step_seconds(model: str, tasks: Sequence[str], runs: Sequence[Run]) -> dict[str, float]:
    """Return the seconds of a step by variant, mean over `tasks`, of records that were timed side by side.

    Only variants that were timed on every one of the tasks: a step's length depends on the task's texts.
    """
    times: dict[str, dict[str, float]] = {}
    for run in timed_runs(model, tasks, runs):
        if run.seconds_per_step is not None:
            times.setdefault(run.variant, {})[run.task] = run.seconds_per_step
    return {variant: float(np.mean([*by.values()])) for variant, by in times.items() if len(by) == len(tasks)}


def timed_runs(model: str, tasks: Sequence[str], runs: Sequence[Run]) -> list[Run]:
    """List the records of steps that were timed side by side on `tasks`."""
    return [run for run in runs if run.status == "timed" and run.model == model and run.task in tasks]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """List the (cost, score) points that none is both cheaper and better than, from the cheapest on.

    >>> pareto([(1.0, 70.0), (2.0, 69.0), (3.0, 75.0)])
    [(1.0, 70.0), (3.0, 75.0)]
    """
    front: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or score > front[-1][1]:
            front.append((cost, score))
    return front


def draw_cost(figure: Any, theme: Theme, points: Sequence[CostPoint]) -> None:
    """Draw mean score against trained weights and, where it was measured, against seconds per step; line: Pareto."""
    timed = [(point, point.seconds) for point in points if point.seconds is not None]
    sides = [("adapter parameters", [(point, float(point.parameters)) for point in points])]
    if timed:
        sides.append(("seconds per step, side by side", timed))
    panels = figure.subplots(1, len(sides), sharey=True, squeeze=False)[0]
    for axes, (label, costs) in zip(panels, sides, strict=True):
        _cost_panel(axes, theme, costs)
        axes.set_xlabel(label)
    panels[0].set_ylabel("mean over tasks, best of dev")
    figure.draw_without_rendering()  # names are placed in pixels: the panels must have their size
    for axes, (_, costs) in zip(panels, sides, strict=True):
        _name_points(axes, theme, costs)


def _cost_panel(axes: Any, theme: Theme, costs: Sequence[tuple[CostPoint, float]]) -> None:
    """Points and Pareto line, on a logarithmic axis where the costs need it, with room for names on the right."""
    from matplotlib.ticker import EngFormatter, NullFormatter

    front = pareto([(cost, point.score) for point, cost in costs])
    axes.step(*zip(*front, strict=True), where="post", color=theme.ink, alpha=0.4, linewidth=1.2, linestyle="--")
    for point, cost in costs:
        axes.plot(cost, point.score, mark_of(point.variant).matplotlib, color=theme.colour(point.variant), markersize=7)
    low, high = min(cost for _, cost in costs), max(cost for _, cost in costs)
    if high > WIDE * low:
        axes.set(xscale="log", xlim=(low / (high / low) ** 0.1, high * (high / low) ** 0.4))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        room = (high - low) or high
        axes.set_xlim(low - 0.1 * room, high + 0.4 * room)
    if high >= 1000.0:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.margins(y=0.14)


def _name_points(axes: Any, theme: Theme, costs: Sequence[tuple[CostPoint, float]]) -> None:
    """Write each method's name to the right of its point, and lift names that would cover one below."""
    width = axes.get_window_extent().width
    placed: list[tuple[float, float]] = []  # (x, y) of names, in pixels
    for point, cost in sorted(costs, key=lambda item: item[0].score):
        x, y = axes.transData.transform((cost, point.score))
        lifted = y + 8.0  # above the Pareto line
        for other_x, other_y in placed:
            if abs(other_x - x) < 0.3 * width and lifted < other_y + NAME_HEIGHT:
                lifted = other_y + NAME_HEIGHT
        placed.append((x, lifted))
        axes.annotate(
            point.name,
            (cost, point.score),
            xytext=(7.0, 72.0 * (lifted - y) / axes.figure.dpi),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=theme.colour(point.variant),
            fontweight="bold" if point.variant.startswith("lora2") else "normal",
        )
