"""AdaLoRA (Zhang et al. 2023) on the stacks and the allocator of LoRA²: ΔW = P Λ Q, regularised, pruned to a budget.

It is LoRA² with one scale (docs/METHOD.md), and computes what PEFT's does, without asking the device for a score in any
step. PEFT's own is the reference, models/methods/adalora_peft.py.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from lora2.config.methods import AdaLoRAMethodConfig, BudgetConfig, RankConfig
from lora2.core.allocator import RankAllocator
from lora2.core.functional import above_threshold_mask
from lora2.core.inject import LoRA2Config, inject
from lora2.core.matrices import matrices_of
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup, rank_numbers
from lora2.models.methods.parts import backbone_size, factor_numbers, rank_allocator, size, trained_parts

RANK_GUARD = 1e-5  # PEFT's and the reference's scale is alpha / (r + 1e-5)


class AdaLoRA(Method):
    """Train P, Λ and Q, and prune Λ, as PEFT's AdaLoRA does."""

    def __init__(
        self, model: nn.Module, method: AdaLoRAMethodConfig, rank: RankConfig, budget: BudgetConfig | None, total: int
    ) -> None:
        self._backbone = backbone_size(model)
        config = LoRA2Config(
            k=None,
            r=rank.r,
            alpha=rank.alpha * rank.r / (rank.r + RANK_GUARD),
            targets=matrices_of(method.targets),
            init="paper",
            lam_lr_scale=1.0,
        )
        self.adapter = inject(model, config)
        self._factors, self._head = trained_parts(model)
        self.groups = [ParameterGroup(self._factors), ParameterGroup(self._head)]
        self._gamma = method.penalty.weight
        self.allocator = (
            None if budget is None else rank_allocator(self.adapter, budget, total, choose=above_threshold_mask)
        )

    @property
    def stateful(self) -> RankAllocator | None:
        """Statistics and mask of the allocator."""
        return self.allocator

    def penalties(self) -> dict[str, Tensor]:
        """Return γ times the mean over all P and Q of ‖·‖_F, un-squared, as in AdaLoRA's trainer and in PEFT."""
        if self._gamma == 0:
            return {}
        return {"PQ": self._gamma * self.adapter.penalties(frozenset({"PQ"}), "norm")["PQ"]}

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        """Update the importance and mask Λ, both after the optimizer step, as PEFT documents.

        So the sensitivity is of the new weights and the gradients at the old ones. From the first step of the last
        phase no gradient is read, so an overflow must not keep it from fixing the final mask.
        """
        yield
        if self.allocator is not None and grads_finite:
            self.allocator.observe(step)
        if self.allocator is not None and (grads_finite or step >= self.allocator.schedule.final):
            self.allocator.mask(step)

    def merged(self) -> AbstractContextManager[None]:
        """Compute with ΔW added to the weights."""
        return self.adapter.merged()

    def exported(self) -> AbstractContextManager[None]:
        """Compute with each ΔW from the LoRA weights that an export writes."""
        return self.adapter.exported()

    @torch.no_grad()
    def monitor(self) -> dict[str, float]:
        """Return the kept ranks, the regulariser, and how much P and Q have in common (parts.factor_numbers)."""
        return rank_numbers(self._kept()) | factor_numbers(self.adapter, ("PQ",))

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained.

        Raises:
            RuntimeError: the final budget was not reached exactly, as where equal scores went together.
        """
        if self.allocator is not None:
            self.allocator.assert_final_budget()
        kept = self._kept()
        return ParameterCounts(
            adapter=size(self._factors),
            active_adapter=self._active(kept),
            head=size(self._head),
            backbone=self._backbone,
            ranks=kept,
        )

    def _kept(self) -> dict[str, int]:
        return self.adapter.ranks() if self.allocator is None else self.allocator.ranks()

    def _active(self, kept: dict[str, int]) -> int:
        """Parameters that still act: d + o + 1 for each kept singular value, so the count depends on where they are."""
        return sum(kept[name] * (sum(layer.weight.shape) + 1) for name, layer in self.adapter.layers.items())
