"""Bottleneck adapters: Houlsby et al. 2019 after both sub-layers, Pfeiffer et al. 2021 after the feed-forward one.

Each stands behind a sub-layer's last linear layer, before the residual connection and its LayerNorm.

AdaLoRA's Table 1 counts weights and biases, layers · places · (2hb + h + b) for hidden size h, which gives its 0.31M
and 0.61M (Houlsby b = 8, 16) and 0.30M and 0.60M (Pfeiffer b = 16, 32). Two of its rows differ: Houlsby b = 32 has
1.20M, and the printed 1.22M is twice the count of b = 16; Pfeiffer b = 64 has 1.19M, and the printed 1.18M is its count
without biases.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from lora2.config.methods import BottleneckMethodConfig
from lora2.core.targets import find_targets
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup
from lora2.models.methods.parts import backbone_size, size, trained_parts

PLACES = {"houlsby": ("attn_output", "ffn_w2"), "pfeiffer": ("ffn_w2",)}
INIT_STD = 0.02  # of BERT's own layers


class BottleneckLinear(nn.Module):
    """Compute y + up(gelu(down(y))) with y = W⁰x + b⁰; `up` starts at zero, so the start is the backbone itself.

    Houlsby et al. start near zero instead, with both projections from a truncated N(0, 1e-3²).

    Args:
        base: the layer to wrap, (d) -> (h).
        bottleneck: width b between `down` and `up`.
    """

    def __init__(self, base: nn.Linear, bottleneck: int) -> None:
        super().__init__()
        self.base = base
        self.down = nn.Linear(base.out_features, bottleneck, device=base.weight.device)
        self.up = nn.Linear(bottleneck, base.out_features, device=base.weight.device)
        nn.init.normal_(self.down.weight, std=INIT_STD)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., h)."""
        y: Tensor = self.base(x)
        out: Tensor = y + self.up(F.gelu(self.down(y)))
        return out


class Bottleneck(Method):
    """Train small two-layer networks between the sub-layers of a frozen encoder."""

    def __init__(self, model: nn.Module, method: BottleneckMethodConfig) -> None:
        self._backbone = backbone_size(model)
        model.requires_grad_(False)
        for name in find_targets(model, PLACES[method.name]):
            base = model.get_submodule(name)
            assert isinstance(base, nn.Linear)
            model.set_submodule(name, BottleneckLinear(base, method.bottleneck))
        self._adapter, self._head = trained_parts(model)
        self.groups = [ParameterGroup(self._adapter), ParameterGroup(self._head)]

    def count_parameters(self) -> ParameterCounts:
        """Count what is trained; a bottleneck has no rank."""
        adapter = size(self._adapter)
        return ParameterCounts(adapter=adapter, active_adapter=adapter, head=size(self._head), backbone=self._backbone)
