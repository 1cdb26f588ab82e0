"""Where the seconds of a training step go, phase by phase: by the host's clock, or by that of a GPU."""

import time
from collections.abc import Callable

import torch


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

    def settle(self) -> None:
        """Bring `seconds` up to date; nothing to do for a clock that reads the time at once."""


class DeviceClock(PhaseClock):
    """Tells phases by marks in the device's own work, so that no call but `settle` waits for it.

    The device reaches a mark when it has done what was asked of it before; where it waits for the host, the waiting
    falls to the phase in which it has nothing to do. So the phases add up to the true time.

    Args:
        seconds: by phase; belongs to the caller, and is added to by `settle`.
        event: makes an event that can be timed.
    """

    def __init__(self, seconds: dict[str, float], event: Callable[[], torch.cuda.Event]) -> None:
        self._new_event = event
        self._marks: list[tuple[str | None, torch.cuda.Event]] = []  # the phase that ends there; None where one begins
        super().__init__(seconds)

    def start(self) -> None:
        """Begin a phase; what was spent since the last call belongs to none."""
        self._mark(None)

    def lap(self, phase: str) -> None:
        """Say that what the device was asked for since the last call is `phase`, and begin the next one."""
        self._mark(phase)

    def settle(self) -> None:
        """Wait for the device, and add what it has spent since the last call of this method."""
        last = self._marks[-1][1]
        last.synchronize()
        for (_, begin), (phase, end) in zip(self._marks[:-1], self._marks[1:], strict=True):
            if phase is not None:
                self._seconds[phase] = self._seconds.get(phase, 0.0) + begin.elapsed_time(end) / 1000
        self._marks = [(None, last)]

    def _mark(self, phase: str | None) -> None:
        event = self._new_event()
        event.record()
        self._marks.append((phase, event))


def clock_for(device: torch.device, seconds: dict[str, float]) -> PhaseClock:
    """Return the clock that tells the truth about work on a device, and does not wait for it."""
    if device.type == "cuda":
        return DeviceClock(seconds, lambda: torch.cuda.Event(enable_timing=True))
    return PhaseClock(seconds)
