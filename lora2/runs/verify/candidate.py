"""A run that may be verified. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from lora2.config.schema import RunConfig
from lora2.runs.format import Checkpoint
from lora2.runs.record import RunRecord


@dataclass(frozen=True)
class Candidate:
    """A finished run whose weights are here.

    Attributes:
        path: of its record.
        weights: its file of trained weights.
        which: whether these are those of the best or of the last evaluation.
    """

    path: Path
    record: RunRecord
    cfg: RunConfig
    weights: Path
    which: Checkpoint

    @property
    def recorded(self) -> dict[str, float]:
        """The recorded metrics of these weights."""
        assert self.record.metrics is not None  # a finished run has them
        return self.record.metrics.best if self.which == "best" else self.record.metrics.last
