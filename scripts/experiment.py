"""Plan, run, follow or time the jobs of an experiment (configs/experiment).

    python scripts/experiment.py plan table1 [--probe | --gpu A100]     what it will cost
    python scripts/experiment.py run table3 [--seeds 5] [task=rte]      do what is missing; --dry-run lists it
    python scripts/experiment.py status table3 [--watch]                how far it is
    python scripts/experiment.py time table2                            seconds per step, all methods side by side

A finished run is skipped, a failing one does not stop the others, each is a process of its own; two of these at once
share the work. Exit codes: 0 done, 1 a run failed, 2 a mistake in the command line, 130 interrupted.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.terminal import guarded
from lora2.config.grid import Job, expand, experiments
from lora2.config.overrides import quote
from lora2.experiments.cost.show import show_plan
from lora2.experiments.cost.speed import gpu_names
from lora2.experiments.run_process import start_run
from lora2.experiments.status_view import show_status
from lora2.experiments.sweep import list_experiment, run_experiment
from lora2.experiments.timing import time_jobs

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
TRAIN = ROOT / "scripts" / "train.py"
start = partial(start_run, TRAIN)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line: a command, then an experiment and options and settings in any order."""
    arguments = sys.argv[1:] if argv is None else argv
    description, _, usage = (__doc__ or "").partition("\n")
    top = argparse.ArgumentParser(
        description=description, epilog=usage, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    top.add_argument("command", choices=COMMANDS, help="COMMAND --help lists its options")
    command = top.parse_args(arguments[:1]).command
    cli = argparse.ArgumentParser(prog=f"{top.prog} {command}")
    _add_selection(cli)
    add_options, run = COMMANDS[command]
    add_options(cli)
    cli.set_defaults(run=run)
    return cli.parse_intermixed_args(arguments[1:])


def jobs(args: argparse.Namespace) -> list[Job]:
    """List the jobs that the command line asks for."""
    chosen = {"model": args.model, "data": args.data}
    overrides = [f"{key}={value}" for key, value in chosen.items() if value]
    if args.data_dir:
        overrides.append(quote("data.dir", args.data_dir))
    return expand(args.experiment, [*overrides, *args.overrides], args.seeds, configs=CONFIGS)


def plan(args: argparse.Namespace) -> int:
    """Say what it will cost: steps, tokens, operations, memory, hours."""
    return show_plan(
        args.experiment,
        jobs(args),
        probe_with=start if args.probe else None,
        gpu_name=args.gpu,
        utilisation=args.utilisation,
        as_json=args.json,
        form=args.format,
    )


def run(args: argparse.Namespace) -> int:
    """Do what is missing, or list it."""
    if args.dry_run:
        return list_experiment(args.experiment, jobs(args), as_json=args.json)
    if args.json:
        raise UserError("--json: goes with --dry-run; the runs themselves leave JSON records")
    return run_experiment(args.experiment, jobs(args), start, TRAIN)


def status(args: argparse.Namespace) -> int:
    """Show how far it is."""
    return show_status(args.experiment, jobs(args), TRAIN, watch=args.watch, as_json=args.json, form=args.format)


def time(args: argparse.Namespace) -> int:
    """Time the steps of its methods side by side."""
    return time_jobs(jobs(args))


def _add_selection(cli: argparse.ArgumentParser) -> None:
    """Which jobs: an experiment and what is changed in all of them."""
    cli.add_argument("experiment", metavar="EXPERIMENT", help=f"one of: {', '.join(experiments(CONFIGS))}")
    cli.add_argument("--seeds", type=int, metavar="N", help="seeds 0 ... N-1 instead of the experiment's own")
    cli.add_argument("--model", help="backbone instead of the experiment's own: minilm, deberta_v3_base ...")
    cli.add_argument("--data", choices=("hub", "local", "demo"), help="data instead of the experiment's own")
    cli.add_argument("--data-dir", metavar="DIR", help="folder of the official GLUE download, for --data local")
    cli.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further settings: task=rte,mrpc recipe=short")


def _plan_options(cli: argparse.ArgumentParser) -> None:
    how = cli.add_mutually_exclusive_group()
    how.add_argument("--probe", action="store_true", help="first time 20 steps of each method on this device")
    how.add_argument("--gpu", metavar="NAME", help=f"hours on this GPU: {', '.join(gpu_names())}")
    cli.add_argument("--utilisation", type=float, default=0.35, help="share of the GPU's peak that is reached")
    cli.add_argument("--json", action="store_true", help="every run as JSON")
    _add_format(cli)


def _run_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--dry-run", action="store_true", help="list the jobs, their states and their cost; run nothing")
    cli.add_argument("--json", action="store_true", help="with --dry-run: the list as JSON")


def _status_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--watch", action="store_true", help="renew every few seconds; only on a terminal")
    cli.add_argument("--json", action="store_true", help="every run as JSON, once")
    _add_format(cli)


def _add_format(cli: argparse.ArgumentParser) -> None:
    cli.add_argument(
        "--format", choices=("text", "markdown"), help="of the table; default: text on a terminal, else markdown"
    )


def _no_options(cli: argparse.ArgumentParser) -> None:
    """The selection is all there is to choose."""


COMMANDS = {
    "plan": (_plan_options, plan),
    "run": (_run_options, run),
    "status": (_status_options, status),
    "time": (_no_options, time),
}


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parse(argv)
    return guarded(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
