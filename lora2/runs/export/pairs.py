"""The update of every adapted matrix as a LoRA pair, whatever low-rank method trained it.

Legend: d in-features, o out-features, q rank of the pair.
"""

import torch
from peft.tuners.adalora import SVDLinear
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from lora2.core.layers import LoRA2Linear
from lora2.models.methods.sora import SoRALinear

Pair = tuple[Tensor, Tensor]  # A (q, d), B (o, q), with ΔW = B A: every scale is inside B
ADAPTER = "default"  # PEFT's name for the only adapter


@torch.no_grad()
def lora_pairs(model: nn.Module) -> dict[str, Pair]:
    """Return the pair of every adapted matrix by module name, in float32; its rank is 0 where nothing is left.

    Args:
        model: trained with LoRA², LoRA, AdaLoRA or SoRA; empty for any other.
    """
    found: dict[str, Pair] = {}
    for name, module in model.named_modules():
        if isinstance(module, LoRA2Linear):
            found[name] = module.lora_weights()
        elif isinstance(module, SVDLinear):  # a LoraLayer too
            found[name] = _adalora(module)
        elif isinstance(module, LoraLayer):
            found[name] = _pair(module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight, module.scaling[ADAPTER])
        elif isinstance(module, SoRALinear):
            found[name] = _gated(module.A, module.gate, module.B, module.scale)
    return found


def _adalora(layer: SVDLinear) -> Pair:
    """PEFT divides by the initial rank, of which it makes 1e-5 more."""
    scale = layer.scaling[ADAPTER] / (float(layer.ranknum[ADAPTER]) + 1e-5)
    return _gated(layer.lora_A[ADAPTER], layer.lora_E[ADAPTER].flatten(), layer.lora_B[ADAPTER], scale)


def _gated(a: Tensor, gate: Tensor, b: Tensor, scale: float) -> Pair:
    """Leave out the rows of A (r, d) and columns of B (o, r) whose gate (r,) is closed; the others' goes into B."""
    kept = gate != 0
    return _pair(a[kept], b[:, kept].double() * gate[kept].double(), scale)


def _pair(a: Tensor, b: Tensor, scale: float) -> Pair:
    return a.detach().float().contiguous(), (b.double() * scale).float().contiguous()
