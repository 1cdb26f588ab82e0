"""Records + the papers' numbers -> sections of rows. A pure function of results/; no torch, and nothing is filled in:
missing prints "–".

Who stands beside whom: a printed number appears only in a section of the paper's own model on real GLUE data with
pretrained weights. Every other model, the demo data and random weights get their own sections, which say why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora2.analysis.paper import TABLES, PaperRow, PaperTable, load_table
from lora2.analysis.stats import MIN_SEEDS
from lora2.analysis.tables.cells import (
    Row,
    average_caveats,
    cells_of,
    count_text,
    difference_text,
    interval_text,
    join,
    mark_text,
    mean_text,
    median_text,
    number,
    our_average,
    verdict_text,
    with_seeds,
)
from lora2.analysis.tables.layout import (
    COMPARISON,
    FIXED_HEADER,
    PAPERS_OF_MODEL,
    VALUES,
    Conditions,
    Layout,
    average_header,
    caveat_notes,
    column_title,
    comparable,
    conditions_of,
    conditions_title,
    dropped,
    made_by,
    method_title,
    sentences,
    unfinished,
    wrong_averages,
)
from lora2.common.errors import UserError
from lora2.common.table import MISSING, Table
from lora2.glue.tasks import TASKS
from lora2.runs.caveats import marked
from lora2.runs.cells import Cell
from lora2.runs.format import RESULTS, Checkpoint
from lora2.runs.reader import Run

NAMES = ("runs", *TABLES)

Cells = Mapping[tuple[str, str, str], Cell]  # (variant, recipe, task) -> runs
CellText = Callable[[str, str], str]  # (task, metric) -> text
Line = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """One section before it is text: whose numbers they are, its rows, the runs behind each cell, what is said around
    it.
    """

    title: str
    conditions: Conditions
    layout: Layout
    variants: tuple[str, ...]
    cells: Cells
    sentences: tuple[str, ...]
    footnotes: tuple[str, ...]

    def recipes(self, variant: str) -> list[str]:
        """List the recipes with which this method ran, by name."""
        return sorted({recipe for known, recipe, _ in self.cells if known == variant})

    def row(self, variant: str, recipe: str) -> Row:
        """Return our cells of one method and recipe, by task."""
        return {task: cell for (known, used, task), cell in self.cells.items() if (known, used) == (variant, recipe)}


def build(name: str, runs: Sequence[Run], papers: Path, model: str | None = None) -> list[Table]:
    """Build the sections of a table as text; one that says so when there is nothing to show.

    Args:
        name: one of NAMES.
        runs: every run, finished or not.
        papers: the folder of the paper's numbers.
        model: leave out every other model.

    Raises:
        UserError: the table is unknown, or the paper's numbers cannot be read.
    """
    found = parts(name, runs, papers, model)
    if not found:
        paper = None if name == "runs" else load_table(name, papers)
        return [Table(title=_title(paper), header=(), rows=(), sentences=("No run yet: nothing to show.",))]
    return [_as_table(part) for part in found]


def parts(name: str, runs: Sequence[Run], papers: Path, model: str | None = None) -> list[Part]:
    """Build the sections of a table before they are text: the paper's own model first, then all other conditions.

    Args and errors are those of `build`.
    """
    if name not in NAMES:
        raise UserError(f"table: got {name!r}, allowed: {', '.join(NAMES)}")
    paper = None if name == "runs" else load_table(name, papers)
    wanted = [run for run in runs if (model in (None, run.model)) and _belongs(run, paper)]
    groups = {conditions_of(run) for run in wanted}
    if paper and model in (None, paper.model) and not any(comparable(conditions, paper) for conditions in groups):
        groups.add(Conditions(paper.model, MISSING, synthetic=False, random_init=False))
    order = sorted(
        groups,
        key=lambda c: (paper is not None and c.model != paper.model, c.synthetic, c.random_init, c.model, c.data),
    )
    return [_part(conditions, wanted, paper, papers) for conditions in order]


def _belongs(run: Run, paper: PaperTable | None) -> bool:
    """A paper's table shows its own rows and tasks; a timing table shows every method that was timed side by side, as
    our own times are comparable among themselves. Nothing else shows a timing.
    """
    if paper is not None and paper.unit == "seconds":
        return run.status == "timed" and run.task in paper.columns
    return run.status != "timed" and (paper is None or (run.task in paper.columns and run.variant in paper.rows))


def _part(conditions: Conditions, runs: Sequence[Run], paper: PaperTable | None, folder: Path) -> Part:
    mine = [run for run in runs if conditions_of(run) == conditions]
    done = [run for run in mine if run.status in RESULTS or "diverged" in run.caveats]
    cells = cells_of(done)
    layout = _paper_layout(paper, conditions) if paper else _runs_layout(conditions, done, folder)
    variants = _variants(layout, cells)
    return Part(
        title=f"{_title(paper)}; {conditions_title(conditions)}",
        conditions=conditions,
        layout=layout,
        variants=variants,
        cells=cells,
        sentences=sentences(conditions, layout, paper),
        footnotes=(
            *_reading(layout),
            *wrong_averages(layout, variants),
            *caveat_notes(cells),
            *dropped(cells),
            *unfinished(mine),
            *made_by(done),
        ),
    )


def _reading(layout: Layout) -> tuple[str, ...]:
    """How the numbers are to be read."""
    if layout.unit == "seconds":
        return ()
    return (VALUES, COMPARISON) if layout.papers else (VALUES,)


def _as_table(part: Part) -> Table:
    columns = (column_title(task, metrics) for task, metrics in part.layout.columns.items())
    header = (*FIXED_HEADER, *columns, *average_header(part.layout))
    lines = tuple(line for variant in part.variants for line in _block(part, variant))
    return Table(title=part.title, header=header, rows=lines, sentences=part.sentences, footnotes=part.footnotes)


def _paper_layout(paper: PaperTable, conditions: Conditions) -> Layout:
    beside = (paper,) if comparable(conditions, paper) else ()
    return Layout(
        title=paper.title,
        unit=paper.unit,
        columns=paper.columns,
        average=paper.columns if paper.unit == "percent" else None,
        papers=beside,
        fixed_rows=bool(beside),
    )


def _runs_layout(conditions: Conditions, done: Sequence[Run], folder: Path) -> Layout:
    names = PAPERS_OF_MODEL.get(conditions.model, ())
    papers = tuple(paper for paper in (load_table(name, folder) for name in names) if comparable(conditions, paper))
    ran = {run.task for run in done}
    return Layout(
        title="",
        unit="percent",
        columns={name: task.metrics for name, task in TASKS.items() if name in ran} | _own_columns(done),
        average=load_table("table1", folder).columns if set(TASKS) <= ran else None,
        papers=papers,
        fixed_rows=False,
    )


def _own_columns(done: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    """Tasks of users' own files with their metrics, the main one first."""
    return {run.task: tuple(dict.fromkeys((run.main, *run.best))) for run in done if run.main and run.task not in TASKS}


