"""The one training step: every run takes it, and every benchmark times it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from lora2.core import keys
from lora2.core.bf16 import EmulatedProducts, needs_emulation
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.glue.tasks import TaskSpec
from lora2.models.methods.base import Method
from lora2.training.clock import PhaseClock
from lora2.training.deterministic import deterministic_algorithms
from lora2.training.finite import FiniteWatch

Losses = dict[str, Tensor]  # by name, scalars on the device


class Step(Protocol):
    """An optimizer step, however it is carried out; the loop and the benchmark know no more of it."""

    @property
    def model(self) -> nn.Module:
        """The model that is trained, as the accelerator has prepared it."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer, as the accelerator has prepared it."""
        ...

    def __call__(self, batch: StepBatch, index: int, clock: PhaseClock) -> Losses:
        """Do a step; see TrainStep."""
        ...

    def look(self) -> None:
        """Read from the device whether all steps were in order.

        Raises:
            DivergedError: a gradient was not finite.
        """
        ...

    def close(self) -> None:
        """Free what the steps needed; none may follow."""
        ...


@dataclass(frozen=True)
class TrainStep:
    """One optimizer step on one global batch: forward, loss, backward, regularisers, clip, optimizer, mask.

    The order within is the paper's Algorithm 1 (docs/METHOD.md): backward, clip, importance, optimizer step, mask,
    zero_grad.

    Args:
        model, optimizer: as `accelerator.prepare` returns them.
        method: the fine-tuning method that was applied to the model.
        task: decides the loss.
        max_grad_norm: the norm that gradients are clipped to.
        deterministic: whether a GPU must compute the gradients the same way every time.
        watch: gathers whether gradients are finite.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    method: Method
    task: TaskSpec
    max_grad_norm: float
    deterministic: bool = False
    watch: FiniteWatch = field(kw_only=True)

    def __call__(self, batch: StepBatch, index: int, clock: PhaseClock) -> Losses:
        """Do the step.

        Args:
            batch: this process's share, on its device.
            index: the number of the step, from 0.
            clock: is told each phase: forward, backward, penalty, optimizer, method.

        Returns:
            The losses as scalars on the device: "loss/task", the mean over the global batch, and "loss/orth_<name>"
            for each regulariser.

        Raises:
            DivergedError: a gradient was not finite, and there is no loss scale that could be too high. A GPU is asked
                only every so many steps.
        """
        clock.start()
        losses, norm = self.gradients(batch.parts, len(batch.examples), clock)
        if self.accelerator.scaler is None:
            self.watch.note(norm)
            self.watch.passed(index, losses[keys.TASK_LOSS])
            grads_finite = True
        else:
            grads_finite = bool(torch.isfinite(norm))  # else the scaler skips the step, and so must the method
        clock.lap("optimizer")
        self.update(index, grads_finite, clock)
        self.optimizer.zero_grad()
        clock.lap("optimizer")
        return losses

    def gradients(self, parts: Sequence[MicroBatch], batch_size: int, clock: PhaseClock) -> tuple[Losses, Tensor]:
        """Add the gradients of the step, clipped, to those that are there.

        Args:
            parts: the process's own micro-batches.
            batch_size: examples of the global batch.
            clock: is told the phases.

        Returns:
            The losses, and the norm of the gradients before they were clipped.
        """
        # Gradients of the task loss, one micro-batch after the other; processes exchange them with the last one.
        loss = torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(parts, start=1):
            with nullcontext() if number == len(parts) else self.accelerator.no_sync(self.model):
                loss += self.part_gradients(part, batch_size, clock)
        orthogonality, norm = self.finish_gradients(clock)
        return {keys.TASK_LOSS: self.accelerator.reduce(loss, "sum"), **orthogonality}, norm

    def part_gradients(self, part: MicroBatch, batch_size: int, clock: PhaseClock) -> Tensor:
        """Add a micro-batch's gradients to those that are there; returns its share of the global batch's mean loss.

        Args:
            part: one micro-batch.
            batch_size: examples of the global batch.
            clock: is told the phases.
        """
        with deterministic_algorithms(self.deterministic):
            return self._backward(part, batch_size, clock)

    def finish_gradients(self, clock: PhaseClock) -> tuple[Losses, Tensor]:
        """Add the gradients of the regularisers, once a step, and clip all.

        Args:
            clock: is told the phases.

        Returns:
            The regularisers, and the norm of the gradients before they were clipped.
        """
        with deterministic_algorithms(self.deterministic):
            penalties = self.method.penalties()
            if penalties:
                self.accelerator.backward(torch.stack(list(penalties.values())).sum())
            clock.lap("penalty")
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = self.accelerator.clip_grad_norm_(trained, self.max_grad_norm)
        return {keys.penalty(name): value.detach() for name, value in penalties.items()}, norm

    def update(self, index: int, grads_finite: bool, clock: PhaseClock) -> None:
        """Let the method read weights and gradients, the optimizer change the weights, the method mask them.

        Args:
            index: the number of the step, from 0.
            grads_finite: False if the gradients overflowed, so that the optimizer will skip the step.
            clock: is told the phases.
        """
        with self.method.step(index, grads_finite):
            clock.lap("method")
            self.optimizer.step()
            clock.lap("optimizer")
        clock.lap("method")

    def look(self) -> None:
        """Read from the device whether all steps were in order.

        Raises:
            DivergedError: a gradient was not finite.
        """
        self.watch.look()

    def close(self) -> None:
        """Do nothing: a step keeps nothing between two calls."""

    def _backward(self, part: MicroBatch, batch_size: int, clock: PhaseClock) -> Tensor:
        """Add a micro-batch's gradients; returns its share of the global batch's mean loss."""
        logits = self.model(**part.inputs).logits
        # processes average their gradients, so each gives its sum over the batch times their number
        loss = task_loss(self.task, logits, part.labels).sum() * part.weight / batch_size
        clock.lap("forward")
        self.accelerator.backward(loss * self.accelerator.num_processes)
        clock.lap("backward")
        return loss.detach()


def task_loss(task: TaskSpec, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of each example, (b,): cross-entropy, or squared error for regression.

    Args:
        logits: (b, c).
        labels: (b,), classes or scores.
    """
    if task.is_regression:
        return F.mse_loss(logits.squeeze(-1), labels, reduction="none")
    return F.cross_entropy(logits, labels, reduction="none")


def emulated_products(accelerator: Accelerator) -> AbstractContextManager[object]:
    """Return the context for every forward pass: bf16 products are emulated where the processor has none."""
    emulate = accelerator.mixed_precision == "bf16" and needs_emulation(accelerator.device)
    return EmulatedProducts() if emulate else nullcontext()
