"""Learning curves: the metric, the loss and the regularisers of every run, one view for each task, model and recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lora2.analysis.html.charts import (
    HIGHLIGHT,
    PALE,
    READING,
    Chart,
    Line,
    Plot,
    Select,
    Spec,
    axis,
    by_method,
    method_words,
    spec,
)
from lora2.analysis.methods import method_name
from lora2.analysis.tables.layout import conditions_of, conditions_title
from lora2.core import keys
from lora2.glue.tasks import METRIC_TITLES, TASKS, task_title
from lora2.runs.caveats import named
from lora2.runs.reader import Points, Run
from lora2.runs.trials import RECIPE

POINTS = 60  # of a training curve: means over as many equal stretches of the run
Series = Callable[[Run], list[tuple[float, float]]]  # (step, value)


def metric_series(run: Run) -> list[tuple[float, float]]:
    """Return the task's main metric on the dev set as (step, percent)."""
    return [(step, 100 * value) for step, value in _series(run, "eval", main_metric(run))]


def loss_series(run: Run) -> list[tuple[float, float]]:
    """Return the task's loss on the training batches as (step, loss)."""
    return _thinned(_series(run, "train", keys.TASK_LOSS))


def penalty_series(run: Run) -> list[tuple[float, float]]:
    """Return the regularisers' sum, weighted as in the loss, as (step, loss)."""
    sums = [(point.get(keys.STEP), _penalty(point)) for point in run.history.get("train", ())]
    return _thinned([(step, value) for step, value in sums if step is not None and value is not None])


def budget_series(run: Run) -> list[tuple[float, float]]:
    """Return the singular values kept in the whole model as (step, count)."""
    return _series(run, "monitor", keys.BUDGET)


QUANTITIES: Mapping[str, tuple[str, str, Series]] = {
    "metric": ("Metric on dev", "{metric} on dev, in percent", metric_series),
    "loss": ("Task loss", f"task loss, mean over 1/{POINTS} of the run", loss_series),
    "penalty": ("Regularisers", f"weighted regularisers, mean over 1/{POINTS} of the run", penalty_series),
    "budget": ("Rank budget", "singular values kept", budget_series),
}


def learning_curves(runs: Sequence[Run]) -> Chart:
    """Draw one line for each run, coloured by method; like beside like, so each recipe has a view of its own."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if has_curve(run):
            groups.setdefault(group_title(run), []).append(run)
    largest_first = sorted(groups, key=lambda title: -len(groups[title]))
    views = {
        f"{index}|{quantity}": (_plot(groups[title], quantity),)
        for index, title in enumerate(largest_first)
        for quantity in QUANTITIES
    }
    description = f"Line chart over the optimizer steps, one line for each run. {READING} {_left_out(runs)}".strip()
    menus = (
        Select("Task, model, recipe", {str(index): title for index, title in enumerate(largest_first)}),
        Select("Curve", {quantity: title for quantity, (title, _, _) in QUANTITIES.items()}),
    )
    return Chart(name="curves", description=description, selects=menus, specs=(_lines(),), views=views)


def has_curve(run: Run) -> bool:
    """Say whether a run has a course worth a line: of more than one epoch, not cut short, and no trial of a search."""
    return run.recipe != RECIPE and not _is_short(run) and len(metric_series(run)) > 1


def group_title(run: Run) -> str:
    """Say what a view holds: one task on one model and data source, trained by one recipe."""
    return f"{task_title(run.task)}; {conditions_title(conditions_of(run))}; recipe {run.recipe}"


def main_metric(run: Run) -> str:
    """Return the metric by which a run's best checkpoint is chosen: its task's, or that of a task of one's own."""
    return TASKS[run.task].main_metric if run.task in TASKS else run.main


