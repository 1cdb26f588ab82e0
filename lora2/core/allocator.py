"""The rank allocator: it chooses which singular values of all matrices together are kept, under a shrinking budget."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from lora2.core.adapter import Adapter
from lora2.core.budget import BudgetSchedule, Schedule, shrink_phases
from lora2.core.functional import singular_value_scores, top_mask, update_importance, update_sensitivity
from lora2.core.layers import FactorStack, LoRA2Linear

Score = Literal["reduced", "full", "sensitivity", "magnitude"]
Statistics = tuple[Tensor, ...]  # Ī, and Ū where the score has it

USUAL_PHASES = (1, 3)  # t_i : t_f, as in the authors' script for MRPC

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

    The global order of singular values is the order of the adapter's layers, then the index within a matrix. It
    decides ties.

    Args:
        adapter: what `inject` returned.
        total_steps: T, optimizer steps of the run.
        target_rank: mean number of singular values that a matrix keeps at the end.
        t_i: steps before the pruning; None for a sixth of the run.
        t_f: steps after the pruning, with the final ranks; None for half of the run.
        interval: ΔT, masks are renewed at steps divisible by it.
        schedule: "released" or "printed", see BudgetSchedule.
        score: "reduced" scores u, Λ and 𝒰 (eq. 9), "full" all five factors (eq. 8). Cheaper, and not the paper's:
            "sensitivity" is eq. 9 with Ī for Ī · Ū, "magnitude" is |Λ| alone, which needs no gradient.
        beta1: β1, smoothing of the sensitivity.
        beta2: β2, smoothing of its uncertainty.
        choose: makes the mask from the scores (m,) and the budget.

    Raises:
        UserError: the target is out of range, or the phases do not fit into the run.

    Attributes:
        schedule: the budget b(t), which starts with all singular values of the adapter.
        keep: (matrices · r,) bool, the mask in the global order, on the device of the factors.

    On a GPU no step waits for a score: whether one was not finite is gathered there, and looked at when the mask is
    read anyway, by `ranks` and `assert_final_budget`. On a CPU `mask` looks at once.

    >>> import torch
    >>> from lora2 import LoRA2Config, RankAllocator, inject
    >>> model = torch.nn.TransformerEncoderLayer(d_model=6, nhead=2, dim_feedforward=5)
    >>> adapter = inject(model, LoRA2Config(k=2, r=4, targets=("linear1", "linear2")))
    >>> optimizer = torch.optim.AdamW(adapter.parameters(), lr=0.1)
    >>> allocator = RankAllocator(adapter, total_steps=10, target_rank=1.5)
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
        adapter: Adapter,
        total_steps: int,
        target_rank: float,
        *,
        t_i: int | None = None,
        t_f: int | None = None,
        interval: int = 1,
        schedule: Schedule = "released",
        score: Score = "reduced",
        beta1: float = 0.85,
        beta2: float = 0.85,
        choose: Callable[[Tensor, int], Tensor] = top_mask,
    ) -> None:
        layers = list(adapter.layers.values())
        usual_t_i, usual_t_f = shrink_phases(total_steps, *USUAL_PHASES)
        self.schedule = BudgetSchedule(
            total=total_steps,
            initial=sum(stack.lam.numel() for stack in adapter.factor_stacks()),
            target=round(len(layers) * target_rank),
            t_i=usual_t_i if t_i is None else t_i,
            t_f=usual_t_f if t_f is None else t_f,
            interval=interval,
            kind=schedule,
        )
        self._names = list(adapter.layers)
        self.score = score
        self._choose = choose
        self.betas = (beta1, beta2)
        self.stacks: list[FactorStack] = list(dict.fromkeys(layer.stack for layer in layers))
        names = SCORED_FACTORS[score]
        parts = len(PARTS[score])
        self.stats = [{name: _zero_statistics(getattr(stack, name), parts) for name in names} for stack in self.stacks]
        device = self.stacks[0].lam.device
        # Position in the global order of every matrix of the first stack, the second ..., and the other way round.
        self._positions = torch.tensor([p for stack in self.stacks for p in _positions(stack, layers)], device=device)
        self._order = self._positions.argsort()  # (matrices,)
        self.keep = torch.ones(self.schedule.initial, dtype=torch.bool, device=device)  # (matrices · r,)
        self._lost = torch.zeros((), dtype=torch.int64, device=device)  # the most scores that were not finite at once

    @torch.no_grad()
    def observe(self, step: int) -> None:
        """Update the sensitivity statistics from the weights and their gradients; do nothing in the last phase.

        Args:
            step: number of the optimizer step, from 0.

        Raises:
            RuntimeError: a factor has no gradient, so this was called after zero_grad or before backward.
        """
        names = SCORED_FACTORS[self.score]
        if step >= self.schedule.final or not names:
            return
        weights = [getattr(stack, name) for stack in self.stacks for name in names]
        grads = [_gradient(stack, name) for stack in self.stacks for name in names]
        statistics = [parts for stats in self.stats for parts in stats.values()]
        smoothed = [parts[0] for parts in statistics]
        if self.score == "sensitivity":
            update_sensitivity(smoothed, weights, grads, self.betas[0])
        else:
            update_importance(smoothed, [parts[1] for parts in statistics], weights, grads, *self.betas)

    def scores(self, score: Score | None = None) -> Tensor:
        """Return the importance of every singular value, (matrices · r,) in the global order.

        Args:
            score: "reduced" asks an allocator that keeps the full score's statistics for the reduced score.
        """
        score = score or self.score
        rows = [_stack_scores(stack, stats, score) for stack, stats in zip(self.stacks, self.stats, strict=True)]
        return torch.cat(rows)[self._order].flatten()

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
        lost = ~self._rows()[self._positions]  # (matrices, r), in the order of the stacks
        for part, stack in zip(lost.split([len(stack.lam) for stack in self.stacks]), self.stacks, strict=True):
            stack.lam.masked_fill_(part, 0)

    def _rows(self) -> Tensor:
        return self.keep.view(-1, self.stacks[0].lam.shape[1])  # (matrices, r)

    def ranks(self) -> dict[str, int]:
        """Return the number of singular values inside the mask, by matrix name.

        Raises:
            FloatingPointError: the mask was made of scores that were not finite.
        """
        self.assert_finite()
        per_matrix = self._rows().sum(1).tolist()
        return dict(zip(self._names, per_matrix, strict=True))

    def masks(self) -> dict[str, str]:
        """Return which singular values are inside the mask, by matrix name: 1 and 0 in their order.

        Raises:
            FloatingPointError: the mask was made of scores that were not finite.
        """
        self.assert_finite()
        rows = self._rows().int().tolist()
        return {name: "".join(map(str, row)) for name, row in zip(self._names, rows, strict=True)}

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


def _gradient(stack: FactorStack, name: str) -> Tensor:
    """The gradient of a factor.

    Raises:
        RuntimeError: it has none.
    """
    grad: Tensor | None = getattr(stack, name).grad
    if grad is None:
        raise RuntimeError(f"importance of {name} needs its gradient: call observe after backward, before zero_grad")
    return grad


def _zero_statistics(weight: Tensor, parts: int) -> Statistics:
    """Ī, and Ū if there are two parts, at the start."""
    return tuple(torch.zeros_like(weight, dtype=torch.float32) for _ in range(parts))


def _positions(stack: FactorStack, layers: Sequence[LoRA2Linear]) -> list[int]:
    """Position in `layers` of each matrix of the stack, in the stack's order."""
    members = [(layer.index, position) for position, layer in enumerate(layers) if layer.stack is stack]
    return [position for _, position in sorted(members)]
