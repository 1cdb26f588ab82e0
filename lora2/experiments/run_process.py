"""A run in a process of its own: how it is started, waited for when interrupted, and how it tells why it failed."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lora2.common.signals import STOPPING
from lora2.runs.reason import REASON

STOPPED = {code for number in STOPPING for code in (-number, 128 + number)}  # as Python and as shells report it


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, and the reason it gave if it failed."""

    code: int
    reason: str = ""

    @property
    def interrupted(self) -> bool:
        """Whether it was asked to stop; the same command goes on from its checkpoint."""
        return self.code in STOPPED


def start_run(train: Path, overrides: Iterable[str], log: Path | None = None) -> Ended:
    """Do one run to its end.

    An interruption is passed on and waited for, so that the run can write its checkpoint; a second one is not.

    Args:
        train: the script that does one run, scripts/train.py.
        overrides: the run's command line.
        log: takes what the run says, instead of our standard error.
    """
    with ExitStack() as stack:
        reason = stack.enter_context(reason_file())
        errors = None if log is None else stack.enter_context(log.open("w", encoding="utf-8"))
        process = stack.enter_context(subprocess.Popen([sys.executable, str(train), *overrides], stderr=errors))
        try:
            code = process.wait()
        except KeyboardInterrupt:  # the terminal has told the run as well; a signal of another kind does not hurry it
            process.send_signal(signal.SIGUSR1)
            code = process.wait()
        return Ended(code, reason() or f"exit code {code}") if code else Ended(code)


@contextmanager
def reason_file() -> Iterator[Callable[[], str]]:
    """Give the runs that are done inside a file for the reason why they fail, and yield what reads it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reason"
        before = os.environ.get(REASON)
        os.environ[REASON] = str(path)
        try:
            yield lambda: path.read_text(encoding="utf-8") if path.exists() else ""
        finally:
            os.environ.pop(REASON)
            if before is not None:
                os.environ[REASON] = before
