"""What the sweep's scripts share: choosing jobs on the command line, listing them, doing them one after the other."""

import argparse
import json
from collections.abc import Callable, Iterable, Sequence

from lora2.common.terminal import BUSY, INTERRUPTED, say
from lora2.config.grid import Job, expand, experiments
from lora2.experiments.cost.estimate import as_json, estimate, this_device
from lora2.experiments.launch import Ended
from lora2.experiments.status import STATES, JobStatus


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


def listing(standings: Sequence[JobStatus], *, as_data: bool) -> str:
    """One line for each job: state, hours where known, steps, and its command line; or everything as JSON."""
    estimates = estimate(standings, this_device(standings))
    if as_data:
        return json.dumps(as_json(estimates), indent=1, ensure_ascii=False)
    lines = []
    for item in estimates:
        time = "      –" if item.seconds is None else f"{item.seconds / 3600:6.2f}h"
        overrides = " ".join(item.standing.job.overrides)
        lines.append(f"{item.standing.state:8} {time} {item.cost.steps:7,} steps  {overrides}")
    return "\n".join(lines)


def do(standings: Sequence[JobStatus], start: Callable[[Iterable[str]], Ended]) -> int:
    """Every job that is to do or has failed before; a failing one does not stop the others.

    Args:
        start: does the run of a command line.

    Returns:
        0 unless a job failed (1) or was interrupted (130).
    """
    waiting = [standing.job for standing in standings if standing.state in ("to do", "failed")]
    before, elsewhere, failures = count(standings, "done"), count(standings, "running"), []
    for index, job in enumerate(waiting, 1):
        say(f"[{index}/{len(waiting)}] {job.label}")
        ended = start(job.overrides)
        if ended.interrupted:
            say(f"interrupted at {job.label}; the same command goes on from here")
            return INTERRUPTED
        if ended.code == BUSY:
            say(f"left to another process: {job.label}")
            elsewhere += 1
        elif ended.code:
            say(f"FAILED: {job.label}: {ended.reason}")
            command = f"python scripts/train.py {' '.join(job.overrides)}"
            failures.append(f"{job.label}: {ended.reason}\n    {command}")
    now = len(standings) - before - elsewhere - len(failures)
    parts = [f"{now} done now", f"{before} done before", f"{len(failures)} failed"]
    parts += [f"{elsewhere} left to another process"] * bool(elsewhere)
    say("\n  ".join([f"{len(standings)} runs: {', '.join(parts)}", *failures]))
    return 1 if failures else 0


def count(standings: Sequence[JobStatus], state: str) -> int:
    """Jobs in a state."""
    return sum(standing.state == state for standing in standings)


def counts(standings: Sequence[JobStatus]) -> str:
    """All states in one line."""
    return ", ".join(f"{count(standings, state)} {state}" for state in STATES)
