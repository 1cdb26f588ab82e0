"""Pictures of courses: final ranks coming about over one training, and score over learning rate from the trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lora2.analysis.methods import mark_of, method_name
from lora2.analysis.study.drawing import Theme
from lora2.analysis.study.gather import rate, trial_score, variant_place
from lora2.core import keys
from lora2.core.matrices import MATRICES, MATRIX_TITLES
from lora2.glue.tasks import TASKS, task_title
from lora2.runs.caveats import FALLEN
from lora2.runs.reader import Run

NEAR = 1.0  # points: a rate within it of a method's best is as good as the best
Rates = Mapping[str, Mapping[str, Mapping[float, list[Run]]]]  # task -> variant -> learning rate -> trials


def draw_ranks(figure: Any, theme: Theme, run: Run) -> None:
    """Draw the kept singular values of every matrix over the steps of one LoRA² run, matrices of one type together."""
    points = run.history["monitor"]
    names = sorted(
        {key for key in points[0] if key.startswith(keys.RANK)},
        key=lambda name: (MATRICES.index(name.split(".")[-1]), int(name.split(".")[1])),
    )
    grid = np.array([[point[name] for point in points] for name in names])  # (matrices, looks)
    axes = figure.subplots()
    image = axes.imshow(
        grid,
        aspect="auto",
        interpolation="nearest",
        cmap=theme.ramp,
        vmin=0.0,
        extent=(0.0, points[-1][keys.STEP], len(names), 0.0),
    )
    layers = len(names) // len(MATRICES)
    axes.set_yticks([(index + 0.5) * layers for index in range(len(MATRICES))], [*MATRIX_TITLES.values()])
    for index in range(1, len(MATRICES)):
        axes.axhline(index * layers, color=theme.ink, linewidth=0.8)
    axes.grid(visible=False)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"{layers} layers of each, first on top")
    figure.colorbar(image, label="kept singular values", shrink=0.8)


def by_rate(trials: Sequence[Run]) -> Rates:
    """Sort trials by task, variant and learning rate; of LoRA²'s rates of Λ all are among a rate's trials."""
    found: dict[str, dict[str, dict[float, list[Run]]]] = {}
    order = list(TASKS)
    for run in sorted(
        trials, key=lambda run: (order.index(run.task), variant_place(run.variant), rate(run) or 0.0, run.seed)
    ):
        value = rate(run)
        if value is not None:
            found.setdefault(run.task, {}).setdefault(run.variant, {}).setdefault(value, []).append(run)
    return found


def setting_means(runs: Sequence[Run]) -> list[float]:
    """List the mean held-out score of each setting among trials of one rate."""
    settings: dict[str, list[float]] = {}
    for run in runs:
        settings.setdefault(run.setting_id, []).append(trial_score(run))
    return [float(np.mean(scores)) for scores in settings.values()]


def rate_scores(rates: Mapping[float, list[Run]]) -> dict[float, float]:
    """Return by rate the held-out score of its best setting, mean over seeds; −inf where each had one that diverged."""
    return {value: max(setting_means(runs)) for value, runs in sorted(rates.items())}


def good_range(rates: Mapping[float, list[Run]]) -> tuple[float, float]:
    """Return the lowest and the highest of the rates around the best, without a gap, that lie within NEAR of it."""
    scores = rate_scores(rates)
    values = list(scores)
    best = max(values, key=lambda value: scores[value])
    good = [scores[value] >= scores[best] - NEAR for value in values]
    low = high = values.index(best)
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(values) - 1 and good[high + 1]:
        high += 1
    return values[low], values[high]


def has_fallen(run: Run) -> bool:
    """Say whether a trial collapsed or diverged."""
    return not {*run.caveats}.isdisjoint(FALLEN)


def rates_height(rates: Rates) -> float:
    """Return the height of `draw_rates`, in inches."""
    return 0.7 + 2.6 * len(rates)


def draw_rates(figure: Any, theme: Theme, rates: Rates) -> None:
    """Draw held-out score over learning rate for each task, a line a method; x: a trial that collapsed, or, at
    the bottom of the panel, one that diverged.
    """
    panels = figure.subplots(len(rates), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (task, methods) in zip(panels, rates.items(), strict=True):
        for variant, runs in methods.items():
            _rate_line(axes, variant, runs, theme.colour(variant))
        axes.set_xscale("log")
        axes.set_ylabel(f"{task_title(task)}, held-out")
    panels[-1].set_xlabel("learning rate")
    handles = {line.get_label(): line for axes in panels for line in axes.get_legend_handles_labels()[0]}
    legend = figure.legend(handles.values(), handles, loc="outside lower center", ncols=4, frameon=False)
    for text in legend.get_texts():
        text.set_color(theme.ink)


def _rate_line(axes: Any, variant: str, rates: Mapping[float, list[Run]], colour: str) -> None:
    scores = {value: score for value, score in rate_scores(rates).items() if np.isfinite(score)}
    ours = variant.startswith("lora2")
    style = {"linewidth": 2.4 if ours else 1.4, "linestyle": "-" if ours else "--"}
    mark = mark_of(variant).matplotlib
    axes.plot(
        [*scores], [*scores.values()], marker=mark, color=colour, markersize=5, label=method_name(variant), **style
    )
    bottom = {"transform": axes.get_xaxis_transform(), "clip_on": False}  # y as a share of the panel
    for run in [run for runs in rates.values() for run in runs if has_fallen(run)]:
        place = (0.0, bottom) if "diverged" in run.caveats else (trial_score(run), {})
        axes.plot(rate(run), place[0], "x", color=colour, markersize=7, markeredgewidth=1.8, **place[1])
