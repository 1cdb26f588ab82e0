"""What LoRA² and AdaLoRA have in common: an adapter of stacked factors, and an allocator where there is a budget."""

from abc import abstractmethod
from contextlib import AbstractContextManager

from torch import nn

from lora2.core.allocator import RankAllocator
from lora2.core.inject import LoRA2Config, inject
from lora2.models.methods.base import Method, ParameterCounts
from lora2.models.methods.parts import backbone_size, size, trained_parts


class StackedMethod(Method):
    """A method that trains factors in the stacks of core/layers.py.

    Attributes:
        adapter: the factors.
        allocator: of the ranks; None without a budget.
    """

    allocator: RankAllocator | None

    def __init__(self, model: nn.Module, config: LoRA2Config) -> None:
        self._backbone = backbone_size(model)
        self.adapter = inject(model, config)
        self._factors, self._head = trained_parts(model)

    @property
    def stateful(self) -> RankAllocator | None:
        """Statistics and mask of the allocator."""
        return self.allocator

    @property
    def kept(self) -> dict[str, int]:
        """The number of singular values that are left in each matrix."""
        return self.adapter.ranks() if self.allocator is None else self.allocator.ranks()

    def merged(self) -> AbstractContextManager[None]:
        """Compute with ΔW added to the weights."""
        return self.adapter.merged()

    def exported(self) -> AbstractContextManager[None]:
        """Compute with each ΔW from the LoRA weights that an export writes."""
        return self.adapter.exported()

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained.

        Raises:
            RuntimeError: the final budget was not reached, with AdaLoRA's choice also where equal scores went together.
        """
        if self.allocator is not None:
            self.allocator.assert_final_budget()
        return ParameterCounts(
            adapter=size(self._factors),
            active_adapter=self._active(self.kept),
            head=size(self._head),
            backbone=self._backbone,
            ranks=self.kept,
            masks={} if self.allocator is None else self.allocator.masks(),
        )

    @abstractmethod
    def _active(self, kept: dict[str, int]) -> int:
        """Count the parameters that still act when so many singular values of each matrix are left."""
