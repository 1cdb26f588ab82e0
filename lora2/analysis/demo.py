"""The end of `make demo`: its scores as bars for a terminal, two sentences about them, and a picture.

Legend of the rank maps: m = matrix types (6), l = layers. matplotlib is loaded only when the picture is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from lora2.analysis.figure3 import heat_map, rank_grid, save
from lora2.analysis.methods import ALL_STYLES, mark_of, style_name
from lora2.common.errors import UserError
from lora2.glue.tasks import METRIC_TITLES, task_title
from lora2.runs.caveats import CAVEATS, MARK, Caveat, in_order, marked
from lora2.runs.cells import Cell, choose
from lora2.runs.reader import Run

TITLES = {
    "head": "head alone",
    "lora2_k1": "LoRA² k=1",
    "lora_r1": "LoRA r=1",
    "lora2_k8": "LoRA² k=8",
    "lora_r8": "LoRA r=8",
}
STORY = ("head", "lora2_k1", "lora2_k8")  # from the fewest trained parameters to the most
PRUNED = ("lora2_k1", "lora2_k8")
SAME_SIZE = (("lora2_k1", "lora_r1"), ("lora2_k8", "lora_r8"))
MODEL = "minilm"
BAR = 40  # characters of the longest bar
Cells = Mapping[str, Cell]  # by method, in the order of TITLES


def demo_cells(runs: Sequence[Run]) -> dict[str, Cells]:
    """Arrange the finished runs of the demo by task and method: those of its model, or of another if it has none.

    Raises:
        UserError: there is none.
    """
    done = [run for run in runs if run.status == "ok" and run.variant in TITLES]
    if not done:
        raise UserError("the demo: no finished run in its folder; make demo runs it")
    model = min((run.model for run in done), key=lambda name: (name != MODEL, name))
    done = [run for run in done if run.model == model]
    return {
        task: {
            name: choose(run for run in done if (run.task, run.variant) == (task, name))
            for name in TITLES
            if any((run.task, run.variant) == (task, name) for run in done)
        }
        for task in sorted({run.task for run in done})
    }


def scores(cell: Cell) -> list[float]:
    """Return the score of each seed after its last step, in percent."""
    return [100.0 * run.last[run.main] for run in cell.runs]


def bars(task: str, cells: Cells) -> str:
    """Draw the scores of one task with characters, a line for each method."""
    means = {name: mean(scores(cell)) for name, cell in cells.items()}
    longest = max(*means.values(), 1.0)
    first = next(iter(cells.values())).runs[0]
    what = f"{first.model} on {task_title(task)}, {_metric(cells)} after {first.steps} steps"
    lines = [f"{what} (mean of the seeds; each seed)"]
    for name, cell in cells.items():
        bar = "█" * round(BAR * max(0.0, means[name]) / longest)
        each = ", ".join(f"{value:.1f}" for value in scores(cell))
        count = cell.runs[0].counts["adapter"]
        scored = marked(f"{means[name]:5.1f}  ({each})", caveats(cell))
        lines.append(f"  {TITLES[name]:10} {bar:{BAR}} {scored}  {count:7,} adapter parameters")
    kinds = in_order(kind for cell in cells.values() for kind in caveats(cell))
    return "\n".join([*lines, *(f"  {MARK} {kind}: {CAVEATS[kind]}" for kind in kinds)])


def caveats(cell: Cell) -> list[Caveat]:
    """List what a reader of the demo does not know already: that its data is synthetic is said everywhere."""
    return [kind for kind in cell.caveats if kind != "synthetic"]


def sentences(task: str, cells: Cells) -> list[str]:
    """Say in two lines what the runs show: the methods in their order, then LoRA's rows and the ranks.

    `<` stands only where every seed on its left is below every seed on its right; anything else is `?`.
    """
    known = [name for name in STORY if name in cells]
    story = _say(known[0], cells) + "".join(
        f" {_sign(cells[left], cells[right])} {_say(right, cells)}" for left, right in pairwise(known)
    )
    beside = [
        f"{_say(ours, cells)} beside {_say(theirs, cells)}"
        for ours, theirs in SAME_SIZE
        if ours in cells and theirs in cells
    ]
    kept = [f"{TITLES[name]} {_kept(cells[name])}" for name in PRUNED if name in cells]
    return [
        f"{task_title(task)} (synthetic), {_metric(cells)}: {story}",
        "; ".join([*(["at the same size " + ", ".join(beside)] if beside else []), *kept]),
    ]


def next_commands(tasks: Mapping[str, Cells]) -> list[str]:
    """List what to type next: the export of the last LoRA² run, the report, a real task; each runs as it stands."""
    trained = [cells[name].runs[0].run_id for cells in tasks.values() for name in PRUNED if name in cells]
    return [
        *(f"make export RUN={run_id}  # that adapter as a stock LoRA, which peft loads" for run_id in trained[-1:]),
        "make report  # the published runs and your own on one page: results/report.html",
        "make mrpc DATA=hub  # a real task, fetched from the hub: a quarter of an hour on two cores",
    ]


def draw_demo(tasks: Mapping[str, Cells], output: Path) -> None:
    """Draw a row for each task: every seed's score by method, and the ranks that pruning left.

    Args:
        tasks: as `demo_cells` gives them.
        output: a .png, .svg or .pdf.

    Raises:
        UserError: the file cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(tasks), 1 + len(PRUNED), figsize=(15.0, 4.2 * len(tasks)), layout="constrained", squeeze=False
    )
    for (task, cells), row in zip(tasks.items(), axes, strict=True):
        _draw_scores(row[0], task, cells)
        for axis, name in zip(row[1:], PRUNED, strict=True):
            _draw_ranks(axis, name, cells.get(name))
    model = next(cell.runs[0].model for cells in tasks.values() for cell in cells.values())
    figure.suptitle(f"make demo: {model} on synthetic data, which says nothing about GLUE", fontsize=13)
    save(figure, output)
    plt.close(figure)


