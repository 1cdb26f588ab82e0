"""What the page says of each run, and the runs of one setting side by side.

Everything here comes from files that anyone may have written: it is text for an escaping template, never markup.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lora2.analysis.tables.layout import conditions_of, conditions_title
from lora2.common.table import MISSING
from lora2.glue.tasks import METRIC_TITLES, task_title
from lora2.runs.caveats import CAVEATS, MARK
from lora2.runs.cells import choose
from lora2.runs.reader import Run

HIDDEN_SETTINGS = ("seed", "results_dir", "output_dir", "force")  # the seed is the run's; the rest changes no number


@dataclass(frozen=True, slots=True)
class Setting:
    """All runs that differ only in the seed; `anchor` is its id in the page, `facts` has each run's, by label."""

    anchor: str
    title: str
    runs: tuple[Run, ...]
    facts: tuple[Mapping[str, str], ...]

    @property
    def labels(self) -> list[str]:
        """List the facts that any of the runs has, in the order of the first that has them."""
        return list(dict.fromkeys(label for facts in self.facts for label in facts))

    @property
    def shown(self) -> tuple[Run, ...]:
        """Return the runs whose numbers may be averaged: the clean ones, or those that all have the same caveats."""
        done = [run for run in self.runs if run.status == "ok"]
        return choose(done).runs if done else ()

    @property
    def notes(self) -> list[str]:
        """List every note once."""
        return list(dict.fromkeys(note for run in self.runs for note in run.notes))

    @property
    def settings(self) -> Mapping[str, str]:
        """Return what all the runs share: setting → text."""
        return {key: text for key, text in _flat(self.runs[0].resolved) if key not in HIDDEN_SETTINGS}


def anchor(run: Run) -> str:
    """Return the page's id of a run's setting.

    It is the same for all its seeds and in every page, whatever the record calls it.
    """
    key = "\n".join((*map(str, _identity(run)), run.setting_id))
    return f"setting-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def by_setting(runs: Iterable[Run]) -> list[Setting]:
    """Group runs by setting, seeds in order; real data first, then by model, task and method."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (*_identity(run), run.seed, run.run_id)):
        groups.setdefault(anchor(run), []).append(run)
    titles = Counter(_title(group[0]) for group in groups.values())
    return [
        Setting(name, _unique_title(group[0], titles), tuple(group), tuple(map(facts, group)))
        for name, group in groups.items()
    ]


def facts(run: Run) -> dict[str, str]:
    """Return what is known of a run as label → text, in the order in which it is read."""
    made, timing = run.provenance, run.timing
    best, last = (run.best, run.last) if run.status == "ok" else ({}, {})  # an unfinished run has no result to show
    known = {
        "error": run.error,
        f"caveats {MARK}": "; ".join(f"{kind}: {CAVEATS[kind]}" for kind in run.caveats),
        "best": metrics_text(best) if best else None,
        "best at step": run.best_step,
        "last": metrics_text(last) if last else None,
        "steps": run.steps,
        "seconds per step": None if timing is None else f"{timing.seconds_per_step:,.3f}",
        "tokens per second": None if timing is None else f"{timing.tokens_per_s:,.0f}",
        "training time": None if timing is None else f"{timing.train_s / 60:.1f} min",
        "padding": None if run.padding_share is None else f"{100 * run.padding_share:.1f} %",
        **{f"parameters, {name.replace('_', ' ')}": f"{count:,}" for name, count in run.counts.items()},
        **{f"memory, {name}": f"{value / 2**30:.2f} GiB" for name, value in run.memory.items()},
        "checks": ", ".join(f"{name.replace('_', ' ')}: {'yes' if met else 'NO'}" for name, met in run.checks.items()),
        "device": made.get("device"),
        "date": made.get("date"),
        "commit": made.get("git_commit"),
        "uncommitted changes": made.get("dirty_diff"),
        "packages": _packages(made.get("packages")),
    }
    return {label: str(value) for label, value in known.items() if value not in (None, "")}


def metrics_text(values: Mapping[str, float]) -> str:
    """Write stored fractions in percent: `acc 82.60, F1 87.61`."""
    return ", ".join(f"{METRIC_TITLES.get(name, name)} {100 * value:.2f}" for name, value in values.items()) or MISSING


def _identity(run: Run) -> tuple[bool, bool, str, str, str, str, str]:
    return run.synthetic, run.model_random_init, run.model, run.data, run.task, run.variant, run.recipe


def _title(run: Run) -> str:
    return f"{task_title(run.task)}, {run.variant}, recipe {run.recipe}; {conditions_title(conditions_of(run))}"


def _unique_title(run: Run, titles: Counter[str]) -> str:
    title = _title(run)
    return title if titles[title] == 1 else f"{title}, setting {run.setting_id}"


def _packages(versions: Any) -> str:
    """Names and versions; a record's provenance holds whatever its writer put there."""
    return ", ".join(f"{name} {version}" for name, version in versions.items()) if isinstance(versions, Mapping) else ""


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """`recipe.lr` → `0.001` for every leaf."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)
