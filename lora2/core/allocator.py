"""The rank allocator: it chooses which singular values of all matrices together are kept, under a shrinking budget."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from lora2.core.budget import BudgetSchedule
from lora2.core.functional import singular_value_scores, top_mask, update_importance, update_sensitivity
from lora2.core.layers import FactorStack, LoRA2Linear

Score = Literal["reduced", "full", "sensitivity", "magnitude"]
Statistics = tuple[Tensor, ...]  # Ī, and Ū where the score has it

SCORED_FACTORS: dict[Score, tuple[str, ...]] = {
    "reduced": ("u", "lam", "U"),
    "full": ("u", "v", "lam", "U", "V"),
    "sensitivity": ("u", "lam", "U"),
    "magnitude": (),
}
PARTS: dict[Score, tuple[str, ...]] = {  # of the statistics of each scored factor
    "reduced": ("smoothed", "uncertainty"),
    "full": ("smoothed", "uncertainty"),
    "sensitivity": ("smoothed",),
    "magnitude": (),
}


class RankAllocator:
    """Keep importance statistics and one global mask for the singular values of the given layers.

    One optimizer step t, counted from 0, follows the paper's Algorithm 1: backward, clip, `observe` (it reads the
    weights and the gradients taken at them), optimizer step, `mask`.

    The global order of singular values is the order of `layers`, then the index within a matrix. It decides ties.

    Args:
        layers: the adapted layers, `list(adapter.layers.values())`. Every layer of a stack must be among them.
        schedule: the budget b(t), with `initial` equal to the number of singular values of all `layers`.
        score: "reduced" scores u, Λ and 𝒰 (eq. 9), "full" all five factors (eq. 8). Cheaper, and not the paper's:
            "sensitivity" is eq. 9 with Ī for Ī · Ū, "magnitude" is |Λ| alone, which needs no gradient.
        beta1: β1, smoothing of the sensitivity.
        beta2: β2, smoothing of its uncertainty.
        choose: makes the mask from the scores (m,) and the budget.

    Attributes:
        keep: (matrices · r,) bool, the mask in the global order, on the device of the factors.

    On a GPU no step waits for a score: whether one was not finite is gathered there, and looked at when the mask is
    read anyway, by `ranks` and `assert_final_budget`. On a CPU `mask` looks at once.

    >>> import torch
    >>> from lora2 import BudgetSchedule, LoRA2Config, RankAllocator, inject
    >>> model = torch.nn.TransformerEncoderLayer(d_model=6, nhead=2, dim_feedforward=5)
    >>> adapter = inject(model, LoRA2Config(k=2, r=4, targets=("linear1", "linear2")))
    >>> optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1)
    >>> schedule = BudgetSchedule(total=10, initial=2 * 4, target=3, t_i=2, t_f=2)
    >>> allocator = RankAllocator(list(adapter.layers.values()), schedule)
    >>> for step in range(10):
    ...     model(torch.randn(8, 3, 6)).square().mean().backward()
    ...     allocator.observe(step)
    ...     optimizer.step()
    ...     budget = allocator.mask(step)
    ...     optimizer.zero_grad()
    >>> allocator.assert_final_budget()
    >>> budget, sum(adapter.ranks().values())
    (3, 3)
    """

    def __init__(
        self,
        layers: Sequence[LoRA2Linear],
        schedule: BudgetSchedule,
        score: Score = "reduced",
        beta1: float = 0.85,
        beta2: float = 0.85,
        choose: Callable[[Tensor, int], Tensor] = top_mask,
    ) -> None:
        self.schedule = schedule
        self.score = score
        self._choose = choose
        self.betas = (beta1, beta2)
        self.stacks: list[FactorStack] = list(dict.fromkeys(layer.stack for layer in layers))
        names = SCORED_FACTORS[score]
        parts = len(PARTS[score])
        self.stats = [{name: _zero_statistics(getattr(stack, name), parts) for name in names} for stack in self.stacks]
        self.positions = [_positions(stack, layers) for stack in self.stacks]
        device = self.stacks[0].lam.device
        self.keep = torch.ones(schedule.initial, dtype=torch.bool, device=device)  # (matrices · r,)
        self._lost = torch.zeros((), dtype=torch.int64, device=device)  # the most scores that were not finite at once

    @torch.no_grad()
    def observe(self, step: int) -> None:
        """Update the sensitivity statistics from the weights and their gradients; do nothing in the last phase.

        Args:
            step: number of the optimizer step, from 0.

        Raises:
            RuntimeError: a factor has no gradient, so this was called after zero_grad or before backward.
        """
        if step >= self.schedule.final:
            return
        for stack, stats in zip(self.stacks, self.stats, strict=True):
            for name, statistics in stats.items():
                weight = getattr(stack, name)
                if weight.grad is None:
                    raise RuntimeError(
                        f"importance of {name} needs its gradient: call observe after backward, before zero_grad"
                    )
                self._update(statistics, weight, weight.grad)

    def _update(self, statistics: Statistics, weight: Tensor, grad: Tensor) -> None:
        if self.score == "sensitivity":
            update_sensitivity(statistics[0], weight, grad, self.betas[0])
        else:
            update_importance(statistics[0], statistics[1], weight, grad, *self.betas)

    def scores(self, score: Score | None = None) -> Tensor:
        """Return the importance of every singular value, (matrices · r,) in the global order.

        Args:
            score: "reduced" asks an allocator that keeps the full score's statistics for the reduced score.
        """
        score = score or self.score
        rows = [_stack_scores(stack, stats, score) for stack, stats in zip(self.stacks, self.stats, strict=True)]
        merged = rows[0].new_empty(sum(len(row) for row in rows), rows[0].shape[1])
        for position, row in zip(self.positions, rows, strict=True):
            merged[position] = row
        return merged.flatten()

    @torch.no_grad()
    def score_agreement(self) -> float:
        """Return the share, 0 to 1, of the singular values that the full and the reduced score would both keep now.

        Within one matrix the full score only adds a constant, so there the two always agree. Over all matrices they
        need not (eq. 8 against eq. 9). The allocator must keep the full score's statistics (score="full").
        """
        budget = int(self.keep.sum())
        both = top_mask(self.scores("full"), budget) & top_mask(self.scores("reduced"), budget)
        return int(both.sum()) / budget

    @torch.no_grad()
    def mask(self, step: int) -> int:
        """Choose a new mask if one is due after this optimizer step, and set the singular values outside it to zero.

        Args:
            step: number of the optimizer step that was just made, from 0.

        Returns:
            b(step), the number of singular values that the budget allows.

        Raises:
            FloatingPointError: a score is not finite; on a GPU `ranks` and the others that read the mask raise it.
        """
        budget = self.schedule.at(step)
        if self.schedule.updates_mask(step):
            scores = self.scores()
            self._lost = torch.maximum(self._lost, (~torch.isfinite(scores)).sum())
            if scores.device.type == "cpu":
                self.assert_finite()
            self.keep = self._choose(scores, budget)
        if self.schedule.updates_mask(step) or step > self.schedule.final:
            self._apply()
        return budget

    def _apply(self) -> None:
        rows = self._rows()
        for position, stack in zip(self.positions, self.stacks, strict=True):
            stack.lam.masked_fill_(~rows[position], 0)

    def _rows(self) -> Tensor:
        return self.keep.view(-1, self.stacks[0].lam.shape[1])  # (matrices, r)

    def ranks(self, names: Sequence[str]) -> dict[str, int]:
        """Return the number of singular values inside the mask for each matrix.

        Args:
            names: names for the layers, in their order.

        Raises:
            FloatingPointError: the mask was made of scores that were not finite.
        """
        self.assert_finite()
        per_matrix = self._rows().sum(1).tolist()
        return dict(zip(names, per_matrix, strict=True))

    def assert_finite(self) -> None:
        """Check that every score so far was finite, so that there was an order to keep the largest by.

        Raises:
            FloatingPointError: one was NaN or infinite.
        """
        if lost := int(self._lost):
            raise FloatingPointError(f"{lost} of {self.keep.numel()} importance scores are not finite")

    def assert_final_budget(self) -> None:
        """Check that the final budget was met.

        Raises:
            FloatingPointError: a mask was made of scores that were not finite.
            RuntimeError: the mask does not keep exactly the target number of singular values, or others are not zero.
        """
        self.assert_finite()
        kept = int(self.keep.sum())
        alive = sum(int(stack.lam.count_nonzero()) for stack in self.stacks)
        if kept != self.schedule.target or alive > kept:
            raise RuntimeError(
                f"final budget missed: {self.schedule.target} wanted, mask keeps {kept}, {alive} are not zero"
            )

    def state_dict(self) -> dict[str, Tensor]:
        """Return statistics and mask as a flat dict of tensors."""
        state = {
            f"{i}.{name}.{part}": tensor
            for i, stats in enumerate(self.stats)
            for name, statistics in stats.items()
            for part, tensor in zip(PARTS[self.score], statistics, strict=True)
        }
        return state | {"keep": self.keep}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned.

        Args:
            state: of an allocator with the same layers and score.
        """
        for name, tensor in self.state_dict().items():
            tensor.copy_(state[name])


def _stack_scores(stack: FactorStack, stats: dict[str, Statistics], score: Score) -> Tensor:
    """Score of the singular values of a stack, (n, r)."""
    if score == "magnitude":
        return stack.lam.detach().abs().float()
    return singular_value_scores({name: _importance(stats[name]) for name in SCORED_FACTORS[score]})


def _importance(statistics: Statistics) -> Tensor:
    """s = Ī · Ū of every entry; Ī where that is all there is."""
    return statistics[0] if len(statistics) == 1 else statistics[0] * statistics[1]


def _zero_statistics(weight: Tensor, parts: int) -> Statistics:
    """Ī, and Ū if there are two parts, at the start."""
    return tuple(torch.zeros_like(weight, dtype=torch.float32) for _ in range(parts))


def _positions(stack: FactorStack, layers: Sequence[LoRA2Linear]) -> Tensor:
    """Position in `layers` of each matrix of the stack, (n,), in the stack's order."""
    members = [(layer.index, position) for position, layer in enumerate(layers) if layer.stack is stack]
    return torch.tensor([position for _, position in sorted(members)], device=stack.lam.device)
