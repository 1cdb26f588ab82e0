"""Final ranks as heat maps: the paper's Figure 3 beside ours, and every setting's own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lora2.analysis.figure3 import Ranks, agreement, panels, rank_grid
from lora2.analysis.html.charts import Chart, Line, Plot, Select, Spec, axis, spec
from lora2.analysis.html.curves import has_curve
from lora2.analysis.html.records import Setting
from lora2.analysis.paper import Figure3
from lora2.common.errors import UserError
from lora2.core import keys
from lora2.core.matrices import MATRICES, MATRIX_TITLES
from lora2.glue.tasks import task_title
from lora2.runs.caveats import named
from lora2.runs.reader import Run

HEIGHT = 180
VARIANT = "lora2_k8"  # the paper prints r=8; k=8 is what the released code fixes


def figure3(figure: Figure3, runs: Sequence[Run]) -> Chart:
    """Draw the printed ranks task by task, and ours where the paper's model ran on real data with its weights."""
    real = [run for run in runs if not run.synthetic and not run.model_random_init and _grid(run) is not None]
    drawn = panels(figure, real, figure.model, VARIANT)
    top = max(float(grid.max()) for panel in drawn for grid in (panel.paper, panel.ours) if grid is not None)
    views: dict[str, tuple[Plot, ...]] = {}
    for panel in sorted(drawn, key=lambda panel: panel.ours is None):
        title = task_title(panel.task)
        said = f"{title}: the paper, {figure.model}. Total {panel.paper.sum():.0f}."
        if panel.ours is None:
            views[panel.task] = (Plot(f"{said} Ours on {figure.model}: not run.", _rows(panel.paper)),)
            continue
        ours = f"{title}: ours, {panel.label}. Total {panel.ours.sum():.0f}. {agreement(panel)}."
        views[panel.task] = (Plot(said, _rows(panel.paper)), Plot(ours, _rows(panel.ours)))
    tasks = Select("Task", {task: task_title(task) for task in views})
    description = "Heat maps of the singular values kept in each matrix of each layer: the paper's and ours."
    specs = (_heat_map(top), _heat_map(top))
    return Chart(name="figure3", description=description, selects=(tasks,), specs=specs, views=views)


def own_maps(settings: Sequence[Setting]) -> Chart:
    """Draw the ranks of all that finished, whatever its model: at the end, and over the training of one seed."""
    options: dict[str, str] = {}
    views: dict[str, tuple[Plot, ...]] = {}
    top = 1.0
    for setting in sorted(settings, key=lambda setting: not any(map(_is_telling, setting.shown))):
        mean, count = mean_grid(setting)
        if mean is None:
            continue
        caveats = setting.shown[0].caveats
        options[setting.anchor] = named(setting.title, caveats)
        said = named(f"At the end, mean of {count} run(s)", caveats)
        at_the_end = Plot(f"{said}. Total {mean.sum():.0f}.", _rows(mean))
        views[setting.anchor] = (at_the_end, *_over_training(setting.shown))
        top = max(top, float(mean.max()))
    description = "Heat maps of the singular values kept in each matrix: at the end, and over the training."
    specs = (_heat_map(top), _heat_map_over_steps(top))
    menu = Select("Setting", options)
    return Chart(name="ranks", description=description, selects=(menu,), specs=specs, views=views)


def _is_telling(run: Run) -> bool:
    """Whether a setting of this run may open the menu: LoRA², followed over a whole training."""
    return run.method == "lora2" and has_curve(run) and bool(run.history.get("monitor"))


def mean_grid(setting: Setting) -> tuple[Ranks | None, int]:
    """Average the final ranks (m, l) over a setting's runs, its clean ones if it has any.

    Returns:
        The mean, None where no run has ranks; and of how many runs it is.
    """
    grids = [grid for run in setting.shown if (grid := _grid(run)) is not None]
    alike = [grid for grid in grids if grid.shape == grids[0].shape]
    return (np.mean(alike, axis=0) if alike else None), len(alike)


def _grid(run: Run) -> Ranks | None:
    """None where a record holds no ranks of the paper's six matrices."""
    try:
        return rank_grid(run) if run.status == "ok" else None
    except UserError:
        return None


def _rows(grid: Ranks) -> list[Line]:
    """One line a matrix; the spec unfolds the layers."""
    layers = list(range(grid.shape[1]))
    return [
        {"matrix": MATRIX_TITLES[matrix], "layer": layers, "rank": np.round(ranks, 2).tolist()}
        for matrix, ranks in zip(MATRICES, grid, strict=True)
    ]


def _over_training(runs: Sequence[Run]) -> list[Plot]:
    """The first run that looked at its ranks: the mean of each matrix type over the layers, step by step."""
    run = next((run for run in runs if run.history.get("monitor")), None)
    if run is None:
        return []
    points = [point for point in run.history["monitor"] if keys.STEP in point]
    steps = [int(point[keys.STEP]) for point in points]
    rows: list[Line] = []
    for matrix in MATRICES:
        ranks = [[rank for key, rank in point.items() if _is_rank_of(matrix, key)] for point in points]
        if all(ranks):
            means = [round(sum(each) / len(each), 2) for each in ranks]
            rows.append({"matrix": MATRIX_TITLES[matrix], "step": steps, "rank": means})
    return [Plot(f"Over the training of seed {run.seed}, mean over the layers.", rows)]


def _is_rank_of(matrix: str, key: str) -> bool:
    return key.startswith(keys.RANK) and key.endswith(f".{matrix}")


def _heat_map(top: float) -> Spec:
    ink = {"condition": {"test": f"datum.rank > {top / 2}", "value": "@--heat-ink-high"}, "value": "@--heat-ink-low"}
    number = axis("rank", "quantitative", format=".3~g")
    tooltip = [axis("matrix", "nominal"), axis("layer", "ordinal"), axis("rank", "quantitative")]
    return spec(
        HEIGHT,
        transform=[{"flatten": ["layer", "rank"]}],
        encoding={
            "x": axis("layer", "ordinal", axis={"labelAngle": 0, "title": "layer"}),
            "y": axis("matrix", "nominal", sort=None, title=None),
            "tooltip": tooltip,
        },
        layer=[
            {
                "mark": {"type": "rect", "stroke": "@--paper", "strokeWidth": 1},
                "encoding": {"color": _colour(top, "final rank")},
            },
            {"mark": {"type": "text", "aria": False}, "encoding": {"text": number, "color": ink}},
        ],
    )


def _heat_map_over_steps(top: float) -> Spec:
    return spec(
        HEIGHT,
        transform=[{"flatten": ["step", "rank"]}],
        mark={"type": "rect"},
        encoding={
            "x": axis("step", "ordinal", title="optimizer step", axis={"labelAngle": 0, "labelOverlap": True}),
            "y": axis("matrix", "nominal", sort=None, title=None),
            "color": _colour(top, "mean rank"),
            "tooltip": [axis("matrix", "nominal"), axis("step", "ordinal"), axis("rank", "quantitative")],
        },
    )


def _colour(top: float, title: str) -> Spec:
    scale = {"domain": [0, top], "range": ["@--heat-low", "@--heat-high"]}
    return axis("rank", "quantitative", scale=scale, legend={"title": title, "orient": "bottom", "gradientLength": 160})
