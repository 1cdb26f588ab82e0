"""Seconds per step of an experiment's methods on one task, side by side: one process, the same real batches, each batch
to every method in turn, in shuffled order. What the paper's Table 2 states, without what changes between two runs.
"""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lora2.config.identity import run_id, setting_id, timed_id
from lora2.config.schedule import settle_budget
from lora2.config.schema import RunConfig
from lora2.experiments.bench.configured import configured_runner
from lora2.experiments.bench.measure import Runner
from lora2.glue.loader import StepBatch
from lora2.glue.raw import RawTask
from lora2.models.backbone import quiet_transformers
from lora2.runs.provenance import provenance
from lora2.runs.record import RunRecord, Timing
from lora2.training.build import build_accelerator
from lora2.training.data import TaskData, load_task_data, train_batches
from lora2.training.recording import counts_of, device_name, known_fields

WARM_UP = 2  # rounds that are not counted: libraries choose their kernels


def time_task(cfgs: Sequence[RunConfig], raw: RawTask) -> list[RunRecord]:
    """Time each config's steps, and return a record with status "timed" for each.

    Args:
        cfgs: as resolved; they differ in the method alone, and in what its recipe says of it. Their steps are the
            rounds, the first of which are not counted.
    """
    quiet_transformers()
    started, first = time.perf_counter(), cfgs[0]
    accelerator = build_accelerator(first.recipe.precision)
    data = load_task_data(first, raw)
    rounds = _rounds(first, data, accelerator.device)
    settled = [settle_budget(cfg, len(data.splits["train"])) for cfg in cfgs]
    runners = [configured_runner(cfg, data, accelerator) for cfg, _ in settled]
    seconds = _time_in_turn(runners, rounds, first.task)
    wall = time.perf_counter() - started
    variants, counted = ", ".join(cfg.variant for cfg in cfgs), len(rounds) - WARM_UP
    note = f"timed in turn with {variants}: {counted} rounds after {WARM_UP} that are not counted"
    records = []
    for cfg, (used, scaled), runner, own in zip(cfgs, settled, runners, seconds, strict=True):
        name, setting = timed_id(run_id(cfg, raw.fingerprint)), setting_id(cfg, raw.fingerprint)
        known = known_fields(used, raw, name, setting, [*raw.warnings, *scaled, note])
        records.append(_record(known, runner, own, rounds, wall))
    return records


def _time_in_turn(runners: Sequence[Runner], rounds: Sequence[StepBatch], task: str) -> list[list[float]]:
    """Give each batch to every runner, in shuffled order; returns the seconds of each runner's steps."""
    seconds: list[list[float]] = [[] for _ in runners]
    order = np.random.default_rng(0)
    bar = tqdm(rounds, desc=f"{task}, {len(runners)} methods", unit="round", disable=None, dynamic_ncols=True)
    for step, batch in enumerate(bar):
        for index in order.permutation(len(runners)):
            seconds[index].append(runners[index].step(batch, step))
    return seconds


def _rounds(cfg: RunConfig, data: TaskData, device: torch.device) -> list[StepBatch]:
    """Return the batches that a run of one process would take, one after the other."""
    steps = range(cfg.recipe.total_steps(len(data.splits["train"])))
    batches = train_batches(data, cfg.recipe, cfg.seed, device=device.type)
    return [batches[step].to(device) for step in steps]


def _record(
    known: dict[str, Any], runner: Runner, seconds: Sequence[float], rounds: Sequence[StepBatch], wall: float
) -> RunRecord:
    """Return the record of what was measured; `known` as from `known_fields`, `wall` is of the whole comparison."""
    counted, phases = seconds[WARM_UP:], runner.seconds[WARM_UP:]
    inputs = [each.parts[0].inputs for each in rounds]
    tokens = [int(each["attention_mask"].sum()) for each in inputs]
    train, padded_tokens = sum(counted), sum(each["input_ids"].numel() for each in inputs)
    counts = runner.method.count_parameters()
    return RunRecord(
        **known,
        status="timed",
        counts=counts_of(counts),
        ranks=counts.ranks,
        padding_share=1 - sum(tokens) / padded_tokens,
        steps=len(seconds),
        tokens=sum(tokens),
        padded_tokens=padded_tokens,
        timing=Timing(
            wall_s=wall,
            train_s=train,
            eval_s=0.0,
            seconds_per_step=statistics.median(counted),
            tokens_per_s=sum(tokens[WARM_UP:]) / train,
            shares={name: sum(step[name] for step in phases) / train for name in sorted(phases[0])},
        ),
        provenance=provenance(device_name(runner.device)),
    )
