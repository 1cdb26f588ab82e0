"""Fine-tuning methods behind one Protocol (base.Method); `build` is a look-up by name."""

from torch import nn

from lora2.config import LoRA2MethodConfig, RunConfig
from lora2.methods.base import Census, Method, ParameterGroup
from lora2.methods.lora2 import LoRA2
from lora2.methods.subset import Subset

__all__ = ["Census", "Method", "ParameterGroup", "build"]


def build(model: nn.Module, cfg: RunConfig, total_steps: int) -> Method:
    """Apply the configured method to `model`, in place.

    Args:
        total_steps: optimizer steps of the run, which a rank budget needs.
    """
    if isinstance(cfg.method, LoRA2MethodConfig):
        assert cfg.rank is not None
        return LoRA2(model, cfg.method, cfg.rank, cfg.budget, total_steps)
    return Subset(model, cfg.method.name)
