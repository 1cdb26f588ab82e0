"""The one evaluation forward: head outputs of a model for every example of a split.

Training scores dev splits with it, a submission predicts test splits, the benchmark times it.

Legend: `n` examples, `b` batch, `c` outputs of the head.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lora2.glue.batches import Indices, eval_batches
from lora2.glue.collate import collate
from lora2.glue.loader import to_device
from lora2.glue.tokens import TokenisedSplit

Logits = npt.NDArray[np.float32]
Part = tuple[Indices, Logits]  # which examples (b,), and their head outputs (b, c)


def compute_logits(
    model: nn.Module, split: TokenisedSplit, *, batch_size: int, pad_id: int, max_length: int | None = None
) -> Logits:
    """Return the head outputs of every example, in the split's order.

    Args:
        model: in evaluation mode; with its method merged where that is cheaper.
        batch_size: examples per optimizer step of the model's training; evaluation takes several times as many.
        pad_id: the tokenizer's padding id.
        max_length: what every batch is padded to; None for the longest of each.

    Returns:
        float32 (n, c).
    """
    batches = eval_batches(split.lengths, batch_size)
    return in_order(compute_parts(model, split, batches, pad_id=pad_id, max_length=max_length))


@torch.no_grad()
def compute_parts(
    model: nn.Module,
    split: TokenisedSplit,
    batches: Iterable[Indices],
    *,
    pad_id: int,
    max_length: int | None,
    pad_to_multiple: int = 1,
    at_most: int | None = None,
) -> list[Part]:
    """Return the head outputs of some batches of a split: what one of several processes does of `compute_logits`.

    Args:
        model, pad_id, max_length: as `compute_logits` has them.
        split: of all batches.
        batches: the examples of each.
        pad_to_multiple, at_most: how widths are rounded, see `collate`.
    """
    device = next(model.parameters()).device
    given: list[Indices] = []
    found: list[Tensor] = []
    for indices in batches:
        batch = collate(
            split, indices, pad_id=pad_id, max_length=max_length, pad_to_multiple=pad_to_multiple, at_most=at_most
        )
        inputs = {name: to_device(tensor, device) for name, tensor in batch.items() if name != "labels"}
        given.append(indices)
        found.append(model(**inputs).logits.float())  # left on the device: to fetch it is to wait for it
    return [(indices, logits.cpu().numpy()) for indices, logits in zip(given, found, strict=True)]


def in_order(parts: Sequence[Part]) -> Logits:
    """Return the head outputs of parts that hold every example once, in the order of the examples, (n, c)."""
    order = np.concatenate([indices for indices, _ in parts])  # (n,)
    logits = np.concatenate([part for _, part in parts])  # (n, c)
    return logits[np.argsort(order)]
