"""The same bits every time, on a GPU too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Inside, torch takes only algorithms that give the same bits every time.

    It is on for gradients and for scores, not for the rest of a step: PEFT's allocator needs kthvalue, which torch then
    refuses on a GPU though its value is always the same.

    Args:
        wanted: false to leave torch as it is.
    """
    if not wanted:
        yield
        return
    settings: Any = torch.utils.deterministic
    before, fills = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # it is a kernel more for every new tensor, and nothing reads them unset
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fills
