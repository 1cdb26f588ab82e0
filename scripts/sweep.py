"""Run an experiment's jobs in turn: `python scripts/sweep.py table3 [--seeds 5] [--model minilm] [task=rte]`.

Finished runs are skipped, a failing one does not stop the others, each is a process of its own. --dry-run lists the
jobs with their cost instead. Many machines: python scripts/train.py -m experiment=table3 hydra/launcher=submitit_slurm
Two sweeps at once share the work: a job that another process is doing is left to it.
Exit codes: 0 done, 1 a run failed, 2 a mistake in the command line, 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.common.errors import UserError
from lora2.common.terminal import guarded, say
from lora2.experiments.launch import start_run
from lora2.experiments.status import survey
from lora2.experiments.sweep import add_selection, counts, do, listing, select


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Run what is missing of an experiment.")
    add_selection(cli)
    cli.add_argument("--dry-run", action="store_true", help="list the jobs, their states and their cost; run nothing")
    cli.add_argument("--json", action="store_true", help="with --dry-run: the list as JSON")
    return cli


def run(args: argparse.Namespace) -> int:
    """List or do."""
    if args.json and not args.dry_run:
        raise UserError("--json: goes with --dry-run; the runs themselves leave JSON records")
    standings = survey(select(args))
    say(f"{args.experiment}: {counts(standings)}")
    if not args.dry_run:
        return do(standings, start_run)
    print(listing(standings, as_data=args.json))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_intermixed_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
