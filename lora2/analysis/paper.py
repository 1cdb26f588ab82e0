"""The papers' numbers as typed data: one yaml file per table in results/paper, each with its source and confidence.

Derived values are never stored: `PaperRow.recomputed` comes from the entries, so a printed average that does not follow
from its own row shows. No torch, no pandas: a table must start in well under a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora2.analysis.paper_yaml import check_keys, number, read_yaml, require
from lora2.analysis.stats import glue_average
from lora2.common.errors import UserError
from lora2.core.matrices import MATRICES
from lora2.glue.tasks import METRIC_TITLES, TASKS

CONFIDENCES = ("H", "M", "L")
UNITS = ("percent", "seconds")
METRICS = (*METRIC_TITLES, "seconds_per_step")
TABLES = ("table1", "table2", "table3", "table4", "adalora_table1", "sora_secondary", "roberta_large", "lora_table2")
TABLE_KEYS = {"title", "model", "unit", "digits", "source", "confidence", "notes", "columns", "rows"}
ROW_KEYS = {"paper_name", "params", "matrices", "scores", "spread", "average", "source", "confidence", "notes"}
DEFAULT_FOLDER = Path("results") / "paper"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One printed row. `scores[task][metric]` is in the table's unit (percent or seconds), without the tasks that are
    not of this row; `spread` holds the printed ± where there is one.
    """

    variant: str
    paper_name: str
    params: str | None
    matrices: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]
    spread: Mapping[str, float]
    average: float | None
    source: str
    confidence: str
    notes: str

    @property
    def recomputed(self) -> float:
        """Apply the paper's average formula to this row's own entries: the mean over tasks, where a pair (QQP, MNLI)
        counts as its mean.
        """
        return glue_average({task: tuple(values.values()) for task, values in self.scores.items()})


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One printed table; `columns[task]` names the metrics of a column, `a+b` meaning the mean of two metrics."""

    name: str
    title: str
    model: str
    unit: str
    digits: int
    source: str
    confidence: str
    notes: str
    columns: Mapping[str, tuple[str, ...]]
    rows: Mapping[str, PaperRow]

    def average_is_wrong(self, row: PaperRow) -> bool:
        """Say whether the printed average misses the recomputed one by more than one unit of its last printed digit."""
        return row.average is not None and abs(row.average - row.recomputed) > 10.0**-self.digits + 1e-9


@dataclass(frozen=True, slots=True)
class Figure3:
    """Final ranks as printed: `panels[task][matrix]` has one integer per layer."""

    title: str
    model: str
    source: str
    confidence: str
    notes: str
    panels: Mapping[str, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class PaperClaim:
    """One sentence of the paper to audit: `check` names a function of lora2/analysis/claims, `values` the numbers
    quoted in the sentence.
    """

    key: str
    claim: str
    where: str
    check: str
    values: Mapping[str, float]
    source: str
    confidence: str


def load_table(name: str, folder: Path = DEFAULT_FOLDER) -> PaperTable:
    """Read one printed table.

    Raises:
        UserError: the name is unknown, or the file does not hold a well-formed table.
    """
    if name not in TABLES:
        raise UserError(f"table: got {name!r}, allowed: {', '.join(TABLES)}")
    path = folder / f"{name}.yaml"
    data = read_yaml(path)
    check_keys(path, data, TABLE_KEYS, {"title", "model", "unit", "columns", "rows"})
    columns = _columns(path, data["columns"])
    source, confidence, notes = _provenance(path, data, None)
    require(data["unit"] in UNITS, path, f"unit: got {data['unit']!r}, allowed: {', '.join(UNITS)}")
    require(isinstance(data["rows"], dict) and bool(data["rows"]), path, "rows: expected a mapping from variant to row")
    defaults = {"source": source, "confidence": confidence}
    rows = {variant: _row(path, variant, row, columns, data["unit"], defaults) for variant, row in data["rows"].items()}
    return PaperTable(
        name=name,
        title=str(data["title"]),
        model=str(data["model"]),
        unit=data["unit"],
        digits=int(data.get("digits", 2)),
        source=source,
        confidence=confidence,
        notes=notes,
        columns=columns,
        rows=rows,
    )


def load_figure3(folder: Path = DEFAULT_FOLDER) -> Figure3:
    """Read the printed final ranks.

    Raises:
        UserError: a panel does not hold the six matrix types with one rank for each layer.
    """
    path = folder / "figure3.yaml"
    data = read_yaml(path)
    check_keys(path, data, {"title", "model", "source", "confidence", "notes", "panels"}, {"title", "model", "panels"})
    require(isinstance(data["panels"], dict), path, "panels: expected a mapping from task to matrices")
    panels = {task: _panel(path, task, panel) for task, panel in data["panels"].items()}
    lengths = {len(ranks) for panel in panels.values() for ranks in panel.values()}
    require(len(lengths) == 1, path, f"panels: every row needs the same number of layers, got {sorted(lengths)}")
    source, confidence, notes = _provenance(path, data, None)
    return Figure3(
        title=str(data["title"]),
        model=str(data["model"]),
        source=source,
        confidence=confidence,
        notes=notes,
        panels=panels,
    )


def load_claims(folder: Path = DEFAULT_FOLDER) -> tuple[PaperClaim, ...]:
    """Read the paper's checkable sentences, in the order of the file.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / "claims.yaml"
    data = read_yaml(path)
    check_keys(path, data, {"source", "confidence", "notes", "claims"}, {"claims"})
    source, confidence, _ = _provenance(path, data, None)
    require(isinstance(data["claims"], dict), path, "claims: expected a mapping from key to claim")
    defaults = {"source": source, "confidence": confidence}
    return tuple(_claim(path, key, entry, defaults) for key, entry in data["claims"].items())


