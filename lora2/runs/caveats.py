"""Caveats: why a run's number must not stand beside clean ones. One that has any is marked wherever it is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

Caveat = Literal[
    "synthetic",
    "random weights",
    "other data",
    "rows dropped",
    "shortened",
    "recipe changed",
    "check failed",
    "collapsed",
    "diverged",
    "other versions",
    "verification failed",
]
# Why a number must not stand beside clean ones: each kind in words, in the order in which they are told.
CAVEATS: Mapping[Caveat, str] = {
    "synthetic": "the data was made by this project",
    "random weights": "the backbone was never trained",
    "other data": "the data differs from the official files (the record's notes say how)",
    "rows dropped": "rows of the data could not be read and were left out",
    "shortened": "recipe.max_steps or recipe.epochs ended the run before the recipe's own last step",
    "recipe changed": "settings are not those of the recipe that the run is named after (the record's notes list them)",
    "check failed": "the run's check of itself failed",
    "collapsed": "a run gave one and the same prediction for every example of a dev split",
    "diverged": "the loss, the gradient or a score was no longer a finite number: the run ended there, without a score",
    "other versions": "made with other package versions than most runs of its setting",
    "verification failed": "stock libraries do not re-derive the recorded score from the run's weights",
}
FALLEN: tuple[Caveat, ...] = ("collapsed", "diverged")  # what the method did, where the others are faults of the run
MARK = "‡"
NO_CAVEAT = "none"  # what a tracker is told of a clean run
OTHER_ROWS = "not be comparable with the paper's"  # in the note of a record that is older than its list of caveats
NOT_FINITE = "not finite"  # in the error of a run that diverged (training/finite.py, training/loop.py, ...)
CORRELATIONS = ("matthews", "pearson", "spearman")


def in_order(kinds: Iterable[str]) -> tuple[Caveat, ...]:
    """Return each caveat once, in the order of CAVEATS.

    Raises:
        ValueError: one is none of the kinds.
    """
    given = set(kinds)
    if unknown := sorted(given - set(CAVEATS)):
        raise ValueError(f"caveats: got {', '.join(unknown)}; allowed: {', '.join(CAVEATS)}")
    return tuple(kind for kind in CAVEATS if kind in given)


def marked(text: str, caveats: Iterable[Caveat]) -> str:
    """Return the text of a number with the mark behind it, if there is a caveat."""
    return f"{text} {MARK}" if tuple(caveats) else text


def named(text: str, caveats: Iterable[Caveat]) -> str:
    """Return the name of a run or of a setting with the mark and its caveats behind it, if there are any."""
    kinds = ", ".join(caveats)
    return f"{text} {MARK} {kinds}" if kinds else text


def caveats_of(data: Mapping[str, Any]) -> tuple[Caveat, ...]:
    """Return the caveats of a record's JSON: its own, and what its other fields say, all that an older record has.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: `data` is not a record, or names an unknown caveat.
    """
    kinds = set(data.get("caveats") or ())
    timed, resolved = data["status"] == "timed", _part(data["config"], "resolved")
    most, steps = _part(resolved, "recipe").get("max_steps"), int(data.get("steps", 0))
    found = {
        "synthetic": bool(data.get("synthetic", False)) or data["config"]["data"] == "demo",
        "random weights": bool(data.get("model_random_init", False)) and not timed,  # they take the same time
        "other data": any(OTHER_ROWS in str(note) for note in data.get("notes") or ()),
        "shortened": "caveats" not in data and not timed and most is not None and steps >= most,
        "check failed": not all(_part(data, "checks").values()),
        "collapsed": bool(data.get("constant")) or ("constant" not in data and _is_uncorrelated(data)),
        "diverged": data["status"] == "failed" and NOT_FINITE in str(data.get("error")),
        "verification failed": not _part(data, "verified").get("passed", True),
    }
    return in_order(kinds | {kind for kind, holds in found.items() if holds})


def _is_uncorrelated(data: Mapping[str, Any]) -> bool:
    """Whether a correlation is exactly 0, as it is by definition for constant predictions and hardly ever otherwise."""
    metrics = _part(data, "metrics")
    sides = (_part(metrics, "best"), _part(metrics, "last"))
    return any(side.get(name) == 0 for side in sides for name in CORRELATIONS)


def _part(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return data.get(key) or {}
