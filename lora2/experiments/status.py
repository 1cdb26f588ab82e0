"""How far an experiment is: each job's state, from its settings, the records and what living runs show of themselves.

A run on this machine holds its lock. One on another machine that shares the folder keeps its progress file fresh, as
not every shared folder shares locks. No torch.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lora2.config.grid import Job
from lora2.config.identity import run_id, timed_id
from lora2.experiments.refusals import refusal
from lora2.runs.format import RESULTS
from lora2.runs.lock import held_locks
from lora2.runs.places import record_paths
from lora2.runs.progress import RunProgress, read_progress
from lora2.runs.reader import Run, UnreadableRecordError, read_folder, read_run

State = Literal["done", "running", "diverged", "failed", "to do", "refused"]
STATES: tuple[State, ...] = get_args(State)
OVER: tuple[State, ...] = ("done", "diverged")  # not to be done again: what diverged would again


@dataclass(frozen=True)
class JobStatus:
    """Where one job stands.

    Attributes:
        run: its run on disk, where it has one.
        refused: why it would not start, where it is refused.
        progress: what it told of itself last; of a job that does not run now, it was killed.
    """

    job: Job
    state: State
    run: Run | None = None
    refused: str | None = None
    progress: RunProgress | None = None

    @property
    def error(self) -> str | None:
        """Return why the job is refused, or why the run on disk failed; None where there is nothing of the kind."""
        if self.refused is not None:
            return self.refused
        return None if self.run is None else self.run.error


def survey(jobs: Sequence[Job]) -> list[JobStatus]:
    """Find the state of every job.

    A run's name holds a hash of its data. It is not read here (QQP has 364 thousand rows): the data that earlier
    records of the task were made from stands for it.
    """
    data: dict[tuple[str, str], set[str]] = defaultdict(set)
    for folder in {path.parent for job in jobs for path in record_paths(job.cfg.results_dir, "")}:
        for run in read_folder(folder)[0]:  # damaged files are left to the table's warnings
            if fingerprint := run.hashes.get("data"):
                data[run.task, run.data].add(fingerprint)
    folders = {Path(job.cfg.output_dir) for job in jobs}
    alive = Alive(
        held={lock for folder in folders for lock in held_locks(folder)},
        progress={name: told for folder in folders for name, told in read_progress(folder).items()},
    )
    return [_job_status(job, data[job.cfg.task, job.cfg.data.source], alive) for job in jobs]


@dataclass(frozen=True)
class Alive:
    """What runs show of themselves, by name: the locks that are held, and progress files."""

    held: set[str]
    progress: dict[str, RunProgress]

    def find(self, names: set[str], readable: str) -> str | None:
        """Return which of these runs shows itself, a living one first; without names, one that begins so."""
        known = [*self.held, *self.progress]
        found = [name for name in known if (name in names if names else name.startswith(f"{readable}-"))]
        return min(found, key=lambda name: not self.is_running(name), default=None)

    def is_running(self, name: str) -> bool:
        """Whether the run is being done, here or on another machine."""
        told = self.progress.get(name)
        return name in self.held or (told is not None and told.is_elsewhere and not told.is_stale(time.time()))


def _job_status(job: Job, fingerprints: Iterable[str], alive: Alive) -> JobStatus:
    names = {run_id(job.cfg, fingerprint) for fingerprint in fingerprints}
    paths = [
        path for each in names for name in (each, timed_id(each)) for path in record_paths(job.cfg.results_dir, name)
    ]
    runs = [run for path in paths if (run := _read(path)) is not None]
    done = [run for run in runs if run.status in RESULTS]
    if done and not job.cfg.force:
        return JobStatus(job, "done", done[0])
    shown = alive.find(names, readable=run_id(job.cfg, "").rpartition("-")[0])  # all that is known of a first run
    progress = None if shown is None else alive.progress.get(shown)
    if shown is not None and alive.is_running(shown):
        return JobStatus(job, "running", progress=progress)
    lost = [run for run in runs if "diverged" in run.caveats]
    if lost and not job.cfg.force:
        return JobStatus(job, "diverged", lost[0])
    if (reason := refusal(job.cfg)) is not None:
        return JobStatus(job, "refused", refused=reason)
    return JobStatus(job, "failed" if runs else "to do", runs[0] if runs else None, progress=progress)


def _read(path: Path) -> Run | None:
    """The run of one file; None for a missing file and for a damaged one."""
    try:
        return read_run(path)
    except UnreadableRecordError:
        return None
