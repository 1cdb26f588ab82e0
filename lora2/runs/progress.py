"""How far a run in progress is: a small file in its folder, for whoever shares the folder, on this machine or another.

It is written every few seconds and removed when training ends, however that ends; what a killed run leaves behind shows
by its age.
"""

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "progress.json"
STALE_SECONDS = 60.0  # a living run writes twelve times as often


@dataclass(frozen=True)
class RunProgress:
    """Where a run stands.

    Attributes:
        step, total: optimizer steps done, and of the whole run.
        seconds_left: estimate for all that is left; None before anything is known.
        loss: at the last history point; None before the first.
        metrics, best: dev metrics of the last and of the best evaluation; empty before the first.
        evaluating: whether it is being evaluated now.
        host: the machine that does it.
        written: seconds since the epoch, by the clock of that machine.
    """

    step: int
    total: int
    seconds_left: float | None
    loss: float | None
    metrics: dict[str, float]
    best: dict[str, float]
    evaluating: bool
    host: str
    written: float

    def age(self, now: float) -> float:
        """Return the seconds since it was written; clocks of two machines may differ, and none is from the future."""
        return max(0.0, now - self.written)

    def is_stale(self, now: float) -> bool:
        """Whether a living run would have written again."""
        return self.age(now) > STALE_SECONDS

    @property
    def is_elsewhere(self) -> bool:
        """Whether another machine does the run."""
        return self.host != socket.gethostname()


def write_progress(folder: Path, progress: RunProgress) -> None:
    """Write the file whole, and not at all where the disk does not take it: nothing depends on it."""
    temporary = folder / f".{NAME}.{os.getpid()}.tmp"
    with suppress(OSError):
        temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        temporary.replace(folder / NAME)


def remove_progress(folder: Path) -> None:
    """Say that training is over."""
    with suppress(OSError):
        (folder / NAME).unlink(missing_ok=True)


def read_progress(output_dir: Path) -> dict[str, RunProgress]:
    """Read the files of all runs below a folder, by the name of the run; damaged ones are left out."""
    found = {}
    for path in output_dir.glob(f"*/{NAME}"):
        with suppress(OSError, ValueError, TypeError):
            found[path.parent.name] = RunProgress(**json.loads(path.read_text(encoding="utf-8")))
    return found


def duration(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds.

    >>> duration(59.6), duration(3725), duration(100 * 3600)
    ('0:01:00', '1:02:05', '100:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
