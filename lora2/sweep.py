"""What the sweep's scripts share: choosing jobs on the command line, and doing them one after the other."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lora2.cli import INTERRUPTED, say
from lora2.experiments import Job, expand, experiments
from lora2.progress import STATES, Standing
from lora2.signals import STOPPING

TRAIN = Path(__file__).resolve().parent.parent / "scripts" / "train.py"


def add_selection(cli: argparse.ArgumentParser) -> None:
    """Which jobs: an experiment and what is changed in all of them."""
    cli.add_argument("experiment", metavar="EXPERIMENT", help=f"one of: {', '.join(experiments())}")
    cli.add_argument("--seeds", type=int, metavar="N", help="seeds 0 ... N-1 instead of the experiment's own")
    cli.add_argument("--model", help="backbone instead of the experiment's own: minilm, deberta_v3_base ...")
    cli.add_argument("--data", choices=("hub", "local", "demo"), help="data instead of the experiment's own")
    cli.add_argument("--data-dir", metavar="DIR", help="folder of the official GLUE download, for --data local")
    cli.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further settings: task=rte,mrpc recipe=short")


def select(args: argparse.Namespace) -> list[Job]:
    """The jobs that the command line asks for."""
    chosen = {"model": args.model, "data": args.data, "data.dir": args.data_dir}
    overrides = [f"{key}={value}" for key, value in chosen.items() if value]
    return expand(args.experiment, [*overrides, *args.overrides], args.seeds)


def start_run(overrides: Iterable[str]) -> int:
    """One run in a process of its own; its exit code."""
    return subprocess.run([sys.executable, str(TRAIN), *overrides], check=False).returncode


def do(standings: Sequence[Standing], start: Callable[[Iterable[str]], int]) -> int:
    """Every job that is to do or has failed before; a failing one does not stop the others.

    Args:
        start: runs a command line and returns its exit code.

    Returns:
        0 unless a job failed (1) or was interrupted (130).
    """
    waiting = [standing.job for standing in standings if standing.state in ("to do", "failed")]
    failures = []
    for index, job in enumerate(waiting, 1):
        say(f"[{index}/{len(waiting)}] {job.label}")
        code = start(job.overrides)
        if was_stopped(code):
            say(f"interrupted at {job.label}; the same command goes on from here")
            return INTERRUPTED
        if code:
            say(f"FAILED (exit code {code}): {job.label}")
            failures.append(f"{job.label}: python scripts/train.py {' '.join(job.overrides)}")
    say(summary(standings, len(waiting), failures))
    return 1 if failures else 0


def was_stopped(code: int) -> bool:
    """Whether an exit code says that someone stopped the job, so that the sweep must end; else it died by itself, for
    example by the system's out-of-memory killer.
    """
    return any(code in (128 + number, -number) for number in STOPPING)


def summary(standings: Sequence[Standing], started: int, failures: Sequence[str]) -> str:
    """What a sweep did, and how to try again what failed."""
    elsewhere = sum(standing.state == "running" for standing in standings)
    lines = [
        f"{len(standings)} runs: {started - len(failures)} done now, {count(standings, 'done')} done before, "
        f"{len(failures)} failed" + (f", {elsewhere} running in another process" if elsewhere else "")
    ]
    return "\n  ".join([*lines, *failures])


def count(standings: Sequence[Standing], state: str) -> int:
    """Jobs in a state."""
    return sum(standing.state == state for standing in standings)


def counts(standings: Sequence[Standing]) -> str:
    """All states in one line."""
    return ", ".join(f"{count(standings, state)} {state}" for state in STATES)
