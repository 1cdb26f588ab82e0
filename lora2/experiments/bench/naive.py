"""LoRA² as its released code formulates it, written plainly: the baseline that the fast formulation must beat.

ΔW is materialised in every forward and x is multiplied by it a second time; regulariser and importance are Python
loops over matrices; the mask is a global threshold. One gradient of shape (d, o) per matrix goes through autograd.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lora2.core.budget import BudgetSchedule
from lora2.core.heads import head_parameters
from lora2.core.matrices import MATRICES
from lora2.core.targets import find_targets
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup

SCORED = ("b", "e", "aa")


class NaiveLinear(nn.Module):
    """x W + x · (A B Λ 𝒜 ℬ) · alpha / r, all five factors parameters of this module."""

    def __init__(self, base: nn.Linear, k: int, r: int, alpha: float) -> None:
        super().__init__()
        self.base = base
        self.scale = alpha / r
        device = base.weight.device
        self.a = nn.Parameter(0.02 * torch.randn(k, base.in_features, device=device))
        self.b = nn.Parameter(0.02 * torch.randn(r, k, device=device))
        self.e = nn.Parameter(torch.zeros(r, 1, device=device))
        self.aa = nn.Parameter(0.02 * torch.randn(k, r, device=device))
        self.bb = nn.Parameter(0.02 * torch.randn(base.out_features, k, device=device))
        self.stats = {name: [torch.zeros_like(getattr(self, name)) for _ in range(2)] for name in SCORED}

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) -> (..., o)."""
        delta = (self.a.T @ self.b.T) * self.e.T @ (self.aa.T @ self.bb.T)  # (d, o)
        return self.base(x) + x @ delta * self.scale  # type: ignore[no-any-return]


class Naive(Method):
    """The method around NaiveLinear."""

    def __init__(self, model: nn.Module, k: int, r: int, schedule: BudgetSchedule, weight: float) -> None:
        matrices = find_targets(model, MATRICES)
        model.requires_grad_(False)
        self.layers: list[NaiveLinear] = []
        for name in matrices:
            base = model.get_submodule(name)
            assert isinstance(base, nn.Linear)
            self.layers.append(NaiveLinear(base, k, r, alpha=16.0))
            model.set_submodule(name, self.layers[-1])
        head = dict(head_parameters(model))
        for parameter in head.values():
            parameter.requires_grad_()
        factors = {
            f"{i}.{name}": p for i, x in enumerate(self.layers) for name, p in x.named_parameters() if p.requires_grad
        }
        self.groups = [ParameterGroup(factors), ParameterGroup(head)]
        self.schedule, self.weight = schedule, weight

    def penalties(self) -> dict[str, Tensor]:
        """Return the sum of six terms a matrix, computed one after another."""
        total = torch.zeros((), device=self.layers[0].a.device)
        for layer in self.layers:
            p, q = layer.b @ layer.a, layer.aa.T @ layer.bb.T  # (r, d), (r, o)
            for gram in (
                layer.a @ layer.a.T, layer.b.T @ layer.b, layer.bb.T @ layer.bb, layer.aa @ layer.aa.T, p @ p.T, q @ q.T
            ):  # fmt: skip
                total = total + (gram - torch.eye(len(gram), device=gram.device)).square().sum()
        return {"all": self.weight * total}

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        """Take the released order: the optimizer first, then importance, then the threshold."""
        yield
        scores = []
        for layer in self.layers:
            parts = {}
            for name, (smoothed, uncertainty) in layer.stats.items():
                parameter = getattr(layer, name)
                with torch.no_grad():
                    sensitivity = (parameter * parameter.grad).abs()
                    smoothed.mul_(0.85).add_(0.15 * sensitivity)
                    uncertainty.mul_(0.85).add_(0.15 * (sensitivity - smoothed).abs())
                    parts[name] = smoothed * uncertainty
            scores.append(parts["e"].view(-1) + parts["aa"].mean(0) + parts["b"].mean(1))
        flat = torch.cat(scores)
        cut = len(flat) - self.schedule.at(step)
        threshold = torch.kthvalue(flat, cut).values if cut > 0 else flat.min() - 1
        with torch.no_grad():
            for layer, score in zip(self.layers, scores, strict=True):
                layer.e.masked_fill_((score <= threshold).view(-1, 1), 0)

    def count_parameters(self) -> ParameterCounts:
        """Return zeros: the benchmark counts nothing."""
        return ParameterCounts(adapter=0, active_adapter=0, head=0, backbone=0)
