"""SoRA (Ding et al. 2023, arXiv 2311.11696): LoRA with a gate on each rank, closed by a proximal step.

Follows the authors' code (TsinghuaC3I/SoRA, src/lora.py, src/trainer.py, src/sparse_optimizer.py) with two differences:
their three in-place lines also zero what the threshold has just brought below itself, here it is the proximal operator
that the paper derives; and their count takes 2 · 768 parameters off for each closed gate, even in the feed-forward
matrices, here it is what the matrix really loses. Their schedule of growing λ2 trains on after the result and serves
another experiment; λ2 is constant in the runs behind the tables.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lora2.config.methods import RankConfig, SoRAMethodConfig
from lora2.core.matrices import matrices_of
from lora2.core.targets import find_targets
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup, rank_numbers
from lora2.models.methods.parts import backbone_size, size, trained_parts


class SoRALinear(nn.Module):
    """Compute W⁰x + b + scale · B (gate ⊙ Ax).

    Shapes: A (r, d), gate (r,), B (o, r). B starts at zero, the gate at N(0, 1).

    Args:
        base: the layer to wrap, (d) -> (o).
        r: number of gates.
        scale: alpha / r.
    """

    def __init__(self, base: nn.Linear, r: int, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        self.A = nn.Parameter(base.weight.new_empty(r, base.in_features))
        self.B = nn.Parameter(base.weight.new_zeros(base.out_features, r))
        self.gate = nn.Parameter(torch.randn(r, device=base.weight.device))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., o)."""
        inner = F.linear(x, self.A) * self.gate  # (..., r)
        out: Tensor = self.base(x) + self.scale * F.linear(inner, self.B)
        return out


class SoRA(Method):
    """Train low-rank adapters with a gate on each rank.

    They are not merged in evaluation, because W + ΔW rounded to bf16 would not compute the same.
    """

    def __init__(self, model: nn.Module, method: SoRAMethodConfig, rank: RankConfig) -> None:
        self._backbone = backbone_size(model)
        model.requires_grad_(False)
        self._layers: dict[str, SoRALinear] = {}
        for name, matrix in find_targets(model, matrices_of(method.targets)).items():
            base = model.get_submodule(name)
            assert isinstance(base, nn.Linear)
            self._layers[matrix] = SoRALinear(base, rank.r, rank.alpha / rank.r)
            model.set_submodule(name, self._layers[matrix])
        self._adapter, self._head = trained_parts(model)
        gates = {name: p for name, p in self._adapter.items() if name.endswith(".gate")}
        factors = {name: p for name, p in self._adapter.items() if name not in gates}
        self.groups = [
            ParameterGroup(factors),
            ParameterGroup(gates, method.gate_lr_scale, decays=False),  # The authors decay no gate.
            ParameterGroup(self._head),
        ]
        self._gates = list(gates.values())
        self._penalty, self._threshold = method.sparse_lambda, method.sparse_lambda_2

    def penalties(self) -> dict[str, Tensor]:
        """Return λ times the mean |gate| over all gates."""
        if self._penalty == 0:
            return {}
        return {"gates": self._penalty * torch.cat([*self._gates]).abs().mean()}

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        """Make a proximal step after the optimizer step: every gate moves λ2 towards zero, and stops there.

        The threshold is λ2 itself, whatever the learning rate: the released runner uses this optimizer, not its
        variant sparse_optimizer_multiply_lr.
        """
        yield
        if grads_finite:
            close_gates(self._gates, self._threshold)

    def monitor(self) -> dict[str, float]:
        """Return the number of open gates of each matrix."""
        return rank_numbers(self._kept())

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained; active is what is left of A, B and gate where the gates are open."""
        kept = self._kept()
        active = sum(rank * (sum(self._layers[matrix].base.weight.shape) + 1) for matrix, rank in kept.items())
        return ParameterCounts(
            adapter=size(self._adapter),
            active_adapter=active,
            head=size(self._head),
            backbone=self._backbone,
            ranks=kept,
        )

    def _kept(self) -> dict[str, int]:
        return {matrix: int(layer.gate.count_nonzero()) for matrix, layer in self._layers.items()}


@torch.no_grad()
def close_gates(gates: list[nn.Parameter], threshold: float) -> None:
    """Apply the soft threshold in place: g ← sign(g) · max(|g| − threshold, 0), each gate (r,)."""
    for gate in gates:
        gate.copy_(F.softshrink(gate, threshold))
