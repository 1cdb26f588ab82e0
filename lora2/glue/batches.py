"""Which examples form a batch, in training and in evaluation: pure functions of lengths and a seed, in numpy alone.

Legend: `n` examples, `b` batch.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

MEGA_BATCHES = 50  # batches sorted by length together: enough to fill them evenly, few enough to stay random
EVAL_BATCH_FACTOR = 4  # evaluation keeps no activations, so its batches can be larger than those of training

Indices = npt.NDArray[np.int64]


def epoch_batches(
    lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, epoch: int, group_by_length: bool
) -> list[Indices]:
    """Return the global batches of one epoch, every example in exactly one.

    Args:
        lengths: tokens per example, (n,).
        batch_size: examples per optimizer step, over all processes and micro-batches; one batch may be shorter.
        seed, epoch: the order is a function of both and of nothing else.
        group_by_length: batch examples of like length, to save padding; the order of the batches stays random.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    if not group_by_length:
        return _cut(order, batch_size)
    batches = [
        batch
        for mega in _cut(order, batch_size * MEGA_BATCHES)
        for batch in _cut(mega[np.argsort(lengths[mega], kind="stable")], batch_size)
    ]
    return [batches[index] for index in rng.permutation(len(batches))]


class BatchSampler:
    """Gives the global batch of every optimizer step of a run, epoch after epoch: a pure function of its arguments.

    Args:
        lengths, batch_size, seed, group_by_length: as for `epoch_batches`.
    """

    def __init__(self, lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, group_by_length: bool) -> None:
        self._lengths, self._batch_size = lengths, batch_size
        self._seed, self._grouped = seed, group_by_length
        self._epoch = -1  # of `_batches`
        self._batches: list[Indices] = []

    def batch(self, step: int) -> Indices:
        """Return the examples of optimizer step `step`, counted from 0: (b,)."""
        epoch, index = divmod(step, math.ceil(len(self._lengths) / self._batch_size))
        if epoch != self._epoch:
            self._epoch = epoch
            self._batches = epoch_batches(
                self._lengths, self._batch_size, seed=self._seed, epoch=epoch, group_by_length=self._grouped
            )
        return self._batches[index]


def eval_batches(lengths: npt.NDArray[np.integer], batch_size: int) -> list[Indices]:
    """Return batches for evaluation, every example in exactly one, from the longest sequences to the shortest.

    The longest come first because they show at once whether memory suffices.

    Args:
        lengths: tokens per example, (n,).
        batch_size: examples per optimizer step of training; a batch of evaluation holds EVAL_BATCH_FACTOR times as
            many.
    """
    return _cut(np.argsort(-np.asarray(lengths, np.int64), kind="stable"), EVAL_BATCH_FACTOR * batch_size)


def shard(batch: Indices, *, rank: int, world: int, accumulation: int) -> list[Indices]:
    """Return the part of a global batch that process `rank` of `world` takes, as `accumulation` micro-batches.

    Over all ranks every example occurs exactly once, and sizes differ by at most one. A micro-batch may be empty where
    the batch is short; as micro-batches differ in size, weight each one's mean loss by its share of the global batch.
    """
    parts = np.array_split(batch, world * accumulation)
    return [parts[micro * world + rank] for micro in range(accumulation)]


def padded_width(
    lengths: npt.NDArray[np.integer],
    *,
    max_length: int | None = None,
    pad_to_multiple: int = 1,
    at_most: int | None = None,
) -> int:
    """Return the sequence length to which `collate` pads examples of these lengths.

    Args:
        lengths: tokens per example, (n,).
        max_length: the length to pad to; None for the longest of these.
        pad_to_multiple: it is rounded up to a multiple of this.
        at_most: but not beyond this, the longest that the model takes; None for no such bound.

    Raises:
        ValueError: a sequence is longer than `max_length`.
    """
    longest = int(lengths.max(initial=0))
    if max_length is not None and longest > max_length:
        raise ValueError(f"max_length: got {max_length}, but a sequence has {longest} tokens; tokenise with it first.")
    width = longest if max_length is None else max_length
    rounded = math.ceil(width / pad_to_multiple) * pad_to_multiple
    return rounded if at_most is None else max(width, min(rounded, at_most))


def padding_share(
    lengths: npt.NDArray[np.integer],
    batches: Sequence[Indices],
    *,
    max_length: int | None = None,
    pad_to_multiple: int = 1,
) -> float:
    """Return the share of positions, from 0 to 1, that hold padding when these batches are collated."""
    widths = (
        len(batch) * padded_width(lengths[batch], max_length=max_length, pad_to_multiple=pad_to_multiple)
        for batch in batches
    )
    padded_tokens = sum(widths)
    tokens = sum(int(lengths[batch].sum()) for batch in batches)
    return 1.0 - tokens / padded_tokens if padded_tokens else 0.0


def _cut(order: Indices, size: int) -> list[Indices]:
    if size < 1:
        raise ValueError(f"batch_size: got {size}; it must be at least 1.")
    return [order[start : start + size] for start in range(0, len(order), size)]
