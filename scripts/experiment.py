"""Plan, run, follow or time the jobs of an experiment (configs/experiment); search rates, and do a whole study.

    python scripts/experiment.py plan table1 [--probe | --gpu A100]     what it will cost
    python scripts/experiment.py run table3 [--seeds 5] [task=rte]      do what is missing; --dry-run lists it
    python scripts/experiment.py status table3 [--watch]                how far it is
    python scripts/experiment.py time table2                            seconds per step, all methods side by side
    python scripts/experiment.py tune --model mpnet [--write]           each method's own rates, on held-out data
    python scripts/experiment.py study --model mpnet                    what is missing of both comparisons of the study

A finished run is skipped, a failing one does not stop the others; two of these at once share the work. One process does
run after run (--own-process: one for each). Exit codes: 0 done, 1 a run failed, 2 a mistake in the command line,
130 interrupted.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from lora2.common.errors import UserError
from lora2.common.terminal import guarded
from lora2.config.grid import Job, expand, experiments
from lora2.config.overrides import quote
from lora2.experiments.cost.show import UTILISATION, show_plan
from lora2.experiments.cost.speed import gpu_names
from lora2.experiments.run_process import start_run
from lora2.experiments.status_view import show_status
from lora2.experiments.study import run_study, study_jobs
from lora2.experiments.sweep import Start, list_experiment, run_experiment
from lora2.experiments.timing import time_jobs
from lora2.experiments.tune import TRIALS, trial_jobs
from lora2.experiments.tune import tune as tune_model

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
TRAIN = ROOT / "scripts" / "train.py"
STUDIED = "mpnet"  # the model of the study, unless another is named
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
    add_options, run = COMMANDS[command]
    if command not in WHOLE:
        cli.add_argument("experiment", metavar="EXPERIMENT", help=f"one of: {', '.join(experiments(CONFIGS))}")
    _add_selection(cli)
    add_options(cli)
    cli.set_defaults(run=run)
    return cli.parse_intermixed_args(arguments[1:])


def jobs(args: argparse.Namespace) -> list[Job]:
    """List the jobs that the command line asks for."""
    model = [f"model={args.model}"] if args.model else []
    return expand(args.experiment, [*model, *changes(args)], args.seeds, configs=CONFIGS)


def changes(args: argparse.Namespace) -> list[str]:
    """List what the command line changes in all jobs, their model apart."""
    data = [f"data={args.data}"] if args.data else []
    folder = [quote("data.dir", args.data_dir)] if args.data_dir else []
    return [*data, *folder, *args.overrides]


@contextmanager
def starter(args: argparse.Namespace, chosen: Sequence[Job]) -> Iterator[Start]:
    """Yield what does a job: one process for all of them, or one for each where that was asked for.

    A tracker has one run in a process.
    """
    if args.own_process or any(job.cfg.tracker.name != "none" for job in chosen):
        yield start
        return
    from lora2.experiments.worker import Worker, worker_command

    with Worker(worker_command(CONFIGS, TRAIN.with_name("export.py"))) as worker:
        yield worker


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
    chosen = jobs(args)
    with starter(args, chosen) as does:
        return run_experiment(args.experiment, chosen, does, TRAIN)


def tune(args: argparse.Namespace) -> int:
    """Do the trials that are missing, and choose each method's rates; or list the trials."""
    model = args.model or STUDIED
    chosen = trial_jobs(model, changes(args), args.seeds, args.trials, configs=CONFIGS)
    if args.dry_run:
        return list_experiment(f"tune {model}", chosen, as_json=args.json)
    with starter(args, chosen) as does:
        return tune_model(model, chosen, does, TRAIN, write=args.write)


def study(args: argparse.Namespace) -> int:
    """Do what is missing of both comparisons, or list it."""
    model = args.model or STUDIED
    chosen = study_jobs(model, changes(args), args.seeds, configs=CONFIGS)
    if args.dry_run:
        return list_experiment(f"study {model}", chosen, as_json=args.json)
    with starter(args, chosen) as does:
        return run_study(model, chosen, does, TRAIN)


def status(args: argparse.Namespace) -> int:
    """Show how far it is."""
    return show_status(args.experiment, jobs(args), TRAIN, watch=args.watch, as_json=args.json, form=args.format)


def time(args: argparse.Namespace) -> int:
    """Time the steps of its methods side by side."""
    return time_jobs(jobs(args))


def _add_selection(cli: argparse.ArgumentParser) -> None:
    """Which jobs: what is changed in all of them."""
    cli.add_argument("--seeds", type=int, metavar="N", help="seeds 0 ... N-1 instead of the experiment's own")
    cli.add_argument("--model", help="backbone instead of the experiment's own: minilm, deberta_v3_base ...")
    cli.add_argument("--data", choices=("hub", "local", "demo"), help="data instead of the experiment's own")
    cli.add_argument("--data-dir", metavar="DIR", help="folder of the official GLUE download, for --data local")
    cli.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="further settings: task=rte,mrpc recipe=short")


def _plan_options(cli: argparse.ArgumentParser) -> None:
    how = cli.add_mutually_exclusive_group()
    how.add_argument("--probe", action="store_true", help="first time 20 steps of each method on this device")
    how.add_argument("--gpu", metavar="NAME", help=f"hours on this GPU: {', '.join(gpu_names())}")
    cli.add_argument("--utilisation", type=float, metavar="SHARE", help=f"of --gpu's peak; default: {UTILISATION}")
    cli.add_argument("--json", action="store_true", help="every run as JSON")
    _add_format(cli)


def _run_options(cli: argparse.ArgumentParser) -> None:
    cli.add_argument("--dry-run", action="store_true", help="list the jobs, their states and their cost; run nothing")
    cli.add_argument("--json", action="store_true", help="with --dry-run: the list as JSON")
    cli.add_argument("--own-process", action="store_true", help="a process of its own for each run")


def _tune_options(cli: argparse.ArgumentParser) -> None:
    _run_options(cli)
    cli.add_argument("--trials", type=int, default=TRIALS, metavar="N", help="of each method on each task, even")
    cli.add_argument("--write", action="store_true", help="write what was chosen to results/tuned/MODEL.yaml")


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
    "tune": (_tune_options, tune),
    "study": (_run_options, study),
}
WHOLE = ("tune", "study")  # of a model; they know their experiments


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    args = parse(argv)
    return guarded(args.run, args)


if __name__ == "__main__":
    sys.exit(main())
