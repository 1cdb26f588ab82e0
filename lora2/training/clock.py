"""Where the seconds of a training step go, phase by phase."""

import time
from collections.abc import Callable


class PhaseClock:
    """Adds the time between two calls to a phase.

    Args:
        seconds: by phase; belongs to the caller and is added to.
        now: reads the time in seconds. On a GPU, one that waits for the device tells the phases apart; the host's own
            clock gives the waiting to the phase that waits.
    """

    def __init__(self, seconds: dict[str, float], now: Callable[[], float] = time.perf_counter) -> None:
        self._seconds, self._now = seconds, now
        self.start()

    def start(self) -> None:
        """Begin a phase; what was spent since the last call belongs to none."""
        self._last = self._now()

    def lap(self, phase: str) -> None:
        """Add the time since the last call to `phase`, and begin the next one."""
        now = self._now()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now
