"""What all command lines share: a user's mistake is one message and exit code 2, an interruption 130, no traceback."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable

from lora2.common.errors import BusyError, UserError
from lora2.common.voice import say

MISTAKE, BUSY, INTERRUPTED, BROKEN_PIPE = UserError.exit_code, BusyError.exit_code, 130, 141


def guarded(run: Callable[[Namespace], int], args: Namespace) -> int:
    """Call `run(args)` and return the exit code: its own, or that of the error that it raised."""
    try:
        code = run(args)
        sys.stdout.flush()  # here, where a reader that has gone is expected
    except UserError as error:
        say(f"error: {error}", at="quiet")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted", at="quiet")
        return INTERRUPTED
    except BrokenPipeError:
        return reader_gone()
    return code


def reader_gone() -> int:
    """Send what is left nowhere and return the exit code: the reader has closed standard output, as `| head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
