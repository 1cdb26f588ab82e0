"""Methods that only choose which of the model's own parameters are trained: full, bitfit, head."""

from collections.abc import Callable

from torch import nn

from lora2.core.heads import head_parameters
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup

RULES: dict[str, Callable[[str], bool]] = {
    "full": lambda name: True,
    "bitfit": lambda name: name.endswith("bias"),  # Ben Zaken et al. 2022: every bias, nothing else
    "head": lambda name: False,
}


class Subset(Method):
    """Train the parameters that a rule picks by name, and the head."""

    def __init__(self, model: nn.Module, rule: str) -> None:
        head = {name for name, _ in head_parameters(model)}
        picked = RULES[rule]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in head or picked(name))
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self._head = sum(p.numel() for name, p in trained.items() if name in head)
        self._backbone = sum(p.numel() for name, p in model.named_parameters() if name not in head)
        self._rest = sum(p.numel() for name, p in trained.items() if name not in head)
        self.groups = [ParameterGroup(trained)]

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained; parameters outside the head count as the adapter."""
        return ParameterCounts(adapter=self._rest, active_adapter=self._rest, head=self._head, backbone=self._backbone)
