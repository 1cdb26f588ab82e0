"""From the settings of a run to its method: a look-up by the type of the method's settings."""

from torch import nn

from lora2.config.methods import (
    AdaLoRAMethodConfig,
    BottleneckMethodConfig,
    LoRA2MethodConfig,
    LoRAMethodConfig,
    SoRAMethodConfig,
)
from lora2.config.schema import RunConfig
from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.adalora_peft import PeftAdaLoRA
from lora2.models.methods.base import Method
from lora2.models.methods.bottleneck import Bottleneck
from lora2.models.methods.lora import LoRA
from lora2.models.methods.lora2 import LoRA2
from lora2.models.methods.sora import SoRA
from lora2.models.methods.subset import Subset


def build(model: nn.Module, cfg: RunConfig, total_steps: int) -> Method:
    """Apply the configured method to `model`, in place.

    Args:
        model: the backbone with its head, from load_model.
        cfg: the settings of the run; `method`, `rank` and `budget` are read.
        total_steps: optimizer steps of the run, which a rank budget needs.

    Returns:
        The method, which knows what of `model` is trained.
    """
    method, rank = cfg.method, cfg.rank
    if isinstance(method, BottleneckMethodConfig):
        return Bottleneck(model, method)
    if rank is None:  # The configuration gives one to every method with a rank.
        return Subset(model, method.name)
    match method:
        case LoRA2MethodConfig():
            return LoRA2(model, method, rank, cfg.budget, total_steps)
        case AdaLoRAMethodConfig():
            adalora = PeftAdaLoRA if method.impl == "peft" else AdaLoRA
            return adalora(model, method, rank, cfg.budget, total_steps)
        case LoRAMethodConfig():
            return LoRA(model, method, rank)
        case SoRAMethodConfig():
            return SoRA(model, method, rank)
    raise AssertionError(method)
