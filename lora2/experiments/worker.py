"""One process that does the runs of a sweep, one after the other: libraries are imported and a GPU is opened once.

Runs do not see each other: a record is the same, bit for bit, as that of a process of its own, in any order, and memory
returns to what it was before (tests/experiments/test_worker.py). A run that fails takes its process with it, in case it
broke more than itself (a GPU's context, for one), and the next run gets a new one; so a crash costs one run.
"""

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from lora2.common.errors import UserError
from lora2.common.terminal import BUSY, INTERRUPTED, MISTAKE
from lora2.common.voice import say
from lora2.config.compose import compose
from lora2.experiments.run_process import Ended, reason_file
from lora2.runs.provenance import sources
from lora2.runs.reason import give_reason
from lora2.training.environment import forget_variables
from lora2.training.memory import free_memory
from lora2.training.run import run_composed

HARMLESS = (0, MISTAKE, BUSY)  # how a run may end without its process


def worker_command(configs: Path, export: Path) -> list[str]:
    """Return the command that starts a worker; the number of the pipe for its answers is to be added.

    Args:
        configs: the folder that holds train.yaml and the groups.
        export: the script that runs name in the command that takes an adapter away.
    """
    return [sys.executable, "-m", "lora2.experiments.worker", str(configs), str(export)]


class Worker:
    """Do run after run in one other process, which is started when it is needed; to be used as a context.

    Args:
        command: starts the process, as `worker_command` returns it. It reads a command line of a run, as a JSON list,
            from each line of its standard input, and answers with [exit code, reason] on the pipe.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._answers: TextIO | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def __call__(self, overrides: Iterable[str]) -> Ended:
        """Do one run to its end.

        An interruption is passed on and waited for, so that the run can write its checkpoint; a second one is not.
        """
        process = self._start()
        try:
            self._ask(list(overrides))
            answer = self._answer()
        except KeyboardInterrupt:  # the terminal has told the run as well; a signal of another kind does not hurry it
            process.send_signal(signal.SIGUSR1)
            answer = self._answer()
        if answer:
            ended = Ended(*json.loads(answer))
            if ended.code not in HARMLESS:
                self._end()
            return ended
        code = self._end() or 1  # it died without an answer
        return Ended(code, f"exit code {code}")

    def _start(self) -> subprocess.Popen[str]:
        """Start the process, unless it lives."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._end()
        reading, writing = os.pipe()
        self._answers = os.fdopen(reading, encoding="utf-8")
        self._process = subprocess.Popen(
            [*self._command, str(writing)], stdin=subprocess.PIPE, pass_fds=[writing], text=True
        )
        os.close(writing)  # the process alone holds it, so that its death ends the reading
        return self._process

    def _ask(self, words: list[str]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has just died: there will be no answer
            print(json.dumps(words), file=self._process.stdin, flush=True)

    def _answer(self) -> str:
        """Wait for an answer; an empty one if the process died."""
        assert self._answers is not None
        return self._answers.readline()

    def _end(self) -> int:
        """Let the process end, and return its exit code; 0 if there is none."""
        process, answers = self._process, self._answers
        self._process = self._answers = None
        if process is None or answers is None:
            return 0
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        answers.close()
        return process.wait()


def run_here(words: Sequence[str], configs: Path, export: Path | None = None, forgotten: Sequence[str] = ()) -> Ended:
    """Do one run in this process, as scripts/train.py does it in a process of its own.

    Args:
        words: the run's command line.
        configs: the folder that holds train.yaml and the groups.
        export: as for `worker_command`.
        forgotten: notes on the variables of the environment that this process does not heed.
    """
    with reason_file() as reason:
        code = _exit_code(words, configs, export, forgotten)
        return Ended(code, reason() if code else "")


def _exit_code(words: Sequence[str], configs: Path, export: Path | None, forgotten: Sequence[str]) -> int:
    try:
        return run_composed(compose(words, configs), words, configs, export, forgotten)
    except UserError as error:
        say(f"error: {error}")
        give_reason(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # a fault of this program's: the other runs go on
        traceback.print_exc()
        give_reason(f"{type(error).__name__}: {error}")
        return 1


def serve(requests: TextIO, answers: TextIO, configs: Path, export: Path) -> None:
    """Do the runs of all command lines, a JSON list in each line of `requests`, and answer each with how it ended."""
    sources()  # of the code that is in memory from here on, whatever becomes of the files
    forgotten = forget_variables()  # once, and every record tells of it
    for line in requests:
        ended = run_here(json.loads(line), configs, export, forgotten)
        free_memory()
        print(json.dumps([ended.code, ended.reason]), file=answers, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt), os.fdopen(int(sys.argv[3]), "w", encoding="utf-8") as pipe:
        serve(sys.stdin, pipe, Path(sys.argv[1]), Path(sys.argv[2]))
