"""LoRA² as a method: injection, regularisers, and rank allocation under a budget."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora2.config.methods import BudgetConfig, LoRA2MethodConfig, RankConfig
from lora2.core import keys
from lora2.core.inject import LoRA2Config
from lora2.core.matrices import matrices_of
from lora2.core.terms import TERMS
from lora2.models.methods.base import ParameterGroup, rank_numbers
from lora2.models.methods.parts import factor_numbers, rank_allocator
from lora2.models.methods.stacked import StackedMethod


class LoRA2(StackedMethod):
    """Train two-scale low-rank adapters with orthogonality regularisers, and prune their singular values."""

    def __init__(
        self, model: nn.Module, method: LoRA2MethodConfig, rank: RankConfig, budget: BudgetConfig | None, total: int
    ) -> None:
        assert rank.k is not None  # checked by the configuration
        targets = matrices_of(method.targets)
        config = LoRA2Config(
            k=rank.k, r=rank.r, alpha=rank.alpha, targets=targets, init=method.init, impl=method.impl,
            lam_lr_scale=method.lam_lr_scale,
        )  # fmt: skip
        super().__init__(model, config)
        singular = {name: p for name, p in self._factors.items() if name.endswith(".lam")}
        self.groups = [
            ParameterGroup({name: p for name, p in self._factors.items() if name not in singular}),
            ParameterGroup(singular, method.lam_lr_scale),
            ParameterGroup(self._head),
        ]
        self._penalty = method.penalty
        self.allocator = None if budget is None else rank_allocator(self.adapter, budget, total, score=budget.score)

    def penalties(self) -> dict[str, Tensor]:
        """Return γ times each regulariser of eq. 5 that is switched on."""
        weight, terms = self._penalty.weight, frozenset(self._penalty.terms)
        if not terms or weight == 0:
            return {}
        return {name: weight * value for name, value in self.adapter.penalties(terms, self._penalty.form).items()}

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        """Update the importance from (w, ∂L/∂w) before the optimizer step, mask Λ after it (Algorithm 1)."""
        if self.allocator is not None and grads_finite:
            self.allocator.observe(step)
        yield
        if self.allocator is not None and (grads_finite or step >= self.allocator.schedule.final):
            self.allocator.mask(step)

    @torch.no_grad()
    def monitor(self) -> dict[str, float]:
        """Return the kept ranks, every regulariser of eq. 5 (on or off, without γ), and how much P and Q have in common
        (parts.factor_numbers).
        """
        shown = factor_numbers(self.adapter, TERMS)
        if self.allocator is not None and self.allocator.score == "full":
            shown[keys.SCORES_AGREE] = self.allocator.score_agreement()
        return rank_numbers(self.kept) | shown

    def _active(self, kept: dict[str, int]) -> int:
        """Parameters that still act: k(d+o) + 2kr' + r' of a matrix with r' kept values, none of an empty one."""
        shapes = {name: tuple(layer.weight.shape) for name, layer in self.adapter.layers.items()}
        k = next(iter(self.adapter.layers.values())).stack.u.shape[2]
        return sum(k * sum(shapes[name]) + 2 * k * rank + rank for name, rank in kept.items() if rank)
