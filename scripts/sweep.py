"""Run an experiment's jobs in turn: `python scripts/sweep.py table3 [--seeds 5] [--model minilm] [task=rte]`.

Finished runs are skipped, a failing one does not stop the others, each is a process of its own. --dry-run lists the
jobs with their cost instead. Many machines: python scripts/train.py -m experiment=table3 hydra/launcher=submitit_slurm
Exit codes: 0 done, 1 a run failed, 2 a mistake in the command line, 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.cli import guarded, say
from lora2.estimate import estimate, this_device
from lora2.progress import Standing, survey
from lora2.sweep import add_selection, counts, do, select, start_run


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Run what is missing of an experiment.")
    add_selection(cli)
    cli.add_argument("--dry-run", action="store_true", help="list the jobs, their states and their cost; run nothing")
    return cli


def run(args: argparse.Namespace) -> int:
    """List or do."""
    standings = survey(select(args))
    say(f"{args.experiment}: {counts(standings)}")
    return listing(standings) if args.dry_run else do(standings, start_run)


def listing(standings: list[Standing]) -> int:
    """One line for each job: state, hours where known, and its command line."""
    for item in estimate(standings, this_device(standings)):
        time = "      –" if item.seconds is None else f"{item.seconds / 3600:6.2f}h"
        print(f"{item.standing.state:8} {time} {item.cost.steps:7,} steps  {' '.join(item.standing.job.overrides)}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_intermixed_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
