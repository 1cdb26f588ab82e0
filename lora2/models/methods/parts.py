"""What methods have in common: the parts of an adapted model (frozen backbone, adapter, trained head), and
the numbers to follow about factors.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from lora2.config.methods import BudgetConfig
from lora2.core import functional, keys
from lora2.core.adapter import Adapter
from lora2.core.allocator import RankAllocator, Score
from lora2.core.functional import top_mask
from lora2.core.heads import head_parameters
from lora2.core.terms import Term


def backbone_size(model: nn.Module) -> int:
    """Count the parameters outside the head; call it before anything is inserted into `model`."""
    head = sum(p.numel() for _, p in head_parameters(model))
    return sum(p.numel() for p in model.parameters()) - head


def trained_parts(model: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Unfreeze the head, and return the parameters of adapter and head by name.

    Args:
        model: in which everything but the adapter is frozen.
    """
    head = dict(head_parameters(model))
    for parameter in head.values():
        parameter.requires_grad_()
    adapter = {name: p for name, p in model.named_parameters() if p.requires_grad and name not in head}
    return adapter, head


def size(parameters: dict[str, nn.Parameter]) -> int:
    """Count the numbers that these parameters hold."""
    return sum(p.numel() for p in parameters.values())


def rank_allocator(
    adapter: Adapter,
    budget: BudgetConfig,
    total: int,
    *,
    score: Score = "reduced",
    choose: Callable[[Tensor, int], Tensor] = top_mask,
) -> RankAllocator:
    """Return the allocator of this budget over a run of `total` steps; `score` and `choose` are the method's."""
    return RankAllocator(
        adapter,
        total_steps=total,
        target_rank=budget.target_rank,
        t_i=budget.t_i,
        t_f=budget.t_f,
        interval=budget.interval,
        schedule=budget.schedule,
        score=score,
        beta1=budget.beta1,
        beta2=budget.beta2,
        choose=choose,
    )


def factor_numbers(adapter: Adapter, terms: Iterable[Term]) -> dict[str, float]:
    """Return these regularisers of eq. 5 as printed, and the mean |cos| of a row of P and a row of Q.

    The cosine is taken over the matrices in which rows of P = uv and of Q = 𝒰𝒱 have the same length d. For independent
    random rows it is about √(2/πd).
    """
    penalties = adapter.penalties(frozenset(terms), "squared")
    shown = {keys.regulariser(name): float(value) for name, value in penalties.items()}
    square = [stack.factors for stack in adapter.factor_stacks() if stack.d == stack.o]
    if square:
        cosines = torch.cat([functional.cross_cosines(factors).abs().flatten() for factors in square])
        shown[keys.COSINE] = float(cosines.mean())
    return shown
