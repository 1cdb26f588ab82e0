"""The one reader of results/runs/*.json, for tables, figures, pages, sweeps and plans: plain json, so that a table
starts without torch or pydantic.

lora2/runs/record.py holds the schema and writes; tests/runs/test_reader.py holds that this reads all of it. A damaged
or foreign file costs one warning, never the table.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lora2.runs.caveats import Caveat, caveats_of, in_order
from lora2.runs.format import SCHEMA_VERSION, STATUSES, Checkpoint, Status

Points = Sequence[Mapping[str, float]]  # one mapping for each look, with its "step"


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the training loop and of the whole process, as lora2/runs/record.py describes them."""

    wall_s: float
    train_s: float
    eval_s: float
    seconds_per_step: float
    tokens_per_s: float
    shares: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One record: the fields of the schema under their own names, those of `config` and `metrics` beside the others.

    Metrics are fractions, as stored; `value` gives what a table prints. A run without metrics has empty ones.
    """

    run_id: str
    status: Status
    error: str | None
    model: str
    task: str
    method: str
    seed: int
    variant: str
    recipe: str
    data: str
    experiment: str
    setting_id: str
    resolved: Mapping[str, Any]
    synthetic: bool
    model_random_init: bool
    notes: tuple[str, ...]
    caveats: tuple[Caveat, ...]
    constant: tuple[str, ...]
    best: Mapping[str, float]
    last: Mapping[str, float]
    best_step: int | None
    main: str
    counts: Mapping[str, int]
    ranks: Mapping[str, int]
    padding_share: float | None
    steps: int
    tokens: int
    padded_tokens: int
    history: Mapping[str, Points]
    checks: Mapping[str, bool]
    hashes: Mapping[str, str]
    timing: Times | None
    memory: Mapping[str, float]
    provenance: Mapping[str, Any]
    verified: Mapping[str, Any] | None
    masks: Mapping[str, str] = field(default_factory=dict)

    @property
    def seconds_per_step(self) -> float | None:
        """Return the seconds per optimizer step; None where nothing was timed."""
        return None if self.timing is None else self.timing.seconds_per_step

    def value(self, metric: str, checkpoint: Checkpoint = "best") -> float | None:
        """Return one printed number, or None where it is missing.

        Args:
            metric: a key of the metrics, in percent; `a+b` is the mean of two; `seconds_per_step` is in seconds.
            checkpoint: the best evaluation of the run, or the one after the last step.
        """
        if metric == "seconds_per_step":
            return self.seconds_per_step
        stored = self.best if checkpoint == "best" else self.last
        parts = [stored.get(part) for part in metric.split("+")]
        known = [part for part in parts if part is not None]
        return 100.0 * sum(known) / len(known) if len(known) == len(parts) else None


class UnreadableRecordError(ValueError):
    """A file that is not a run record of this version; the message says why."""


def load_runs(folder: Path) -> tuple[list[Run], list[str]]:
    """Read every *.json in `folder`, sorted by file name, and mark those of other versions among them.

    Returns:
        The runs, and a warning for each file that is not a record; no folder means no runs yet.
    """
    found, warnings = read_folder(folder)
    return mark_other_versions(found), warnings


def read_folder(folder: Path) -> tuple[list[Run], list[str]]:
    """Read as load_runs, and mark nothing: what other versions are is known when all folders have been read."""
    found: list[Run] = []
    warnings: list[str] = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(read_run(path))
        except UnreadableRecordError as error:
            warnings.append(f"{path}: left out, not a run record: {error}")
    return found, warnings


def mark_other_versions(runs: Sequence[Run]) -> list[Run]:
    """Give the caveat "other versions" to each run whose packages are not those of most seeds of its setting.

    Of two that are as frequent, the later ones by their date are the setting's.
    """
    settings: dict[tuple[str, Status], list[Run]] = {}
    for run in runs:
        settings.setdefault((run.setting_id, run.status), []).append(run)
    usual = {key: _usual_versions(members) for key, members in settings.items()}
    return [
        run
        if _versions(run) == usual[run.setting_id, run.status]
        else replace(run, caveats=in_order((*run.caveats, "other versions")))
        for run in runs
    ]


def read_run(path: Path) -> Run:
    """Read one record.

    Raises:
        UnreadableRecordError: the file is missing, damaged or foreign.
    """
    try:
        return parse_run(json.loads(path.read_text(encoding="utf-8")))
    except KeyError as error:
        raise UnreadableRecordError(_one_line(f"missing key {error}")) from error
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UnreadableRecordError(_one_line(str(error))) from error


def parse_run(data: Any) -> Run:
    """Build a run from a record's JSON.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: `data` is not a record of this version.
    """
    if data["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema_version: got {data['schema_version']!r}, this version reads {SCHEMA_VERSION}")
    if data["status"] not in STATUSES:
        raise ValueError(f"status: got {data['status']!r}, allowed: {', '.join(STATUSES)}")
    config, metrics = data["config"], data.get("metrics")
    if data["status"] == "ok" and metrics is None:
        raise ValueError("metrics: missing in a finished run")
    metrics = metrics or {"best": {}, "last": {}, "best_step": None, "main": ""}
    return Run(
        run_id=_text(data, "run_id"),
        status=data["status"],
        error=None if data.get("error") is None else str(data["error"]),
        model=_text(config, "model"),
        task=_text(config, "task"),
        method=_text(config, "method"),
        seed=int(config["seed"]),
        variant=_text(config, "variant"),
        recipe=_text(config, "recipe"),
        data=_text(config, "data"),
        experiment=_text(config, "experiment"),
        setting_id=_text(config, "setting_id"),
        resolved=_mapping(config, "resolved"),
        synthetic=bool(data.get("synthetic", False)) or config["data"] == "demo",
        model_random_init=bool(data.get("model_random_init", False)),
        notes=tuple(map(str, data.get("notes") or ())),
        caveats=caveats_of(data),
        constant=tuple(map(str, data.get("constant") or ())),
        best=_all_finite(_mapping(metrics, "best")),
        last=_all_finite(_mapping(metrics, "last")),
        best_step=None if metrics["best_step"] is None else int(metrics["best_step"]),
        main=_text(metrics, "main"),
        counts={key: int(value) for key, value in _mapping(data, "counts").items()},
        ranks={key: int(value) for key, value in _mapping(data, "ranks").items()},
        masks={key: str(value) for key, value in _mapping(data, "masks").items()},
        padding_share=None if data.get("padding_share") is None else float(data["padding_share"]),
        steps=int(data.get("steps", 0)),
        tokens=int(data.get("tokens", 0)),
        padded_tokens=int(data.get("padded_tokens", data.get("positions", 0))),  # positions: older records
        history={key: tuple(map(_finite_only, points)) for key, points in _mapping(data, "history").items()},
        checks={key: bool(met) for key, met in _mapping(data, "checks").items()},
        hashes={key: _text(data["hashes"], key) for key in _mapping(data, "hashes")},
        timing=_times(_mapping(data, "timing")),
        memory=_finite_only(_mapping(data, "memory")),
        provenance=_mapping(data, "provenance"),
        verified=_mapping(data, "verified") or None,
    )


def _versions(run: Run) -> str:
    return json.dumps(run.provenance.get("packages"), sort_keys=True)


def _usual_versions(runs: Sequence[Run]) -> str:
    """The versions of most seeds; of two that are as frequent, those of the latest run."""
    seeds: dict[str, set[int]] = {}
    dates: dict[str, str] = {}
    for run in runs:
        versions = _versions(run)
        seeds.setdefault(versions, set()).add(run.seed)
        dates[versions] = max(dates.get(versions, ""), str(run.provenance.get("date") or ""))
    return max(seeds, key=lambda versions: (len(seeds[versions]), dates[versions], versions))


def _times(timing: Mapping[str, Any]) -> Times | None:
    if not timing:
        return None
    shares = _all_finite(_mapping(timing, "shares"))
    seconds = _all_finite({key: value for key, value in timing.items() if key != "shares"})
    return Times(
        wall_s=seconds["wall_s"],
        train_s=seconds["train_s"],
        eval_s=seconds["eval_s"],
        seconds_per_step=seconds["seconds_per_step"],
        tokens_per_s=seconds["tokens_per_s"],
        shares=shares,
    )


def _all_finite(data: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a mapping; a NaN among them means that the record is not what it says it is, so it is an error."""
    numbers = {key: float(value) for key, value in data.items() if isinstance(value, int | float)}
    for key, value in numbers.items():
        if not math.isfinite(value):
            raise ValueError(f"{key}: {value} is not finite")
    return numbers


def _finite_only(data: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a mapping; a NaN is left out, since one point of a curve may be missing."""
    return {key: float(value) for key, value in data.items() if isinstance(value, int | float) and math.isfinite(value)}


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = data.get(key) or {}
    if not isinstance(part, Mapping):
        raise TypeError(f"{key}: expected a mapping, got {part!r}")
    return part


def _text(data: Mapping[str, Any], key: str) -> str:
    if not isinstance(data[key], str):
        raise TypeError(f"{key}: expected text, got {data[key]!r}")
    return str(data[key])


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
