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
    by_method,
    method_words,
    spec,
)
from lora2.analysis.html.curves import method_labels
from lora2.analysis.methods import method_name
from lora2.analysis.stats import summarise
from lora2.analysis.study.scores_drawn import pareto
from lora2.analysis.tables.build import Part
from lora2.analysis.tables.layout import Layout, conditions_title
from lora2.glue.tasks import METRIC_TITLES, TASKS, task_title
from lora2.runs.caveats import named
from lora2.runs.cells import Cell
from lora2.runs.reader import Run
from lora2.runs.trials import RECIPE

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

    A line joins those of ours that nothing cheaper beats. Each recipe has a view of its own: like beside like.

    Args:
        parts: the sections of the table of all runs, and the paper's own where nothing of it ran.
    """
    groups = [
        (part, task, recipe)
        for part in parts
        for task in part.layout.columns
        for recipe in _recipes(part, task) or ([None] if part.layout.papers else [])
    ]
    largest_first = sorted(groups, key=lambda group: -len(_cells(*group)))
    options, views = {}, {}
    for index, (part, task, recipe) in enumerate(largest_first):
        whose = f"recipe {recipe}" if recipe else "the paper's numbers, nothing of ours ran"
        options[str(index)] = f"{task_title(task)}; {conditions_title(part.conditions)}; {whose}"
        for cost in COSTS:
            views[f"{index}|{cost}"] = (_plot(part, task, recipe, cost, options[str(index)]),)
    menus = (
        Select("Task, model, recipe", options),
        Select("Cost", {cost: title for cost, (title, _) in COSTS.items()}),
    )
    description = (
        "Scatter plot: one point for each method, its cost to the right, its metric upwards; the dashed line joins "
        f"those of ours that nothing cheaper beats (Pareto). {READING}"
    )
    return Chart(name="cost", description=description, selects=menus, specs=(_points(),), views=views)


def _recipes(part: Part, task: str) -> list[str | None]:
    return [*sorted({recipe for _, recipe, known in part.cells if known == task and recipe != RECIPE})]


def _plot(part: Part, task: str, recipe: str | None, cost: str, caption: str) -> Plot:
    title, of = COSTS[cost]
    rows, variants = _ours(_cells(part, task, recipe), of)
    front = pareto([(row["x"], row["y"]) for row in rows])
    rows = [{**row, "front": (row["x"], row["y"]) in front} for row in rows]
    if cost == "adapter":
        printed = _printed(part.layout, task)
        rows += printed
        variants = {method_name(row["variant"]): row["variant"] for row in printed} | variants
    metric = part.layout.columns[task][0]
    words = {
        **method_words(variants),
        "x": title,
        "y": f"{METRIC_TITLES.get(metric, metric)} on dev, in percent",
        **(LINEAR if cost == "seconds" else LOGARITHMIC),
    }
    return Plot(caption if rows else f"{caption}: nothing recorded.", rows, words)


def _cells(part: Part, task: str, recipe: str | None) -> list[Cell]:
    return [cell for (_, used, known), cell in part.cells.items() if (used, known) == (recipe, task)]


def _ours(cells: Sequence[Cell], cost: Cost) -> tuple[list[Line], dict[str, str]]:
    """The points, and the variant by the name that it has here."""
    labels = method_labels([run for cell in cells for run in cell.runs])
    found = [(cell, _label(cell, labels)) for cell in cells]
    points = [(cell.runs[0].variant, row) for cell, label in found if (row := _point(cell, label, cost))]
    return [row for _, row in points], {row["method"]: variant for variant, row in points}


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
        value = row.scores[task].get(TASKS[task].main_metric)
        if row.params and value is not None:
            place = {"x": printed_count(row.params), "y": value, "low": value, "high": value}
            points.append({"method": method_name(variant), "variant": variant, "whose": "paper", **place})
    return points


def _points() -> Spec:
    tooltip = [
        axis("method", "nominal"),
        axis("whose", "nominal"),
        axis("x", "quantitative", format=",.4~g", title="@x"),
        axis("y", "quantitative", format=".2f", title="@y"),
        axis("n", "quantitative", title="seeds"),
    ]
    # A mark is of its method, in ours and in the paper's numbers: those are hollow.
    whose = {"condition": {"test": "datum.whose == 'ours'", "value": 1}, "value": 0.15}
    y = axis("y", "quantitative", title="@y", scale=HEIGHT)
    return spec(
        340,
        encoding={
            "x": axis(
                "x", "quantitative", title="@x", scale="@scale", axis={"labelOverlap": True, "format": "@format"}
            ),
            "color": by_method("colours"),
            "opacity": PALE,
        },
        layer=[
            {
                "transform": [{"filter": "datum.front"}],
                "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [5, 4], "color": "@--muted"},
                "encoding": {"y": y, "color": {"value": "@--muted"}, "opacity": {"value": 0.8}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "aria": False},
                "encoding": {"y": axis("low", "quantitative", scale=HEIGHT), "y2": {"field": "high"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 110},
                "params": [HIGHLIGHT],
                "encoding": {
                    "y": y,
                    "shape": by_method("marks"),
                    "fillOpacity": whose,
                    "stroke": by_method("colours"),
                    "tooltip": tooltip,
                },
            },
        ],
    )
