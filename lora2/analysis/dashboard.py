"""The dashboard on W&B as code: a workspace for runs that go on, a report of what they gave. Both need no network.

What the panels show is what lora2/training logs; runs are told apart by the attributes that
lora2/training/tracking/tracker.py gives them: group = experiment, job type = variant, config task.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces

from lora2.analysis.figure3 import Ranks
from lora2.analysis.html.rank_maps import mean_grid
from lora2.analysis.html.records import Setting, by_setting
from lora2.analysis.tables.build import build
from lora2.common.rendering import render
from lora2.core import keys
from lora2.core.matrices import MATRICES, MATRIX_TITLES
from lora2.core.terms import TERM_SIDES
from lora2.glue.tasks import METRIC_TITLES, TASKS
from lora2.runs.caveats import NO_CAVEAT, named
from lora2.runs.reader import Run

NAME = "LoRA² on GLUE"
METRICS = tuple(dict.fromkeys(metric for task in TASKS.values() for metric in task.metrics))
TERM_TITLES = {term: f"R({', '.join(sides)})" for term, sides in TERM_SIDES.items()}
LOSSES = {keys.TASK_LOSS: "Task loss", **{keys.penalty(term): f"γ {title}" for term, title in TERM_TITLES.items()}}
MONITORS = {
    **{keys.regulariser(term): f"{title}, γ left out" for term, title in TERM_TITLES.items()},
    keys.COSINE: "Mean |cos| of rows of P and Q",
    keys.SCORES_AGREE: "Agreement of the reduced score with the full one",
}
COURSE = {
    keys.LEARNING_RATE: "Learning rate",
    keys.BUDGET: "Kept singular values, all matrices",
    keys.TOKENS_PER_S: "Tokens per second",
}
SHADES = " ░▒▓█"  # of a rank's share of the largest one
INTRODUCTION = (
    "Every number below is from a run's record or from the paper as printed; how they are made: docs/RESULTS.md, "
    "docs/FIDELITY.md. Panels show finished runs without a caveat (‡ in the tables). Made by scripts/results.py "
    "dashboard."
)


def wandb_workspace(entity: str, project: str) -> Any:
    """Build the live curves by section: quality, losses, ranks, what the method does, cost.

    Args:
        entity: the W&B user or team.
        project: the W&B project that the runs were logged to.
    """
    sections = {
        "Quality on dev": [_line(keys.evaluation(metric), METRIC_TITLES[metric]) for metric in METRICS],
        "Losses": _lines(LOSSES),
        "Course of training": _lines(COURSE),
        "Kept rank, one line a layer": [_ranks(matrix) for matrix in MATRICES],
        "Does the method what it says": _lines(MONITORS),
        "Cost and quality": _cost_and_quality(METRICS),
    }
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=[
            workspaces.Section(name=name, panels=panels, is_open=True, pinned=index == 0)
            for index, (name, panels) in enumerate(sections.items())
        ],
        settings=workspaces.WorkspaceSettings(max_runs=40, group_by_prefix="first"),
        runset_settings=workspaces.RunsetSettings(pinned_columns=["summary:caveats"]),
    )


def wandb_report(entity: str, project: str, runs: Sequence[Run], papers: Path) -> Any:
    """Build tables and heat maps from the runs, with the live panels of each task below them.

    Args:
        entity: the W&B user or team.
        project: the W&B project that the runs were logged to.
        runs: every run, finished or not.
        papers: folder of the paper's numbers.

    Raises:
        UserError: the paper's numbers cannot be read.
    """

    def tables(*names: str) -> list[Any]:
        texts = (render(build(name, runs, papers), "markdown") for name in names)
        return [reports.MarkdownBlock(text=text) for text in texts]

    return reports.Report(
        entity=entity,
        project=project,
        title=NAME,
        description="LoRA² (arXiv 2408.06854) on GLUE: ours beside the paper's",
        width="fluid",
        blocks=[
            reports.TableOfContents(),
            reports.P(INTRODUCTION),
            reports.H1("GLUE"),
            *tables("table1", "runs"),
            _grid([_bars(metric) for metric in METRICS]),
            reports.H1("Final ranks"),
            *(reports.MarkdownBlock(text=text) for text in rank_maps(by_setting(runs))),
            _grid([_ranks(matrix) for matrix in MATRICES]),
            reports.H1("Ablations"),
            *tables("table3", "table4"),
            _grid(_lines(MONITORS)),
            reports.H1("Cost and quality"),
            *tables("table2"),
            _grid([*_cost_and_quality(METRICS), *_lines(COURSE)]),
        ],
    )


def as_json(built: Any) -> dict[str, Any]:
    """Return what is sent to the server for a workspace or a report."""
    return json.loads(built._to_model().model_dump_json(by_alias=True, exclude_none=True))  # type: ignore[no-any-return]


def rank_maps(settings: Iterable[Setting]) -> list[str]:
    """Write a shaded table of final ranks (mean over seeds), matrices by layers, for every setting that pruned."""
    finished = [setting for setting in settings if setting.shown]
    means = ((named(setting.title, setting.shown[0].caveats), *mean_grid(setting)) for setting in finished)
    maps = [
        f"### {title}; n={count}\n\n{_shaded(mean)}"
        for title, mean, count in means
        if mean is not None and mean.min() < mean.max()
    ]
    return maps or ["No finished run has pruned its ranks yet."]


def _shaded(grid: Ranks) -> str:
    """(m, l) as a markdown table."""
    top, layers = max(float(grid.max()), 1.0), range(grid.shape[1])
    rows = [
        [
            MATRIX_TITLES[matrix],
            *(f"{SHADES[int(rank / top * (len(SHADES) - 1))]} {rank:.3g}".strip() for rank in ranks),
        ]
        for matrix, ranks in zip(MATRICES, grid, strict=True)
    ]
    table = [["layer", *map(str, layers)], ["---"] * (len(layers) + 1), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _grid(panels: Sequence[Any]) -> Any:
    """Panels with a tab for each task, runs without a caveat alone; a runset without a project is the report's own."""
    clean = f"SummaryMetric('caveats') = '{NO_CAVEAT}'"
    return reports.PanelGrid(
        runsets=[
            reports.Runset(name=task.title, filters=f"Config('task') = '{task.name}' and {clean}")
            for task in TASKS.values()
        ],
        panels=list(panels),
    )


def _lines(titles: dict[str, str]) -> list[Any]:
    return [_line(key, title) for key, title in titles.items()]


def _line(key: str, title: str) -> Any:
    return reports.LinePlot(title=title, y=[key], max_runs_to_show=40)


def _ranks(matrix: str) -> Any:
    return reports.LinePlot(
        title=f"Rank of {MATRIX_TITLES[matrix]}", y=[], metric_regex=rf"{keys.RANK}layer\.\d+\.{matrix}"
    )


def _bars(metric: str) -> Any:
    """Mean over seeds of the best evaluation, for each method."""
    return reports.BarPlot(
        title=f"Best {METRIC_TITLES[metric]}",
        metrics=[f"best/{metric}"],
        groupby="JobType",
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
    )


def _cost_and_quality(metrics: Iterable[str]) -> list[Any]:
    return [
        reports.ScatterPlot(
            title=f"Best {METRIC_TITLES[metric]} by active adapter parameters",
            x=reports.SummaryMetric("counts/active_adapter"),
            y=reports.SummaryMetric(f"best/{metric}"),
            log_x=True,
        )
        for metric in metrics
    ]
