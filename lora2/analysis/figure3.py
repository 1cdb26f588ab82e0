"""Figure 3: final ranks per layer and matrix as heat maps, the paper's on the left and ours on the right.

The data part is pure and importable without matplotlib, which is loaded only when something is drawn. Legend: m =
matrix types (6, the paper's order from Query to FF.W2), l = layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lora2.analysis.paper import Figure3
from lora2.analysis.stats import pearson, spearman
from lora2.common.errors import UserError
from lora2.common.table import MISSING
from lora2.core.matrices import MATRICES, MATRIX_TITLES
from lora2.glue.tasks import task_title
from lora2.runs.caveats import named
from lora2.runs.cells import choose
from lora2.runs.reader import Run

Ranks = npt.NDArray[np.float64]
SUFFIXES = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True)
class Panel:
    """One task: the printed ranks (m, l), ours (m, l') or None where nothing ran, and what is to be said about both.

    `device` is what ours were trained on.
    """

    task: str
    paper: Ranks
    ours: Ranks | None
    label: str
    pearson: float | None
    spearman: float | None
    left_out: int
    device: str = ""

    @property
    def same_shape(self) -> bool:
        """Say whether the two sides can be correlated cell by cell."""
        return self.ours is not None and self.ours.shape == self.paper.shape


def rank_grid(run: Run) -> Ranks:
    """Arrange the final ranks of one run, whose keys are like `layer.0.query`.

    Returns:
        Ranks (m, l); a matrix that was never adapted counts as 0.

    Raises:
        UserError: the record holds no ranks of this form.
    """
    cells: dict[tuple[str, int], int] = {}
    for key, rank in run.ranks.items():
        parts = key.split(".")
        if len(parts) != 3 or parts[0] != "layer" or not parts[1].isdigit() or parts[2] not in MATRICES:
            raise UserError(f"run {run.run_id}: ranks.{key}: expected layer.<number>.<one of {', '.join(MATRICES)}>")
        cells[parts[2], int(parts[1])] = rank
    if not cells:
        raise UserError(f"run {run.run_id}: ranks: empty, nothing to draw")
    layers = 1 + max(layer for _, layer in cells)
    return np.array(
        [[cells.get((matrix, layer), 0) for layer in range(layers)] for matrix in MATRICES], dtype=np.float64
    )


def panels(figure: Figure3, runs: Sequence[Run], model: str, variant: str, recipe: str | None = None) -> list[Panel]:
    """Set ours beside the paper's four panels: the mean over the seeds of one setting, never over settings, data
    sources or recipes.

    Args:
        figure: the printed ranks.
        runs: every run; those without final ranks are left out.
        model, variant: whose ranks are ours.
        recipe: leave out every other recipe.
    """
    wanted = [
        run
        for run in runs
        if run.status == "ok"
        and (run.model, run.variant) == (model, variant)
        and recipe in (None, run.recipe)
        and run.ranks
    ]
    return [_panel(figure, task, [run for run in wanted if run.task == task]) for task in figure.panels]


def model_to_show(figure: Figure3, runs: Sequence[Run], variant: str) -> str:
    """Choose the paper's model; while it has no run of the figure's tasks, the one that has most, equals by name.

    Runs that have a caveat count only where there is no other.
    """
    done = [run for run in runs if run.status == "ok" and run.variant == variant and run.task in figure.panels]
    models = [run.model for run in [run for run in done if not run.caveats] or done]
    if not models or figure.model in models:
        return figure.model
    return max(sorted(set(models)), key=models.count)


def _panel(figure: Figure3, task: str, runs: Sequence[Run]) -> Panel:
    paper = np.array([figure.panels[task][matrix] for matrix in MATRICES], dtype=np.float64)  # (m, l)
    if not runs:
        return Panel(task=task, paper=paper, ours=None, label="not run", pearson=None, spearman=None, left_out=0)
    chosen = _one_source(runs)
    ours = np.mean([rank_grid(run) for run in chosen], axis=0)  # (m, l')
    same = ours.shape == paper.shape
    left, right = ours.ravel().tolist(), paper.ravel().tolist()
    return Panel(
        task=task,
        paper=paper,
        ours=ours,
        label=_label(chosen),
        pearson=pearson(left, right) if same else None,
        spearman=spearman(left, right) if same else None,
        left_out=len(runs) - len(chosen),
        device=", ".join(sorted({str(run.provenance.get("device") or MISSING) for run in chosen})),
    )


def _one_source(runs: Sequence[Run]) -> tuple[Run, ...]:
    """The runs of one (data, recipe, weights) and one setting: real data before synthetic, clean runs before marked,
    then most seeds, then by name.
    """
    groups: dict[tuple[bool, bool, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.synthetic, run.model_random_init, run.data, run.recipe), []).append(run)
    cells = {key: choose(group) for key, group in groups.items()}
    return cells[min(cells, key=lambda key: (key[:2], bool(cells[key].caveats), -len(cells[key].runs), key))].runs


def _label(runs: Sequence[Run]) -> str:
    """What the ours side shows, in one line."""
    first = runs[0]
    parts = [first.model, first.variant, f"recipe {first.recipe}", f"data={first.data}", f"n={len(runs)}"]
    if first.synthetic:
        parts.append("SYNTHETIC DATA")
    if first.model_random_init:
        parts.append("RANDOM WEIGHTS")
    return named(", ".join(parts), first.caveats)


def agreement(panel: Panel) -> str:
    """Write the sentence about the correlation: its values, or why there is none."""
    if panel.ours is None:
        return "not run"
    if not panel.same_shape:
        layers, printed = panel.ours.shape[1], panel.paper.shape[1]
        return f"correlation not computed: {layers} layers, the paper has {printed}"
    if panel.pearson is None or panel.spearman is None:
        return "correlation not computed: one side is constant"
    return f"Pearson {panel.pearson:.2f}, Spearman {panel.spearman:.2f} with the paper"


def draw_figure3(drawn: Sequence[Panel], output: Path) -> None:
    """Write the heat maps; the suffix of `output` picks png, svg or pdf.

    Raises:
        UserError: another suffix, or a path that cannot be written.
    """
    if output.suffix not in SUFFIXES:
        raise UserError(
            f"--output: got {output.name!r}, the suffix must be one of {', '.join(SUFFIXES)}: --output FILE.png"
        )
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    top = max(1.0, *(float(grid.max()) for panel in drawn for grid in (panel.paper, panel.ours) if grid is not None))
    maps = _maps(drawn)
    rows = math.ceil(len(maps) / 2)
    with mpl.rc_context({"svg.hashsalt": "lora2", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(rows, 2, figsize=(14.0, 0.8 + 3.4 * rows), layout="constrained", squeeze=False)
        for axis, (title, ranks) in zip(axes.flat, maps, strict=False):
            image = heat_map(axis, ranks, top, title)
        for unused in axes.flat[len(maps) :]:
            unused.set_axis_off()
        figure.colorbar(image, ax=axes, label="final rank (singular values kept), one scale", shrink=0.6, aspect=40)
        figure.suptitle(_title(drawn), fontsize=15)
        save(figure, output)
        plt.close(figure)


def _maps(drawn: Sequence[Panel]) -> list[tuple[str, Ranks]]:
    """Title and ranks of each map: the tasks that ran, paper and ours side by side; then the printed ones alone."""
    found: list[tuple[str, Ranks]] = []
    for panel in sorted(drawn, key=lambda panel: panel.ours is None):
        title = f"{task_title(panel.task)}: the paper, DeBERTaV3-base (total {panel.paper.sum():.0f})"
        if panel.ours is None:
            found.append((f"{title}; ours not run", panel.paper))
            continue
        ours = f"{task_title(panel.task)}: ours (total {panel.ours.sum():.0f}); {agreement(panel)}\n{panel.label}"
        found += [(title, panel.paper), (ours, panel.ours)]
    return found


def _title(drawn: Sequence[Panel]) -> str:
    devices = sorted({panel.device for panel in drawn if panel.ours is not None})
    trained = f"; ours trained on {', '.join(devices)}" if devices else ""
    return f"Figure 3: final rank per layer and matrix{trained}"


def heat_map(axes: Any, ranks: Ranks, top: float, title: str) -> Any:
    """One (m, l) grid on the shared scale 0..top, every cell with its rank rounded to a whole number."""
    image = axes.imshow(ranks, cmap="Blues", vmin=0.0, vmax=top, aspect="auto")
    axes.set_title(title, fontsize=10)
    axes.set_xticks(range(ranks.shape[1]))
    axes.set_yticks(range(len(MATRICES)), [MATRIX_TITLES[matrix] for matrix in MATRICES])
    axes.set_xlabel("layer")
    for (row, layer), rank in np.ndenumerate(ranks):
        dark = rank > 0.6 * top
        axes.text(layer, row, f"{rank:.0f}", ha="center", va="center", fontsize=9, color="white" if dark else "black")
    return image


def save(figure: Any, output: Path) -> None:
    """Write a matplotlib figure without a date, so that the same records give the same bytes.

    Raises:
        UserError: it cannot be written.
    """
    metadata = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(output.suffix)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(output, dpi=130, metadata=metadata)
    except OSError as error:
        raise UserError(
            f"{output}: cannot be written ({error.strerror}); give a file in a folder that you may write"
        ) from error
