"""Whether training has diverged, found out without making the host wait for the device in every step."""

import torch
from torch import Tensor

LOOK_EVERY = 100  # steps between two looks at a GPU, which waits for its next step while it is read


def steps_between_looks(device: torch.device) -> int:
    """Return after how many steps a device is read; a CPU in every step, as that costs nothing there."""
    return 1 if device.type == "cpu" else LOOK_EVERY


class DivergedError(RuntimeError):
    """The loss or the gradient is not finite."""


class FiniteWatch:
    """Gather on the device whether a gradient was not finite, and look at the answer now and then.

    Args:
        device: where gradients are.
        every: steps from one look to the next; None for as few as the device needs.
    """

    def __init__(self, device: torch.device, every: int | None = None) -> None:
        self._every = every or steps_between_looks(device)
        self._bad = torch.zeros((), dtype=torch.bool, device=device)
        self._passed: list[int] = []  # steps since the last look
        self._loss: Tensor | None = None  # of the last of them

    def note(self, norm: Tensor) -> None:
        """Note the norm of a step's gradients, on the device: this may be a part of a captured graph."""
        self._bad.logical_or_(~torch.isfinite(norm))

    def passed(self, index: int, loss: Tensor) -> None:
        """Say that a step's gradients were noted, and look when it is time.

        Args:
            index: the number of the step, from 0.
            loss: its task loss, a scalar.

        Raises:
            DivergedError: a gradient was not finite.
        """
        self._passed.append(index)
        self._loss = loss
        if len(self._passed) >= self._every:
            self.look()

    def look(self) -> None:
        """Read the device, and forget the steps that were in order.

        Raises:
            DivergedError: in one of the steps since the last look a gradient was not finite.
        """
        if not self._passed:
            return
        if bool(self._bad):
            raise DivergedError(f"{self._where()}: the gradient is not finite, {self._shown_loss()}; lower recipe.lr")
        self._passed.clear()

    def _where(self) -> str:
        first, last = self._passed[0], self._passed[-1]
        return f"step {last}" if first == last else f"one of the steps {first} to {last}"

    def _shown_loss(self) -> str:
        assert self._loss is not None  # a step was passed
        last = "task loss" if len(self._passed) == 1 else "last task loss"
        return f"{last} {float(self._loss):g}"
