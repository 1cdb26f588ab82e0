"""Which examples form a batch, and the batch as padded tensors. The plan is numpy only and a pure function of its seed.

Legend: `n` examples, `b` batch, `s` sequence.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lora2.glue.tokens import TokenisedSplit

MEGA_BATCHES = 50  # batches sorted by length together: enough to fill them evenly, few enough to stay random

Indices = npt.NDArray[np.int64]


def epoch_batches(
    lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, epoch: int, group_by_length: bool
) -> list[Indices]:
    """The global batches of one epoch, every example in exactly one.

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
    """The global batch of every optimizer step of a run, epoch after epoch: a pure function of what it is made from."""

    def __init__(self, lengths: npt.NDArray[np.integer], batch_size: int, *, seed: int, group_by_length: bool) -> None:
        self._lengths, self._batch_size, self._seed, self._grouped = lengths, batch_size, seed, group_by_length
        self._epoch, self._batches = -1, list[Indices]()

    def batch(self, step: int) -> Indices:
        """The examples of optimizer step `step`, from 0."""
        epoch, index = divmod(step, -(-len(self._lengths) // self._batch_size))
        if epoch != self._epoch:
            self._epoch, self._batches = (
                epoch,
                epoch_batches(
                    self._lengths, self._batch_size, seed=self._seed, epoch=epoch, group_by_length=self._grouped
                ),
            )
        return self._batches[index]


def eval_batches(lengths: npt.NDArray[np.integer], batch_size: int) -> list[Indices]:
    """Batches for evaluation, every example in exactly one, from the longest (which shows at once whether memory
    suffices) to the shortest.
    """
    return _cut(np.argsort(-np.asarray(lengths, np.int64), kind="stable"), batch_size)


def shard(batch: Indices, *, rank: int, world: int, accumulation: int) -> list[Indices]:
    """The part of a global batch that process `rank` of `world` takes, as `accumulation` micro-batches.

    Over all ranks every example occurs exactly once, and sizes differ by at most one. A micro-batch may be empty where
    the batch is short; as micro-batches differ in size, weight each one's mean loss by its share of the global batch.
    """
    parts = np.array_split(batch, world * accumulation)
    return [parts[micro * world + rank] for micro in range(accumulation)]


def collate(
    split: TokenisedSplit,
    indices: Indices,
    *,
    pad_id: int,
    max_length: int | None = None,
    pad_to_multiple: int = 1,
) -> dict[str, Tensor]:
    """The chosen examples as tensors, padded on the right.

    Args:
        pad_id: the tokenizer's padding id.
        max_length: pad to this length (a literal replay of the released code); None pads to the longest of the batch.
        pad_to_multiple: round the length up to a multiple of this.

    Returns:
        `input_ids`, `attention_mask` and, where the split has them, `token_type_ids`: int64 (b, s); `labels`: int64
        (b,) for classes, float32 (b,) for regression, absent for an unlabelled split.

    Raises:
        ValueError: a sequence is longer than `max_length`.
    """
    width = padded_width(split.lengths[indices], max_length=max_length, pad_to_multiple=pad_to_multiple)
    starts, lengths = split.offsets[indices], split.lengths[indices]
    mask = np.arange(width) < lengths[:, None]  # (b, s)
    source = (starts[:, None] + np.arange(width))[mask]  # positions in the flat arrays, row by row
    batch = {
        "input_ids": _fill(split.input_ids[source], mask, pad_id),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }
    if split.type_ids is not None:
        batch["token_type_ids"] = _fill(split.type_ids[source], mask, 0)
    if split.labels is not None:
        batch["labels"] = torch.from_numpy(split.labels[indices])
    return batch


def padded_width(lengths: npt.NDArray[np.integer], *, max_length: int | None = None, pad_to_multiple: int = 1) -> int:
    """The sequence length to which `collate` pads examples of these lengths.

    Raises:
        ValueError: a sequence is longer than `max_length`.
    """
    longest = int(lengths.max(initial=0))
    if max_length is not None and longest > max_length:
        raise ValueError(f"max_length: got {max_length}, but a sequence has {longest} tokens; tokenise with it first.")
    width = longest if max_length is None else max_length
    return -(-width // pad_to_multiple) * pad_to_multiple


def padding_share(
    lengths: npt.NDArray[np.integer],
    batches: Sequence[Indices],
    *,
    max_length: int | None = None,
    pad_to_multiple: int = 1,
) -> float:
    """The share of positions, from 0 to 1, that hold padding when these batches are collated."""
    widths = (
        len(batch) * padded_width(lengths[batch], max_length=max_length, pad_to_multiple=pad_to_multiple)
        for batch in batches
    )
    positions = sum(widths)
    tokens = sum(int(lengths[batch].sum()) for batch in batches)
    return 1.0 - tokens / positions if positions else 0.0


def _cut(order: Indices, size: int) -> list[Indices]:
    if size < 1:
        raise ValueError(f"batch_size: got {size}; it must be at least 1.")
    return [order[start : start + size] for start in range(0, len(order), size)]


def _fill(values: npt.NDArray[np.integer], mask: npt.NDArray[np.bool_], padding: int) -> Tensor:
    """An int64 (b, s) tensor with `values` where `mask` is set, row by row, and `padding` elsewhere."""
    filled = np.full(mask.shape, padding, np.int64)
    filled[mask] = values
    return torch.from_numpy(filled)
