"""How far an experiment is: each job's state, from its settings, the records and the locks of living runs. No torch."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lora2.config.grid import Job
from lora2.config.identity import run_id, timed_id
from lora2.experiments.refusals import refusal
from lora2.runs.format import RESULTS
from lora2.runs.lock import held_locks
from lora2.runs.places import record_paths
from lora2.runs.reader import Run, UnreadableRecordError, load_runs, read_run

State = Literal["done", "running", "failed", "to do", "refused"]
STATES: tuple[State, ...] = ("done", "running", "failed", "to do", "refused")


@dataclass(frozen=True)
class JobStatus:
    """A job, its state, its run on disk where it has one, and why it would not start where it is refused."""

    job: Job
    state: State
    run: Run | None = None
    refused: str | None = None

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
        for run in load_runs(folder)[0]:  # damaged files are left to the table's warnings
            if fingerprint := run.hashes.get("data"):
                data[run.task, run.data].add(fingerprint)
    held = {lock for folder in {job.cfg.output_dir for job in jobs} for lock in held_locks(Path(folder))}
    return [_job_status(job, data[job.cfg.task, job.cfg.data.source], held) for job in jobs]


def _job_status(job: Job, fingerprints: Iterable[str], held: set[str]) -> JobStatus:
    names = {run_id(job.cfg, fingerprint) for fingerprint in fingerprints}
    paths = [
        path for each in names for name in (each, timed_id(each)) for path in record_paths(job.cfg.results_dir, name)
    ]
    runs = [run for path in paths if (run := _read(path)) is not None]
    done = [run for run in runs if run.status in RESULTS]
    if done and not job.cfg.force:
        return JobStatus(job, "done", done[0])
    readable = run_id(job.cfg, "").rpartition("-")[0]  # all that is known of a task's first run
    if held & names or (not names and any(lock.startswith(f"{readable}-") for lock in held)):
        return JobStatus(job, "running")
    if (reason := refusal(job.cfg)) is not None:
        return JobStatus(job, "refused", refused=reason)
    return JobStatus(job, "failed", runs[0]) if runs else JobStatus(job, "to do")


def _read(path: Path) -> Run | None:
    """The run of one file; None for a missing file and for a damaged one."""
    try:
        return read_run(path)
    except UnreadableRecordError:
        return None
