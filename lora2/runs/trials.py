"""Trials, the runs of the search for each method's rates (lora2/experiments/tune.py): their name and their score."""

import math

from lora2.core import keys
from lora2.runs.reader import Run

RECIPE = "trial"  # the name in the records


def score(run: Run) -> float:
    """Return a trial's score: the held-out metric after the last step, as a fraction; -inf if it diverged."""
    return run.history["eval"][-1][keys.SELECTION] if run.status == "ok" else -math.inf
