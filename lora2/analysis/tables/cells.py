"""What stands in one table cell: the runs of one (variant, recipe, task) as text. A missing number prints "–".

Units are print units: percent for metrics, seconds for times. Every function takes the cells of one row, keyed by task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lora2.analysis.paper import PaperRow
from lora2.analysis.stats import MIN_SEEDS, glue_average, student_interval, summarise, verdict
from lora2.analysis.tables.layout import Layout
from lora2.common.table import MISSING
from lora2.runs.caveats import Caveat, marked
from lora2.runs.cells import Cell, choose
from lora2.runs.format import Checkpoint
from lora2.runs.reader import Run

Row = Mapping[str, Cell]
NO_VERDICT = "no verdict"


def seed_values(row: Row, task: str, metric: str, checkpoint: Checkpoint = "best") -> list[float]:
    """List the (n,) values of one cell; none unless every seed has the metric, so that n means what it says."""
    if task not in row:
        return []
    found = [run.value(metric, checkpoint) for run in row[task].runs]
    known = [value for value in found if value is not None]
    return known if len(known) == len(found) else []


def mean_text(row: Row, task: str, metric: str, checkpoint: Checkpoint) -> str:
    """Write `89.53 ± 0.41`, or the bare value of a single seed."""
    values = seed_values(row, task, metric, checkpoint)
    return summarise(values).text if values else MISSING


def median_text(row: Row, task: str, metric: str) -> str:
    """Write the median over seeds of the best checkpoint."""
    values = seed_values(row, task, metric)
    return number(summarise(values).median) if values else MISSING


def interval_text(row: Row, task: str, metric: str) -> str:
    """Write the interval of Student's t of the mean of the best checkpoint; a dash below three seeds."""
    values = seed_values(row, task, metric)
    if len(values) < MIN_SEEDS:
        return MISSING
    low, high = student_interval(values)
    return f"[{low:.2f}, {high:.2f}]"


def difference_text(row: Row, paper: PaperRow, task: str, metric: str) -> str:
    """Write our mean (best checkpoint) minus the printed value, with its sign; a dash where ours has a caveat."""
    values, printed = seed_values(row, task, metric), paper.scores.get(task, {}).get(metric)
    if not values or printed is None or row[task].caveats:
        return MISSING
    return f"{summarise(values).mean - printed:+.2f}".replace("-", "−")


def verdict_text(row: Row, paper: PaperRow, task: str, metric: str) -> str:
    """Write the verdict of lora2.analysis.stats on our best checkpoints against the printed value.

    A number that has a caveat gets none, and says so.
    """
    values, printed = seed_values(row, task, metric), paper.scores.get(task, {}).get(metric)
    if not values or printed is None:
        return MISSING
    return NO_VERDICT if row[task].caveats else verdict(values, printed)


def mark_text(text: str, row: Row, task: str) -> str:
    """Put the mark behind what is shown of a cell that has a caveat."""
    return text if text == MISSING else marked(text, row[task].caveats)


def seeds_text(cell: Cell) -> str:
    """Write `n=3`, and how many seeds of the setting collapsed or diverged, where any did."""
    fallen, seeds = cell.fallen
    scored = [run for run in cell.runs if "diverged" not in run.caveats]
    return "; ".join([f"n={len(scored)}", *(f"{count} {kind} of {seeds}" for kind, count in fallen.items())])


def with_seeds(text: str, row: Row, task: str) -> str:
    """Put the number of seeds behind a mean, and the mark; a dash alone is of a cell that has not run."""
    if text == MISSING and not has_diverged(row, task):
        return text
    return marked(f"{text} ({seeds_text(row[task])})", row[task].caveats)


def has_diverged(row: Row, task: str) -> bool:
    """Say whether a seed of a cell has no score for that reason; such a cell says so even if no other has one."""
    return task in row and "diverged" in row[task].caveats


def count_text(cells: Iterable[Cell], key: str) -> str:
    """Write a parameter count of a row; a range where runs differ (what pruning leaves depends on task and seed)."""
    counts = sorted({run.counts[key] for cell in cells for run in cell.runs if key in run.counts})
    if not counts:
        return MISSING
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def average_caveats(layout: Layout, row: Row) -> tuple[Caveat, ...]:
    """List the caveats of a row's average: all its cells have the same ones."""
    return next((row[task].caveats for task in layout.average or {} if task in row), ())


def our_average(layout: Layout, row: Row, checkpoint: Checkpoint) -> float | None:
    """Apply the paper's average formula to the means of a row.

    Returns:
        None unless every task of the average has run, and all have the same caveats: clean numbers are never averaged
        with marked ones.
    """
    if len({row[task].caveats for task in layout.average or {} if task in row}) > 1:
        return None
    scores = {
        task: [seed_values(row, task, metric, checkpoint) for metric in metrics]
        for task, metrics in (layout.average or {}).items()
    }
    if not scores or not all(values for task in scores.values() for values in task):
        return None
    return glue_average({task: [summarise(values).mean for values in columns] for task, columns in scores.items()})


def number(value: float | None) -> str:
    """Write two decimals, or a dash."""
    return MISSING if value is None else f"{value:.2f}"


def join(parts: Iterable[str]) -> str:
    """Join the metrics of one column in one cell; a cell with nothing at all is a single dash."""
    texts = list(parts)
    return MISSING if set(texts) == {MISSING} else " / ".join(texts)


def cells_of(runs: Iterable[Run]) -> dict[tuple[str, str, str], Cell]:
    """Sort runs into cells by (variant, recipe, task), and choose what each shows."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((_row_name(run), run.recipe, run.task), []).append(run)
    return {key: choose(group) for key, group in groups.items()}


def _row_name(run: Run) -> str:
    """The variant; a timing is of one implementation, and that of our AdaLoRA does not stand in the stock one's row."""
    method = run.resolved.get("method") or {}
    return f"{run.variant}_stacked" if run.status == "timed" and method.get("impl") == "stacked" else run.variant
