"""The training step with its gradients captured: the same interface and the same numbers as the eager one.

Captured is what Python is slow at: forward, backward, regularisers, clip. Importance, optimizer and mask follow it
eagerly; nothing in them waits for the device, so they are queued while it still works on the gradients.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import nn

from lora2.core import keys
from lora2.glue.loader import MicroBatch, StepBatch
from lora2.training.captured.capturer import Capturer, Work
from lora2.training.clock import PhaseClock
from lora2.training.step import Losses, TrainStep

MAX_GRAPHS = 64  # widths in multiples of 8 up to 512 tokens
Shape = tuple[int, int]  # rows and width of a batch


@dataclass(frozen=True)
class Captured:
    """What was captured for one shape of batches.

    Attributes:
        inputs: the tensors that `replay` reads; they live as long as it does.
        replay: adds the gradients of what `inputs` holds to none, and returns the losses.
    """

    inputs: MicroBatch
    replay: Work


class CapturedStep:
    """Do a TrainStep's work with its gradients captured once for each shape of a batch, then replayed.

    The first step of a shape runs eagerly, as libraries load in it; the second is captured. Gradients are static
    tensors, zeroed as the first thing of the captured work; they are there from the first step to `close`.

    Args:
        eager: the step that is captured: of one process, without accumulation and without a loss scale.
        capturer: records its work.
        max_graphs: shapes that are kept; the one that was not used for the longest time goes.
    """

    def __init__(self, eager: TrainStep, capturer: Capturer, max_graphs: int = MAX_GRAPHS) -> None:
        self._eager, self._capturer, self._max_graphs = eager, capturer, max_graphs
        self._seen: set[Shape] = set()
        self._captured: OrderedDict[Shape, Captured] = OrderedDict()  # the last one used at the end

    @property
    def model(self) -> nn.Module:
        """The model that is trained."""
        return self._eager.model

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer."""
        return self._eager.optimizer

    @property
    def captured(self) -> list[Shape]:
        """The shapes (rows, width) that are kept, the last one used at the end."""
        return list(self._captured)

    def __call__(self, batch: StepBatch, index: int, clock: PhaseClock) -> Losses:
        """Do the step.

        Args:
            batch: one micro-batch, on the device.
            index: the number of the step, from 0.
            clock: is told each phase: gradients, method, optimizer.

        Returns:
            The losses as scalars on the device; the next step overwrites them.

        Raises:
            DivergedError: a gradient was not finite, in this step or since the last look.
            CaptureError: the step cannot be captured.
        """
        clock.start()
        (part,) = batch.parts
        losses = self._gradients(part)
        clock.lap("gradients")
        self._eager.watch.passed(index, losses[keys.TASK_LOSS])
        self._eager.update(index, True, clock)
        return losses

    def look(self) -> None:
        """Read from the device whether all steps were in order.

        Raises:
            DivergedError: a gradient was not finite.
        """
        self._eager.look()

    def close(self) -> None:
        """Free graphs and gradients."""
        self._captured.clear()
        self._eager.optimizer.zero_grad()
        self._capturer.release()

    def _gradients(self, part: MicroBatch) -> Losses:
        rows, width = part.tensors["input_ids"].shape
        shape = (rows, width)
        if shape not in self._captured:
            if shape not in self._seen:
                self._seen.add(shape)
                return self._capturer.warm_up(lambda: self._work(part))
            self._capture(shape, part)
        self._captured.move_to_end(shape)
        captured = self._captured[shape]
        for name, tensor in captured.inputs.tensors.items():
            tensor.copy_(part.tensors[name])
        return captured.replay()

    def _capture(self, shape: Shape, part: MicroBatch) -> None:
        """Capture the work for batches like `part`, and drop what was not used for the longest time."""
        inputs = MicroBatch({name: tensor.clone() for name, tensor in part.tensors.items()}, part.weight)
        replay = self._capturer.capture(lambda: self._work(inputs))
        # the capturer has waited for the device, so no graph that goes now is still running
        if len(self._captured) == self._max_graphs:
            self._captured.popitem(last=False)
        self._captured[shape] = Captured(inputs, replay)

    def _work(self, part: MicroBatch) -> Losses:
        """Set the gradients to those of `part`, and note whether they are finite."""
        self._eager.optimizer.zero_grad(set_to_none=False)
        untimed = PhaseClock({})  # a mark of the device would be captured too
        losses, norm = self._eager.gradients([part], len(part.labels), untimed)
        self._eager.watch.note(norm)
        return losses
