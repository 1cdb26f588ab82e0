"""Seconds per step of an experiment's methods, side by side: `python scripts/time_methods.py table2 [task=rte,mrpc]`.

For each task one process builds every method and gives each batch to all of them in turn; the records go to
results/runs with status "timed". A task whose methods all have one is skipped; force=true measures again.
Exit codes: 0 done, 2 a mistake in the command line.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a clone works without being installed

from lora2.cli import guarded, say
from lora2.config import RunConfig, run_id
from lora2.errors import UserError
from lora2.glue.data import load_raw
from lora2.model_source import weight_source
from lora2.records import read_record, record_path, write_record
from lora2.sweep import add_selection, select

ROUNDS = (4, 1000)  # tensors of every round are kept: all methods get the same


def parser() -> argparse.ArgumentParser:
    """The command line."""
    cli = argparse.ArgumentParser(description="Time the steps of an experiment's methods side by side.")
    add_selection(cli)
    return cli


def run(args: argparse.Namespace) -> int:
    """Time what is missing, task by task."""
    cfgs = [job.cfg for job in select(args)]
    check(cfgs)
    for _, group in itertools.groupby(cfgs, key=lambda cfg: (cfg.task, cfg.seed)):
        time_group(list(group))
    return 0


def check(cfgs: Sequence[RunConfig]) -> None:
    """Refuse what cannot be timed side by side."""
    first = cfgs[0]
    for cfg in cfgs:
        if cfg.recipe.max_steps is None or not ROUNDS[0] <= cfg.recipe.max_steps <= ROUNDS[1]:
            raise UserError(
                f"recipe.max_steps: got {cfg.recipe.max_steps}; allowed are {ROUNDS[0]} to {ROUNDS[1]} rounds, for "
                f"example recipe.max_steps=50"
            )
        if cfg.recipe.accumulation != 1 or cfg.recipe.precision == "fp16":
            raise UserError("recipe: timing takes accumulation 1 and fp32 or bf16; for example recipe.precision=fp32")
        if cfg.model != first.model:
            raise UserError("model: timing side by side takes one model; for example --model minilm")
        if not cfg.model.random_init:
            weight_source(cfg.model)  # fetched, or refused


def time_group(cfgs: Sequence[RunConfig]) -> None:
    """One task's methods, unless all have their record."""
    first = cfgs[0]
    raw = load_raw(first.task, first.data.source, None if first.data.dir is None else Path(first.data.dir))
    paths = [record_path(cfg.results_dir, run_id(cfg, raw.fingerprint)) for cfg in cfgs]
    known = {path: read_record(path).status for path in paths if path.exists()}
    if trained := [path for path, status in known.items() if status == "ok"]:
        raise UserError(f"results_dir: {trained[0]} is of a trained run; allowed is another folder: results_dir=DIR")
    if not first.force and list(known.values()) == ["timed"] * len(paths):
        say(f"{first.task}: timed already; force=true measures again")
        return
    from lora2.bench.side_by_side import time_task  # imports torch

    for record in time_task(cfgs, raw):
        assert record.timing is not None
        write_record(record, first.results_dir)
        say(f"{first.task}: {record.config.variant}: {record.timing.seconds_per_step:.3f} s per step")


def main(argv: list[str] | None = None) -> int:
    """Entry point."""
    return guarded(run, parser().parse_intermixed_args(argv))


if __name__ == "__main__":
    raise SystemExit(main())
