"""The rank allocator: which singular values of all matrices together are kept, under a budget that shrinks.

Order within one optimizer step t (0-based), the paper's Algorithm 1: backward, clip, `observe` (weights and the
gradient taken at them), optimizer step, `mask`.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lora2.core.budget import BudgetSchedule
from lora2.core.functional import singular_value_scores, top_mask, update_importance
from lora2.core.layers import FactorStack, LoRA2Linear

Score = Literal["reduced", "full"]

SCORED: dict[Score, tuple[str, ...]] = {"reduced": ("u", "lam", "U"), "full": ("u", "v", "lam", "U", "V")}


class RankAllocator:
    """Importance statistics and the global mask for the singular values of the given layers.

    The global order of singular values is the order of `layers`, then the index within a matrix; it decides ties.
    """

    def __init__(
        self,
        layers: Sequence[LoRA2Linear],
        schedule: BudgetSchedule,
        score: Score = "reduced",
        beta1: float = 0.85,
        beta2: float = 0.85,
    ) -> None:
        self.schedule, self.score, self.betas = schedule, score, (beta1, beta2)
        self.stacks: list[FactorStack] = list(dict.fromkeys(layer.stack for layer in layers))
        self.stats = [{name: _zeros_twice(getattr(stack, name)) for name in SCORED[score]} for stack in self.stacks]
        self.place = [_global_rows([x for x in layers if x.stack is stack], layers) for stack in self.stacks]
        self.keep = torch.ones(schedule.initial, dtype=torch.bool, device=self.stacks[0].lam.device)  # (matrices · r,)

    @torch.no_grad()
    def observe(self, step: int) -> None:
        """Update the sensitivity statistics from the weights and their gradients; nothing in the last phase.

        Raises:
            RuntimeError: a factor has no gradient, so this was called after zero_grad or before backward.
        """
        if step >= self.schedule.final:
            return
        for stack, stats in zip(self.stacks, self.stats, strict=True):
            for name, (smoothed, uncertainty) in stats.items():
                weight = getattr(stack, name)
                if weight.grad is None:
                    raise RuntimeError(
                        f"importance of {name} needs its gradient: call observe after backward, before zero_grad"
                    )
                update_importance(smoothed, uncertainty, weight, weight.grad, *self.betas)

    def scores(self, score: Score | None = None) -> Tensor:
        """Importance of every singular value in the global order, (matrices · r,).

        Args:
            score: "reduced" asks an allocator that keeps the full score's statistics for the reduced score.
        """
        names = SCORED[score or self.score]
        rows = [
            singular_value_scores({name: _product(stats[name]) for name in names}) for stats in self.stats
        ]  # (n, r)
        merged = rows[0].new_empty(sum(len(row) for row in rows), rows[0].shape[1])
        for place, row in zip(self.place, rows, strict=True):
            merged[place] = row
        return merged.flatten()

    @torch.no_grad()
    def agreement(self) -> float:
        """Share of the singular values kept now that the reduced score would keep too, from the same statistics.

        Within one matrix the full score only adds a constant, so there the two always agree; over all matrices they
        need not (eq. 8 against eq. 9). Needs score "full".
        """
        budget = int(self.keep.sum())
        both = top_mask(self.scores("full"), budget) & top_mask(self.scores("reduced"), budget)
        return int(both.sum()) / budget

    @torch.no_grad()
    def mask(self, step: int) -> int:
        """After the optimizer step: renew the mask when due, zero the singular values outside it; returns b(step).

        Raises:
            FloatingPointError: a score is not finite.
        """
        budget = self.schedule.at(step)
        if self.schedule.renews(step):
            self.keep = top_mask(self.scores(), budget)
        if self.schedule.renews(step) or step > self.schedule.final:
            self._apply()
        return budget

    def _apply(self) -> None:
        rows = self._rows()
        for place, stack in zip(self.place, self.stacks, strict=True):
            stack.lam.masked_fill_(~rows[place], 0)

    def _rows(self) -> Tensor:
        return self.keep.view(-1, self.stacks[0].lam.shape[1])  # (matrices, r)

    def kept(self, names: Sequence[str]) -> dict[str, int]:
        """Singular values of each matrix inside the mask, by the names of the layers in their order."""
        per_matrix = self._rows().sum(1).tolist()
        return dict(zip(names, per_matrix, strict=True))

    def assert_final_budget(self) -> None:
        """Raise RuntimeError unless exactly the target number of singular values was kept and the others are zero."""
        kept = int(self.keep.sum())
        alive = sum(int(stack.lam.count_nonzero()) for stack in self.stacks)
        if kept != self.schedule.target or alive > kept:
            raise RuntimeError(
                f"final budget missed: {self.schedule.target} wanted, mask keeps {kept}, {alive} are not zero"
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Statistics and mask as a flat dict of tensors."""
        state = {
            f"{i}.{name}.{part}": tensor
            for i, stats in enumerate(self.stats)
            for name, pair in stats.items()
            for part, tensor in zip(("smoothed", "uncertainty"), pair, strict=True)
        }
        return state | {"keep": self.keep}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what state_dict returned, for the same layers and score."""
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def _product(pair: tuple[Tensor, Tensor]) -> Tensor:
    return pair[0] * pair[1]


def _zeros_twice(weight: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(weight, dtype=torch.float32), torch.zeros_like(weight, dtype=torch.float32)


def _global_rows(members: Sequence[LoRA2Linear], layers: Sequence[LoRA2Linear]) -> Tensor:
    """Position in `layers` of each matrix of a stack, (n,), in the stack's order."""
    position = {id(layer): i for i, layer in enumerate(layers)}
    return torch.tensor(
        [position[id(x)] for x in sorted(members, key=lambda x: x.index)], device=members[0].weight.device
    )
