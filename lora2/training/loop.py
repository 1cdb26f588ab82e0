"""The one training loop: optimisation, evaluation, checkpoints. Knows no method, task or file format.

Order within a step (Algorithm 1, docs/METHOD.md): backward, clip, [importance, optimizer step, mask], zero_grad.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from lora2.config.schema import CheckpointConfig, RecipeConfig
from lora2.core import keys
from lora2.core.bf16 import EmulatedProducts, needs_emulation
from lora2.glue.batches import BatchSampler, padded_width, shard
from lora2.glue.heldout import HELDOUT
from lora2.glue.loader import MicroBatch, StepBatch, StepDataset, load
from lora2.glue.tasks import TaskSpec
from lora2.glue.tokens import TokenisedSplit
from lora2.models.methods.base import Method
from lora2.training.checkpoint import Checkpoint, CheckpointFolder
from lora2.training.evaluate import Evaluator
from lora2.training.fit import HISTORY_POINTS, MONITOR_POINTS, Fit
from lora2.training.optim import linear_schedule, optimizer_groups, warmup_steps
from lora2.training.state import TrainingState


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite."""


class CancelledError(RuntimeError):
    """A signal asked the run to stop; a checkpoint was written first."""


@dataclass(frozen=True)
class Trainer:
    """Everything a run needs, built; `fit` runs it.

    Args:
        splits: tokenised "train" and the task's dev splits; a "heldout" one, if there, chooses the best checkpoint.
        pad_id: the tokenizer's padding id.
        num_workers: processes that make batches ahead of training; 0 for none.
        folder: where checkpoints go.
        stop: asked after every step; true means checkpoint and stop.
        log: called with the step and a flat dict of numbers, for a tracker.
    """

    accelerator: Accelerator
    model: nn.Module
    method: Method
    task: TaskSpec
    splits: Mapping[str, TokenisedSplit]
    pad_id: int
    recipe: RecipeConfig
    checkpoints: CheckpointConfig
    seed: int
    num_workers: int
    folder: CheckpointFolder
    stop: Callable[[], bool]
    log: Callable[[int, dict[str, float]], None]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-len(self.splits["train"]) // self.recipe.batch_size)

    @property
    def total(self) -> int:
        """T, optimizer steps of the run."""
        return self.recipe.total_steps(len(self.splits["train"]))

    @property
    def evaluator(self) -> Evaluator:
        """Scores the dev splits."""
        batch_size = self.recipe.batch_size
        return Evaluator(
            self.accelerator, self.method, self.task, self.splits, self.pad_id, self.recipe.padded_to, batch_size
        )

    def fit(self, found: Checkpoint | None = None) -> Fit:
        """Train from a checkpoint or the start; returns the course of the whole run.

        Raises:
            DivergedError: loss or gradient is not finite.
            CancelledError: `stop` said so; the checkpoint is written.
            StorageError: a checkpoint could not be written.
        """
        optimizer = torch.optim.AdamW(optimizer_groups(self.method, self.recipe), lr=self.recipe.lr, fused=True)
        model, prepared = self.accelerator.prepare(self.model, optimizer)
        state = TrainingState(self.accelerator, self.method, optimizer)
        fit = Fit() if found is None else state.restore(found)
        every, saved_at = self.recipe.eval_every or self.steps_per_epoch, time.monotonic()
        with self._progress(fit.steps) as bar, self.precision():
            for step, batch in self._batches(fit):
                self._set_rate(optimizer, step)
                losses = self._step(fit, model, prepared, batch, step)
                fit.steps = step + 1
                self._note(fit, losses, bar, optimizer.param_groups[0]["lr"])
                self._look(fit)
                if fit.steps % every == 0 or fit.steps == self.total:
                    self._evaluate(fit, model)
                stop = self._agreed(self.stop())
                if stop or self._agreed(self._due(fit.steps, saved_at)):
                    checkpoint, saved_at = state.capture(fit), time.monotonic()
                    if self.accelerator.is_main_process:
                        self.folder.save(checkpoint)
                if stop:
                    raise CancelledError(
                        f"stopped by a signal after step {fit.steps} of {self.total}; run again to go on"
                    )
        return fit

    def _due(self, steps: int, saved_at: float) -> bool:
        """Whether a checkpoint is due, by steps or by minutes since the last one; never after the last step."""
        by_steps = self.checkpoints.every_steps is not None and steps % self.checkpoints.every_steps == 0
        by_time = time.monotonic() - saved_at > 60 * self.checkpoints.every_minutes
        return (by_steps or by_time) and steps < self.total

    def _agreed(self, wish: bool) -> bool:
        """True on every process when it is true on any."""
        if self.accelerator.num_processes == 1:
            return wish
        return bool(self.accelerator.reduce(torch.tensor(float(wish), device=self.accelerator.device)) > 0)

    def _batches(self, fit: Fit) -> Iterator[tuple[int, StepBatch]]:
        """Number and batch of every step that is left."""
        recipe, train, accelerator = self.recipe, self.splits["train"], self.accelerator
        plan = BatchSampler(train.lengths, recipe.batch_size, seed=self.seed, group_by_length=recipe.group_by_length)
        rank, world = accelerator.process_index, accelerator.num_processes
        batches = StepDataset(train, plan, self.pad_id, self.recipe.padded_to, rank, world, recipe.accumulation)
        loaded = load(batches, fit.steps, self.total, self.num_workers)
        for step in range(fit.steps, self.total):
            with fit.clock("data"):
                batch = next(loaded)
            yield step, batch

    def _set_rate(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """The recipe's learning rate at this step, for each group by its multiplier."""
        factor = linear_schedule(step, warmup_steps(self.recipe, self.total), self.total)
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.lr * group["lr_scale"] * factor

    def _step(
        self, fit: Fit, model: nn.Module, optimizer: torch.optim.Optimizer, batch: StepBatch, step: int
    ) -> dict[str, Tensor]:
        """One optimizer step on one global batch; returns the losses by name."""
        self._count(fit, batch.examples)
        task_loss = torch.zeros((), device=self.accelerator.device)
        for index, part in enumerate(batch.parts):
            with self._sync_on(model, last=index == len(batch.parts) - 1):
                task_loss += self._backward(fit, model, part, len(batch.examples))
        with fit.clock("penalty"):
            penalties = self.method.penalties()
            if penalties:
                self.accelerator.backward(torch.stack(list(penalties.values())).sum())
        with fit.clock("optimizer"):
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            norm = self.accelerator.clip_grad_norm_(trained, self.recipe.max_grad_norm)
            grads_finite = bool(torch.isfinite(norm))
        if not grads_finite and self.accelerator.scaler is None:
            raise DivergedError(
                f"step {step}: the gradient is not finite, task loss {float(task_loss):g}; lower recipe.lr"
            )
        start = time.perf_counter()
        with self.method.step(step, grads_finite):
            begun = time.perf_counter()
            optimizer.step()
            inside = time.perf_counter() - begun
        fit.seconds["method"] += time.perf_counter() - start - inside
        fit.seconds["optimizer"] += inside
        with fit.clock("optimizer"):
            optimizer.zero_grad()
        task_loss = self.accelerator.reduce(task_loss, "sum")
        return {keys.TASK_LOSS: task_loss} | {keys.penalty(name): value.detach() for name, value in penalties.items()}

    def _count(self, fit: Fit, batch: np.ndarray) -> None:
        """Tokens and padded positions of the batch over all processes."""
        lengths, world, accumulation = (
            self.splits["train"].lengths,
            self.accelerator.num_processes,
            self.recipe.accumulation,
        )
        parts = [p for rank in range(world) for p in shard(batch, rank=rank, world=world, accumulation=accumulation)]
        fit.tokens += int(lengths[batch].sum())
        fit.positions += sum(len(p) * padded_width(lengths[p], max_length=self.recipe.padded_to) for p in parts)

    def _backward(self, fit: Fit, model: nn.Module, part: MicroBatch, batch_size: int) -> Tensor:
        """Forward and backward of one micro-batch; returns its share of the global batch's mean loss."""
        with fit.clock("data"):
            inputs = {name: tensor.to(self.accelerator.device) for name, tensor in part.tensors.items()}
            labels = inputs.pop("labels")
        with fit.clock("forward"):
            logits = model(**inputs).logits
            # processes average their gradients, so each gives its sum over the batch times their number
            loss = task_loss(self.task, logits, labels).sum() * part.weight / batch_size
        with fit.clock("backward"):
            self.accelerator.backward(loss * self.accelerator.num_processes)
        return loss.detach()

    def _evaluate(self, fit: Fit, model: nn.Module) -> None:
        """Score the dev splits; keep the weights if they are the best so far (the first of equals)."""
        main = self.task.main_metric
        with fit.clock("eval"):
            metrics = self.evaluator.score(model)
            chosen_by = self.evaluator.score_split(model, HELDOUT)[main] if HELDOUT in self.splits else metrics[main]
        fit.history["eval"].append({keys.STEP: fit.steps, **metrics, keys.SELECTION: chosen_by})
        self.log(fit.steps, {keys.evaluation(name): value for name, value in metrics.items()})
        fit.last = metrics
        if fit.best_selection is None or chosen_by > fit.best_selection:
            fit.best, fit.best_step, fit.best_selection = metrics, fit.steps, chosen_by
            fit.best_weights = {name: p.detach().to("cpu", copy=True) for name, p in self.trained()}

    def trained(self) -> list[tuple[str, nn.Parameter]]:
        """Every trained parameter by name."""
        return [item for group in self.method.groups for item in group.parameters.items()]

    def _note(self, fit: Fit, losses: dict[str, Tensor], bar: "tqdm[Any]", lr: float) -> None:
        """Progress; and every so many steps the losses, read from the device, into history and tracker."""
        bar.update()
        if not self._is_point(fit.steps, HISTORY_POINTS):
            return
        numbers = {name: float(value) for name, value in losses.items()}
        if not all(map(math.isfinite, numbers.values())):
            raise DivergedError(f"step {fit.steps - 1}: the loss is not finite ({numbers}); lower recipe.lr")
        fit.history["train"].append({keys.STEP: fit.steps, keys.LEARNING_RATE: lr, **numbers})
        self.log(fit.steps, {keys.LEARNING_RATE: lr, **numbers, keys.TOKENS_PER_S: fit.tokens / fit.train_seconds})
        shown = [f"loss {numbers[keys.TASK_LOSS]:.3f}", *(f"{name} {value:.3f}" for name, value in fit.last.items())]
        shown += [f"budget {seen[keys.BUDGET]:.0f}" for seen in fit.history["monitor"][-1:] if keys.BUDGET in seen]
        bar.set_postfix_str(" ".join(shown), refresh=False)

    def _look(self, fit: Fit) -> None:
        """What the method shows of itself, into history and tracker."""
        if self._is_point(fit.steps, MONITOR_POINTS):
            seen = self.method.monitor()
            fit.history["monitor"].append({keys.STEP: fit.steps, **seen})
            self.log(fit.steps, seen)

    def _is_point(self, steps: int, points: int) -> bool:
        """Whether a history of about so many points over the run has one after this step; the last step always."""
        return steps % max(1, self.total // points) == 0 or steps == self.total

    def _progress(self, done: int) -> "tqdm[Any]":
        quiet = None if self.accelerator.is_main_process else True  # None: quiet unless standard error is a terminal
        name = self.task.name
        return tqdm(total=self.total, initial=done, desc=name, unit="step", disable=quiet, dynamic_ncols=True)

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