def _claim(path: Path, key: str, entry: Any, defaults: Mapping[str, str]) -> PaperClaim:
    require(isinstance(entry, dict), path, f"{key}: expected a mapping")
    check_keys(
        path, entry, {"claim", "where", "check", "values", "source", "confidence", "notes"}, {"claim", "where", "check"}
    )
    source, confidence, _ = _provenance(path, entry, defaults)
    values = {name: number(path, f"{key}.{name}", value) for name, value in entry.get("values", {}).items()}
    return PaperClaim(
        key=key,
        claim=entry["claim"],
        where=entry["where"],
        check=entry["check"],
        values=values,
        source=source,
        confidence=confidence,
    )


def _row(
    path: Path, variant: str, data: Any, columns: Mapping[str, tuple[str, ...]], unit: str, defaults: Mapping[str, str]
) -> PaperRow:
    require(isinstance(data, dict), path, f"{variant}: expected a mapping")
    check_keys(path, data, ROW_KEYS, {"paper_name", "scores"})
    scores = _scores(path, variant, data["scores"], columns, unit)
    spread = data.get("spread", [])
    require(len(spread) in (0, len(columns)), path, f"{variant}.spread: needs one number per column")
    matrices = tuple(data.get("matrices", ()))
    require(set(matrices) <= set(MATRICES), path, f"{variant}.matrices: got {matrices}, allowed: {', '.join(MATRICES)}")
    average = None if "average" not in data else number(path, f"{variant}.average", data["average"])
    spreads = {t: number(path, f"{variant}.spread", s) for t, s in zip(columns, spread, strict=False)}
    source, confidence, notes = _provenance(path, data, defaults)
    return PaperRow(
        variant=variant,
        paper_name=str(data["paper_name"]),
        params=data.get("params"),
        matrices=matrices,
        scores=scores,
        spread=spreads,
        average=average,
        source=source,
        confidence=confidence,
        notes=notes,
    )


def _scores(
    path: Path, variant: str, data: Any, columns: Mapping[str, tuple[str, ...]], unit: str
) -> dict[str, dict[str, float]]:
    require(
        isinstance(data, list) and len(data) == len(columns), path, f"{variant}.scores: needs {len(columns)} entries"
    )
    scores: dict[str, dict[str, float]] = {}
    for (task, metrics), entry in zip(columns.items(), data, strict=True):
        if entry is None:  # not of this row: printed for another start or another set-up
            continue
        values = entry if isinstance(entry, list) else [entry]
        require(len(values) == len(metrics), path, f"{variant}.{task}: needs {len(metrics)} numbers, got {len(values)}")
        scores[task] = {m: number(path, f"{variant}.{task}", v) for m, v in zip(metrics, values, strict=True)}
        in_range = all(0 <= value <= 100 for value in scores[task].values())
        require(unit != "percent" or in_range, path, f"{variant}.{task}: {values} is not a percentage")
    return scores


def _columns(path: Path, data: Any) -> dict[str, tuple[str, ...]]:
    require(isinstance(data, dict), path, "columns: expected a mapping from task to metrics")
    require(
        set(data) <= set(TASKS),
        path,
        f"columns: unknown task {sorted(set(data) - set(TASKS))}, allowed: {', '.join(TASKS)}",
    )
    for task, metrics in data.items():
        parts = [part for metric in metrics for part in str(metric).split("+")]
        require(set(parts) <= set(METRICS), path, f"columns.{task}: got {parts}, allowed: {', '.join(METRICS)}")
    return {task: tuple(metrics) for task, metrics in data.items()}


def _panel(path: Path, task: str, data: Any) -> dict[str, tuple[int, ...]]:
    require(isinstance(data, dict), path, f"panels.{task}: expected a mapping from matrix to ranks")
    require(
        tuple(data) == MATRICES,
        path,
        f"panels.{task}: needs the rows {', '.join(MATRICES)} in this order, got {', '.join(data)}",
    )
    whole = all(isinstance(rank, int) and rank >= 0 for ranks in data.values() for rank in ranks)
    require(whole, path, f"panels.{task}: ranks are whole numbers ≥ 0")
    return {matrix: tuple(ranks) for matrix, ranks in data.items()}


def _provenance(path: Path, data: Mapping[str, Any], defaults: Mapping[str, str] | None) -> tuple[str, str, str]:
    """(source, confidence, notes) of a file, or of a row that falls back on its file's."""
    merged = {**(defaults or {}), **data}
    for key in ("source", "confidence"):
        require(bool(merged.get(key)), path, f"{key}: missing")
    require(merged["confidence"] in CONFIDENCES, path, f"confidence: got {merged['confidence']!r}, allowed: H, M, L")
    return str(merged["source"]), str(merged["confidence"]), str(merged.get("notes", "")).strip()
