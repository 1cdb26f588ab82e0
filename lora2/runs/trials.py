"""Trials, the runs of the search for each method's rates (lora2/experiments/tune.py): their name and their score."""

import math

from lora2.core import keys
from lora2.runs.reader import Run

RECIPE = "trial"  # the name in the records
DIVERGED = "not finite"  # in the reason of a run that did (lora2/training/finite.py, loop.py)


def has_diverged(run: Run) -> bool:
    """Return whether a run ended because its loss or gradient was not finite."""
    return run.status == "failed" and DIVERGED in (run.error or "")


def score(run: Run) -> float:
    """Return a trial's score: the held-out metric after the last step, as a fraction; -inf if it diverged."""
    return run.history["eval"][-1][keys.SELECTION] if run.status == "ok" else -math.inf