def method_labels(runs: Sequence[Run]) -> dict[str, str]:
    """Map each run id to the shortest name that tells its setting from the others here.

    That is the method, and where it ran with several recipes or settings also the recipe, and the experiment if that
    tells the settings apart, else the setting's id. The caveats of a run are part of its name, so that it is never
    drawn as one of the clean ones.
    """
    labels = {}
    for run in runs:
        alike = [other for other in runs if other.variant == run.variant]
        parts = [method_name(run.variant)]
        if len({other.recipe for other in alike}) > 1:
            parts.append(run.recipe)
        parts += _apart(run, [other for other in alike if other.recipe == run.recipe])
        labels[run.run_id] = named(", ".join(parts), run.caveats)
    return labels


def _apart(run: Run, alike: Sequence[Run]) -> list[str]:
    """What tells a run's setting from those of the runs of its method and recipe."""
    settings = {other.setting_id for other in alike}
    if len(settings) == 1:
        return []
    pairs = {(other.setting_id, other.experiment) for other in alike}
    experiments = {experiment for _, experiment in pairs}
    return [run.experiment if len(settings) == len(pairs) == len(experiments) else run.setting_id]


def _is_short(run: Run) -> bool:
    epochs = run.resolved.get("recipe", {}).get("epochs")
    return "shortened" in run.caveats or (epochs is not None and epochs <= 1)


def _left_out(runs: Sequence[Run]) -> str:
    count = sum(run.recipe != RECIPE and bool(metric_series(run)) and not has_curve(run) for run in runs)
    return f"Left out: {count} run(s) of one epoch or evaluation, or cut short." if count else ""


def _plot(members: Sequence[Run], quantity: str) -> Plot:
    _, title, series = QUANTITIES[quantity]
    labels = method_labels(members)
    rows: list[Line] = []
    for run in members:
        if points := series(run):
            steps, values = zip(*points, strict=True)
            named = {"run": run.run_id, "method": labels[run.run_id]}
            rounded = [float(f"{value:.4g}") for value in values]
            rows.append({**named, "step": list(map(int, steps)), "value": rounded})
    first = members[0]
    caption = f"{group_title(first)}: {len(rows)} run(s)." if rows else f"{group_title(first)}: nothing recorded."
    metric = main_metric(first)
    words = method_words({labels[run.run_id]: run.variant for run in members})
    return Plot(caption, rows, {**words, "y": title.format(metric=METRIC_TITLES.get(metric, metric))})


def _series(run: Run, part: str, key: str) -> list[tuple[float, float]]:
    """One number of a part of the history (train, eval, monitor) as (step, value)."""
    points: Points = run.history.get(part, ())
    return [(point[keys.STEP], point[key]) for point in points if keys.STEP in point and key in point]


def _penalty(point: Mapping[str, float]) -> float | None:
    terms = [value for name, value in point.items() if name.startswith(keys.LOSS) and name != keys.TASK_LOSS]
    return sum(terms) if terms else None


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of at most POINTS stretches, each at its last step."""
    if not points:
        return []
    stretches = np.array_split(np.array(points), min(POINTS, len(points)))
    return [(float(stretch[-1, 0]), float(stretch[:, 1].mean())) for stretch in stretches]


def _lines() -> Spec:
    tooltip = [
        axis("method", "nominal"),
        axis("run", "nominal"),
        axis("step", "quantitative"),
        axis("value", "quantitative", format=".4~g"),
    ]
    return spec(
        340,
        transform=[{"flatten": ["step", "value"]}],
        encoding={
            "x": axis("step", "quantitative", title="optimizer step", axis={"tickCount": 8}),
            "y": axis("value", "quantitative", title="@y", scale={"zero": False}),
            "color": by_method("colours"),
            "detail": axis("run", "nominal"),
            "opacity": PALE,
        },
        layer=[
            {"mark": {"type": "line", "strokeWidth": 1.8}, "params": [HIGHLIGHT]},
            {
                "mark": {"type": "point", "filled": True, "size": 36, "aria": False},
                "encoding": {"shape": by_method("marks"), "tooltip": tooltip},
            },
        ],
    )
