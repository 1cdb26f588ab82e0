"""A slice of train kept apart to choose the checkpoint by, so that dev is only reported (`selection=heldout`)."""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:  # it imports transformers, and `train_size` is asked for before that
    from lora2.glue.tokens import TokenisedSplit

HELDOUT = "heldout"
SHARE = 10  # one example in ten


def train_size(examples: int, selection: Literal["dev", "heldout"]) -> int:
    """Training examples that are left."""
    return examples - examples // SHARE if selection == "heldout" else examples


def hold_out(train: "TokenisedSplit", seed: int) -> tuple["TokenisedSplit", "TokenisedSplit"]:
    """The smaller train split and the held-out one: a random tenth, a function of the seed alone."""
    order = np.random.default_rng([seed, len(train)]).permutation(len(train))
    kept = train_size(len(train), "heldout")
    return train.take(np.sort(order[:kept])), train.take(np.sort(order[kept:]))
