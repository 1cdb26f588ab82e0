"""How far an experiment is, cell by cell, on a screen.

A line for each method, a column for each task, a sign for each seed: `+` done, `>` running, `x` failed, `.` to do,
`!` refused.
"""

import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lora2.config.grid import Job
from lora2.experiments.cost.estimate import Estimate, as_json_text, estimate, hours, this_device
from lora2.experiments.status import JobStatus, State, survey
from lora2.experiments.sweep import refusals, state_counts, tell_export

SIGNS: dict[State, str] = {"done": "+", "running": ">", "failed": "x", "to do": ".", "refused": "!"}
SECONDS = 10  # between two views
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def show_status(name: str, jobs: Sequence[Job], train: Path, *, watch: bool, as_json: bool) -> int:
    """Print how far an experiment is, and return the exit code.

    Args:
        name: the experiment.
        jobs: all of them.
        train: the script that does a run; the one that exports lies beside it.
        watch: renew the view in place until all is done; only on a terminal, and Ctrl-C leaves it.
        as_json: print every run as JSON, once.
    """
    if as_json:
        print(as_json_text(_estimates(survey(jobs))))
    elif watch and sys.stdout.isatty():
        with suppress(KeyboardInterrupt):
            _watch(name, jobs)
    else:
        statuses = survey(jobs)
        print("\n".join(view(name, statuses)), flush=True)
        tell_export(statuses, train)
    return 0


def view(name: str, statuses: Sequence[JobStatus]) -> list[str]:
    """Draw the whole picture: the table, what failed and why, the sum."""
    estimates = _estimates(statuses)
    tasks = list(dict.fromkeys(status.job.cfg.task for status in statuses))
    rows: dict[str, list[Estimate]] = defaultdict(list)
    for item in estimates:
        rows[_method(item.status.job)].append(item)
    body = [[row, *(_signs(items, task) for task in tasks), _hours_left(items)] for row, items in rows.items()]
    failed = [f"x {status.job.label}: {status.error}" for status in statuses if status.state == "failed"]
    total = f"{name}: {state_counts(statuses)}; {_hours_left(estimates)}"
    refused = [f"! {line}" for line in refusals(statuses)]
    return [*_columns([["", *tasks, ""], *body]), *failed, *refused, total]


def _watch(name: str, jobs: Sequence[Job]) -> None:
    while True:
        statuses = survey(jobs)
        print(_in_place(view(name, statuses)), flush=True)
        if all(status.state in ("done", "refused") for status in statuses):
            return
        time.sleep(SECONDS)


def _estimates(statuses: Sequence[JobStatus]) -> list[Estimate]:
    return estimate(statuses, this_device(statuses))


def _method(job: Job) -> str:
    """What tells the lines of the table apart."""
    axes = [axis.removeprefix("row=") for axis in job.axes if not axis.startswith("task=")]
    return " ".join(axes) or job.cfg.variant


def _signs(items: Sequence[Estimate], task: str) -> str:
    return "".join(SIGNS[item.status.state] for item in items if item.status.job.cfg.task == task)


def _hours_left(items: Sequence[Estimate]) -> str:
    total = hours([item.left for item in items])
    return "hours left unknown" if total is None else f"{total:.1f} h left"


def _columns(lines: list[list[str]]) -> list[str]:
    """Cells below each other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def _in_place(lines: Sequence[str]) -> str:
    """What shows the lines over those that were there, the last ones if the screen is small, and no more than fits."""
    width, height = shutil.get_terminal_size()
    shown = [line[:width] + REST_OF_LINE for line in lines[-(height - 1) :]]
    return HOME + "\n".join(shown) + REST_OF_SCREEN
