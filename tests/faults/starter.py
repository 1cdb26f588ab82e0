"""Starts scripts/train.py in a moment, as often as one likes: imports everything once, then forks a process for each.

The forked process is what a new one would be after its imports: nothing has been computed, no thread started. It ends
as any Python process ends. Used through `Starter`; run as a script, this file is the process that forks.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


ALLOCATORS = {"jemalloc_bg_thd"}  # pyarrow's; it knows about forks


class Starter:
    """A process that has imported everything; its hashes are seeded by chance, as those of any new process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env={**os.environ, **THREADS},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def start(self, overrides: Sequence[str], folder: Path, log: Path, **environment: str) -> int:
        """Begin a run in `folder`, with its output in the file `log`; returns its process id."""
        folder.mkdir(parents=True, exist_ok=True)
        order = {"overrides": list(overrides), "folder": str(folder), "log": str(log), "environment": environment}
        return int(self._ask(order))

    def wait(self, pid: int, seconds: float) -> int | None:
        """Exit code of a run (negative: the signal that ended it), or None if it still runs after so long."""
        deadline = time.monotonic() + seconds
        while (code := self._ask({"wait": pid})) is None:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.005)
        return int(code)

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, order: Mapping[str, Any]) -> Any:
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> Any:
        return json.loads(self._process.stdout.readline())


def serve() -> dict[str, Any]:
    """Answer orders; returns only in a forked process, with its order."""
    import_everything()
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    assert len(threads - ALLOCATORS) == 1, f"threads {threads}: what is forked now would lack all but one"
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], os.WNOHANG)
            print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            return order  # type: ignore[no-any-return]
        print(json.dumps(pid), flush=True)
    sys.exit()


def import_everything() -> None:
    """What a run would import, its own modules included."""
    for name in ("hydra", "peft", "lora2.training.run", "lora2.training.session"):
        importlib.import_module(name)


def become_run(order: Mapping[str, Any]) -> None:
    """Do in this process what `python scripts/train.py ...` does."""
    import runpy

    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, stream in ((null, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, stream)
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    script = ROOT / "scripts" / "train.py"
    sys.argv = [str(script), *order["overrides"]]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    become_run(serve())
