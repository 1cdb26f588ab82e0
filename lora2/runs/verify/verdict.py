"""What a table says about the verification of a run. Needs no torch."""

from typing import Literal

from lora2.runs.reader import Run

Verdict = Literal["verified", "not verified", "failed"]


def verification_of(run: Run) -> Verdict:
    """Return whether stock libraries re-derived the run's score; "not verified" where nobody has tried."""
    if run.verified is None:
        return "not verified"
    return "verified" if run.verified["passed"] else "failed"