def _draw_scores(axis: Any, task: str, cells: Cells) -> None:
    titles = [marked(TITLES[name], caveats(cell)) for name, cell in cells.items()]
    axis.barh(
        titles,
        [mean(scores(cell)) for cell in cells.values()],
        color=[ALL_STYLES[style_name(name)].light for name in cells],
    )
    for title, (name, cell) in zip(titles, cells.items(), strict=True):
        each = scores(cell)
        axis.plot(each, [title] * len(each), mark_of(name).matplotlib, color="black", markeredgecolor="white")
        axis.text(max(*each, mean(each), 0.0) + 2.0, title, f"{mean(each):.1f}", va="center")
    axis.invert_yaxis()
    axis.set_xlim(right=112)
    axis.set_title(f"{task_title(task)}: {_metric(cells)} (bar: mean, mark: a seed)", fontsize=10)


def _draw_ranks(axis: Any, name: str, cell: Cell | None) -> None:
    if cell is None:
        axis.set_axis_off()
        return
    run = cell.runs[0]
    heat_map(axis, rank_grid(run), float(_full_rank(run)), f"{TITLES[name]}, seed {run.seed}\n{_kept(cell)}")


def _say(name: str, cells: Cells) -> str:
    return marked(f"{TITLES[name]} {mean(scores(cells[name])):.1f}", caveats(cells[name]))


def _sign(left: Cell, right: Cell) -> str:
    return "<" if max(scores(left)) < min(scores(right)) else "?"


def _kept(cell: Cell) -> str:
    """Say what the budget left of the first seed's singular values."""
    run = cell.runs[0]
    emptied = sum(rank == 0 for rank in run.ranks.values())
    return (
        f"kept {sum(run.ranks.values())} of {_full_rank(run) * len(run.ranks)} singular values, "
        f"emptied {emptied} of {len(run.ranks)} matrices"
    )


def _full_rank(run: Run) -> int:
    return int(run.resolved["rank"]["r"])


def _metric(cells: Cells) -> str:
    run = next(iter(cells.values())).runs[0]
    return METRIC_TITLES[run.main]
