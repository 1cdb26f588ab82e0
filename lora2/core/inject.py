"""Inject LoRA² into a model: replace the target linear layers, freeze everything else, hold the shared factors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lora2.core import functional
from lora2.core.functional import PenaltyForm
from lora2.core.layers import FactorStack, Init, LoRA2Linear
from lora2.core.linear import Impl
from lora2.core.matrices import MATRICES
from lora2.core.targets import find_targets


@dataclass(frozen=True)
class LoRA2Config:
    """Describe a LoRA² adapter.

    Args:
        k: outer (projection) width; the rank of ΔW is at most min(k, kept singular values). None leaves the outer scale
            out: P and Q are trained themselves, as in AdaLoRA.
        r: inner rank, the number of singular values Λ of each matrix at the start.
        alpha: ΔW is scaled by alpha / r (released code).
        targets: matrices to adapt: names of MATRICES, or ends of linear layers' names, see targets.find_targets.
        init: initial values of u, v, 𝒰, 𝒱: "paper" is N(0, 0.02²), "orthogonal" orthonormal rows or columns. Λ is 0.
        impl: how the adapted layer is computed, see lowrank_linear.
    """

    k: int | None = 8
    r: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = MATRICES
    init: Init = "paper"
    impl: Impl = "auto"


class Adapter(nn.Module):
    """Hold all factors of an adapted model, one stack for each weight shape, and the layers that use them.

    Attributes:
        stacks: FactorStack by "{d}x{o}".
        layers: LoRA2Linear by matrix name ("layer.0.query"), in the model's order.
    """

    def __init__(self, stacks: dict[str, FactorStack], layers: dict[str, LoRA2Linear]) -> None:
        super().__init__()
        self.stacks = nn.ModuleDict(stacks)
        self._layers = (layers,)  # The tuple hides them from nn.Module, because the model owns the layers.

    @property
    def layers(self) -> dict[str, LoRA2Linear]:
        """Layers by matrix name, in the model's order."""
        return self._layers[0]

    def factor_stacks(self) -> list[FactorStack]:
        """Return the stacks in the order of their first layer."""
        return [stack for stack in self.stacks.values() if isinstance(stack, FactorStack)]

    def penalties(self, terms: frozenset[str], form: PenaltyForm) -> dict[str, Tensor]:
        """Return the regularisers of eq. 5 over all matrices, a scalar for each term.

        Args:
            terms: which of "uv" (R(u,v)), "UV" (R(𝒰,𝒱)), "PQ" (R(P,Q)); with one scale there is "PQ" alone.
            form: "squared" sums ‖·‖²_F. "norm" averages ‖·‖_F over all Gram matrices of all terms together, so that
                the sum of the terms is the average that AdaLoRA's trainer takes.
        """
        if not terms:
            return {}
        each = [functional.penalties(stack.factors, terms, form) for stack in self.factor_stacks()]
        share = 1 / (2 * len(self.layers) * len(terms)) if form == "norm" else 1.0
        return {term: share * torch.stack([part[term] for part in each]).sum() for term in sorted(terms)}

    def ranks(self) -> dict[str, int]:
        """Return how many singular values of each matrix are not zero, by matrix name."""
        return {name: int(layer.stack.lam[layer.index].count_nonzero()) for name, layer in self.layers.items()}

    def merge(self) -> None:
        """Add every ΔW to its weight, in float32."""
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        """Restore every weight, bit for bit."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merge inside the block and restore what was merged: for evaluation at the backbone's own cost."""
        inside = [layer for layer in self.layers.values() if not layer.is_merged]
        for layer in inside:
            layer.merge()
        try:
            yield
        finally:
            for layer in inside:
                layer.unmerge()

    @contextmanager
    def exported(self) -> Iterator[None]:
        """Compute inside the block with the ΔW that an export gives to a stock LoRA (LoRA2Linear.lora_weights)."""
        for layer in self.layers.values():
            a, b = layer.lora_weights()
            layer.merge(b @ a)
        try:
            yield
        finally:
            self.unmerge()

    def begin_forward(self, *_: object) -> None:
        """Let every stack fold once from here on; a forward pre-hook of the adapted model."""
        for stack in self.factor_stacks():
            stack.begin_forward()

    def end_forward(self, *_: object) -> None:
        """Drop the folds of all stacks; a forward hook of the adapted model."""
        for stack in self.factor_stacks():
            stack.end_forward()


def inject(model: nn.Module, config: LoRA2Config) -> Adapter:
    """Replace the target layers of `model` by LoRA2Linear, in place, and freeze all its other parameters.

    The adapter is registered as `model.lora2`, so the factors move, save and load with the model.

    Args:
        model: any module whose forward pass calls its linear layers.
        config: which layers to adapt, and how.

    Returns:
        The adapter, whose parameters are the only ones of `model` that require a gradient.

    Raises:
        UserError: a target matches no linear layer.

    >>> import torch
    >>> from lora2 import LoRA2Config, inject
    >>> model = torch.nn.TransformerEncoderLayer(d_model=6, nhead=2, dim_feedforward=5)
    >>> adapter = inject(model, LoRA2Config(k=2, r=4, targets=("linear1", "linear2")))
    >>> adapter.layers["linear1"]
    LoRA2Linear(in_features=6, out_features=5, k=2, r=4, merged=False)
    >>> sum(p.numel() for p in model.parameters() if p.requires_grad)  # twice k(d + o) + 2kr + r
    84
    """
    matrices = find_targets(model, config.targets)
    model.requires_grad_(False)
    shapes: dict[str, list[str]] = {}
    for name in matrices:
        base = model.get_submodule(name)
        shapes.setdefault(f"{base.in_features}x{base.out_features}", []).append(name)
    stacks = {shape: _new_stack(model.get_submodule(names[0]), len(names), config) for shape, names in shapes.items()}
    layers: dict[str, LoRA2Linear] = {}
    for shape, names in shapes.items():
        for index, name in enumerate(names):
            layers[name] = LoRA2Linear(_linear(model, name), stacks[shape], index, config.impl)
            model.set_submodule(name, layers[name])
    adapter = Adapter(stacks, {matrix: layers[name] for name, matrix in matrices.items()})
    model.add_module("lora2", adapter)
    model.register_forward_pre_hook(adapter.begin_forward)
    model.register_forward_hook(adapter.end_forward, always_call=True)  # Also after an error in the pass.
    return adapter


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def _new_stack(base: nn.Module, n: int, config: LoRA2Config) -> FactorStack:
    assert isinstance(base, nn.Linear)
    stack = FactorStack(
        n=n,
        d=base.in_features,
        o=base.out_features,
        k=config.k,
        r=config.r,
        scale=config.alpha / config.r,
        init=config.init,
    )
    return stack.to(base.weight.device)
