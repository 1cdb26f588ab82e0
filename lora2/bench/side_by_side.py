"""Seconds per step of an experiment's methods on one task, side by side: one process, the same real batches, each batch
to every method in turn, in shuffled order. What the paper's Table 2 states, without what changes between two runs.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn
from tqdm import tqdm

from lora2.bench.measure import Runner, best_device
from lora2.config import RunConfig, run_id, setting_id, timed_id
from lora2.errors import UserError
from lora2.glue.batches import RunPlan, collate
from lora2.glue.raw import RawTask
from lora2.glue.tasks import TASKS, TaskSpec
from lora2.glue.tokens import TokenisedSplit, tokenise
from lora2.methods import build
from lora2.models import load_model, load_tokenizer, quiet_transformers
from lora2.optimization import optimizer_groups
from lora2.provenance import provenance
from lora2.recording import counts_of, device_name, record_config
from lora2.records import RunRecord, Timing
from lora2.run import settle_budget
from lora2.trainer import task_loss

LEAST_ROUNDS = 4
WARM_UP = 2  # rounds that are not counted: libraries choose their kernels


@dataclass(frozen=True)
class Round:
    """One batch on its way through every method: its tensors, its real tokens, its positions with padding."""

    tensors: dict[str, Tensor]
    tokens: int
    positions: int


def time_task(cfgs: Sequence[RunConfig], raw: RawTask) -> list[RunRecord]:
    """A record with status "timed" for each config. They differ in the method alone, and in what its recipe says of it.

    Args:
        cfgs: as resolved; their steps are the rounds, the first of which are not counted.

    Raises:
        UserError: the data is too small for so many rounds.
    """
    quiet_transformers()
    started, device, first = time.perf_counter(), best_device(), cfgs[0]
    tokenizer = load_tokenizer(first.model, raw)
    train = tokenise(raw, tokenizer, first.recipe.max_length, Path(first.output_dir) / "tokens")["train"]
    if first.recipe.total_steps(len(train)) < LEAST_ROUNDS:
        raise UserError(
            f"recipe.epochs: {first.task} has too few examples here; allowed are {LEAST_ROUNDS} rounds or more"
        )
    rounds = _rounds(first, train, int(tokenizer.pad_token_id or 0), device)
    runners = [_runner(cfg, len(train), device) for cfg in cfgs]
    seconds: list[list[float]] = [[] for _ in cfgs]
    order = np.random.default_rng(0)
    bar = tqdm(rounds, desc=f"{first.task}, {len(cfgs)} methods", unit="round", disable=None, dynamic_ncols=True)
    for step, each in enumerate(bar):
        for index in order.permutation(len(cfgs)):
            seconds[index].append(runners[index].step(each.tensors, step))
    wall = time.perf_counter() - started
    together = f"timed in turn with {', '.join(cfg.variant for cfg in cfgs)}"
    return [_record(*one, rounds, raw, wall, together) for one in zip(cfgs, runners, seconds, strict=True)]


def _rounds(cfg: RunConfig, train: TokenisedSplit, pad_id: int, device: torch.device) -> list[Round]:
    """The batches that a run would take, one after the other."""
    recipe = cfg.recipe
    limit = recipe.max_length if recipe.padding == "max_length" else None
    plan, rounds = RunPlan(train.lengths, recipe.batch_size, seed=cfg.seed, group_by_length=recipe.group_by_length), []
    for step in range(recipe.total_steps(len(train))):
        batch = plan.batch(step)
        tensors = collate(train, batch, pad_id=pad_id, max_length=limit)
        positions, tokens = tensors["input_ids"].numel(), int(train.lengths[batch].sum())
        rounds.append(Round({name: x.to(device) for name, x in tensors.items()}, tokens, positions))
    return rounds


def _runner(cfg: RunConfig, examples: int, device: torch.device) -> Runner:
    """The method of a config on a backbone of its own, as lora2/session.py builds it."""
    set_seed(cfg.seed)
    task, steps = TASKS[cfg.task], cfg.recipe.total_steps(examples)
    model = load_model(cfg.model, task.num_labels, cfg.recipe.cls_dropout)
    nn.Module.to(model.train(), device)  # before the method, whose state lives where the weights do
    method = build(model, settle_budget(cfg, examples)[0], steps)
    # a rate at which nothing diverges: it costs the same
    optimizer = torch.optim.AdamW(optimizer_groups(method, cfg.recipe), lr=1e-4, fused=True)
    return Runner(model, method, optimizer, cfg.recipe.precision, device, partial(_loss, task))


def _loss(task: TaskSpec, logits: Tensor, labels: Tensor) -> Tensor:
    return task_loss(task, logits, labels).mean()


def _record(
    cfg: RunConfig,
    runner: Runner,
    seconds: list[float],
    rounds: Sequence[Round],
    raw: RawTask,
    wall: float,
    together: str,
) -> RunRecord:
    """What was measured. `wall` is of the whole comparison, `together` names the others."""
    settled, scaled = settle_budget(cfg, len(raw.splits["train"]))
    counted, phases = seconds[WARM_UP:], runner.seconds[WARM_UP:]
    train, tokens, positions = sum(counted), sum(x.tokens for x in rounds), sum(x.positions for x in rounds)
    census = runner.method.census()
    return RunRecord(
        run_id=timed_id(run_id(cfg, raw.fingerprint)),
        status="timed",
        config=record_config(settled, setting_id(cfg, raw.fingerprint)),
        synthetic=raw.synthetic,
        model_random_init=cfg.model.random_init,
        notes=[*raw.warnings, *scaled, f"{together}: {len(counted)} rounds after {WARM_UP} that are not counted"],
        hashes={"data": raw.fingerprint},
        counts=counts_of(census),
        ranks=census.ranks,
        padding_share=1 - tokens / positions,
        steps=len(seconds),
        tokens=tokens,
        positions=positions,
        timing=Timing(
            wall_s=wall,
            train_s=train,
            eval_s=0.0,
            seconds_per_step=statistics.median(counted),
            tokens_per_s=sum(x.tokens for x in rounds[WARM_UP:]) / train,
            shares={name: sum(step[name] for step in phases) / train for name in sorted(phases[0])},
        ),
        provenance=provenance(device_name(runner.device)),
    )
