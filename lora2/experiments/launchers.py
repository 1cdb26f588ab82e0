"""The jobs of `scripts/train.py -m`, wherever a Hydra launcher (basic, joblib, SLURM through submitit) has put them.

Each does its run in a process of its own and leaves a note of how it ended in the sweep's folder; the process that
waits tells the notes. SLURM warns a job with SIGUSR2 before its time is over (how long before:
configs/hydra/launcher/submitit_slurm.yaml): the run itself gets the signal and writes a checkpoint
(lora2/common/signals.py), and submitit queues the job again.
"""

import json
import os
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lora2.common.terminal import BUSY
from lora2.common.voice import say
from lora2.experiments.run_process import start_run
from lora2.runs.progress import duration

FOLDER = "LORA2_SWEEP"  # names the sweep's folder
SECONDS = 0.5  # between two looks into it


@dataclass(frozen=True)
class Note:
    """How one job ended."""

    job: str
    code: int
    reason: str
    seconds: float

    def __str__(self) -> str:
        state = {0: "done", BUSY: "left to another process"}.get(self.code, "FAILED")
        told = f"{state} after {self.seconds:.0f} s: {self.job}"
        return f"{told}: {self.reason}" if self.reason else told


def new_folder(outputs: Path) -> Path:
    """Choose where this sweep's notes will be, below `outputs`; nothing is made before there is one."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{socket.gethostname()}-{os.getpid()}"
    folder = (outputs / "sweeps" / name).resolve()
    os.environ[FOLDER] = str(folder)  # for the jobs, whatever process they are started from
    return folder


def do_job(train: Path, number: int, overrides: Sequence[str], *, alone: bool) -> None:
    """Do one job and leave a note of how it ended.

    Args:
        train: the script that does one run, scripts/train.py.
        number: of the job in its sweep.
        overrides: the run's command line.
        alone: nothing else runs beside it, so that what it says may go to the terminal; else it goes to a log.

    Raises:
        KeyboardInterrupt: it was asked to stop, and the sweep with it.
    """
    folder, started = Path(os.environ[FOLDER]), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    log = None if alone else folder / f"{number}.log"
    ended = start_run(train, overrides, log)
    if ended.interrupted and alone:
        raise KeyboardInterrupt
    reason = f"{ended.reason}; see {log}" if ended.code and log else ended.reason
    note = Note(shlex.join(overrides), ended.code, reason, time.perf_counter() - started)
    temporary = folder / f".{number}.json"
    temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
    temporary.rename(folder / f"{number}.json")  # so that nobody reads half a note


class Watch:
    """Report every job when it ends, as long as the context lasts; `finish` sums up.

    Args:
        folder: of the sweep's notes.
        total: jobs of the sweep; None where only Hydra knows.
        now: reads a clock in seconds.
    """

    def __init__(self, folder: Path, total: int | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._total, self._now, self._begun = folder, total, now, now()
        self._notes: dict[str, Note] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def finish(self) -> int:
        """Sum up if there were jobs, and return the exit code: 1 if any failed. Logs of failed jobs stay."""
        failed = [note for note in self._notes.values() if note.code not in (0, BUSY)]
        if self._notes:
            reasons = [f"{note.job}: {note.reason}" for note in failed]
            say("\n  ".join([f"{len(self._notes)} jobs, {len(failed)} failed", *reasons]))
        if not failed or not any(self._folder.glob("*.log")):
            shutil.rmtree(self._folder, ignore_errors=True)
        return 1 if failed else 0

    def _look_again_and_again(self) -> None:
        while not self._over.wait(SECONDS):
            self._look()

    def _look(self) -> None:
        for path in sorted(self._folder.glob("[0-9]*.json")):
            if path.stem not in self._notes:
                self._notes[path.stem] = note = Note(**json.loads(path.read_text(encoding="utf-8")))
                say(f"{self._count()} {note}")

    def _count(self) -> str:
        """Say which job of how many has ended, and how long the others will take if they are alike."""
        done = len(self._notes)
        if self._total is None:
            return f"[{done}]"
        left = (self._now() - self._begun) / done * (self._total - done)
        return f"[{done}/{self._total}, about {duration(left)} left]" if left else f"[{done}/{self._total}]"
