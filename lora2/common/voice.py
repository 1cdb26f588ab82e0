"""Who hears what: the screen by `log=quiet|normal|debug`, and the log of the run that is being done, always.

Standard output is kept for results; everything here goes to standard error.
"""

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lora2.common.environment import first_process

Log = Literal["quiet", "normal", "debug"]
LEVELS: tuple[Log, ...] = get_args(Log)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Voice:
    """How this process speaks now.

    Attributes:
        level: what `log=` says.
        log: the file that keeps what was said; None for none.
        write: puts a line on the screen; a progress bar puts it above itself.
    """

    level: Log = "normal"
    log: Path | None = None
    write: Callable[[str], None] = _to_stderr


VOICE = Voice()


def say(text: str, at: Log = "normal") -> None:
    """Tell the user, from the first of several processes only, on the screen and in the log of the run.

    Args:
        text: one line or several.
        at: the quietest `log=` that still shows it: "quiet" for errors and results, "debug" for what few want.
    """
    if not first_process():
        return
    if hears(at):
        VOICE.write(text)
    if at != "debug" or hears(at):
        note(text)


def note(text: str) -> None:
    """Write into the log of the run alone, each line with the time. A disk that takes no more stops the log only."""
    if VOICE.log is None or not first_process():
        return
    now = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        with VOICE.log.open("a", encoding="utf-8") as file:
            file.writelines(f"{now}  {line}\n" for line in text.splitlines())
    except OSError as error:
        path, VOICE.log = VOICE.log, None
        say(f"{path}: takes no more ({error.strerror}); the run goes on without it")


def hears(at: Log) -> bool:
    """Whether the screen shows what is said at this level."""
    return LEVELS.index(VOICE.level) >= LEVELS.index(at)


@contextmanager
def speaking(level: Log) -> Iterator[None]:
    """Inside, the screen shows what `level` lets through, of libraries too."""
    before, VOICE.level = VOICE.level, level
    disabled, root = logging.root.manager.disable, logging.getLogger()
    root_level, handler = root.level, _Notes()
    try:
        with warnings.catch_warnings():
            if level == "quiet":
                warnings.simplefilter("ignore")
                logging.disable(logging.WARNING)
            if level == "debug":
                root.addHandler(handler)
                root.setLevel(logging.INFO)
            yield
    finally:
        root.removeHandler(handler)
        root.setLevel(root_level)
        logging.disable(disabled)
        VOICE.level = before


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Inside, what is said is also appended to a file, whose folder is there."""
    before, VOICE.log = VOICE.log, path
    try:
        yield
    finally:
        VOICE.log = before


class _Notes(logging.Handler):
    """Say what libraries log."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one note, with the name of the library."""
        say(f"{record.name}: {record.getMessage()}", at="debug")
