"""What a table section is and what is said around it: columns, titles, the sentence that keeps unlike numbers apart,
footnotes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora2.analysis.paper import PaperRow, PaperTable
from lora2.analysis.stats import MIN_SEEDS
from lora2.common.table import MISSING
from lora2.glue.tasks import METRIC_TITLES, task_title
from lora2.runs.caveats import CAVEATS, MARK, Caveat
from lora2.runs.cells import Cell
from lora2.runs.format import RESULTS
from lora2.runs.pretrained import TUNED_ON
from lora2.runs.reader import Run

AD_HOC = "adhoc"  # configs/train.yaml: a run of no experiment

COLUMN_METRICS: Mapping[str, str] = {  # what a column may show beside the tasks' own metrics
    **METRIC_TITLES,
    "pearson+spearman": "mean corr.",
    "accuracy+accuracy_mm": "mean of m, mm",
    "seconds_per_step": "s/it",
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
    "reproduced: the printed value lies in our 95 % interval over seeds (Student's t); above / below: ours is better / "
    f"worse; fewer than {MIN_SEEDS} seeds: nothing is said."
)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The model and the data that the runs of one section share: it says whether a printed number may stand beside
    ours.
    """

    model: str
    data: str
    synthetic: bool
    random_init: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What a section prints.

    Attributes:
        title: of the table.
        unit: percent or seconds.
        columns: metrics by task, one column for each task.
        average: metrics by task of the row's average; None where there is no average.
        papers: where the printed numbers come from; the first that has a method's row wins.
        fixed_rows: whether the paper's rows are shown although nothing of them ran.
    """

    title: str
    unit: str
    columns: Mapping[str, tuple[str, ...]]
    average: Mapping[str, tuple[str, ...]] | None
    papers: tuple[PaperTable, ...]
    fixed_rows: bool

    def printed(self, variant: str) -> tuple[PaperTable, PaperRow] | tuple[None, None]:
        """Find the printed row of a method, and its table."""
        paper = next((table for table in self.papers if variant in table.rows), None)
        return (paper, paper.rows[variant]) if paper else (None, None)


def conditions_of(run: Run) -> Conditions:
    """Return the model and data of a run."""
    return Conditions(run.model, run.data, run.synthetic, run.model_random_init)


def comparable(conditions: Conditions, paper: PaperTable) -> bool:
    """Say whether the printed numbers may stand beside ours.

    Random weights cost the same time as trained ones, so they only spoil scores.
    """
    if conditions.model != paper.model or conditions.synthetic:
        return False
    return not conditions.random_init or paper.unit == "seconds"


def column_title(task: str, metrics: Iterable[str]) -> str:
    """Name a column, for example `QQP acc / F1`."""
    return f"{task_title(task)} {metric_titles(metrics)}"


def metric_titles(metrics: Iterable[str]) -> str:
    """Name the metrics of a column, for example `acc / F1`."""
    return " / ".join(COLUMN_METRICS[metric] for metric in metrics)


def method_title(variant: str, printed: PaperRow | None) -> str:
    """Return the paper's name for a row with our variant key, which is what the command line takes."""
    return f"{printed.paper_name} [{variant}]" if printed else variant


def average_header(layout: Layout) -> tuple[str, ...]:
    """Name the average's columns; the printed one only where the paper's numbers stand beside ours."""
    if not layout.average:
        return ()
    return ("Avg. (printed)", "Avg. (recomputed)") if layout.papers else ("Avg. (recomputed)",)


def conditions_title(conditions: Conditions) -> str:
    """Name model and data, and in capitals what makes a number no GLUE number."""
    parts = [conditions.model]
    if conditions.data != MISSING:
        parts.append(f"data={conditions.data}")
    if conditions.synthetic:
        parts.append("SYNTHETIC demo data")
    if conditions.random_init:
        parts.append("RANDOM WEIGHTS")
    return ", ".join(parts)


