"""The one training loop: optimisation, evaluation, checkpoints. Knows no method, task or file format."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from lora2.config.schema import CheckpointConfig, RecipeConfig
from lora2.core import keys
from lora2.glue.batches import padded_width, shard
from lora2.glue.heldout import HELDOUT
from lora2.glue.loader import StepBatch, load
from lora2.models.methods.base import Method
from lora2.training.captured.capturer import CudaCapturer
from lora2.training.captured.choice import StepKind, captures
from lora2.training.captured.step import CapturedStep
from lora2.training.checkpoint import Checkpoint, CheckpointFolder
from lora2.training.clock import PhaseClock, clock_for
from lora2.training.data import TaskData, train_batches, width_multiple
from lora2.training.evaluate import Evaluation, Evaluator
from lora2.training.finite import FiniteWatch, steps_between_looks
from lora2.training.history import LossHistory
from lora2.training.optim import linear_schedule, optimizer_groups, warmup_steps
from lora2.training.progress import Course, Progress
from lora2.training.state import TrainState, capture, restore, trained_parameters
from lora2.training.step import Step, TrainStep, emulated_products

HISTORY_POINTS = 500  # training losses kept in a record, whatever the length of the run
MONITOR_POINTS = 50  # looks into the method: a line for every matrix's rank, so fewer


class CancelledError(RuntimeError):
    """A signal asked the run to stop; a checkpoint was written first."""


@dataclass(frozen=True)
class RunControl:
    """How a run is kept, stopped and watched; by default it is none of these.

    Args:
        checkpoints: where checkpoints go, if anywhere.
        every: how often.
        stop: asked after every step; true means checkpoint and stop.
        log: called with the step and a flat dict of numbers, for a tracker.
        folder: of the run, for the file that tells its progress.
    """

    checkpoints: CheckpointFolder | None = None
    every: CheckpointConfig = field(default_factory=CheckpointConfig)
    stop: Callable[[], bool] = lambda: False
    log: Callable[[int, dict[str, float]], None] = lambda step, numbers: None
    folder: Path | None = None


@dataclass(frozen=True)
class Trainer:
    """Everything that training needs, built; `fit` does it.

    Args:
        method: the fine-tuning method that was applied to `model`.
        seed: decides the order of the batches.
        num_workers: processes that make batches ahead of training; 0 for none.
        step: whether steps are captured or eager; changes no number.
        deterministic: whether a GPU must compute gradients and scores the same way every time.
    """

    accelerator: Accelerator
    model: nn.Module
    method: Method
    data: TaskData
    recipe: RecipeConfig
    seed: int
    num_workers: int = 0
    step: StepKind = "auto"
    deterministic: bool = False
    control: RunControl = field(default_factory=RunControl)

    @property
    def total_steps(self) -> int:
        """T, optimizer steps of the run."""
        return self.recipe.total_steps(len(self.data.splits["train"]))

    @property
    def steps_of_epoch(self) -> int:
        """Optimizer steps of one pass over the training split."""
        return math.ceil(len(self.data.splits["train"]) / self.recipe.batch_size)

    @property
    def evaluator(self) -> Evaluator:
        """Scores the dev splits."""
        return Evaluator(
            accelerator=self.accelerator,
            method=self.method,
            data=self.data,
            batch_size=self.recipe.batch_size,
            max_length=self.recipe.padded_to,
            longest=self.recipe.max_length,
            deterministic=self.deterministic,
        )

    def build_step(self) -> Step:
        """Make the optimizer, and return the training step; once a run."""
        optimizer = torch.optim.AdamW(optimizer_groups(self.method, self.recipe), lr=self.recipe.lr, fused=True)
        model, optimizer = self.accelerator.prepare(self.model, optimizer)
        eager = TrainStep(
            accelerator=self.accelerator,
            model=model,
            optimizer=optimizer,
            method=self.method,
            task=self.data.task,
            max_grad_norm=self.recipe.max_grad_norm,
            deterministic=self.deterministic,
            watch=FiniteWatch(self.accelerator.device),
        )
        captured = captures(self.step, self.accelerator)
        return CapturedStep(eager, CudaCapturer()) if captured else eager

    def fit(self, found: Checkpoint | None = None) -> TrainState:
        """Train from a checkpoint or the start, and return the course of the whole run.

        Raises:
            DivergedError: loss or gradient is not finite.
            CancelledError: `control.stop` said so; the checkpoint is written.
            StorageError: a checkpoint could not be written.
        """
        train_step = self.build_step()
        optimizer, total = train_step.optimizer, self.total_steps
        state = TrainState() if found is None else restore(found, self.method, optimizer, self.accelerator)
        clock, saved_at = clock_for(self.accelerator.device, state.seconds), time.monotonic()
        history = LossHistory(state, self.control.log)
        with closing(train_step), self._progress(state) as progress, emulated_products(self.accelerator):
            for index, batch in self._batches(state.steps, clock):
                # one optimizer step
                rate = self._set_learning_rate(optimizer, index)
                losses = train_step(batch, index, clock)
                self._count(state, batch)

                # what it was like: history, tracker, progress
                if self._is_point(state.steps, HISTORY_POINTS):
                    history.note(state.steps, rate, losses)
                if self._is_read(state.steps):
                    self._read(history, train_step, clock)
                if self._is_point(state.steps, MONITOR_POINTS):
                    self._note_monitor(state)
                progress.step()

                # evaluation
                if self._is_evaluated(state.steps):
                    with progress.evaluating():
                        clock.start()
                        evaluation = self._evaluate(train_step.model)
                        clock.lap("eval")
                        clock.settle()
                        self._note_evaluation(state, evaluation)

                # a checkpoint, when it is time or when the run must stop
                stop = self._agree(self.control.stop())
                if stop or self._agree(self._is_due(state.steps, saved_at)):
                    self._read(history, train_step, clock)
                    self._save(capture(state, self.method, optimizer, self.accelerator))
                    saved_at = time.monotonic()
                if stop:
                    raise CancelledError(f"stopped by a signal after step {state.steps} of {total}; run again to go on")
        return state

    # ------------------------------------------------------------------------------------------------ a step

    def _batches(self, start: int, clock: PhaseClock) -> Iterator[tuple[int, StepBatch]]:
        """Yield number and batch, on the device, of every step that is left."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        batches = train_batches(
            self.data, self.recipe, self.seed, device=self.accelerator.device.type, rank=rank, world=world
        )
        loaded = load(batches, start, self.total_steps, self.num_workers)
        for index in range(start, self.total_steps):
            clock.start()
            batch = next(loaded).to(self.accelerator.device)
            clock.lap("data")
            yield index, batch

    def _set_learning_rate(self, optimizer: torch.optim.Optimizer, index: int) -> float:
        """Set the recipe's learning rate at this step, times each group's multiplier; returns that of the first."""
        factor = linear_schedule(index, warmup_steps(self.recipe, self.total_steps), self.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = self.recipe.lr * group["lr_scale"] * factor
        return float(optimizer.param_groups[0]["lr"])

    def _count(self, state: TrainState, batch: StepBatch) -> None:
        """Count the step, and its tokens over all processes."""
        lengths, examples = self.data.splits["train"].lengths, batch.examples
        world, accumulation = self.accelerator.num_processes, self.recipe.accumulation
        multiple = width_multiple(self.accelerator.device.type)
        state.steps += 1
        state.tokens += int(lengths[examples].sum())
        for rank in range(world):
            for part in shard(examples, rank=rank, world=world, accumulation=accumulation):
                state.padded_tokens += len(part) * padded_width(
                    lengths[part],
                    max_length=self.recipe.padded_to,
                    pad_to_multiple=multiple,
                    at_most=self.recipe.max_length,
                )

    # ------------------------------------------------------------------------------------------------ evaluation

    @property
    def eval_every(self) -> int:
        """Steps from one evaluation to the next: the recipe's, or an epoch."""
        return self.recipe.eval_every or self.steps_of_epoch

    def _is_evaluated(self, steps: int) -> bool:
        """Whether an evaluation follows this step; the last one always."""
        return steps % self.eval_every == 0 or steps == self.total_steps

    def _evaluate(self, model: nn.Module) -> Evaluation:
        """Score the dev splits, and the split that the best checkpoint is chosen by."""
        metrics, constant = self.evaluator.score(model)
        main = self.data.task.main_metric
        heldout = HELDOUT in self.data.splits
        selection = self.evaluator.score_split(model, HELDOUT)[main] if heldout else metrics[main]
        return Evaluation(metrics=metrics, constant=constant, selection=selection)

    def _note_evaluation(self, state: TrainState, evaluation: Evaluation) -> None:
        """Note an evaluation; keep the weights if they are the best so far (the first of equals)."""
        metrics, selection = evaluation.metrics, evaluation.selection
        state.history["eval"].append({keys.STEP: state.steps, **metrics, keys.SELECTION: selection})
        self.control.log(state.steps, {keys.evaluation(name): value for name, value in metrics.items()})
        state.last, state.last_is_constant = metrics, evaluation.constant
        if state.best_selection is None or selection > state.best_selection:
            state.best, state.best_step, state.best_selection = metrics, state.steps, selection
            state.best_is_constant = evaluation.constant
            state.best_weights = {
                name: p.detach().to("cpu", copy=True) for name, p in trained_parameters(self.method).items()
            }

    # ------------------------------------------------------------------------------------------------ history

    def _is_point(self, steps: int, points: int) -> bool:
        """Whether a history of about `points` entries over the run has one after this step; the last step always."""
        return steps % max(1, self.total_steps // points) == 0 or steps == self.total_steps

    def _is_read(self, steps: int) -> bool:
        """Whether the device is read after this step: a GPU now and then, and where that is done in any case."""
        every = steps_between_looks(self.accelerator.device)
        return steps % every == 0 or self._is_point(steps, MONITOR_POINTS) or self._is_evaluated(steps)

    @staticmethod
    def _read(history: LossHistory, train_step: Step, clock: PhaseClock) -> None:
        """Wait for the device, and read what came since the last time: seconds, losses, whether all was finite."""
        clock.settle()
        history.read()
        train_step.look()

    def _note_monitor(self, state: TrainState) -> None:
        """Note what the method shows of itself, into history and tracker."""
        seen = self.method.monitor()
        state.history["monitor"].append({keys.STEP: state.steps, **seen})
        self.control.log(state.steps, seen)

    def _progress(self, state: TrainState) -> Progress:
        """Return what tells where the run is, from `state` on."""
        task = self.data.task
        course = Course(task=task.name, metric=task.main_metric, total=self.total_steps, epoch=self.steps_of_epoch)
        return Progress(course, state, self.control.folder)

    # ------------------------------------------------------------------------------------------------ checkpoints

    def _is_due(self, steps: int, saved_at: float) -> bool:
        """Whether a checkpoint is due, by steps or by minutes since the last one; never after the last step."""
        every = self.control.every
        by_steps = every.every_steps is not None and steps % every.every_steps == 0
        by_time = time.monotonic() - saved_at > 60 * every.every_minutes
        return (by_steps or by_time) and steps < self.total_steps

    def _save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, where there is a place for it; one process does it for all."""
        if self.control.checkpoints is not None and self.accelerator.is_main_process:
            self.control.checkpoints.save(checkpoint)

    def _agree(self, wish: bool) -> bool:
        """Return true on every process when it is true on any."""
        if self.accelerator.num_processes == 1:
            return wish
        return bool(self.accelerator.reduce(torch.tensor(float(wish), device=self.accelerator.device)) > 0)
