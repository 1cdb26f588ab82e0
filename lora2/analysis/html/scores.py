"""A section of a table as a page table: the printed row, then ours for each recipe; cells of ours link to their
records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lora2.analysis.claims.checks import printed_count
from lora2.analysis.html.html_table import Column, HtmlCell, HtmlRow, HtmlTable, Small
from lora2.analysis.html.records import anchor
from lora2.analysis.methods import method_name
from lora2.analysis.paper import PaperRow, PaperTable
from lora2.analysis.stats import Summary, summarise
from lora2.analysis.tables.build import Part
from lora2.analysis.tables.cells import (
    Row,
    average_caveats,
    count_text,
    difference_text,
    has_diverged,
    join,
    mark_text,
    number,
    our_average,
    seed_values,
    seeds_text,
    verdict_text,
)
from lora2.analysis.tables.layout import COMPARISON, VALUES, Conditions, Layout, metric_titles
from lora2.common.table import MISSING
from lora2.glue.tasks import task_title
from lora2.runs.caveats import marked, named
from lora2.runs.format import Checkpoint

READING = (VALUES, COMPARISON)  # said once, for all tables
NOTHING_RAN = "Nothing of ours has run here yet."
NOTHING = HtmlCell(MISSING)
TONES = {"reproduced": "good", "above": "good", "below": "bad"}


def score_table(part: Part) -> HtmlTable:
    """Draw all rows of one section, methods in the paper's order."""
    layout = part.layout
    tasks = (
        Column(task_title(task), numeric=True, small=metric_titles(metrics)) for task, metrics in layout.columns.items()
    )
    average = (Column("Average", numeric=True),) if layout.average else ()
    columns = (Column("Method"), Column("Whose"), Column("Parameters", numeric=True), *tasks, *average)
    rows = tuple(row for variant in part.variants for row in _rows(part, variant))
    nothing = () if part.cells else (NOTHING_RAN,)
    return HtmlTable(
        caption=part.title,
        columns=columns,
        rows=rows,
        sentences=(*part.sentences, *nothing),
        footnotes=tuple(note for note in part.footnotes if note not in READING),
        badges=_badges(part.conditions, layout),
        ran=bool(part.cells),
    )


def _badges(conditions: Conditions, layout: Layout) -> tuple[str, ...]:
    """What must be seen before any number."""
    found = []
    if not layout.papers:
        found.append("not comparable with the paper")
    if conditions.synthetic:
        found.append("synthetic data")
    if conditions.random_init:
        found.append("random weights")
    return tuple(found)


def filled(parts: Sequence[Part]) -> tuple[int, int]:
    """Count the cells of the printed table with a clean run of ours, and all its cells."""
    printed = {(variant, task) for part in parts for variant in part.variants for task in part.layout.columns}
    ran = {(variant, task) for part in parts for (variant, _, task), cell in part.cells.items() if not cell.caveats}
    return len(ran & printed), len(printed)


def verdicts(parts: Sequence[Part]) -> Counter[str]:
    """Count how often each verdict was given over the printed numbers that ours stand beside."""
    return Counter(
        verdict_text(part.row(variant, recipe), printed, task, metric)
        for part in parts
        for variant, recipe, task in part.cells
        if (printed := part.layout.printed(variant)[1]) is not None
        for metric in printed.scores.get(task, {})
    )


def _rows(part: Part, variant: str) -> list[HtmlRow]:
    paper, printed = part.layout.printed(variant)
    rows = [_paper_row(part.layout, paper, printed)] if paper and printed else []
    for recipe in part.recipes(variant):
        rows.append(_our_row(part.layout, variant, recipe, part.row(variant, recipe), printed))
    if part.recipes(variant) or not part.cells:
        return rows
    return [*rows, _not_run(part.layout, variant, printed)]


def _method(variant: str, printed: PaperRow | None) -> HtmlCell:
    name = printed.paper_name if printed else method_name(variant)
    return HtmlCell(text=name, sort=name, small=(Small(variant),), variant=variant)


def _paper_row(layout: Layout, paper: PaperTable, row: PaperRow) -> HtmlRow:
    count = HtmlCell(text=row.params, sort=printed_count(row.params)) if row.params else NOTHING
    whose = HtmlCell(text="paper", sort="paper", small=(Small(f"{paper.name} ({row.confidence})"),))
    cells = tuple(_printed(row.scores.get(task, {}), metrics) for task, metrics in layout.columns.items())
    average = (_printed_average(layout, paper, row),) if layout.average else ()
    return HtmlRow((_method(row.variant, row), whose, count, *cells, *average), "paper")


