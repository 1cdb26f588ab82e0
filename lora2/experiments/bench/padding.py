"""What padding costs over a whole run: the authors' recipe on one task, our batches against the released ones.

Released: every batch padded to the recipe's maximum length, in random order. Ours: batches of like length, padded to
their longest. Same data, same number of steps, same method; tokens are counted over the whole recipe, time is measured
on some steps of each, interleaved.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lora2.config.compose import compose
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig
from lora2.experiments.bench.configured import configured_runner
from lora2.experiments.bench.measure import Runner
from lora2.glue.batches import epoch_batches, padded_width
from lora2.glue.collate import collate
from lora2.glue.data import load_raw
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.glue.tokens import TokenisedSplit
from lora2.models.backbone import quiet_transformers
from lora2.models.logits import compute_logits
from lora2.training.build import build_accelerator
from lora2.training.data import load_task_data
from lora2.training.evaluate import evaluation_form
from lora2.training.step import emulated_products

STEPS = 12
FORWARDS = 3  # that a training step of full length costs: one, and twice as much backward


def compare_padding(
    task: str, data: str, data_dir: Path | None, configs: Path, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Return the padded tokens over the whole recipe, the seconds per step of both, and evaluation's share of our run.

    Args:
        task: "mrpc" or any other; MiniLM with the authors' LoRA² recipe (k = 8).
        data: "local" or "demo".
        data_dir: the official GLUE download, for "local".
        configs: the folder of settings.
        tell: is given a line of progress after each step.
    """
    quiet_transformers()
    cfg = _settings(task, data, data_dir, configs)
    loaded = load_task_data(cfg, load_raw(task, data, data_dir))
    train, dev = loaded.splits["train"], loaded.splits[loaded.task.dev_splits[0]]
    plans = {"ours": _plan(train, cfg, grouped=True), "released": _plan(train, cfg, grouped=False)}
    limits = {"ours": None, "released": cfg.recipe.max_length}
    padded = {name: sum(_padded_tokens(train, batch, limits[name]) for batch in plan) for name, plan in plans.items()}
    runner = configured_runner(cfg, loaded, build_accelerator(cfg.recipe.precision))
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    picked = np.linspace(0, len(plans["ours"]) - 1, STEPS).astype(int)
    for count, index in enumerate(picked):
        for name, plan in plans.items():
            tensors = collate(train, plan[index], pad_id=loaded.pad_id, max_length=limits[name])
            batch = StepBatch(plan[index], [MicroBatch(tensors)]).to(runner.device)
            seconds[name].append(runner.step(batch, count + 1))
        tell(f"{task}: step {count + 1} of {STEPS}")
    evaluation = _evaluation_seconds(runner, dev, cfg.recipe.batch_size, loaded.pad_id)
    step = statistics.mean(seconds["ours"])
    every = cfg.recipe.eval_every or len(plans["ours"])
    return {
        "task": task,
        "data": data,
        "max_length": cfg.recipe.max_length,
        "steps": cfg.recipe.total_steps(len(train)),
        "tokens_per_epoch": int(train.lengths.sum()),
        "padded_tokens_per_epoch": padded,
        "padded_tokens_ratio": padded["released"] / padded["ours"],
        "seconds_per_step": {name: statistics.mean(each) for name, each in seconds.items()},
        "time_ratio": statistics.mean(seconds["released"]) / step,
        "eval_every": every,
        "eval_seconds": evaluation,
        "eval_share": evaluation / (evaluation + every * step),
        "eval_floor": len(dev) / (len(dev) + FORWARDS * every * cfg.recipe.batch_size),
    }


def _settings(task: str, data: str, data_dir: Path | None, configs: Path) -> RunConfig:
    folder = [] if data_dir is None else [f"data.dir={data_dir}"]
    overrides = ["model=minilm", f"task={task}", "recipe=authors", "rank=k8", f"data={data}", *folder]
    return resolve(compose(overrides, configs))


def _plan(train: TokenisedSplit, cfg: RunConfig, *, grouped: bool) -> list[np.ndarray]:
    return epoch_batches(train.lengths, cfg.recipe.batch_size, seed=cfg.seed, epoch=0, group_by_length=grouped)


def _padded_tokens(train: TokenisedSplit, batch: np.ndarray, limit: int | None) -> int:
    return len(batch) * padded_width(train.lengths[batch], max_length=limit)


def _evaluation_seconds(runner: Runner, dev: TokenisedSplit, batch_size: int, pad_id: int) -> float:
    """Time one pass over the dev set as the trainer does it: no gradient, larger batches."""
    model, method = runner.train_step.model, runner.method
    model.eval()
    begun = time.perf_counter()
    with emulated_products(runner.accelerator), evaluation_form(method, runner.accelerator):
        compute_logits(model, dev, batch_size=batch_size, pad_id=pad_id)
    return time.perf_counter() - begun
