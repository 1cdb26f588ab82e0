"""What all command lines share: a user's mistake is one message and exit code 2, an interruption 130, no traceback."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from lora2.common.environment import first_process
from lora2.common.errors import BusyError, UserError

REASON = "LORA2_REASON"  # names the file in which a process tells the one that started it why it failed
MISTAKE, BUSY, INTERRUPTED, BROKEN_PIPE = UserError.exit_code, BusyError.exit_code, 130, 141


def say(text: str) -> None:
    """A line for the user, from the first process of a run only; standard output is kept for results."""
    if first_process():
        print(text, file=sys.stderr, flush=True)


def give_reason(text: str) -> None:
    """Tell the process that started this one, if it asked for it, why this one fails."""
    if path := os.environ.get(REASON):
        Path(path).write_text(text, encoding="utf-8")


def guarded(run: Callable[[Namespace], int], args: Namespace) -> int:
    """The exit code of `run(args)`."""
    try:
        code = run(args)
        sys.stdout.flush()  # here, where a reader that has gone is expected
    except UserError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return reader_gone()
    return code


def reader_gone() -> int:
    """The exit code where the reader of standard output has closed it, as `| head` does; what is left goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
