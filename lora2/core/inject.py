"""Put LoRA² into a model: replace the target linear layers, freeze everything else, hold the shared factors."""

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
    """What a LoRA² adapter is.

    Args:
        k: outer (projection) width; the rank of ΔW is at most min(k, kept singular values).
        r: inner rank, the number of singular values Λ of each matrix at the start.
        alpha: ΔW is scaled by alpha / r (released code).
        targets: matrices to adapt, see targets.find_targets.
        init: "paper" N(0, 0.02²), or "orthogonal" rows/columns for u, v, 𝒰, 𝒱; Λ is 0 in both.
        impl: how the adapted layer is computed, see lowrank_linear.
    """

    k: int = 8
    r: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = MATRICES
    init: Init = "paper"
    impl: Impl = "auto"


class Adapter(nn.Module):
    """All factors of an adapted model, one stack for each weight shape, and the layers that use them.

    Attributes:
        stacks: "{d}x{o}" -> FactorStack.
        layers: matrix name ("layer.0.query") -> LoRA2Linear, in the model's order.
    """

    def __init__(self, stacks: dict[str, FactorStack], layers: dict[str, LoRA2Linear]) -> None:
        super().__init__()
        self.stacks = nn.ModuleDict(stacks)
        self._layers = (layers,)  # in a tuple: the model owns the layers

    @property
    def layers(self) -> dict[str, LoRA2Linear]:
        """Matrix name -> layer, in the model's order."""
        return self._layers[0]

    def factor_stacks(self) -> list[FactorStack]:
        """The stacks in the order of their first layer."""
        return [stack for stack in self.stacks.values() if isinstance(stack, FactorStack)]

    def penalties(self, terms: frozenset[str], form: PenaltyForm) -> dict[str, Tensor]:
        """The regularisers of eq. 5 over all matrices: summed ("squared"), or averaged over all Grams ("norm").

        The average is that of AdaLoRA's trainer: over every regularised matrix, so that the terms add up to it.
        """
        if not terms:
            return {}
        each = [functional.penalties(stack.factors, terms, form) for stack in self.factor_stacks()]
        share = 1 / (2 * len(self.layers) * len(terms)) if form == "norm" else 1.0
        return {term: share * torch.stack([part[term] for part in each]).sum() for term in sorted(terms)}

    def kept(self) -> dict[str, int]:
        """How many singular values of each matrix are not zero, by matrix name."""
        return {name: int(layer.stack.lam[layer.index].count_nonzero()) for name, layer in self.layers.items()}

    def merge(self) -> None:
        """Fold every ΔW into its weight, in float32."""
        for layer in self.layers.values():
            layer.merge()

    def unmerge(self) -> None:
        """Restore every weight, bit for bit."""
        for layer in self.layers.values():
            layer.unmerge()

    @contextmanager
    def merged(self) -> Iterator[None]:
        """Merged inside the block, as it was outside: for evaluation at the backbone's own cost."""
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
        """Inside the block every layer computes with the pair that an export writes, as a stock LoRA would."""
        for layer in self.layers.values():
            a, b = layer.lora_pair()
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
    """Replace the target layers of `model` by LoRA2Linear, freeze all its other parameters, return the adapter.

    The adapter is registered as `model.lora2`, so the factors move, save and load with the model.

    Raises:
        UserError: a target matches no linear layer.
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
    model.register_forward_hook(adapter.end_forward, always_call=True)  # after an error in the pass, too
    return adapter


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name)
    assert isinstance(module, nn.Linear)
    return module


def _new_stack(base: nn.Module, n: int, config: LoRA2Config) -> FactorStack:
    assert isinstance(base, nn.Linear)
    scale = config.alpha / config.r
    stack = FactorStack(n, base.in_features, base.out_features, config.k, config.r, scale, config.init)
    return stack.to(base.weight.device)
