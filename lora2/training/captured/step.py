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
Shape = tuple[int, int]  # rows and width of a micro-batch
# What a graph is for: a shape, and the other numbers in it, the micro-batch's weight and the size of the global batch.
Key = tuple[Shape, int, int]


@dataclass(frozen=True)
class Captured:
    """What was captured for micro-batches of one shape.

    Attributes:
        inputs: the tensors that `replay` reads; they live as long as it does.
        replay: adds the gradients of what `inputs` holds to those that are there, and returns the loss.
    """

    inputs: MicroBatch
    replay: Work


class CapturedStep:
    """Do a TrainStep's work with its gradients captured, then replayed: once for each shape of a micro-batch, and once
    for what follows the last of them.

    What is done for the first time runs eagerly, as libraries load in it; the second time it is captured. Gradients
    are static tensors, there from the first step to `close`, and zeroed when a step begins.

    Args:
        eager: the step that is captured: of one process, and without a loss scale.
        capturer: records its work.
        max_graphs: shapes that are kept; the one that was not used for the longest time goes.
    """

    def __init__(self, eager: TrainStep, capturer: Capturer, max_graphs: int = MAX_GRAPHS) -> None:
        self._eager, self._capturer, self._max_graphs = eager, capturer, max_graphs
        self._seen: set[Key] = set()
        self._captured: OrderedDict[Key, Captured] = OrderedDict()  # the last one used at the end
        self._steps = 0
        self._finish: Work | None = None

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
        return [shape for shape, *_ in self._captured]

    def __call__(self, batch: StepBatch, index: int, clock: PhaseClock) -> Losses:
        """Do the step.

        Args:
            batch: this process's share, on its device.
            index: the number of the step, from 0.
            clock: is told each phase: gradients, method, optimizer.

        Returns:
            The losses as scalars on the device; the next step overwrites them.

        Raises:
            DivergedError: a gradient was not finite, in this step or since the last look.
            CaptureError: the step cannot be captured.
        """
        clock.start()
        losses = self._gradients(batch)
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
        self._finish = None
        self._eager.optimizer.zero_grad()
        self._capturer.release()

    def _gradients(self, batch: StepBatch) -> Losses:
        """Set the gradients to those of the batch, clipped, and note whether they are finite."""
        self._eager.optimizer.zero_grad(set_to_none=False)
        loss = torch.zeros((), device=batch.parts[0].labels.device)
        for part in batch.parts:
            loss += self._part(part, len(batch.examples))[keys.TASK_LOSS]
        return {keys.TASK_LOSS: loss, **self._rest()}

    def _part(self, part: MicroBatch, batch_size: int) -> Losses:
        """Add the gradients of a micro-batch, and return its loss."""
        rows, width = part.tensors["input_ids"].shape
        key = ((rows, width), part.weight, batch_size)
        if key not in self._captured:
            if key not in self._seen:
                self._seen.add(key)
                return self._capturer.warm_up(lambda: self._part_work(part, batch_size))
            self._capture(key, part, batch_size)
        self._captured.move_to_end(key)
        captured = self._captured[key]
        for name, tensor in captured.inputs.tensors.items():
            tensor.copy_(part.tensors[name])
        return captured.replay()

    def _capture(self, key: Key, part: MicroBatch, batch_size: int) -> None:
        """Capture the work for micro-batches like `part`, and drop what was not used for the longest time."""
        inputs = MicroBatch({name: tensor.clone() for name, tensor in part.tensors.items()}, part.weight)
        replay = self._capturer.capture(lambda: self._part_work(inputs, batch_size))
        # the capturer has waited for the device, so no graph that goes now is still running
        if len(self._captured) == self._max_graphs:
            self._captured.popitem(last=False)
        self._captured[key] = Captured(inputs, replay)

    def _rest(self) -> Losses:
        """Do what follows the last micro-batch, and return the regularisers."""
        self._steps += 1
        if self._steps == 1:
            return self._capturer.warm_up(self._rest_work)
        if self._finish is None:
            self._finish = self._capturer.capture(self._rest_work)
        return self._finish()

    # A clock of its own: a mark of the device would be captured too.

    def _part_work(self, part: MicroBatch, batch_size: int) -> Losses:
        return {keys.TASK_LOSS: self._eager.part_gradients(part, batch_size, PhaseClock({}))}

    def _rest_work(self) -> Losses:
        penalties, norm = self._eager.finish_gradients(PhaseClock({}))
        self._eager.watch.note(norm)
        return penalties