def _variants(layout: Layout, cells: Cells) -> tuple[str, ...]:
    """The paper's rows in the paper's order, then what else ran, by name; a general table shows only what ran."""
    ran = {variant for variant, _, _ in cells}
    printed = list(dict.fromkeys(variant for paper in layout.papers for variant in paper.rows))
    first = printed if layout.fixed_rows else [variant for variant in printed if variant in ran]
    return (*first, *sorted(ran - set(first)))


def _block(part: Part, variant: str) -> list[Line]:
    """All lines of one method: the printed one, then ours for every recipe that ran."""
    layout = part.layout
    paper, printed = layout.printed(variant)
    lines = [_paper_line(layout, paper, printed)] if paper and printed else []
    for recipe in part.recipes(variant) or [MISSING]:
        head = (method_title(variant, printed), recipe)
        lines += _our_lines(layout, head, part.row(variant, recipe), printed)
    return lines


def _paper_line(layout: Layout, paper: PaperTable, row: PaperRow) -> Line:
    """The printed numbers; `layout` may have columns that the row lacks, and then the row's average is not this one."""
    scores = [
        join(number(row.scores.get(task, {}).get(metric)) for metric in metrics)
        for task, metrics in layout.columns.items()
    ]
    fixed = (method_title(row.variant, row), MISSING, f"paper ({paper.name}, {row.confidence})", row.params or MISSING)
    averages = (MISSING, MISSING)
    if row.average is not None and set(paper.columns) == set(layout.columns):
        flag = " ⚠" if paper.average_is_wrong(row) else ""
        averages = (f"{row.average:.{paper.digits}f}{flag}", number(row.recomputed))
    return (*fixed, MISSING, MISSING, *scores, *(averages if layout.average else ()))


