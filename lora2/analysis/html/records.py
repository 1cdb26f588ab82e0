"""What the page shows of a record beyond `lora2.runs.reader.Run`, and the records of one setting side by side.

Everything here comes from files that anyone may have written: it is text for an escaping template, never markup.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora2.analysis.tables.layout import METRIC_TITLES, TASK_TITLES, Section, section_title
from lora2.common.rendering import MISSING
from lora2.runs.reader import Run, parse_run

HIDDEN_SETTINGS = ("seed", "results_dir", "output_dir", "force")  # the seed is the run's; the rest changes no number
Points = Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Record:
    """One run: `facts` and `settings` are label → text, `history` is the record's own, by "train" and "eval"."""

    run: Run
    facts: Mapping[str, str]
    settings: Mapping[str, str]
    notes: tuple[str, ...]
    history: Mapping[str, Points]


@dataclass(frozen=True, slots=True)
class Setting:
    """All records that differ only in the seed; `anchor` is its id in the page."""

    anchor: str
    title: str
    records: tuple[Record, ...]

    @property
    def labels(self) -> list[str]:
        """The facts that any of the records has, in the order of the first that has them."""
        return list(dict.fromkeys(label for record in self.records for label in record.facts))

    @property
    def notes(self) -> list[str]:
        """Every note once."""
        return list(dict.fromkeys(note for record in self.records for note in record.notes))

    @property
    def settings(self) -> Mapping[str, str]:
        """What all the records share."""
        return self.records[0].settings


def parse_record(data: Any) -> Record:
    """One record from its JSON. Raises as `parse_run` for anything that is not one."""
    run = parse_run(data)
    history = {str(name): tuple(_numbers(point) for point in points) for name, points in _part(data, "history").items()}
    settings = {key: text for key, text in _flat(data["config"].get("resolved") or {}) if key not in HIDDEN_SETTINGS}
    return Record(run, _facts(run, data), settings, tuple(map(str, data.get("notes") or ())), history)


def section_of(run: Run) -> Section:
    """The section of a table to which a run belongs."""
    return Section(run.model, run.data, run.synthetic, run.random_init)


def anchor(run: Run) -> str:
    """The page's id of a run's setting: the same for all its seeds and in every page, whatever the record calls it."""
    key = "\n".join((*map(str, _identity(run)), run.setting_id))
    return f"setting-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def by_setting(records: Iterable[Record]) -> list[Setting]:
    """Records grouped by setting, seeds in order; real data first, then by model, task and method."""
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: (*_identity(record.run), record.run.seed, record.run.run_id)):
        groups.setdefault(anchor(record.run), []).append(record)
    titles = Counter(_title(group[0].run) for group in groups.values())
    return [Setting(name, _unique_title(group[0].run, titles), tuple(group)) for name, group in groups.items()]


def metrics_text(values: Mapping[str, float]) -> str:
    """`acc 82.60, F1 87.61` from stored fractions."""
    return ", ".join(f"{METRIC_TITLES.get(name, name)} {100 * value:.2f}" for name, value in values.items()) or MISSING


def _identity(run: Run) -> tuple[bool, bool, str, str, str, str, str]:
    return run.synthetic, run.random_init, run.model, run.data, run.task, run.variant, run.recipe


def _title(run: Run) -> str:
    task = TASK_TITLES.get(run.task, run.task)
    return f"{task}, {run.variant}, recipe {run.recipe}; {section_title(section_of(run))}"


def _unique_title(run: Run, titles: Counter[str]) -> str:
    title = _title(run)
    return title if titles[title] == 1 else f"{title}, setting {run.setting_id}"


def _facts(run: Run, data: Mapping[str, Any]) -> dict[str, str]:
    """What is known, in the order in which it is read."""
    metrics, timing, made = _part(data, "metrics"), _part(data, "timing"), _part(data, "provenance")
    memory = {f"memory, {name}": f"{value / 2**30:.2f} GiB" for name, value in _numbers(_part(data, "memory")).items()}
    packages = _part(made, "packages")
    checks = _part(data, "checks")
    facts = {
        "error": data.get("error"),
        "best": metrics_text(run.best) if run.best else None,
        "best at step": metrics.get("best_step"),
        "last": metrics_text(run.last) if run.last else None,
        "steps": data.get("steps"),
        "seconds per step": _rounded(timing.get("seconds_per_step"), 3),
        "tokens per second": _rounded(timing.get("tokens_per_s"), 0),
        "training time": _minutes(timing.get("train_s")),
        "padding": None if data.get("padding_share") is None else f"{100 * float(data['padding_share']):.1f} %",
        **{f"parameters, {name.replace('_', ' ')}": f"{count:,}" for name, count in run.counts.items()},
        **memory,
        "checks": ", ".join(f"{name.replace('_', ' ')}: {'yes' if met else 'NO'}" for name, met in checks.items()),
        "device": made.get("device"),
        "date": made.get("date"),
        "commit": made.get("git_commit"),
        "uncommitted changes": made.get("dirty_diff"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    return {label: str(value) for label, value in facts.items() if value not in (None, "")}


def _part(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = data.get(key) or {}
    if not isinstance(part, Mapping):
        raise TypeError(f"{key}: expected a mapping, got {part!r}")
    return part


def _numbers(point: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a mapping."""
    return {
        str(key): float(value)
        for key, value in point.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`recipe.lr` → `0.001` for every leaf."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _rounded(value: Any, digits: int) -> str | None:
    return None if value is None else f"{float(value):,.{digits}f}"


def _minutes(seconds: Any) -> str | None:
    return None if seconds is None else f"{float(seconds) / 60:.1f} min"
