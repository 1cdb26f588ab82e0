"""How far an experiment is: each job's state, from the records and from the locks that living runs hold. No torch."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from lora2.config.grid import Job
from lora2.config.identity import run_id, timed_id
from lora2.runs.lock import held_locks
from lora2.runs.reader import RESULTS
from lora2.runs.record import Timing, record_path

State = Literal["done", "running", "failed", "to do"]
STATES: tuple[State, ...] = ("done", "running", "failed", "to do")
Record = dict[str, Any]


@dataclass(frozen=True)
class JobStatus:
    """A job, its state, and its record where it has one."""

    job: Job
    state: State
    record: Record | None = None


class _SeenConfig(BaseModel):
    task: str
    data: str


class _Seen(BaseModel):
    """What a sweep, its plan and its status look at in a record."""

    run_id: str
    status: str
    config: _SeenConfig
    hashes: dict[str, str] = {}
    timing: Timing | None = None
    steps: int = 0
    positions: int = 0
    provenance: dict[str, Any] = {}


def survey(jobs: Sequence[Job]) -> list[JobStatus]:
    """Find the state of every job.

    A run's name holds a hash of its data. It is not read here (QQP has 364 thousand rows): the data that earlier
    records of the task were made from stands for it.
    """
    data: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in {record["run_id"]: record for folder in _folders(jobs) for record in read_records(folder)}.values():
        if fingerprint := record.get("hashes", {}).get("data"):
            data[record["config"]["task"], record["config"]["data"]].add(fingerprint)
    held = {lock for folder in {job.cfg.output_dir for job in jobs} for lock in held_locks(Path(folder))}
    return [_job_status(job, data[job.cfg.task, job.cfg.data.source], held) for job in jobs]


def read_records(results_dir: str | Path) -> list[Record]:
    """Read every readable record of a results folder as plain JSON; damaged files are left to the table's warnings."""
    found = []
    for path in sorted(Path(results_dir).glob("runs/*.json")):
        record = _read(path)
        if record is not None:
            found.append(record)
    return found


def _job_status(job: Job, fingerprints: Iterable[str], held: set[str]) -> JobStatus:
    names = {run_id(job.cfg, fingerprint) for fingerprint in fingerprints}
    paths = [record_path(job.cfg.results_dir, name) for each in names for name in (each, timed_id(each))]
    records = [record for path in paths if (record := _read(path)) is not None]
    done = [record for record in records if record["status"] in RESULTS]
    if done and not job.cfg.force:
        return JobStatus(job, "done", done[0])
    readable = run_id(job.cfg, "").rpartition("-")[0]  # all that is known of a task's first run
    if held & names or (not names and any(lock.startswith(f"{readable}-") for lock in held)):
        return JobStatus(job, "running")
    return JobStatus(job, "failed", records[0]) if records else JobStatus(job, "to do")


def _read(path: Path) -> Record | None:
    """A record's whole JSON; None for a missing file, a damaged one, and one without what a sweep looks at."""
    try:
        content = path.read_bytes()
        _Seen.model_validate_json(content)
        record: Record = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    return record


def _folders(jobs: Iterable[Job]) -> set[str]:
    return {job.cfg.results_dir for job in jobs}
