"""Seconds per step of an experiment's methods, side by side.

For each task and seed one process builds every method and gives each batch to all of them in turn; the records get the
status "timed". A group whose methods all have one is skipped unless force=true.
"""

from collections import defaultdict
from collections.abc import Sequence

from lora2.common.errors import UserError
from lora2.common.voice import say
from lora2.config.grid import Job
from lora2.config.identity import run_id, timed_id
from lora2.config.schema import RunConfig
from lora2.config.task import load_data
from lora2.models.weights import weight_source
from lora2.runs.places import record_paths
from lora2.runs.record import write_record
from lora2.training.environment import forget_variables

ROUNDS = (4, 1000)  # tensors of every round are kept: all methods get the same
SHARED = {"batch_size", "max_length", "padding", "group_by_length", "precision", "max_steps", "accumulation"}


def time_jobs(jobs: Sequence[Job]) -> int:
    """Time what is missing, task by task; one that fails does not stop the others.

    Returns:
        0 done, 1 a task failed.

    Raises:
        UserError: the jobs cannot be timed side by side; nothing was.
    """
    for note in forget_variables():
        say(f"note: {note}")
    groups: dict[tuple[str, int], list[RunConfig]] = defaultdict(list)
    for job in jobs:
        groups[job.cfg.task, job.cfg.seed].append(job.cfg)
    for cfgs in groups.values():
        _check(cfgs)
    return max(_time_group(cfgs) for cfgs in groups.values())


def _check(cfgs: Sequence[RunConfig]) -> None:
    """Refuse what cannot be timed side by side."""
    first = cfgs[0]
    steps, accumulation, precision = first.recipe.max_steps, first.recipe.accumulation, first.recipe.precision
    if steps is None or not ROUNDS[0] <= steps <= ROUNDS[1]:
        raise UserError(
            f"recipe.max_steps: got {steps}; timing takes {ROUNDS[0]} to {ROUNDS[1]} rounds: recipe.max_steps=50"
        )
    if accumulation != 1:
        raise UserError(f"recipe.accumulation: got {accumulation}; timing allows 1: recipe.accumulation=1")
    if precision == "fp16":
        raise UserError("recipe.precision: got fp16; timing allows fp32 and bf16: recipe.precision=bf16")
    for cfg in cfgs:
        _check_alike(cfg, first)
    if not first.model.random_init:
        weight_source(first.model)  # fetched, or refused


def _check_alike(cfg: RunConfig, first: RunConfig) -> None:
    """Refuse two methods that cannot get the same batches."""
    for name, mine, others in (
        ("model", cfg.model, first.model),
        ("data", cfg.data, first.data),
        ("recipe", cfg.recipe.model_dump(include=SHARED), first.recipe.model_dump(include=SHARED)),
    ):
        if mine != others:
            raise UserError(
                f"{name}: {cfg.variant} and {first.variant} on {cfg.task} differ in it; choose one for all, as all "
                f"methods get the same batches"
            )


def _time_group(cfgs: Sequence[RunConfig]) -> int:
    """Time one task's methods, unless all have their record; 1 if it failed."""
    first = cfgs[0]
    raw = load_data(first)
    places = [record_paths(cfg.results_dir, timed_id(run_id(cfg, raw.fingerprint))) for cfg in cfgs]
    if not first.force and all(any(path.exists() for path in paths) for paths in places):
        say(f"{first.task}: timed already; force=true measures again")
        return 0
    steps = first.recipe.total_steps(len(raw.splits["train"]))
    if steps < ROUNDS[0]:
        raise UserError(
            f"recipe.epochs: got {steps} rounds, as {first.task} has few examples here; raise it until there are at "
            f"least {ROUNDS[0]}"
        )
    from lora2.experiments.bench.side_by_side import time_task  # imports torch
    from lora2.training.failure import explain

    try:
        for record in time_task(cfgs, raw):
            assert record.timing is not None
            write_record(record, first.results_dir)
            say(f"{first.task}: {record.config.variant}: {record.timing.seconds_per_step:.3f} s per step")
    except UserError:
        raise
    except Exception as error:  # out of memory, a full disk: the other tasks go on
        failure = explain(error)
        say(f"{first.task}: {failure.status}: {failure.reason}")
        return 1
    return 0
