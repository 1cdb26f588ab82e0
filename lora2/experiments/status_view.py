"""How far an experiment is, cell by cell, on a screen.

The sum first; a line for each method, a column for each task, a sign for each seed; then what is running, where it is,
and what failed or is refused, and why.
"""

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lora2.common.rendering import form_for, render
from lora2.common.screen import to_screen
from lora2.common.table import MISSING, Table
from lora2.config.grid import Job
from lora2.experiments.cost.estimate import Estimate, as_json_text, estimate, hours, this_device
from lora2.experiments.status import OVER, JobStatus, State, survey
from lora2.experiments.sweep import refusals, state_counts, tell_export
from lora2.experiments.sweep_table import method_of
from lora2.runs.progress import duration

SIGNS: dict[State, str] = {"done": "+", "running": ">", "diverged": "~", "failed": "x", "to do": ".", "refused": "!"}
SECONDS = 10  # between two views
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def show_status(
    name: str, jobs: Sequence[Job], train: Path, *, watch: bool, as_json: bool, form: str | None = None
) -> int:
    """Print how far an experiment is, and return the exit code.

    Args:
        name: the experiment.
        jobs: all of them.
        train: the script that does a run; the one that exports lies beside it.
        watch: renew the view in place until all is done; only on a terminal, and Ctrl-C leaves it.
        as_json: print every run as JSON, once.
        form: of what is printed; None: text on a terminal, markdown in a pipe.
    """
    if as_json:
        print(as_json_text(_estimates(survey(jobs))))
    elif watch and sys.stdout.isatty():
        with suppress(KeyboardInterrupt):
            _watch(name, jobs)
    else:
        statuses = survey(jobs)
        print(render([as_table(name, statuses)], form or form_for(sys.stdout)), end="", flush=True)
        tell_export(statuses, train)
    return 0


def as_table(name: str, statuses: Sequence[JobStatus]) -> Table:
    """Draw the whole picture: the sum, the table, what is running, what failed and why."""
    estimates = _estimates(statuses)
    tasks = list(dict.fromkeys(status.job.cfg.task for status in statuses))
    rows: dict[str, list[Estimate]] = defaultdict(list)
    for item in estimates:
        rows[method_of(item.status.job)].append(item)
    left = _hours_left(estimates)
    return Table(
        title=f"{name}: {state_counts(statuses)}; {'hours left unknown' if left == MISSING else f'{left} h left'}",
        header=("Method", *tasks, "Hours left"),
        rows=tuple((row, *(_signs(items, task) for task in tasks), _hours_left(items)) for row, items in rows.items()),
        footnotes=(", ".join(f"{sign} {state}" for state, sign in SIGNS.items()), *_news(statuses)),
    )


def _news(statuses: Sequence[JobStatus]) -> list[str]:
    """Say where the running jobs are, which were killed, what failed and what is refused."""
    shown = [item for item in statuses if item.state == "running" or item.progress is not None]
    told = [f"{SIGNS[item.state]} {item.job.label}: {where(item, time.time())}" for item in shown]
    ended = [item for item in statuses if item.state in ("diverged", "failed")]
    failed = [f"{SIGNS[item.state]} {item.job.label}: {item.error}" for item in ended]
    return [*told, *failed, *(f"{SIGNS['refused']} {line}" for line in refusals(statuses))]


def where(status: JobStatus, now: float) -> str:
    """Say where a job is that has left word of itself: steps, metrics, time left; or when it was last heard of."""
    progress = status.progress
    if progress is None:
        return "before its first step, or after its last"
    parts = [f"step {progress.step:,}/{progress.total:,}"]
    parts += [f"{name} {value:.4f}" for name, value in progress.metrics.items()]
    if progress.evaluating:
        parts.append("evaluating")
    if status.state != "running":
        parts.append("stopped there without a word; it goes on from its last checkpoint")
    elif progress.is_stale(now):
        parts.append(f"stale: no sign of it for {duration(progress.age(now))}")
    elif progress.seconds_left is not None:
        parts.append(f"ETA {duration(progress.seconds_left)}")
    return ", ".join([*parts, f"on {progress.host}"] if progress.is_elsewhere else parts)


def _watch(name: str, jobs: Sequence[Job]) -> None:
    while True:
        statuses = survey(jobs)
        print(_in_place(to_screen([as_table(name, statuses)]).splitlines()), flush=True)
        if all(status.state in (*OVER, "refused") for status in statuses):
            return
        time.sleep(SECONDS)


def _estimates(statuses: Sequence[JobStatus]) -> list[Estimate]:
    return estimate(statuses, this_device(statuses))


def _signs(items: Sequence[Estimate], task: str) -> str:
    return "".join(SIGNS[item.status.state] for item in items if item.status.job.cfg.task == task)


def _hours_left(items: Sequence[Estimate]) -> str:
    total = hours([item.left for item in items])
    return MISSING if total is None else f"{total:.1f}"


def _in_place(lines: Sequence[str]) -> str:
    """What shows the lines over those that were there, the first ones if the screen is small, and no more than fits."""
    width, height = shutil.get_terminal_size()
    shown = [line[:width] + REST_OF_LINE for line in lines[: height - 1]]
    return HOME + "\n".join(shown) + REST_OF_SCREEN
