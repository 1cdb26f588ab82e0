"""Inject LoRA² into a model: replace the target linear layers, freeze everything else, hold the shared factors."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from lora2.common.errors import UserError
from lora2.core.adapter import Adapter
from lora2.core.heads import head_parameters
from lora2.core.joint import JointLinear
from lora2.core.layers import FactorStack, Init, LoRA2Linear
from lora2.core.linear import Impl
from lora2.core.matrices import MATRICES
from lora2.core.targets import find_targets, siblings


@dataclass(frozen=True)
class LoRA2Config:
    """Describe a LoRA² adapter. The defaults are what worked best here (docs/LOG.md); `paper()` gives the paper's.

    Args:
        k: outer (projection) width; the rank of ΔW is at most min(k, kept singular values). None leaves the outer scale
            out: P and Q are trained themselves, as in AdaLoRA.
        r: inner rank, the number of singular values Λ of each matrix at the start.
        alpha: ΔW is scaled by alpha / r (released code); None for 2r.
        targets: matrices to adapt: names of MATRICES, or ends of linear layers' names, see targets.find_targets.
        init: initial values of u, v, 𝒰, 𝒱: "paper" is N(0, 0.02²), "orthogonal" orthonormal rows or columns. Λ is 0.
        lam_lr_scale: learning rate of Λ over that of the other factors, see Adapter.param_groups.
        impl: how the adapted layer is computed, see lowrank_linear.

    Raises:
        UserError: a size or a scale is not above 0.
    """

    k: int | None = 8
    r: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = MATRICES
    init: Init = "orthogonal"
    lam_lr_scale: float = 20.0
    impl: Impl = "auto"

    def __post_init__(self) -> None:
        for name in ("k", "r", "alpha", "lam_lr_scale"):
            value = getattr(self, name)
            if value is not None:
                _require_positive(name, value)

    @classmethod
    def paper(cls, k: int = 8) -> "LoRA2Config":
        """Return the settings of the paper's released code: a normal start, and one learning rate for all factors.

        Args:
            k: the paper has 1 and 8.
        """
        return cls(k=k, r=8, alpha=16.0, init="paper", lam_lr_scale=1.0)

    @property
    def scale(self) -> float:
        """What ΔW is scaled by, alpha / r."""
        return 2.0 if self.alpha is None else self.alpha / self.r


def inject(model: nn.Module, config: LoRA2Config, *, train_head: bool = True) -> Adapter:
    """Replace the target layers of `model` by LoRA2Linear, in place, and freeze its other parameters but the head's.

    The adapter is registered as `model.lora2`, so the factors move, save and load with the model.

    Args:
        model: any module whose forward pass calls its linear layers.
        config: which layers to adapt, and how.
        train_head: train the head of a classifier too (pooler and classifier, see heads.head_modules), as it starts
            from random weights; False freezes it.

    Returns:
        The adapter. Its parameters and those of the head are the only ones of `model` that require a gradient.

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
    for _, parameter in head_parameters(model):
        parameter.requires_grad_(train_head)
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
    by_matrix = {matrix: layers[name] for name, matrix in matrices.items()}
    for names in siblings(matrices):
        _join(model, names, [layers[name] for name in names])
    adapter = Adapter(model, stacks, by_matrix, config.lam_lr_scale)
    model.add_module("lora2", adapter)
    model.register_forward_pre_hook(adapter.begin_forward)
    model.register_forward_hook(adapter.end_forward, always_call=True)  # Also after an error in the pass.
    return adapter


def _join(model: nn.Module, names: Sequence[str], layers: Sequence[LoRA2Linear]) -> None:
    """Let the layers of one attention compute together, if they have one shape and follow each other in their stack."""
    first = layers[0]
    places = range(first.index, first.index + len(layers))
    alike = all(x.stack is first.stack and (x.bias is None) == (first.bias is None) for x in layers)
    if not alike or [x.index for x in layers] != [*places]:
        return
    joint = JointLinear(layers)
    first.stack.join(places)
    for place, layer in enumerate(layers):
        layer.join(joint, place)
    parent = model.get_submodule(names[0].rpartition(".")[0])
    parent.register_forward_pre_hook(joint.begin)
    parent.register_forward_hook(joint.end, always_call=True)  # Also after an error in the pass.


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
        scale=config.scale,
        init=config.init,
    )
    return stack.to(base.weight.device)


def _require_positive(name: str, value: float) -> None:
    if not value > 0:
        raise UserError(f"LoRA2Config.{name}: got {value!r}; it must be above 0, for example {name}=8")
