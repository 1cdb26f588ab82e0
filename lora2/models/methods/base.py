"""The interface between the training loop and a fine-tuning method."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from lora2.core import keys


@dataclass(frozen=True)
class ParameterGroup:
    """Group parameters that are optimised alike.

    Attributes:
        parameters: by name in the model.
        lr_scale: multiplies the recipe's learning rate.
        decays: whether weight decay may apply to them.
    """

    parameters: dict[str, nn.Parameter]
    lr_scale: float = 1.0
    decays: bool = True


@dataclass(frozen=True)
class ParameterCounts:
    """Count parameters, the parts of a model apart.

    Attributes:
        adapter: trained outside the head.
        active_adapter: of these, the ones that still act after pruning.
        head: trained in pooler and classifier.
        backbone: of the pretrained encoder, without the head.
        ranks: kept rank by matrix name, for a method that has ranks.
        masks: which singular values are kept, 1 and 0 in their order, by matrix name, for a method that chooses them.
    """

    adapter: int
    active_adapter: int
    head: int
    backbone: int
    ranks: dict[str, int] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)


class Stateful(Protocol):
    """Expose state that a checkpoint must hold besides the trained parameters, as tensors by name."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state now."""
        ...

    def load_state_dict(self, state: dict[str, Tensor], /) -> None:
        """Restore what `state_dict` returned."""
        ...


class Method(Protocol):
    """Say what is trained, what is added to the loss, and what happens around an optimizer step.

    A method inherits from this and overrides only what it needs; everything else does nothing.

    Attributes:
        groups: all trained parameters, the head's included.
    """

    groups: list[ParameterGroup]

    @property
    def stateful(self) -> Stateful | None:
        """State that a checkpoint must hold besides the trained parameters, if there is any."""
        return None

    def penalties(self) -> dict[str, Tensor]:
        """Return weighted regulariser terms by name, each a scalar; their sum is added to the loss once a step."""
        return {}

    def step(self, step: int, grads_finite: bool) -> AbstractContextManager[None]:
        """Wrap an optimizer step: read weights and gradients before it, change weights after it.

        Args:
            step: number of the step, from 0.
            grads_finite: False if the gradients overflowed, so that the optimizer will skip the step.
        """
        return nullcontext()

    def merged(self) -> AbstractContextManager[None]:
        """Compute inside the block what the model computes outside, at the backbone's own cost if the method can."""
        return nullcontext()

    def exported(self) -> AbstractContextManager[None] | None:
        """Compute inside the block what the exported adapter would; None for a method without an export."""
        return None

    def monitor(self) -> dict[str, float]:
        """Return numbers about the adapter to follow over training, by the name that a tracker shows."""
        return {}

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained.

        Raises:
            RuntimeError: the method's own promise, such as a final budget, was not kept.
        """
        ...


def rank_numbers(kept: dict[str, int]) -> dict[str, float]:
    """Return kept ranks as numbers to follow: "rank/<matrix>" for each, and "budget", their sum.

    Args:
        kept: rank by matrix name.
    """
    return {keys.BUDGET: float(sum(kept.values()))} | {keys.rank(matrix): float(rank) for matrix, rank in kept.items()}
