"""Seconds per step of an experiment's methods on one task, side by side: one process, the same real batches, each batch
to every method in turn, in shuffled order. What the paper's Table 2 states, without what changes between two runs.
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lora2.config.identity import run_id, setting_id, timed_id
from lora2.config.schedule import settle_budget
from lora2.config.schema import RunConfig
from lora2.experiments.bench.configured import configured_runner
from lora2.experiments.bench.measure import Runner, best_device
from lora2.glue.batches import BatchSampler
from lora2.glue.loader import StepDataset
from lora2.glue.raw import RawTask
from lora2.glue.tokens import TokenisedSplit, tokenise
from lora2.models.backbone import load_tokenizer, quiet_transformers
from lora2.runs.provenance import provenance
from lora2.runs.record import RunRecord, Timing
from lora2.training.recording import counts_of, device_name, record_config

WARM_UP = 2  # rounds that are not counted: libraries choose their kernels

Round = dict[str, Tensor]  # the batch that all methods get in turn


def time_task(cfgs: Sequence[RunConfig], raw: RawTask) -> list[RunRecord]:
    """A record with status "timed" for each config. They differ in the method alone, and in what its recipe says of it.

    Args:
        cfgs: as resolved; their steps are the rounds, the first of which are not counted.
    """
    quiet_transformers()
    started, device, first = time.perf_counter(), best_device(), cfgs[0]
    tokenizer = load_tokenizer(first.model, raw)
    train = tokenise(raw, tokenizer, first.recipe.max_length, Path(first.output_dir) / "tokens")["train"]
    rounds = _rounds(first, train, int(tokenizer.pad_token_id or 0), device)
    settled = [settle_budget(cfg, len(train)) for cfg in cfgs]
    runners = [configured_runner(cfg, len(train), device) for cfg, _ in settled]
    seconds: list[list[float]] = [[] for _ in cfgs]
    order = np.random.default_rng(0)
    bar = tqdm(rounds, desc=f"{first.task}, {len(cfgs)} methods", unit="round", disable=None, dynamic_ncols=True)
    for step, each in enumerate(bar):
        for index in order.permutation(len(cfgs)):
            seconds[index].append(runners[index].step(each, step))
    wall = time.perf_counter() - started
    together = f"timed in turn with {', '.join(cfg.variant for cfg in cfgs)}"
    records = []
    for cfg, (used, scaled), runner, each_seconds in zip(cfgs, settled, runners, seconds, strict=True):
        named = {
            "run_id": timed_id(run_id(cfg, raw.fingerprint)),
            "config": record_config(used, setting_id(cfg, raw.fingerprint)),
            "synthetic": raw.synthetic,
            "model_random_init": cfg.model.random_init,
            "notes": [
                *raw.warnings,
                *scaled,
                f"{together}: {len(rounds) - WARM_UP} rounds after {WARM_UP} that are not counted",
            ],
            "hashes": {"data": raw.fingerprint},
        }
        records.append(_record(named, runner, each_seconds, rounds, wall))
    return records


def _rounds(cfg: RunConfig, train: TokenisedSplit, pad_id: int, device: torch.device) -> list[Round]:
    """The batches that a run of one process would take, one after the other."""
    recipe = cfg.recipe
    plan = BatchSampler(train.lengths, recipe.batch_size, seed=cfg.seed, group_by_length=recipe.group_by_length)
    batches = StepDataset(train, plan, pad_id, recipe.padded_to, rank=0, world=1, accumulation=1)
    steps = (batches[step].parts[0].tensors for step in range(recipe.total_steps(len(train))))
    return [{name: x.to(device) for name, x in tensors.items()} for tensors in steps]


def _record(
    named: dict[str, Any], runner: Runner, seconds: Sequence[float], rounds: Sequence[Round], wall: float
) -> RunRecord:
    """What was measured; `named` is what was known before, `wall` is of the whole comparison."""
    counted, phases = seconds[WARM_UP:], runner.seconds[WARM_UP:]
    tokens = [int(each["attention_mask"].sum()) for each in rounds]
    train, positions = sum(counted), sum(each["input_ids"].numel() for each in rounds)
    counts = runner.method.count_parameters()
    return RunRecord(
        **named,
        status="timed",
        counts=counts_of(counts),
        ranks=counts.ranks,
        padding_share=1 - sum(tokens) / positions,
        steps=len(seconds),
        tokens=sum(tokens),
        positions=positions,
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