def _our_lines(layout: Layout, head: tuple[str, str], row: Row, printed: PaperRow | None) -> list[Line]:
    """Our lines of one (variant, recipe); the parameter counts stand on the first only."""
    most = max((len(cell.runs) for cell in row.values()), default=0)
    counts = tuple(count_text(row.values(), key) for key in ("adapter", "active_adapter", "head"))
    if layout.unit == "seconds":
        return [(*head, "ours", *counts, *_mean_scores(layout, row, "best"))]
    if not row:
        return [(*head, "ours", *(MISSING,) * (len(counts) + len(layout.columns) + len(average_header(layout))))]
    nothing = (MISSING,) * len(counts)
    lines = [
        (*head, "best", *counts, *_mean_scores(layout, row, "best"), *_our_average(layout, row, "best")),
        (*head, "last", *nothing, *_mean_scores(layout, row, "last"), *_our_average(layout, row, "last")),
    ]
    dashes = (MISSING,) * len(average_header(layout))
    for label, text in _further_lines(row, most, printed):
        lines.append((*head, label, *nothing, *_marked_scores(layout, row, text), *dashes))
    return lines


def _further_lines(row: Row, most: int, printed: PaperRow | None) -> list[tuple[str, CellText]]:
    """What the number of seeds (at `most` so many in a cell) and a printed row allow to say."""
    lines: list[tuple[str, CellText]] = []
    if most >= 2:
        lines.append(("median (best)", lambda task, metric: median_text(row, task, metric)))
    if most >= MIN_SEEDS:
        lines.append(("95 % interval (best)", lambda task, metric: interval_text(row, task, metric)))
    if printed is not None:
        lines.append(("Δ (best − paper)", lambda task, metric: difference_text(row, printed, task, metric)))
        lines.append(("verdict", lambda task, metric: verdict_text(row, printed, task, metric)))
    return lines


def _plain_scores(layout: Layout, text: CellText) -> list[str]:
    return [join(text(task, metric) for metric in metrics) for task, metrics in layout.columns.items()]


def _marked_scores(layout: Layout, row: Row, text: CellText) -> list[str]:
    """One text per column, marked where the cell has a caveat."""
    return [mark_text(text, row, task) for task, text in zip(layout.columns, _plain_scores(layout, text), strict=True)]


def _mean_scores(layout: Layout, row: Row, checkpoint: Checkpoint) -> list[str]:
    """One `mean ± std (n=…)` per column."""
    texts = _plain_scores(layout, lambda task, metric: mean_text(row, task, metric, checkpoint))
    return [with_seeds(text, row, task) for task, text in zip(layout.columns, texts, strict=True)]


def _our_average(layout: Layout, row: Row, checkpoint: Checkpoint) -> tuple[str, ...]:
    """Our cells under the average columns: nothing printed, and the paper's formula once every task has run."""
    beside = (MISSING,) if layout.papers else ()
    average = our_average(layout, row, checkpoint)
    text = MISSING if average is None else marked(number(average), average_caveats(layout, row))
    return (*beside, text) if layout.average else ()


def _title(paper: PaperTable | None) -> str:
    return paper.title if paper else "Every finished run"
