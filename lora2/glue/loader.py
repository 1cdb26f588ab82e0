"""A run's batches as tensors, step by step: made by the training process, or ahead of it by others.

What a step trains on does not depend on who makes it, so a record does not change with the number of workers.
"""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lora2.common.signals import STOPPING
from lora2.glue.batches import BatchSampler, Indices, shard
from lora2.glue.collate import collate
from lora2.glue.tokens import TokenisedSplit

LOST = "a process that makes batches died; num_workers=0 does without them"


class WorkerLostError(RuntimeError):
    """A process that makes batches is gone."""


@dataclass(frozen=True)
class MicroBatch:
    """A part of a batch that goes through the model at once.

    Attributes:
        tensors: as `collate` makes them.
        weight: 1; 0 for the stand-in of an empty part, as all processes must take part.
    """

    tensors: dict[str, Tensor]
    weight: int = 1

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the model takes: everything but the labels."""
        return {name: tensor for name, tensor in self.tensors.items() if name != "labels"}

    @property
    def labels(self) -> Tensor:
        """Classes or scores, (b,)."""
        return self.tensors["labels"]

    def to(self, device: torch.device) -> "MicroBatch":
        """Return the same on a device."""
        return MicroBatch({name: to_device(tensor, device) for name, tensor in self.tensors.items()}, self.weight)


@dataclass(frozen=True)
class StepBatch:
    """What a process trains on in one optimizer step.

    Attributes:
        examples: the global batch, (b,).
        parts: the process's own micro-batches of it.
    """

    examples: Indices
    parts: list[MicroBatch]

    def to(self, device: torch.device) -> "StepBatch":
        """Return the same on a device."""
        return StepBatch(self.examples, [part.to(device) for part in self.parts])


@dataclass(frozen=True)
class StepDataset(Dataset[StepBatch]):
    """Gives the StepBatch of every optimizer step, by number.

    Args:
        sampler: chooses the global batches.
        pad_id: the tokenizer's padding id.
        max_length: what every batch is padded to; None for the longest of each.
        rank, world: this process, and the number of processes.
        accumulation: micro-batches of each process in a step.
        pad_to_multiple, at_most: as for `padded_width`.
    """

    split: TokenisedSplit
    sampler: BatchSampler
    pad_id: int
    max_length: int | None
    rank: int
    world: int
    accumulation: int
    pad_to_multiple: int = 1
    at_most: int | None = None

    def __getitem__(self, step: int) -> StepBatch:
        examples = self.sampler.batch(step)
        parts = shard(examples, rank=self.rank, world=self.world, accumulation=self.accumulation)
        return StepBatch(examples, [self._micro_batch(part) for part in parts])

    def _micro_batch(self, part: Indices) -> MicroBatch:
        indices = part if len(part) else np.zeros(1, np.int64)
        tensors = collate(
            self.split,
            indices,
            pad_id=self.pad_id,
            max_length=self.max_length,
            pad_to_multiple=self.pad_to_multiple,
            at_most=self.at_most,
        )
        return MicroBatch(tensors, weight=int(len(part) > 0))


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host on a device; a GPU fetches it when it gets there, and the host goes on."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def load(batches: StepDataset, start: int, stop: int, workers: int) -> Iterator[StepBatch]:
    """Yield the batches of steps `start` to `stop`, in order.

    Args:
        workers: processes that make batches ahead; 0 makes them here, when they are asked for.

    Raises:
        WorkerLostError: one of them died.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_outlive_signals,
        generator=torch.Generator(),  # the loader draws a number, which must not be one of the run's
    )
    if workers == 0:
        yield from loader
        return
    before = signal.getsignal(signal.SIGCHLD)
    made = iter(loader)
    # torch would raise in whatever line is being run when a worker dies; asking for the next batch notices it too
    signal.signal(signal.SIGCHLD, before)
    for _ in range(start, stop):
        yield _next(made)


def _next(made: Iterator[StepBatch]) -> StepBatch:
    try:
        return next(made)
    except (OSError, EOFError) as error:  # tensors of a worker that is gone
        raise WorkerLostError(LOST) from error
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):  # a mistake of ours, made in a worker
            raise
        raise WorkerLostError(LOST) from error


def _as_it_is(batch: Any) -> Any:
    return batch


def _outlive_signals(worker: int) -> None:
    """A signal to the whole group is for the run, which then ends its workers; they end too when the run is gone."""
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
