"""Every method as its settings make it, for a model of toys.py and the dozen steps of training.py."""

from helpers import runs
from helpers.training import TOTAL
from torch import nn

from lora2.config.resolve import resolve
from lora2.models.methods.base import Method
from lora2.models.methods.build import build

METHODS = {
    "full": ("method=full",),
    "bitfit": ("method=bitfit",),
    "head": ("method=head",),
    "lora": ("method=lora", "rank.r=2"),
    "adalora": ("method=adalora", "rank.r=4", "budget.target_rank=2"),
    "adalora_peft": ("method=adalora", "method.impl=peft", "rank.r=4", "budget.target_rank=2"),
    "sora": ("method=sora", "rank.r=2"),
    "houlsby": ("method=houlsby", "method.bottleneck=4"),
    "pfeiffer": ("method=pfeiffer", "method.bottleneck=4"),
    "lora2": ("method=lora2", "rank=k1", "budget.target_rank=2"),
}
PHASES = ("budget.t_i=2", "budget.t_f=4", "budget.interval=1")  # of a run of twelve steps


def apply(name: str, model: nn.Module) -> Method:
    """The method as its settings make it."""
    budget = PHASES if name in ("adalora", "adalora_peft", "lora2") else ("budget=none",)
    return build(model, resolve(runs.compose("model=tiny", "task=rte", "data=demo", *METHODS[name], *budget)), TOTAL)
