"""An experiment's jobs, listed or done one after the other."""

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.rendering import form_for, render
from lora2.common.terminal import BUSY, INTERRUPTED
from lora2.common.voice import say
from lora2.config.grid import Job, together
from lora2.config.overrides import shell_command
from lora2.experiments.cost.estimate import as_json_text, estimate, this_device
from lora2.experiments.pace import Pace
from lora2.experiments.run_process import Ended
from lora2.experiments.status import STATES, JobStatus, State, survey
from lora2.experiments.sweep_table import results_table
from lora2.runs.places import record_paths

RARE: tuple[State, ...] = ("diverged", "refused")  # told where there is one
Start = Callable[[Iterable[str]], Ended]  # does the run of a command line


def list_experiment(name: str, jobs: Sequence[Job], *, as_json: bool) -> int:
    """Print what would be done, and return the exit code.

    Raises:
        UserError: some jobs are refused.
    """
    statuses = survey(jobs)
    say(f"{name}: {state_counts(statuses)}")
    print(list_jobs(statuses, as_json=as_json))
    refuse(statuses)
    return 0


def run_experiment(name: str, jobs: Sequence[Job], start: Start, train: Path) -> int:
    """Do what is missing of an experiment, and return the exit code of `run_jobs`.

    Raises:
        UserError: some jobs are refused; none has been started.
    """
    statuses = survey(jobs)
    refuse(statuses)
    say(f"{name}: {state_counts(statuses)}")
    code = run_jobs(statuses, start, train)
    if code != INTERRUPTED:
        tell_results(name, survey(jobs), train)
    return code


def tell_results(name: str, statuses: Sequence[JobStatus], train: Path) -> None:
    """Print the table of what a sweep has led to, and say by which command an adapter is taken away."""
    print(render([results_table(name, statuses)], form_for(sys.stdout)), end="", flush=True)
    tell_export(statuses, train)


def tell_export(statuses: Sequence[JobStatus], train: Path) -> None:
    """Say by which command a trained adapter is taken away, if there is one."""
    if (record := _exportable(statuses)) is not None:
        say(f"an adapter to take away: {shell_command(train.with_name('export.py'), ['lora', str(record)])}")


def _exportable(statuses: Sequence[JobStatus]) -> Path | None:
    """The record of the last LoRA² run whose weights are here; None if there is none."""
    for status in reversed(statuses):
        cfg, run = status.job.cfg, status.run
        if status.state == "done" and run is not None and cfg.method.name == "lora2":
            weights = Path(cfg.output_dir) / run.run_id / "best.safetensors"
            found = [path for path in record_paths(cfg.results_dir, run.run_id) if path.exists()]
            if weights.exists() and found:
                return found[0]
    return None


def refuse(statuses: Sequence[JobStatus]) -> None:
    """Raise UserError if some jobs would be refused: equal reasons once, with their number."""
    if told := refusals(statuses):
        raise UserError("\n  ".join(told))


def refusals(statuses: Sequence[JobStatus]) -> list[str]:
    """Say why jobs are refused, a sentence for each reason."""
    return together((status.job.label, status.refused) for status in statuses if status.refused is not None)


def list_jobs(statuses: Sequence[JobStatus], *, as_json: bool) -> str:
    """Give each job a line: state, hours where known, steps, and its command line; or everything as JSON."""
    estimates = estimate(statuses, this_device(statuses))
    if as_json:
        return as_json_text(estimates)
    lines = []
    for item in estimates:
        time = "      –" if item.seconds is None else f"{item.seconds / 3600:6.2f}h"
        overrides = shlex.join(item.status.job.overrides)
        lines.append(f"{item.status.state:8} {time} {item.cost.steps:7,} steps  {overrides}")
    return "\n".join(lines)


def run_jobs(
    statuses: Sequence[JobStatus], start: Start, train: Path, now: Callable[[], float] = time.monotonic
) -> int:
    """Do every job that is to do or has failed before; a failing one does not stop the others.

    What has diverged would do so again: force=true does it anyway.

    Args:
        statuses: of all jobs.
        start: does one.
        train: the script to name in the command that repeats a failed one.
        now: reads a clock in seconds.

    Returns:
        0 unless a job failed (1) or was interrupted (130).
    """
    waiting = [status.job for status in statuses if status.state in ("to do", "failed")]
    before, elsewhere, failures = count(statuses, "done"), count(statuses, "running"), []
    diverged = count(statuses, "diverged")
    pace = Pace(statuses, now)
    for index, job in enumerate(waiting, 1):
        say(f"[{index}/{len(waiting)}] {job.label}{pace.left(waiting[index - 1 :])}")
        pace.start()
        ended = start(job.overrides)
        if ended.interrupted:
            say(f"interrupted at {job.label}; the same command goes on from here")
            return INTERRUPTED
        if ended.code == BUSY:
            say(f"left to another process: {job.label}")
            elsewhere += 1
        elif ended.code:
            say(f"FAILED: {job.label}: {ended.reason}")
            failures.append(f"{job.label}: {ended.reason}\n    {shell_command(train, job.overrides)}")
        else:
            pace.done(job)
    done = len(statuses) - before - diverged - elsewhere - len(failures)
    parts = [f"{done} done now", f"{before} done before", f"{len(failures)} failed"]
    if diverged:
        parts.append(f"{diverged} diverged before (force=true does all runs again)")
    if elsewhere:
        parts.append(f"{elsewhere} left to another process")
    say("\n  ".join([f"{len(statuses)} runs: {', '.join(parts)}", *failures]))
    return 1 if failures else 0


def count(statuses: Sequence[JobStatus], state: State) -> int:
    """Count the jobs in a state."""
    return sum(status.state == state for status in statuses)


def state_counts(statuses: Sequence[JobStatus]) -> str:
    """Count the jobs in every state, in one line."""
    counts = {state: count(statuses, state) for state in STATES}
    return ", ".join(f"{number} {state}" for state, number in counts.items() if number or state not in RARE)
