"""All pictures of a model's study, written."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lora2.analysis.study.courses_drawn import draw_ranks, draw_rates, rates_height
from lora2.analysis.study.drawing import draw
from lora2.analysis.study.models import ModelStudy, picture_name
from lora2.analysis.study.scores_drawn import dots_height, draw_cost, draw_dots

COST_HEIGHT, RANKS_HEIGHT = 3.6, 4.2  # inches


def draw_pictures(study: ModelStudy, folder: Path) -> list[Path]:
    """Draw what the page shows of one model: dots, score against cost, ranks over training, score over rate.

    Returns:
        The files that were written.
    """
    written: list[Path] = []
    for each in study.studies:
        if each.cells:
            name = picture_name(study.model, each.comparison.key)
            written += draw(name, dots_height(each), partial(draw_dots, study=each), folder)
    if study.costs:
        written += draw(picture_name(study.model, "cost"), COST_HEIGHT, partial(draw_cost, points=study.costs), folder)
    if study.ranked is not None:
        written += draw(picture_name(study.model, "ranks"), RANKS_HEIGHT, partial(draw_ranks, run=study.ranked), folder)
    if study.trials:
        height, content = rates_height(study.trials), partial(draw_rates, rates=study.trials)
        written += draw(picture_name(study.model, "rates"), height, content, folder)
    return written
