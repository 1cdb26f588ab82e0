"""SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 (warnings before pre-emption: SLURM's, submitit's) ask a run to stop at the next
step boundary.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
received: list[int] = []  # of this process, in order; the exit code of a cancelled run is 128 + the first


@contextmanager
def heed_signals() -> Iterator[Callable[[], bool]]:
    """Inside, the signals are only noted; yields a function that tells whether one came. A second one acts at once."""
    received.clear()

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])  # the same signal again is not held back

    before = {number: signal.signal(number, note) for number in STOPPING}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code() -> int:
    """128 + the first signal that came, as shells report it: 143 for SIGTERM, 130 for SIGINT.

    143 too where another process of the run got the signal and this one stopped with it.
    """
    return 128 + (received[0] if received else signal.SIGTERM)
