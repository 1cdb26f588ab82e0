"""The one training loop: optimisation, evaluation, best and last weights. Knows no method, task or file format.

Order within a step (DESIGN.md 6): backward, clip, [importance, optimizer step, mask], scheduler step, zero_grad.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup

from lora2.bf16 import EmulatedProducts, needs_emulation
from lora2.config import RecipeConfig
from lora2.glue.batches import collate, epoch_batches, eval_batches, shard
from lora2.glue.metrics import compute, decide
from lora2.glue.tasks import TaskSpec
from lora2.glue.tokens import TokenisedSplit
from lora2.methods import Method

EVAL_BATCH_FACTOR = 4  # no activations are kept in evaluation, so its batches can be larger


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite."""


@dataclass
class Fit:
    """What training leaves: metrics, history, clocks and the trained weights, best and last."""

    steps: int = 0
    tokens: int = 0
    positions: int = 0
    best_step: int = -1
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    history: dict[str, list[dict[str, float]]] = field(default_factory=lambda: {"train": [], "eval": []})
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Add the seconds spent inside to `seconds[name]`."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


@dataclass(frozen=True)
class Trainer:
    """Everything a run needs, built; `fit` runs it.

    Args:
        splits: tokenised "train" and the task's dev splits.
        pad_id: the tokenizer's padding id.
        log: called with the step and a flat dict of numbers, for a tracker.
    """

    accelerator: Accelerator
    model: nn.Module
    method: Method
    task: TaskSpec
    splits: Mapping[str, TokenisedSplit]
    pad_id: int
    recipe: RecipeConfig
    seed: int
    log: Callable[[int, dict[str, float]], None]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.splits["train"]) // self.recipe.batch_size)

    def fit(self) -> Fit:
        """Train and evaluate.

        Raises:
            DivergedError: loss or gradient is not finite.
        """
        recipe, fit = self.recipe, Fit()
        total = recipe.total_steps(len(self.splits["train"]))
        optimizer = torch.optim.AdamW(_optimizer_groups(self.method, recipe), lr=recipe.lr, fused=True)
        scheduler = get_linear_schedule_with_warmup(optimizer, _warmup(recipe, total), total)
        model, prepared = self.accelerator.prepare(self.model, optimizer)
        every = recipe.eval_every or self.steps_per_epoch
        with self._progress(total) as bar, self.precision():
            for step, batch in enumerate(self._batches(total)):
                losses = self._step(fit, model, prepared, batch, step)
                scheduler.step()
                fit.steps = step + 1
                self._note(fit, losses, optimizer.param_groups[0]["lr"])
                bar.set_postfix_str(f"loss {losses['loss/task']:.3f} {_shown(fit.last)}", refresh=False)
                bar.update()
                if fit.steps % every == 0 or fit.steps == total:
                    self._evaluate(fit, model)
        return fit

    def _batches(self, total: int) -> Iterator[np.ndarray]:
        """The first `total` global batches of the run."""
        lengths, recipe = self.splits["train"].lengths, self.recipe
        for step in range(total):
            epoch, index = divmod(step, self.steps_per_epoch)
            if index == 0:
                plan = epoch_batches(
                    lengths, recipe.batch_size, seed=self.seed, epoch=epoch, group_by_length=recipe.group_by_length
                )
            yield plan[index]

    def _step(
        self, fit: Fit, model: nn.Module, optimizer: torch.optim.Optimizer, batch: np.ndarray, step: int
    ) -> dict[str, float]:
        """One optimizer step on one global batch; returns the losses by name."""
        task_loss = torch.zeros((), device=self.accelerator.device)
        parts = self._parts(batch)
        for index, part in enumerate(parts):
            with self._sync_on(model, last=index == len(parts) - 1):
                task_loss += self._backward(fit, model, part, len(batch))
        with fit.clock("penalty"):
            penalties = self.method.penalties()
            if penalties:
                self.accelerator.backward(torch.stack(list(penalties.values())).sum())
        with fit.clock("optimizer"):
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            norm = self.accelerator.clip_grad_norm_(trained, self.recipe.max_grad_norm)
            usable = bool(torch.isfinite(norm))
        if not usable and self.accelerator.scaler is None:
            raise DivergedError(
                f"step {step}: the gradient is not finite (task loss {float(task_loss):g}); lower recipe.lr"
            )
        start, inside = time.perf_counter(), 0.0
        with self.method.step(step, usable):
            begun = time.perf_counter()
            optimizer.step()
            inside = time.perf_counter() - begun
        fit.seconds["method"] += time.perf_counter() - start - inside
        with fit.clock("optimizer"):
            optimizer.zero_grad()
        fit.seconds["optimizer"] += inside
        return {"loss/task": float(task_loss)} | {
            f"loss/orth_{name}": float(value.detach()) for name, value in penalties.items()
        }

    def _parts(self, batch: np.ndarray) -> list[np.ndarray]:
        """This process's non-empty micro-batches; all processes have the same number unless the batch is tiny."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return shard(batch, rank=rank, world=world, accumulation=self.recipe.accumulation)

    def _backward(self, fit: Fit, model: nn.Module, part: np.ndarray, batch_size: int) -> Tensor:
        """Forward and backward of one micro-batch; returns its share of the global batch's mean loss."""
        with fit.clock("data"):
            inputs = self._collate(self.splits["train"], part)
        labels = inputs.pop("labels")
        with fit.clock("forward"):
            logits = model(**inputs).logits
            # processes average their gradients, so each gives its sum over the batch times their number
            loss = task_loss(self.task, logits, labels).sum() / batch_size
        with fit.clock("backward"):
            self.accelerator.backward(loss * self.accelerator.num_processes)
        fit.tokens += int(inputs["attention_mask"].sum())
        fit.positions += inputs["attention_mask"].numel()
        return loss.detach()

    def _collate(self, split: TokenisedSplit, indices: np.ndarray) -> dict[str, Tensor]:
        limit = self.recipe.max_length if self.recipe.padding == "max_length" else None
        batch = collate(split, indices, pad_id=self.pad_id, max_length=limit)
        return {name: tensor.to(self.accelerator.device) for name, tensor in batch.items()}

    def _evaluate(self, fit: Fit, model: nn.Module) -> None:
        """Score the dev splits; keep the weights if they are the best so far (the first of equals)."""
        with fit.clock("eval"):
            metrics = self._score(model)
        fit.history["eval"].append({"step": fit.steps, **metrics})
        self.log(fit.steps, {f"eval/{name}": value for name, value in metrics.items()})
        fit.last = metrics
        if not fit.best or metrics[self.task.main_metric] > fit.best[self.task.main_metric]:
            fit.best, fit.best_step = metrics, fit.steps
            fit.best_weights = {name: p.detach().to("cpu", copy=True) for name, p in self.trained()}

    def _score(self, model: nn.Module) -> dict[str, float]:
        model.eval()
        with torch.no_grad(), self.method.merged():
            decisions = {
                name: decide(self.task, self.logits(model, self.splits[name])) for name in self.task.dev_splits
            }
        model.train()
        references = {name: self.splits[name].labels for name in self.task.dev_splits}
        return compute(self.task, decisions, references)  # type: ignore[arg-type]

    def logits(self, model: nn.Module, split: TokenisedSplit) -> np.ndarray:
        """Head outputs for every example, (n, labels), in the split's order; the processes share the work."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = eval_batches(split.lengths, EVAL_BATCH_FACTOR * self.recipe.batch_size)
        own = []
        for indices in batches[rank::world]:
            inputs = {name: value for name, value in self._collate(split, indices).items() if name != "labels"}
            own.append((indices, model(**inputs).logits.float().cpu().numpy()))
        parts = gather_object(own)
        out = np.empty((len(split), self.task.num_labels), np.float32)
        for indices, values in parts:
            out[indices] = values
        return out

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained parameter by name."""
        return [item for group in self.method.groups for item in group.parameters.items()]

    def _note(self, fit: Fit, losses: dict[str, float], lr: float) -> None:
        if not all(math.isfinite(value) for value in losses.values()):
            raise DivergedError(f"step {fit.steps - 1}: the loss is not finite ({losses}); lower recipe.lr")
        fit.history["train"].append({"step": fit.steps, "lr": lr, **losses})
        self.log(fit.steps, {"lr": lr, **losses})

    def _progress(self, total: int) -> "tqdm[Any]":
        quiet = None if self.accelerator.is_main_process else True  # None: quiet unless standard error is a terminal
        return tqdm(total=total, desc=self.task.name, unit="step", disable=quiet, dynamic_ncols=True)

    def _sync_on(self, model: nn.Module, *, last: bool) -> AbstractContextManager[object]:
        return nullcontext() if last else self.accelerator.no_sync(model)

    def precision(self) -> AbstractContextManager[object]:
        """The context for every forward pass: bf16 products are emulated where the processor has none."""
        emulate = self.recipe.precision == "bf16" and needs_emulation(self.accelerator.device)
        return EmulatedProducts() if emulate else nullcontext()