def _printed(scores: Mapping[str, float], metrics: Sequence[str]) -> HtmlCell:
    values = [scores.get(metric) for metric in metrics]
    return HtmlCell(text=join(map(number, values)), sort=_mean(value for value in values if value is not None))


def _printed_average(layout: Layout, paper: PaperTable, row: PaperRow) -> HtmlCell:
    """The printed average, and what the row's own entries give where that is another number."""
    if row.average is None or set(paper.columns) != set(layout.columns):
        return NOTHING
    wrong = paper.average_is_wrong(row)
    small = (Small(f"⚠ entries: {row.recomputed:.2f}", "bad"),) if wrong else ()
    return HtmlCell(text=f"{row.average:.{paper.digits}f}", sort=row.average, small=small)


def _our_row(layout: Layout, variant: str, recipe: str, row: Row, printed: PaperRow | None) -> HtmlRow:
    whose = HtmlCell(text="ours", sort="ours", small=(Small(f"recipe {recipe}"),))
    adapters = [run.counts["adapter"] for cell in row.values() for run in cell.runs if "adapter" in run.counts]
    adapter, active, head = (count_text(row.values(), key) for key in ("adapter", "active_adapter", "head"))
    small = [] if active == adapter else [Small(f"active {active}")]
    small.append(Small(f"head {head}"))
    count = HtmlCell(text=adapter, sort=max(adapters, default=None), small=tuple(small))
    cells = tuple(_ours(layout, row, printed, task) for task in layout.columns)
    average = (_our_average(layout, row),) if layout.average else ()
    return HtmlRow((_method(variant, printed), whose, count, *cells, *average), "ours")


def _ours(layout: Layout, row: Row, printed: PaperRow | None, task: str) -> HtmlCell:
    """Mean over seeds of the best checkpoint; below it spread and n, then what can be said beside the printed number,
    then the last checkpoint.
    """
    metrics = layout.columns[task]
    best = [_summary(row, task, metric, "best") for metric in metrics]
    known = [each for each in best if each is not None]
    if not known and not has_diverged(row, task):
        return NOTHING
    cell = row[task]
    small = [Small(f"{_spread(best)}{seeds_text(cell).replace('=', ' = ')}")]
    if cell.caveats:
        small.append(Small(named("", cell.caveats).strip(), "warn"))
    if not known:
        return HtmlCell(text=marked(MISSING, cell.caveats), href=f"#{anchor(cell.runs[0])}", small=tuple(small))
    if printed is not None and layout.unit != "seconds" and task in printed.scores:
        small += _beside(row, printed, task, metrics)
    if layout.unit != "seconds":
        small.append(Small(f"last {_means([_summary(row, task, metric, 'last') for metric in metrics])}"))
    mean = _mean(each.mean for each in known)
    text = mark_text(_means(best), row, task)
    return HtmlCell(text=text, sort=mean, href=f"#{anchor(cell.runs[0])}", small=tuple(small))


def _beside(row: Row, printed: PaperRow, task: str, metrics: Sequence[str]) -> list[Small]:
    said = list(
        dict.fromkeys(verdict_text(row, printed, task, metric) for metric in metrics if metric in printed.scores[task])
    )
    distance = join(difference_text(row, printed, task, metric) for metric in metrics)
    delta = [] if distance == MISSING else [Small(f"Δ {distance}")]
    return [*delta, Small(", ".join(said), TONES.get(said[0], "") if len(said) == 1 else "")]


def _summary(row: Row, task: str, metric: str, checkpoint: Checkpoint) -> Summary | None:
    values = seed_values(row, task, metric, checkpoint)
    return summarise(values) if values else None


def _means(summaries: Sequence[Summary | None]) -> str:
    return join(number(each.mean if each else None) for each in summaries)


def _spread(summaries: Sequence[Summary | None]) -> str:
    """`± 0.41, `; nothing for a single seed, which has none."""
    text = join(number(each.std if each else None) for each in summaries)
    return "" if text == MISSING else f"± {text}, "


def _our_average(layout: Layout, row: Row) -> HtmlCell:
    best, last = (our_average(layout, row, checkpoint) for checkpoint in ("best", "last"))
    if best is None:
        return NOTHING
    text = marked(number(best), average_caveats(layout, row))
    return HtmlCell(text=text, sort=best, small=(Small(f"last {number(last)}"),))


def _not_run(layout: Layout, variant: str, printed: PaperRow | None) -> HtmlRow:
    columns = 1 + len(layout.columns) + (1 if layout.average else 0)
    return HtmlRow((_method(variant, printed), HtmlCell(text="not run", sort="ours"), *(NOTHING,) * columns), "todo")


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None
