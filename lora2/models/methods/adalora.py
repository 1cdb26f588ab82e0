"""AdaLoRA (Zhang et al. 2023) on the stacks and the allocator of LoRA²: ΔW = P Λ Q, regularised, pruned to a budget.

It is LoRA² with one scale (docs/METHOD.md), and computes what PEFT's does, without asking the device for a score in any
step. PEFT's own is the reference, models/methods/adalora_peft.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora2.config.methods import AdaLoRAMethodConfig, BudgetConfig, RankConfig
from lora2.core.functional import above_threshold_mask
from lora2.core.inject import LoRA2Config
from lora2.core.matrices import matrices_of
from lora2.models.methods.base import ParameterGroup, rank_numbers
from lora2.models.methods.parts import factor_numbers, rank_allocator
from lora2.models.methods.stacked import StackedMethod

RANK_GUARD = 1e-5  # PEFT's and the reference's scale is alpha / (r + 1e-5)


class AdaLoRA(StackedMethod):
    """Train P, Λ and Q, and prune Λ, as PEFT's AdaLoRA does."""

    def __init__(
        self, model: nn.Module, method: AdaLoRAMethodConfig, rank: RankConfig, budget: BudgetConfig | None, total: int
    ) -> None:
        config = LoRA2Config(
            k=None,
            r=rank.r,
            alpha=rank.alpha * rank.r / (rank.r + RANK_GUARD),
            targets=matrices_of(method.targets),
            init="paper",
            lam_lr_scale=1.0,
        )
        super().__init__(model, config)
        self.groups = [ParameterGroup(self._factors), ParameterGroup(self._head)]
        self._gamma = method.penalty.weight
        self.allocator = (
            None if budget is None else rank_allocator(self.adapter, budget, total, choose=above_threshold_mask)
        )

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

    @torch.no_grad()
    def monitor(self) -> dict[str, float]:
        """Return the kept ranks, the regulariser, and how much P and Q have in common (parts.factor_numbers)."""
        return rank_numbers(self.kept) | factor_numbers(self.adapter, ("PQ",))

    def _active(self, kept: dict[str, int]) -> int:
        """Parameters that still act: d + o + 1 for each kept singular value, so the count depends on where they are."""
        return sum(kept[name] * (sum(layer.weight.shape) + 1) for name, layer in self.adapter.layers.items())