def sentences(conditions: Conditions, layout: Layout, paper: PaperTable | None) -> tuple[str, ...]:
    """Say what a reader must know before the first number."""
    said = []
    if paper and layout.papers:
        said.append(f"Printed numbers: {paper.source} (confidence {paper.confidence}). {paper.notes}".strip())
    elif conditions.model not in PAPERS_OF_MODEL:
        said.append(
            f"{conditions.model} is not a model of the paper: these numbers show what the code does on another "
            "encoder. They are not comparable with the paper's, which are therefore not shown here."
        )
    if conditions.synthetic:
        said.append(
            "The data is synthetic, made by this project in the shape of GLUE: it shows that the pipeline works and "
            "says nothing about GLUE."
        )
    if layout.unit != "seconds" and conditions.model in TUNED_ON and not conditions.random_init:
        said.append(TUNED_ON[conditions.model])
    if conditions.random_init:
        said.append("The backbone has random weights: only parameter counts and times mean anything.")
    if layout.unit == "seconds":
        said.append(
            "Seconds per optimizer step on whatever device ran: the median of each method's steps, methods taking "
            "turns on the same batches (a record's notes name them). The paper's device is an RTX 4090 laptop, so "
            "no difference is taken."
        )
    return tuple(said)


def wrong_averages(layout: Layout, variants: Iterable[str]) -> list[str]:
    """Write one footnote for each printed average that its own row does not give."""
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
    """Write one footnote for each cell that had runs of other settings: those are never averaged in."""
    return [
        f"{task_title(task)}, {variant}, recipe {recipe}: shown is setting {cell.runs[0].setting_id} "
        f"({_why_shown(cell)}); {cell.dropped_settings} other setting(s), {cell.dropped_runs} run(s) in all, left out"
        f"{_caveats_left_out(cell)}."
        for (variant, recipe, task), cell in sorted(cells.items())
        if cell.dropped_runs
    ]


def _why_shown(cell: Cell) -> str:
    """Unmarked runs go first, whatever the number of seeds."""
    return "without a caveat" if not cell.caveats and any(run.caveats for run in cell.left_out) else "most seeds"


def _caveats_left_out(cell: Cell) -> str:
    counts = Counter(kind for run in cell.left_out for kind in run.caveats)
    return f" ({', '.join(f'{counts[kind]} {kind}' for kind in CAVEATS if kind in counts)})" if counts else ""


def caveat_notes(cells: Mapping[tuple[str, str, str], Cell]) -> list[str]:
    """Write one footnote for each set of caveats that cells have: what it means, and which cells they are."""
    places: dict[tuple[Caveat, ...], list[str]] = {}
    for (variant, recipe, task), cell in sorted(cells.items()):
        if cell.caveats:
            places.setdefault(cell.caveats, []).append(f"{task_title(task)} {variant} (recipe {recipe})")
    return [
        f"{MARK} {'; '.join(f'{kind}: {CAVEATS[kind]}' for kind in kinds)}. Not to be set "
        f"beside clean numbers, so without difference and verdict: {', '.join(where)}."
        for kinds, where in sorted(places.items())
    ]


def made_by(runs: Iterable[Run]) -> list[str]:
    """Write one footnote with the commands that make these runs again, one for each experiment."""
    asked = {(run.experiment, run.status == "timed", run.model, run.data) for run in runs}
    commands = [
        f"`python scripts/experiment.py {'time' if timed else 'run'} {experiment} --model {model} --data {data}"
        f"{' --data-dir ../glue' if data == 'local' else ''}`"
        for experiment, timed, model, data in sorted(asked)
        if experiment != AD_HOC
    ]
    if any(experiment == AD_HOC for experiment, *_ in asked):
        commands.append("`python scripts/train.py` with the settings under config.resolved in a run's record")
    return [f"Made by {'; '.join(commands)}."] if commands else []


def unfinished(runs: Iterable[Run]) -> list[str]:
    """Write one footnote that counts the runs without a result: they are part of the truth about a sweep."""
    counts = Counter(run.status for run in runs if run.status not in RESULTS and "diverged" not in run.caveats)
    if not counts:
        return []
    return [
        "Not shown, no result: " + ", ".join(f"{number} {status}" for status, number in sorted(counts.items())) + "."
    ]
