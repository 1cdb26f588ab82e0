"""What ended a run before its end, as its record tells it."""

from dataclasses import dataclass
from typing import Literal

import torch

from lora2.common.files import StorageError
from lora2.glue.loader import WorkerLostError
from lora2.training.finite import DivergedError
from lora2.training.loop import CancelledError


@dataclass(frozen=True)
class Failure:
    """How a run failed.

    Attributes:
        expected: the reason says everything; there is no use in a traceback.
        together: every process of the run meets it in the same step; otherwise they must not wait for each other.
        repeats: going on from the last checkpoint would end in it again.
    """

    status: Literal["failed", "oom", "cancelled"]
    reason: str
    expected: bool = True
    together: bool = False
    repeats: bool = False


def explain(error: Exception) -> Failure:
    """Return the Failure that an exception means."""
    if isinstance(error, CancelledError):
        return Failure("cancelled", str(error), together=True)
    if isinstance(error, DivergedError | FloatingPointError):
        return Failure("failed", str(error), together=True, repeats=True)
    if isinstance(error, StorageError | WorkerLostError):
        return Failure("failed", str(error))
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error):
        return Failure("oom", f"{type(error).__name__}: {error}")
    return Failure("failed", f"{type(error).__name__}: {error}", expected=False)
