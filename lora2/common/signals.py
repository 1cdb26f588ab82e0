"""Let signals stop a run at its next step boundary.

SIGTERM and SIGINT come from users and schedulers, SIGUSR1 and SIGUSR2 from SLURM and submitit before a pre-emption.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
received: list[int] = []  # of this process, in order; the exit code of a cancelled run is 128 + the first


@contextmanager
def heed_signals() -> Iterator[Callable[[], bool]]:
    """Only note the first signal inside the block; a second one acts at once.

    Yields:
        A function that returns whether a signal came.
    """
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
    """Return 128 + the first signal that came, as shells report it: 143 for SIGTERM, 130 for SIGINT.

    If another process of the run got the signal and this one stopped with it, the code is 143.
    """
    return 128 + (received[0] if received else signal.SIGTERM)
