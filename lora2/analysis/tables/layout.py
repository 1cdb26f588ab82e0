"""What a table section is and what is said around it: columns, titles, the sentence that keeps unlike numbers apart,
footnotes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora2.analysis.paper import PaperRow, PaperTable
from lora2.analysis.stats import MIN_SEEDS
from lora2.common.rendering import MISSING
from lora2.runs.reader import RESULTS, Cell, Run

TASK_TITLES = {
    "cola": "CoLA", "sst2": "SST-2", "mrpc": "MRPC", "qqp": "QQP",
    "stsb": "STS-B", "mnli": "MNLI", "qnli": "QNLI", "rte": "RTE",
}  # fmt: skip
METRIC_TITLES = {
    "matthews": "Mcc", "accuracy": "acc", "f1": "F1", "accuracy_mm": "mm", "pearson": "Pearson", "spearman": "Spearman",
    "pearson+spearman": "mean corr.", "accuracy+accuracy_mm": "mean of m, mm", "seconds_per_step": "s/it",
}  # fmt: skip
ALL_METRICS: Mapping[str, tuple[str, ...]] = {
    "cola": ("matthews",),
    "sst2": ("accuracy",),
    "mrpc": ("accuracy", "f1"),
    "qqp": ("accuracy", "f1"),
    "stsb": ("pearson", "spearman"),
    "mnli": ("accuracy", "accuracy_mm"),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
}
PAPERS_OF_MODEL = {
    "deberta_v3_base": ("table1", "table3", "table4", "adalora_table1"),
    "roberta_large": ("lora_table2", "roberta_large"),
}
FIXED_HEADER = ("Method", "Recipe", "Value", "Adapter params", "Active params", "Head params")
VALUES = (
    "best = best evaluation of each run (chosen on dev, as the paper does), last = after the last step; ± = standard "
    "deviation over n seeds."
)
COMPARISON = (
    "Δ and verdict compare our best checkpoint with the printed value (the papers report the best evaluation too). "
    "reproduced: the printed value lies in our 95 % bootstrap interval over seeds; above / below: ours is better / "
    f"worse; fewer than {MIN_SEEDS} seeds: nothing is said."
)


@dataclass(frozen=True, slots=True)
class Section:
    """What the sections of one page share: which model and data, and whether a printed number may stand beside ours."""

    model: str
    data: str
    synthetic: bool
    random_init: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What is printed: metrics per column, the average's columns (None: no average), and where the printed numbers
    come from, first hit wins.
    """

    title: str
    unit: str
    columns: Mapping[str, tuple[str, ...]]
    average: Mapping[str, tuple[str, ...]] | None
    papers: tuple[PaperTable, ...]
    fixed_rows: bool

    def printed(self, variant: str) -> tuple[PaperTable, PaperRow] | tuple[None, None]:
        """The printed row of a method and its table."""
        paper = next((table for table in self.papers if variant in table.rows), None)
        return (paper, paper.rows[variant]) if paper else (None, None)


def comparable(section: Section, paper: PaperTable) -> bool:
    """May the printed numbers stand beside ours? Random weights cost the same time as trained ones, so they only
    spoil scores.
    """
    return (
        section.model == paper.model and not section.synthetic and (not section.random_init or paper.unit == "seconds")
    )


def column_title(task: str, metrics: Iterable[str]) -> str:
    """For example `QQP acc / F1`."""
    return f"{TASK_TITLES[task]} {metric_titles(metrics)}"


def metric_titles(metrics: Iterable[str]) -> str:
    """For example `acc / F1`."""
    return " / ".join(METRIC_TITLES[metric] for metric in metrics)


def method_title(variant: str, printed: PaperRow | None) -> str:
    """The paper's name for a row with our variant key, which is what the command line takes."""
    return f"{printed.paper_name} [{variant}]" if printed else variant


def average_header(layout: Layout) -> tuple[str, ...]:
    """The average's columns; the printed one only where the paper's numbers stand beside ours."""
    if not layout.average:
        return ()
    return ("Avg. (printed)", "Avg. (recomputed)") if layout.papers else ("Avg. (recomputed)",)


def section_title(section: Section) -> str:
    """Model and data, and in capitals what makes a number no GLUE number."""
    parts = [section.model]
    if section.data != MISSING:
        parts.append(f"data={section.data}")
    if section.synthetic:
        parts.append("SYNTHETIC demo data")
    if section.random_init:
        parts.append("RANDOM WEIGHTS")
    return ", ".join(parts)


def sentences(section: Section, layout: Layout, paper: PaperTable | None) -> tuple[str, ...]:
    """What a reader must know before the first number."""
    said = []
    if paper and layout.papers:
        said.append(f"Printed numbers: {paper.source} (confidence {paper.confidence}). {paper.notes}".strip())
    elif section.model not in PAPERS_OF_MODEL:
        said.append(
            f"{section.model} is not a model of the paper: these numbers show what the code does on a small encoder. "
            "They are not comparable with the paper's, which are therefore not shown here."
        )
    if section.synthetic:
        said.append(
            "The data is synthetic, made by this project in the shape of GLUE: it shows that the pipeline works and "
            "says nothing about GLUE."
        )
    if section.random_init:
        said.append("The backbone has random weights: only parameter counts and times mean anything.")
    if layout.unit == "seconds":
        said.append(
            "Seconds per optimizer step on whatever device ran: the median of each method's steps, methods taking "
            "turns on the same batches (a record's notes name them). The paper's device is an RTX 4090 laptop, so "
            "no difference is taken."
        )
    return tuple(said)


def wrong_averages(layout: Layout, variants: Iterable[str]) -> list[str]:
    """One footnote per printed average that its own row does not give."""
    shown = set(variants)
    papers = [paper for paper in layout.papers if layout.average and set(paper.columns) == set(layout.columns)]
    return [
        f"⚠ {row.paper_name}: the printed average is {row.average:.{paper.digits}f}, the row's own entries give "
        f"{row.recomputed:.2f}."
        for paper in papers
        for row in paper.rows.values()
        if row.variant in shown and paper.average_is_wrong(row)
    ]


def dropped(cells: Mapping[tuple[str, str, str], Cell]) -> list[str]:
    """One footnote per cell that had runs of other settings: those are never averaged in."""
    return [
        f"{TASK_TITLES.get(task, task)}, {variant}, recipe {recipe}: shown is setting {cell.runs[0].setting_id} (most "
        f"seeds); {cell.dropped_settings} other setting(s), {cell.dropped_runs} run(s) in all, left out."
        for (variant, recipe, task), cell in sorted(cells.items())
        if cell.dropped_runs
    ]


def unfinished(runs: Iterable[Run]) -> list[str]:
    """One footnote that counts the runs without a result: they are part of the truth about a sweep."""
    counts = Counter(run.status for run in runs if run.status not in RESULTS)
    if not counts:
        return []
    return [
        "Not shown, no result: " + ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) + "."
    ]