def task_loss(task: TaskSpec, logits: Tensor, labels: Tensor) -> Tensor:
    """Loss of each example, (b,): cross-entropy, or squared error for regression."""
    if task.is_regression:
        return F.mse_loss(logits.squeeze(-1), labels, reduction="none")
    return F.cross_entropy(logits, labels, reduction="none")


def _warmup(recipe: RecipeConfig, total: int) -> int:
    return recipe.warmup_steps if recipe.warmup_steps is not None else int((recipe.warmup_ratio or 0) * total)


def _optimizer_groups(method: Method, recipe: RecipeConfig) -> list[dict[str, object]]:
    """AdamW's groups: the method's, each cut into weights that decay, and biases and norms that do not.

    HF's Trainer, with which the authors' scripts ran, spares the same.
    """
    groups: list[dict[str, object]] = []
    for group in method.groups:
        spared = {name for name in group.parameters if name.endswith("bias") or "LayerNorm" in name}
        for decays in (True, False):
            members = [p for name, p in group.parameters.items() if (name not in spared) == decays]
            if members:
                decay = recipe.weight_decay if decays else 0.0
                groups.append({"params": members, "lr": recipe.lr * group.lr_scale, "weight_decay": decay})
    return groups


def _shown(metrics: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in metrics.items())
