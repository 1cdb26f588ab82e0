"""All pictures of a model's study, written."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from lora2.analysis.methods import method_name
from lora2.analysis.study.courses_drawn import draw_ranks, draw_rates, rates_height
from lora2.analysis.study.drawing import Draw, Theme, draw
from lora2.analysis.study.gather import devices_text
from lora2.analysis.study.models import ModelStudy, picture_name
from lora2.analysis.study.scores_drawn import dots_height, draw_cost, draw_dots
from lora2.glue.tasks import task_title

COST_HEIGHT, RANKS_HEIGHT, TITLE = 3.6, 4.2, 0.4  # inches


def draw_pictures(study: ModelStudy, folder: Path) -> list[Path]:
    """Draw what the page shows of one model: dots, score against cost, ranks over training, score over rate.

    Returns:
        The files that were written.
    """
    written: list[Path] = []

    def add(what: str, title: str, height: float, content: Draw) -> None:
        name = picture_name(study.model, what)
        written.extend(draw(name, height + TITLE, partial(_titled, title=title, content=content), folder))

    for each in study.studies:
        if each.cells:
            title = f"{study.model}: {each.comparison.title}\ntrained on {devices_text(each.runs)}"
            add(each.comparison.key, title, dots_height(each), partial(draw_dots, study=each))
    if study.costs:
        timed = f"\ntimed on {study.timed_on}" if study.timed_on else ""
        title = f"{study.model}: score against size{' and time' if timed else ''}{timed}"
        add("cost", title, COST_HEIGHT, partial(draw_cost, points=study.costs))
    if (run := study.ranked) is not None:
        title = (
            f"{study.model}: ranks over training, {method_name(run.variant)} on {task_title(run.task)}, seed {run.seed}"
        )
        add("ranks", f"{title}\ntrained on {devices_text([run])}", RANKS_HEIGHT, partial(draw_ranks, run=run))
    if study.trials:
        title = f"{study.model}: held-out score over learning rate"
        add("rates", title, rates_height(study.trials), partial(draw_rates, rates=study.trials))
    return written


def _titled(figure: Any, theme: Theme, title: str, content: Draw) -> None:
    figure.suptitle(title, fontsize=10.5, color=theme.ink)
    content(figure, theme)
