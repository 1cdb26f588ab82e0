"""Read-only view of results/runs/*.json for tables and figures: plain json, so that a table starts without torch or
pydantic.

Writing a record and its full schema belong to lora2/runs/record.py; only what a table or a figure shows is read here. A
damaged or foreign file costs one warning, never the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from lora2.common.errors import UserError

SCHEMA_VERSION = 1
Checkpoint = Literal["best", "last"]
Parsed = TypeVar("Parsed")
STATUSES = ("ok", "failed", "oom", "cancelled", "timed")
RESULTS = ("ok", "timed")  # what a table may show; a timing has no metrics


@dataclass(frozen=True, slots=True)
class Run:
    """One record. Metrics are fractions, as stored; `value` gives what a table prints."""

    run_id: str
    status: str
    model: str
    task: str
    variant: str
    recipe: str
    data: str
    seed: int
    setting_id: str
    best: Mapping[str, float]
    last: Mapping[str, float]
    counts: Mapping[str, int]
    ranks: Mapping[str, int]
    seconds_per_step: float | None
    synthetic: bool
    random_init: bool

    def value(self, metric: str, checkpoint: Checkpoint = "best") -> float | None:
        """One printed number: percent for a metric (`a+b` = mean of two), seconds for `seconds_per_step`, None where
        it is missing.
        """
        if metric == "seconds_per_step":
            return self.seconds_per_step
        stored = self.best if checkpoint == "best" else self.last
        parts = [stored.get(part) for part in metric.split("+")]
        known = [part for part in parts if part is not None]
        return 100.0 * sum(known) / len(known) if len(known) == len(parts) else None


@dataclass(frozen=True, slots=True)
class Cell:
    """The runs behind one cell: one setting, one run per seed; `dropped_settings` and `dropped_runs` count what was
    left out.
    """

    runs: tuple[Run, ...]
    dropped_settings: int = 0
    dropped_runs: int = 0


def load_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """(records, warnings) of every *.json in `folder`, sorted by file name; no folder means no runs yet."""
    return load_records(folder, parse_run)


def load_records(folder: Path, parse: Callable[[Any], Parsed]) -> tuple[list[Parsed], list[str]]:
    """As `load_runs`, with what `parse` makes of each file's JSON; it raises as `parse_run` does."""
    found: list[Parsed] = []
    warnings: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(parse(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            warnings.append(f"{path}: left out, not a run record: {_reason(error)}")
    return found, warnings


def parse_run(data: Any) -> Run:
    """One record from its JSON. Raises ValueError, KeyError, TypeError or AttributeError for anything that is not
    one.
    """
    if data["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version: got {data['schema_version']!r}, this version reads {SCHEMA_VERSION}")
    if data["status"] not in STATUSES:
        raise ValueError(f"status: got {data['status']!r}, allowed: {', '.join(STATUSES)}")
    config, done = data["config"], data["status"] == "ok"
    names = {key: _text(config, key) for key in ("model", "task", "variant", "recipe", "data", "setting_id")}
    metrics = data["metrics"] if done else {"best": {}, "last": {}}
    return Run(
        run_id=_text(data, "run_id"),
        status=data["status"],
        seed=int(config["seed"]),
        best=_numbers(metrics["best"]),
        last=_numbers(metrics["last"]),
        counts={key: int(value) for key, value in (data.get("counts") or {}).items() if value is not None},
        ranks={key: int(value) for key, value in (data.get("ranks") or {}).items()},
        seconds_per_step=_numbers(data.get("timing") or {}).get("seconds_per_step"),
        synthetic=bool(data.get("synthetic", False)) or names["data"] == "demo",
        random_init=bool(data.get("model_random_init", False)),
        **names,
    )


def choose(runs: Iterable[Run]) -> Cell:
    """The runs of one cell: never an average over different settings, never one seed twice.

    Takes the setting with most seeds (ties: the first id in alphabetical order) and, of each seed, the first run id.
    """
    settings: dict[str, dict[int, Run]] = {}
    total = 0
    for run in sorted(runs, key=lambda run: run.run_id):
        settings.setdefault(run.setting_id, {}).setdefault(run.seed, run)
        total += 1
    if not settings:
        raise UserError("runs: a cell needs at least one run")
    best = min(settings, key=lambda setting: (-len(settings[setting]), setting))
    chosen = tuple(settings[best][seed] for seed in sorted(settings[best]))
    return Cell(chosen, len(settings) - 1, total - len(chosen))


def _numbers(data: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a mapping; a NaN in a finished run means that the record is not what it says it is."""
    numbers = {key: float(value) for key, value in data.items() if isinstance(value, int | float)}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"{key}: {value} is not finite")
    return numbers


def _text(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data[key], str):
        raise TypeError(f"{key}: expected text, got {data[key]!r}")
    return str(data[key])


def _reason(error: Exception) -> str:
    text = f"missing key {error}" if isinstance(error, KeyError) else str(error)
    return " ".join(text.split())[:200]
