"""The one training step: every run takes it, and every benchmark times it."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

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


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite."""


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
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: torch.optim.Optimizer
    method: Method
    task: TaskSpec
    max_grad_norm: float

    def __call__(self, batch: StepBatch, index: int, clock: PhaseClock) -> dict[str, Tensor]:
        """Do the step.

        Args:
            batch: this process's share, on its device.
            index: the number of the step, from 0.
            clock: is told each phase: forward, backward, penalty, optimizer, method.

        Returns:
            The losses as scalars on the device: "loss/task", the mean over the global batch, and "loss/orth_<name>"
            for each regulariser.

        Raises:
            DivergedError: a gradient is not finite, and there is no loss scale that could be too high.
        """
        clock.start()

        # Gradients of the task loss, one micro-batch after the other; processes exchange them with the last one.
        loss = torch.zeros((), device=self.accelerator.device)
        for number, part in enumerate(batch.parts, start=1):
            with nullcontext() if number == len(batch.parts) else self.accelerator.no_sync(self.model):
                loss += self._backward(part, len(batch.examples), clock)

        # Gradients of the regularisers, once a step.
        penalties = self.method.penalties()
        if penalties:
            self.accelerator.backward(torch.stack(list(penalties.values())).sum())
        clock.lap("penalty")

        # Clip.
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = self.accelerator.clip_grad_norm_(trained, self.max_grad_norm)
        grads_finite = bool(torch.isfinite(norm))
        clock.lap("optimizer")
        if not grads_finite and self.accelerator.scaler is None:
            raise DivergedError(f"step {index}: the gradient is not finite, task loss {float(loss):g}; lower recipe.lr")

        # The method reads weights and gradients, the optimizer changes the weights, the method masks them.
        with self.method.step(index, grads_finite):
            clock.lap("method")
            self.optimizer.step()
            clock.lap("optimizer")
        clock.lap("method")
        self.optimizer.zero_grad()
        clock.lap("optimizer")

        orthogonality = {keys.penalty(name): value.detach() for name, value in penalties.items()}
        return {keys.TASK_LOSS: self.accelerator.reduce(loss, "sum"), **orthogonality}

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
