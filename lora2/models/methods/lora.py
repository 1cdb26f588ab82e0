"""LoRA (Hu et al. 2021) from PEFT's public API."""

from torch import nn

from lora2.config.methods import LoRAMethodConfig, RankConfig
from lora2.core.matrices import matrices_of
from lora2.core.targets import find_targets
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup
from lora2.models.methods.parts import backbone_size, size, trained_parts


class LoRA(Method):
    """Train ΔW = (alpha / r) B A in each target matrix; B starts at zero.

    It is not merged in evaluation: PEFT unmerges by subtraction, which does not give the weights back bit for bit.
    """

    def __init__(self, model: nn.Module, method: LoRAMethodConfig, rank: RankConfig) -> None:
        from peft import LoraConfig, inject_adapter_in_model  # It takes seconds to import.

        matrices = find_targets(model, matrices_of(method.targets))
        self._backbone = backbone_size(model)
        # The model itself is changed. A PeftModel around it would treat the head its own way and miss the pooler.
        inject_adapter_in_model(LoraConfig(r=rank.r, lora_alpha=rank.alpha, target_modules=list(matrices)), model)
        self._adapter, self._head = trained_parts(model)
        self._ranks = dict.fromkeys(matrices.values(), rank.r)
        self.groups = [ParameterGroup(self._adapter), ParameterGroup(self._head)]

    def count_parameters(self) -> ParameterCounts:
        """Count what is trained; every matrix has the same rank."""
        adapter = size(self._adapter)
        return ParameterCounts(
            adapter=adapter,
            active_adapter=adapter,
            head=size(self._head),
            backbone=self._backbone,
            ranks=self._ranks,
        )
