"""The losses of the steps that a record keeps, left on the device until it is read anyway."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lora2.core import keys
from lora2.training.finite import DivergedError
from lora2.training.state import TrainState


class LossHistory:
    """Bring losses from the device into the history of a run, and to its tracker.

    Args:
        state: its history is added to.
        log: called with the step and a flat dict of numbers.
    """

    def __init__(self, state: TrainState, log: Callable[[int, dict[str, float]], None]) -> None:
        self._state, self._log = state, log
        self._unread: list[tuple[int, float, tuple[str, ...], Tensor]] = []  # step, learning rate, names, values

    def note(self, step: int, rate: float, losses: dict[str, Tensor]) -> None:
        """Keep the losses of a step, without waiting for them.

        Args:
            step: how many steps were done by then.
            rate: its learning rate.
            losses: by name, scalars on the device, which the next step may overwrite.
        """
        self._unread.append((step, rate, tuple(losses), torch.stack([*losses.values()])))

    def read(self) -> None:
        """Wait for the losses that were noted, and add them.

        Raises:
            DivergedError: one is not finite; those before it are in the history.
        """
        for step, rate, names, values in self._unread:
            numbers = dict(zip(names, values.tolist(), strict=True))
            if not all(map(math.isfinite, numbers.values())):
                raise DivergedError(f"step {step - 1}: the loss is not finite ({numbers}); lower recipe.lr")
            self._state.history["train"].append({keys.STEP: step, keys.LEARNING_RATE: rate, **numbers})
            tokens_per_s = self._state.tokens / self._state.train_seconds
            self._log(step, {keys.LEARNING_RATE: rate, **numbers, keys.TOKENS_PER_S: tokens_per_s})
        self._unread.clear()
