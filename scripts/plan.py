"""What an experiment will cost: `python scripts/plan.py table1 [--probe | --gpu A100] [--model minilm] [--json]`.

Steps, real tokens, padded positions, operations, peak memory, hours, and what is done already. Hours come from
--probe (a few real runs of 20 steps on this device, remembered), from runs that are done, or from a named GPU's data
sheet. How each number is made: lora2/experiments/cost/plan.py and lora2/experiments/cost/speed.py.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.common.errors import UserError
from lora2.common.rendering import render
from lora2.common.terminal import guarded, say
from lora2.experiments.cost.estimate import as_json, as_table, estimate, gpu, hours, this_device
from lora2.experiments.cost.lengths import measure
from lora2.experiments.cost.speed import gpu_names, probe_overrides, probes
from lora2.experiments.launch import start_run
from lora2.experiments.status import JobStatus, survey
from lora2.experiments.sweep import add_selection, counts, select


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Cost of an experiment before it starts.")
    add_selection(cli)
    how = cli.add_mutually_exclusive_group()
    how.add_argument("--probe", action="store_true", help="first time 20 steps of each method on this device")
    how.add_argument("--gpu", metavar="NAME", help=f"hours on this GPU: {', '.join(gpu_names())}")
    cli.add_argument("--utilisation", type=float, default=0.35, help="share of the GPU's peak that is reached")
    cli.add_argument("--json", action="store_true", help="every run as JSON")
    return cli


def run(args: argparse.Namespace) -> int:
    """Probe if asked, then print."""
    if not 0 < args.utilisation <= 1:
        raise UserError(f"--utilisation: got {args.utilisation:g}; allowed is a share above 0, up to 1")
    standings = survey(select(args))
    failed = probe(standings) if args.probe else 0
    speed_of = gpu(args.gpu, args.utilisation) if args.gpu else this_device(standings)
    estimates = estimate(standings, speed_of)
    if args.json:
        print(json.dumps(as_json(estimates), indent=1, ensure_ascii=False))
        return failed
    print(render([as_table(f"Plan of {args.experiment}", estimates)], "markdown"), end="")
    left = hours([item.left for item in estimates])
    say(f"{counts(standings)}; hours left: {'unknown' if left is None else f'{left:,.1f}'}")
    return failed


def probe(standings: list[JobStatus]) -> int:
    """The probes of an experiment, one after the other; 1 if any failed."""
    jobs = [standing.job for standing in standings]
    measure(job.cfg for job in jobs)
    chosen = probes(jobs)
    failed = 0
    for index, job in enumerate(chosen, 1):
        say(f"probe {index}/{len(chosen)}: {job.label}")
        failed |= int(start_run(probe_overrides(job.overrides)).code != 0)
    return failed


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_intermixed_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
