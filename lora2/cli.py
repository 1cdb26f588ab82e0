"""What all command lines share: a user's mistake is one message and exit code 2, an interruption 130, no traceback."""

import sys
from argparse import Namespace
from collections.abc import Callable

from lora2.environment import first_process
from lora2.errors import UserError

MISTAKE, INTERRUPTED = 2, 130


def say(text: str) -> None:
    """A line for the user, from the first process of a run only; standard output is kept for results."""
    if first_process():
        print(text, file=sys.stderr, flush=True)


def guarded(run: Callable[[Namespace], int], args: Namespace) -> int:
    """The exit code of `run(args)`."""
    try:
        return run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
