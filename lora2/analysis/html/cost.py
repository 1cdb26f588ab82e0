"""Cost against quality: trained parameters or seconds per step against the task's main metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lora2.analysis.claims.checks import printed_count
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
from lora2.analysis.html.curves import main_metric, method_labels
from lora2.analysis.stats import summarise
from lora2.analysis.tables.build import Part
from lora2.analysis.tables.layout import Layout, conditions_title
from lora2.glue.tasks import METRIC_TITLES, task_title
from lora2.runs.caveats import named
from lora2.runs.cells import Cell
from lora2.runs.reader import Run

Cost = Callable[[Run], float | None]
COSTS: Mapping[str, tuple[str, Cost]] = {
    "adapter": ("Adapter parameters", lambda run: run.counts.get("adapter")),
    "active_adapter": ("Adapter parameters after pruning", lambda run: run.counts.get("active_adapter")),
    "seconds": ("Seconds per step", lambda run: run.seconds_per_step),
}
HEIGHT = {"zero": False, "padding": 24}
LINEAR = {"scale": {"type": "linear", "zero": False, "padding": 24}, "format": "~g"}
LOGARITHMIC = {"scale": {"type": "log", "nice": False, "padding": 24}, "format": "~s"}


def cost_and_quality(parts: Sequence[Part]) -> Chart:
    """Draw a point for each method: ours as the mean over seeds, the printed one only beside runs of the paper's model.

    Args:
        parts: the sections of the table of all runs, and the paper's own where nothing of it ran.
    """
    pairs = [(part, task) for part in parts for task in part.layout.columns if part.layout.papers or _cells(part, task)]
    largest_first = sorted(pairs, key=lambda pair: -len(_cells(*pair)))
    options, views = {}, {}
    for index, (part, task) in enumerate(largest_first):
        nobody = "" if part.cells else "; the paper's numbers, nothing of ours ran"
        options[str(index)] = f"{task_title(task)}; {conditions_title(part.conditions)}{nobody}"
        for cost in COSTS:
            views[f"{index}|{cost}"] = (_plot(part, task, cost, options[str(index)]),)
    menus = (Select("Task and model", options), Select("Cost", {cost: title for cost, (title, _) in COSTS.items()}))
    description = f"Scatter plot: one point for each method, its cost to the right, its metric upwards. {READING}"
    return Chart(name="cost", description=description, selects=menus, specs=(_points(),), views=views)


def _plot(part: Part, task: str, cost: str, caption: str) -> Plot:
    title, of = COSTS[cost]
    rows = _ours(part, task, of)
    if cost == "adapter":
        rows += _printed(part.layout, task)
    words = {
        "x": title,
        "y": f"{METRIC_TITLES[part.layout.columns[task][0]]} on dev, in percent",
        "whose": list(dict.fromkeys(row["whose"] for row in rows)),
        **(LINEAR if cost == "seconds" else LOGARITHMIC),
    }
    return Plot(caption if rows else f"{caption}: nothing recorded.", rows, words)


def _cells(part: Part, task: str) -> list[Cell]:
    return [cell for key, cell in part.cells.items() if key[2] == task]


def _ours(part: Part, task: str, cost: Cost) -> list[Line]:
    cells = _cells(part, task)
    labels = method_labels([run for cell in cells for run in cell.runs])
    return [row for cell in cells if (row := _point(cell, _label(cell, labels), cost))]


def _label(cell: Cell, labels: Mapping[str, str]) -> str:
    """The name of the cell's runs; one whose other seeds collapsed says so too."""
    first = cell.runs[0]
    return labels[first.run_id] if cell.caveats == first.caveats else named(labels[first.run_id], cell.caveats)


def _point(cell: Cell, method: str, cost: Cost) -> Line | None:
    metric = cell.runs[0].main
    values = [value for run in cell.runs if (value := run.value(metric)) is not None]
    costs = [each for run in cell.runs if (each := cost(run)) is not None]
    if not values or not costs or min(costs) <= 0:
        return None
    found = summarise(values)
    spread = found.std or 0.0
    place = {"x": summarise(costs).median, "y": found.mean, "low": found.mean - spread, "high": found.mean + spread}
    return {"method": method, "whose": "ours", "n": found.n, **place}


def _printed(layout: Layout, task: str) -> list[Line]:
    """The rows of the first printed table with that task: more would crowd the plot."""
    paper = next((paper for paper in layout.papers if task in paper.columns), None)
    points: list[Line] = []
    for variant, row in (paper.rows if paper else {}).items():
        value = row.scores[task].get(main_metric(task))
        if row.params and value is not None:
            place = {"x": printed_count(row.params), "y": value, "low": value, "high": value}
            points.append({"method": variant, "whose": "paper", **place})
    return points


def _points() -> Spec:
    tooltip = [
        axis("method", "nominal"),
        axis("whose", "nominal"),
        axis("x", "quantitative", format=",.4~g", title="@x"),
        axis("y", "quantitative", format=".2f", title="@y"),
        axis("n", "quantitative", title="seeds"),
    ]
    shape = axis("whose", "nominal", scale={"domain": "@whose", "range": ["circle", "diamond"]})
    return spec(
        340,
        encoding={
            "x": axis(
                "x", "quantitative", title="@x", scale="@scale", axis={"labelOverlap": True, "format": "@format"}
            ),
            "color": legend_below(),
            "opacity": PALE,
        },
        layer=[
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "aria": False},
                "encoding": {"y": axis("low", "quantitative", scale=HEIGHT), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 110},
                "params": [HIGHLIGHT],
                "encoding": {
                    "y": axis("y", "quantitative", title="@y", scale=HEIGHT),
                    "shape": {**shape, "legend": {"orient": "bottom", "title": None}},
                    "tooltip": tooltip,
                },
            },
        ],
    )
