"""What the benchmark compares: backbones with random weights, and every method built on them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification

from lora2.config.methods import (
    AdaLoRAMethodConfig,
    BudgetConfig,
    GammaConfig,
    LoRA2MethodConfig,
    LoRAMethodConfig,
    PenaltyConfig,
    RankConfig,
)
from lora2.core.allocator import Score
from lora2.core.budget import BudgetSchedule
from lora2.core.matrices import MATRICES
from lora2.core.targets import find_targets
from lora2.core.terms import TERMS
from lora2.experiments.bench.naive import Naive
from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.adalora_peft import PeftAdaLoRA
from lora2.models.methods.base import Method
from lora2.models.methods.lora import LoRA
from lora2.models.methods.lora2 import LoRA2
from lora2.models.methods.subset import Subset

K = R = 8
STEPS = 100_000  # of the imagined run: every timed step is in the phase where ranks are renewed at each step
VOCABULARY = 4000  # embeddings are looked up, not multiplied: their number does not change a step


@dataclass(frozen=True)
class Shape:
    """A backbone, and a batch of b sequences of s tokens."""

    model_type: str
    hidden: int
    layers: int
    heads: int
    inner: int
    b: int
    s: int


SHAPES: dict[str, Shape] = {
    "minilm_32x64": Shape("bert", 384, 6, 12, 1536, 32, 64),
    "deberta_16x64": Shape("deberta-v2", 768, 4, 12, 3072, 16, 64),
    "deberta_32x128": Shape("deberta-v2", 768, 4, 12, 3072, 32, 128),
    "roberta_16x64": Shape("roberta", 1024, 4, 16, 4096, 16, 64),
}


# What the real backbones have beyond their sizes.
MORE: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
}


def backbone(shape: Shape) -> nn.Module:
    """Return an encoder with a classification head, random weights, dropout as in the real ones, in training mode."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        shape.model_type,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.inner,
        vocab_size=VOCABULARY,
        **MORE.get(shape.model_type, {}),
    )
    model: nn.Module = AutoModelForSequenceClassification.from_config(config).float().train()
    return model


def lora2_peer(
    impl: Literal["auto", "plain", "fused"] = "auto", k: int = K, r: int = R, score: Score = "reduced"
) -> Callable[[nn.Module], Method]:
    """Return our LoRA² with k and r, half of its singular values in the final budget."""
    penalty = PenaltyConfig(weight=0.1, terms=TERMS, form="squared")
    method = LoRA2MethodConfig(name="lora2", targets="all", init="paper", lam_lr_scale=1.0, impl=impl, penalty=penalty)
    return lambda model: LoRA2(model, method, RankConfig(k=k, r=r, alpha=16.0), _budget(r / 2, score), STEPS)


def _budget(target: float, score: Score = "reduced") -> BudgetConfig:
    return BudgetConfig(
        target_rank=target, t_i=0, t_f=1, interval=1, scale="strict", schedule="released", score=score,
        beta1=0.85, beta2=0.85,
    )  # fmt: skip


def _adalora(impl: Literal["stacked", "peft"]) -> Callable[[nn.Module], Method]:
    method = AdaLoRAMethodConfig(name="adalora", targets="all", impl=impl, penalty=GammaConfig(weight=0.1))
    rank = RankConfig(r=12, alpha=16.0)  # its own paper's for a mean final rank of 8: b(0) = 1.5 b(T)
    kind = PeftAdaLoRA if impl == "peft" else AdaLoRA
    return lambda model: kind(model, method, rank, _budget(8.0), STEPS)


def _naive(model: nn.Module) -> Method:
    layers = len(find_targets(model, MATRICES))
    schedule = BudgetSchedule(STEPS, layers * R, layers * R // 2, 0, 1)
    return Naive(model, K, R, schedule, weight=0.1)


PEERS: dict[str, Callable[[nn.Module], Method]] = {
    "ours": lora2_peer(),
    "ours_plain": lora2_peer("plain"),
    "ours_fused": lora2_peer("fused"),
    "ours_full_score": lora2_peer(score="full"),
    "naive": _naive,
    "adalora": _adalora("stacked"),
    "peft_adalora": _adalora("peft"),
    "peft_lora": lambda model: LoRA(model, LoRAMethodConfig(name="lora", targets="all"), RankConfig(r=8, alpha=16.0)),
    "bitfit": lambda model: Subset(model, "bitfit"),
    "head": lambda model: Subset(model, "head"),
    "full": lambda model: Subset(model, "full"),
}
