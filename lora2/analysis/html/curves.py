"""Learning curves: the metric, the loss and the regularisers of every run, one view for each task and model."""

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
    legend_below,
    spec,
)
from lora2.analysis.html.records import Points, Record, section_of
from lora2.analysis.tables.layout import ALL_METRICS, METRIC_TITLES, TASK_TITLES, section_title
from lora2.runs.reader import Run

POINTS = 60  # of a training curve: means over as many equal stretches of the run
Series = Callable[[Record], list[tuple[float, float]]]  # (step, value)


def metric_series(record: Record) -> list[tuple[float, float]]:
    """The task's main metric on the dev set, in percent."""
    name = main_metric(record.run.task)
    points = record.history.get("eval", ())
    return [(point["step"], 100 * point[name]) for point in points if {"step", name} <= set(point)]


def loss_series(record: Record) -> list[tuple[float, float]]:
    """The task's loss on the training batches."""
    return _thinned(record.history.get("train", ()), lambda point: point.get("loss/task"))


def penalty_series(record: Record) -> list[tuple[float, float]]:
    """The regularisers' sum, weighted as in the loss."""
    return _thinned(record.history.get("train", ()), _penalty)


def budget_series(record: Record) -> list[tuple[float, float]]:
    """Singular values kept in the whole model."""
    points = record.history.get("monitor", ())
    return [(point["step"], point["budget"]) for point in points if {"step", "budget"} <= set(point)]


QUANTITIES: Mapping[str, tuple[str, str, Series]] = {
    "metric": ("Metric on dev", "{metric} on dev, in percent", metric_series),
    "loss": ("Task loss", f"task loss, mean over 1/{POINTS} of the run", loss_series),
    "penalty": ("Regularisers", f"weighted regularisers, mean over 1/{POINTS} of the run", penalty_series),
    "budget": ("Rank budget", "singular values kept", budget_series),
}


def learning_curves(records: Sequence[Record]) -> Chart:
    """One line a run, coloured by method."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.history and record.run.task in ALL_METRICS:
            groups.setdefault(group_title(record.run), []).append(record)
    largest_first = sorted(groups, key=lambda title: -len(groups[title]))
    views = {
        f"{index}|{quantity}": (_plot(groups[title], quantity),)
        for index, title in enumerate(largest_first)
        for quantity in QUANTITIES
    }
    description = f"Line chart over the optimizer steps, one line for each run. {READING}"
    menus = (
        Select("Task and model", {str(index): title for index, title in enumerate(largest_first)}),
        Select("Curve", {quantity: title for quantity, (title, _, _) in QUANTITIES.items()}),
    )
    return Chart("curves", description, menus, (_lines(),), views)


def group_title(run: Run) -> str:
    """What a view holds: one task on one model and data source."""
    return f"{TASK_TITLES[run.task]}; {section_title(section_of(run))}"


def main_metric(task: str) -> str:
    """The metric by which the best checkpoint is chosen."""
    return ALL_METRICS[task][0]


def method_labels(runs: Sequence[Run]) -> dict[str, str]:
    """Run id → the shortest name that tells its setting from the others here: variant, recipe, setting."""
    labels = {}
    for run in runs:
        alike = [other for other in runs if other.variant == run.variant]
        parts = [run.variant]
        if len({other.recipe for other in alike}) > 1:
            parts.append(run.recipe)
        if len({other.setting_id for other in alike if other.recipe == run.recipe}) > 1:
            parts.append(run.setting_id)
        labels[run.run_id] = ", ".join(parts)
    return labels


def _plot(members: Sequence[Record], quantity: str) -> Plot:
    _, title, series = QUANTITIES[quantity]
    labels = method_labels([record.run for record in members])
    rows: list[Line] = []
    for record in members:
        if points := series(record):
            steps, values = zip(*points, strict=True)
            named = {"run": record.run.run_id, "method": labels[record.run.run_id]}
            rounded = [float(f"{value:.4g}") for value in values]
            rows.append({**named, "step": list(map(int, steps)), "value": rounded})
    first = members[0].run
    caption = f"{group_title(first)}: {len(rows)} run(s)." if rows else f"{group_title(first)}: nothing recorded."
    return Plot(caption, rows, {"y": title.format(metric=METRIC_TITLES[main_metric(first.task)])})


def _penalty(point: Mapping[str, float]) -> float | None:
    terms = [value for name, value in point.items() if name.startswith("loss/") and name != "loss/task"]
    return sum(terms) if terms else None


def _thinned(points: Points, value: Callable[[Mapping[str, float]], float | None]) -> list[tuple[float, float]]:
    """Means of at most POINTS stretches, each at its last step."""
    known = [(point["step"], each) for point in points if "step" in point and (each := value(point)) is not None]
    if not known:
        return []
    stretches = np.array_split(np.array(known), min(POINTS, len(known)))
    return [(float(stretch[-1, 0]), float(stretch[:, 1].mean())) for stretch in stretches]


def _lines() -> Spec:
    tooltip = [
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
            "color": legend_below(),
            "detail": axis("run", "nominal"),
            "opacity": PALE,
        },
        layer=[
            {"mark": {"type": "line", "strokeWidth": 1.8}, "params": [HIGHLIGHT]},
            {"mark": {"type": "point", "filled": True, "size": 18, "aria": False}, "encoding": {"tooltip": tooltip}},
        ],
    )
