"""Hold out a part of train to choose the checkpoint by, so that dev is only reported (`selection=heldout`)."""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # It imports transformers, and `train_size` is needed before that.
    from lora2.glue.tokens import TokenisedSplit

HELDOUT = "heldout"
SHARE = 10  # one example in ten


def train_size(examples: int, selection: Literal["dev", "heldout"]) -> int:
    """Return how many training examples are left.

    Args:
        examples: of the whole train split.
        selection: "dev" holds nothing out.
    """
    return examples - examples // SHARE if selection == "heldout" else examples


def hold_out(train: "TokenisedSplit", seed: int) -> tuple["TokenisedSplit", "TokenisedSplit"]:
    """Split a random tenth off; which examples it holds depends on the seed and the split's size alone.

    Returns:
        The smaller train split and the held-out one, each in the order of `train`.
    """
    order = np.random.default_rng([seed, len(train)]).permutation(len(train))
    kept = train_size(len(train), "heldout")
    return train.take(np.sort(order[:kept])), train.take(np.sort(order[kept:]))
