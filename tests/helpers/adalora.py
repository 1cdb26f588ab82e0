"""AdaLoRA trained in the order of the project's loop, and what it goes through step by step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from helpers.toys import tokens
from torch import Tensor, nn

from lora2.models.methods.adalora import AdaLoRA
from lora2.models.methods.base import Method

R, TARGET, TOTAL, T_I, T_F, ALPHA, GAMMA = 4, 2, 36, 5, 9, 16.0, 0.1
SETTINGS = (
    "method=adalora",
    f"rank.r={R}",
    f"rank.alpha={ALPHA}",
    f"method.penalty.weight={GAMMA}",
    f"budget.target_rank={TARGET}",
    f"budget.t_i={T_I}",
    f"budget.t_f={T_F}",
    "budget.interval=1",
)
Look = Callable[[], tuple[Tensor, Tensor, Tensor]]  # scores, mask and Λ, each (matrices, r)


@dataclass
class Course:
    """What a training went through, a value for each step, and the optimizer's state after it."""

    losses: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    looks: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)
    optimizer: dict[str, Any] = field(default_factory=dict)


def train(
    model: nn.Module, method: Method, look: Look, steps: range = range(TOTAL), optimizer: dict[str, Any] | None = None
) -> Course:
    """Train with warm-up and decay of the rate, weight decay and clipping, on another batch in each step."""
    parameters = [p for group in method.groups for p in group.parameters.values()]
    adamw = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.05)
    if optimizer is not None:
        adamw.load_state_dict(optimizer)
    seen = Course()
    for step in steps:
        inputs = tokens()
        inputs["input_ids"] = (inputs["input_ids"] + step) % 50
        loss = nn.functional.cross_entropy(model(**inputs).logits, inputs["input_ids"][:, 0] % 2)
        loss.backward()
        penalty = method.penalties()["PQ"]
        penalty.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adamw.param_groups[0]["lr"] = 1e-2 * min(1.0, (step + 1) / 4) * (1 - step / TOTAL)
        with method.step(step, True):
            adamw.step()
        adamw.zero_grad()
        seen.losses.append(loss.item())
        seen.penalties.append(penalty.item())
        seen.looks.append(look())
    seen.optimizer = adamw.state_dict()
    return seen


def look_at_ours(method: AdaLoRA) -> Look:
    """Look at the allocator's scores and mask, and at Λ."""

    def look() -> tuple[Tensor, Tensor, Tensor]:
        layers = method.adapter.layers.values()
        values = torch.stack([layer.stack.lam.detach()[layer.index].clone() for layer in layers])
        assert method.allocator is not None
        return method.allocator.scores().view(-1, R), method.allocator.keep.view(-1, R).clone(), values

    return look
