"""How far an experiment is, cell by cell: `python scripts/status.py table3 [--seeds 5] [--model minilm] [--watch]`.

A line for each method, a column for each task, a sign for each seed: `+` done, `>` running, `x` failed, `.` to do.
Hours are known once something ran here, or after scripts/plan.py --probe. With --watch on a terminal the view renews
itself in place until all is done; Ctrl-C leaves it. Exit codes: 0 shown, 2 a mistake in the command line.
"""

import argparse
import json
import shutil
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.common.terminal import guarded
from lora2.experiments.cost.estimate import Estimate, as_json, estimate, hours, this_device
from lora2.experiments.status import JobStatus, State, survey
from lora2.experiments.sweep import add_selection, counts, select

SIGNS: dict[State, str] = {"done": "+", "running": ">", "failed": "x", "to do": "."}
SECONDS = 10  # between two views
HOME, REST_OF_LINE, REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Done, running, failed and to do, and the hours left.")
    add_selection(cli)
    cli.add_argument("--watch", action="store_true", help=f"renew every {SECONDS} seconds; only on a terminal")
    cli.add_argument("--json", action="store_true", help="every run as JSON, once")
    return cli


def view(name: str, standings: list[JobStatus], estimates: list[Estimate]) -> list[str]:
    """The whole picture: the table, what failed and why, the sum."""
    tasks = list(dict.fromkeys(standing.job.cfg.task for standing in standings))
    rows: dict[str, list[Estimate]] = defaultdict(list)
    for item in estimates:
        rows[method(item.standing)].append(item)
    body = [[row, *(signs(items, task) for task in tasks), left(items)] for row, items in rows.items()]
    failed = [error(standing) for standing in standings if standing.state == "failed"]
    return [*columns([["", *tasks, ""], *body]), *failed, f"{name}: {counts(standings)}; {left(estimates)}"]


def method(standing: JobStatus) -> str:
    """What tells the lines of the table apart."""
    axes = [axis.removeprefix("row=") for axis in standing.job.axes if not axis.startswith("task=")]
    return " ".join(axes) or standing.job.cfg.variant


def signs(items: list[Estimate], task: str) -> str:
    """One sign for each seed."""
    return "".join(SIGNS[item.standing.state] for item in items if item.standing.job.cfg.task == task)


def left(items: list[Estimate]) -> str:
    """Hours that are still to be spent."""
    total = hours([item.left for item in items])
    return "hours left unknown" if total is None else f"{total:.1f} h left"


def error(standing: JobStatus) -> str:
    """Why a run failed."""
    return f"x {standing.job.label}: {standing.error}"


def columns(lines: list[list[str]]) -> list[str]:
    """Cells below each other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]


def run(args: argparse.Namespace) -> int:
    """Show once, or again and again."""
    live = args.watch and sys.stdout.isatty()
    with suppress(*[KeyboardInterrupt] * live):
        while True:
            standings = survey(select(args))
            estimates = estimate(standings, this_device(standings))
            if args.json:
                print(json.dumps(as_json(estimates), indent=1, ensure_ascii=False))
                return 0
            lines = view(args.experiment, standings, estimates)
            print(in_place(lines) if live else "\n".join(lines), flush=True)
            if not live or all(standing.state == "done" for standing in standings):
                return 0
            time.sleep(SECONDS)
    return 0


def in_place(lines: list[str]) -> str:
    """What shows the lines over those that were there, the last ones if the screen is small, and no more than fits."""
    width, height = shutil.get_terminal_size()
    shown = [line[:width] + REST_OF_LINE for line in lines[-(height - 1) :]]
    return HOME + "\n".join(shown) + REST_OF_SCREEN


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_intermixed_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
