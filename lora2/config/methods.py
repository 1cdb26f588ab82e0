"""Settings of the fine-tuning methods: one closed section for each, their sizes, and how a method's variant is named.

What is common to all sections (`Settings`, the number types) is here too.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Discriminator, Field, Tag

from lora2.core.terms import TERMS, Term

Positive = Annotated[int, Field(ge=1, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Fraction = Annotated[float, Field(ge=0, lt=1, strict=True)]  # strict: neither "0.1" nor true is a number
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]  # becomes part of a file's name
Module = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Subset = Literal["all", "qk", "qv", "qkv"]
Pattern = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*]+$", max_length=200)]  # ends of linear layers' names
Patterns = Annotated[tuple[Pattern, ...], Field(min_length=1)]
Targets = Annotated[
    Annotated[Subset, Tag("subset")] | Annotated[Patterns, Tag("patterns")],
    Discriminator(lambda value: "patterns" if isinstance(value, list | tuple) else "subset"),
]

RANKED = frozenset({"lora2", "lora", "adalora", "sora"})  # methods with a rank
BUDGETED = frozenset({"lora2", "adalora"})  # methods with a rank budget


class Settings(BaseModel):
    """Settings that belong together: frozen, and closed, so that an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class PenaltyConfig(Settings):
    """γ and the regularisers of eq. 5."""

    weight: NonNegative
    terms: tuple[Term, ...]
    form: Literal["squared", "norm"]


class LoRA2MethodConfig(Settings):
    """LoRA²."""

    name: Literal["lora2"]
    targets: Targets
    init: Literal["paper", "orthogonal"]
    lam_lr_scale: Rate
    impl: Literal["auto", "plain", "fused"] = Field(validation_alias=AliasChoices("impl", "path"))  # path: once
    penalty: PenaltyConfig


class LoRAMethodConfig(Settings):
    """LoRA, from PEFT."""

    name: Literal["lora"]
    targets: Targets


class GammaConfig(Settings):
    """γ alone: AdaLoRA has one regulariser."""

    weight: NonNegative


class AdaLoRAMethodConfig(Settings):
    """AdaLoRA, ours or PEFT's; rank.r is its initial rank, budget.target_rank its mean final one."""

    name: Literal["adalora"]
    targets: Targets
    impl: Literal["stacked", "peft"] = "peft"  # what made the records from before there was a choice
    penalty: GammaConfig


class SoRAMethodConfig(Settings):
    """SoRA; λ weighs mean |gate| in the loss, λ2 (ξ in its paper) is the threshold of the proximal step."""

    name: Literal["sora"]
    targets: Targets
    gate_lr_scale: Rate
    sparse_lambda: NonNegative
    sparse_lambda_2: NonNegative


class BottleneckMethodConfig(Settings):
    """Bottleneck adapters, after both sub-layers (Houlsby) or after the feed-forward one only (Pfeiffer)."""

    name: Literal["houlsby", "pfeiffer"]
    bottleneck: Positive


class SubsetMethodConfig(Settings):
    """Methods that train a part of the model itself."""

    name: Literal["full", "bitfit", "head"]


MethodConfig = Annotated[
    LoRA2MethodConfig
    | LoRAMethodConfig
    | AdaLoRAMethodConfig
    | SoRAMethodConfig
    | BottleneckMethodConfig
    | SubsetMethodConfig,
    Field(discriminator="name"),
]


class RankConfig(Settings):
    """Sizes of the adapter: outer width k (LoRA² only), inner rank r, ΔW scaled by alpha / r."""

    k: Positive | None = None
    r: Positive
    alpha: Rate


class BudgetConfig(Settings):
    """Rank pruning: mean rank of a matrix at the end, and the schedule (budget.BudgetSchedule)."""

    target_rank: Rate
    t_i: Natural
    t_f: Positive
    interval: Positive
    scale: Literal["strict", "auto"]
    schedule: Literal["released", "printed"]
    score: Literal["reduced", "full", "sensitivity", "magnitude"]
    beta1: Fraction
    beta2: Fraction


def variant_name(method: MethodConfig, rank: RankConfig | None, budget: BudgetConfig | None) -> str:
    """Name the method with its size, as the tables' rows do: "lora2_k1_reg-uv+UV", "adalora_r2", "houlsby_b8"."""
    if isinstance(method, BottleneckMethodConfig):
        return f"{method.name}_b{method.bottleneck}"
    if isinstance(method, SubsetMethodConfig) or rank is None:
        return method.name
    parts = [f"{method.name}_{_size(method, rank, budget)}"]
    if isinstance(method, LoRA2MethodConfig) and set(method.penalty.terms) != set(TERMS):
        parts.append("reg-" + ("+".join(term for term in TERMS if term in method.penalty.terms) or "none"))
    if method.targets != "all":
        parts.append(f"modules-{_named(method.targets)}")
    if isinstance(method, LoRA2MethodConfig) and budget is None:
        parts.append("unpruned")
    if isinstance(method, LoRA2MethodConfig) and budget is not None and budget.score != "reduced":
        parts.append(f"score-{budget.score}")
    return "_".join(parts)


def _size(method: MethodConfig, rank: RankConfig, budget: BudgetConfig | None) -> str:
    if isinstance(method, LoRA2MethodConfig):
        return f"k{rank.k}"
    final = rank.r if budget is None else budget.target_rank  # AdaLoRA's rows are named by the rank that is left
    return f"r{final:g}"


def _named(targets: Targets) -> str:
    """Name the matrices; of patterns, what may be part of a file's name."""
    return targets if isinstance(targets, str) else "+".join(x.replace("*", "-") for x in targets)


def method_problems(values: Mapping[str, Any]) -> list[str]:
    """Say which settings of method, rank and budget are each right but cannot go together; a sentence for each.

    Args:
        values: every setting by its dotted path, whether right or wrong by itself.
    """
    method, r, target = values.get("method.name"), values.get("rank.r"), values.get("budget.target_rank")
    found = []
    if method == "lora2" and "rank.r" in values and values.get("rank.k") is None:
        found.append("rank.k: no value; LoRA² needs an outer width, for example rank=k8 or rank.k=8")
    if isinstance(r, int) and isinstance(target, int | float) and target > r:
        found.append(
            f"budget.target_rank: got {target:g}, above the initial rank.r={r}; "
            f"lower budget.target_rank, raise rank.r, or use budget=none"
        )
    return found + (_peft_problems(values) if values.get("method.impl") == "peft" and target is not None else [])


def _peft_problems(values: Mapping[str, Any]) -> list[str]:
    """What PEFT's allocator cannot do."""
    target, schedule, found = values["budget.target_rank"], values.get("budget.schedule"), []
    if isinstance(target, float) and not target.is_integer():
        found.append(f"budget.target_rank: got {target:g}; PEFT's AdaLoRA takes whole numbers: budget.target_rank=2")
    if schedule != "released":
        found.append(
            f"budget.schedule: got {schedule!r}; PEFT's AdaLoRA needs the released one: budget.schedule=released"
        )
    if values.get("budget.beta1") == 0 or values.get("budget.beta2") == 0:
        found.append("budget.beta1, budget.beta2: got 0; PEFT's AdaLoRA needs both between 0 and 1: budget.beta1=0.85")
    return found
