"""What the training loop asks of a fine-tuning method."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from lora2.core import keys


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters by name that share a learning-rate multiplier (on the recipe's rate) and whether they may decay."""

    parameters: dict[str, nn.Parameter]
    lr_scale: float = 1.0
    decays: bool = True


@dataclass(frozen=True)
class ParameterCounts:
    """Trained parameters, counted apart; `ranks` holds the kept rank of each matrix where the method has one."""

    adapter: int
    active_adapter: int
    head: int
    backbone: int
    ranks: dict[str, int] = field(default_factory=dict)


class Stateful(Protocol):
    """State that a checkpoint must hold besides the trained parameters, as tensors by name."""

    def state_dict(self) -> dict[str, Tensor]:
        """The state now."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> None:
        """Put it back."""
        ...


class Method(Protocol):
    """A method after it was applied to a model: what is trained, what is added to the loss, what happens in a step.

    A method inherits from this and says only what it does; what it leaves out does nothing.
    """

    groups: list[ParameterGroup]

    @property
    def stateful(self) -> Stateful | None:
        """What a checkpoint must hold besides the trained parameters, if anything."""
        return None

    def penalties(self) -> dict[str, Tensor]:
        """Regulariser terms by name, weighted: their sum is added to the task loss once per optimizer step."""
        return {}

    def step(self, step: int, grads_finite: bool) -> AbstractContextManager[None]:
        """Wraps the optimizer step number `step` (from 0): reads weights and gradients first, changes weights after it.

        `grads_finite` is false when the gradients overflowed and the optimizer will skip the step.
        """
        return nullcontext()

    def merged(self) -> AbstractContextManager[None]:
        """Inside, the model computes what it computes outside, at the backbone's own cost where the method can."""
        return nullcontext()

    def exported(self) -> AbstractContextManager[None] | None:
        """Inside, the model computes what its exported adapter would; None for a method without an export."""
        return None

    def monitor(self) -> dict[str, float]:
        """Numbers about the adapter that are worth following over training, by the name that a tracker shows."""
        return {}

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained, and check the method's own promise (a final budget): RuntimeError if broken."""
        ...


def rank_numbers(kept: dict[str, int]) -> dict[str, float]:
    """Kept ranks as numbers to follow: "budget", their sum, and "rank/<matrix>" for each."""
    return {keys.BUDGET: float(sum(kept.values()))} | {keys.rank(matrix): float(rank) for matrix, rank in kept.items()}
