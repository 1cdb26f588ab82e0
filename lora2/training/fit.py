"""What training leaves behind, step by step: metrics, history, clocks, the best weights; and how it is kept on disk."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

HISTORY_POINTS = 500  # training losses kept in a record, whatever the length of the run
MONITOR_POINTS = 50  # looks into the method: a line for every matrix's rank, so fewer


@dataclass
class Fit:
    """The course of a run.

    Attributes:
        tokens, positions: real training tokens, and positions with padding, of all processes.
        best, last: dev metrics; best by the task's main metric on the selecting split, the first of equals.
        best_selection: that metric's value.
        history: "train": losses and learning rate, "eval": dev metrics, "monitor": what the method shows of itself.
            Each entry has its step.
        seconds: by phase of the loop.
        best_weights: the trained parameters at `best_step`, on the CPU.
    """

    steps: int = 0
    tokens: int = 0
    positions: int = 0
    best_step: int = -1
    best_selection: float | None = None
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[dict[str, float]]] = field(
        default_factory=lambda: {name: [] for name in ("train", "eval", "monitor")}
    )
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to `seconds[name]`."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start

    @property
    def train_seconds(self) -> float:
        """Seconds in the loop so far, evaluation apart."""
        return sum(self.seconds.values()) - self.seconds["eval"]

    def plain(self) -> dict[str, Any]:
        """Everything but the weights, as JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "best_weights"}

    @classmethod
    def restore(cls, plain: dict[str, Any], best_weights: dict[str, Tensor]) -> "Fit":
        """The inverse of `plain`."""
        fit = cls(**plain, best_weights=best_weights)
        fit.seconds = defaultdict(float, fit.seconds)
        return fit
