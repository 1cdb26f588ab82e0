"""Token sequences of different lengths as one padded batch of tensors.

Legend: `b` batch, `s` sequence.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lora2.glue.batches import Indices, padded_width
from lora2.glue.tokens import TokenisedSplit


def collate(
    split: TokenisedSplit,
    indices: Indices,
    *,
    pad_id: int,
    max_length: int | None = None,
    pad_to_multiple: int = 1,
    at_most: int | None = None,
) -> dict[str, Tensor]:
    """Return the chosen examples as tensors, padded on the right.

    Args:
        pad_id: the tokenizer's padding id.
        max_length: pad to this length (a literal replay of the released code); None pads to the longest of the batch.
        pad_to_multiple: round the length up to a multiple of this.
        at_most: but not beyond this, the longest that the model takes.

    Returns:
        `input_ids`, `attention_mask` and, where the split has them, `token_type_ids`: int64 (b, s); `labels`: int64
        (b,) for classes, float32 (b,) for regression, absent for an unlabelled split.

    Raises:
        ValueError: a sequence is longer than `max_length`.
    """
    width = padded_width(
        split.lengths[indices], max_length=max_length, pad_to_multiple=pad_to_multiple, at_most=at_most
    )
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


def _fill(values: npt.NDArray[np.integer], mask: npt.NDArray[np.bool_], padding: int) -> Tensor:
    """An int64 (b, s) tensor with `values` where `mask` is set, row by row, and `padding` elsewhere."""
    filled = np.full(mask.shape, padding, np.int64)
    filled[mask] = values
    return torch.from_numpy(filled)
