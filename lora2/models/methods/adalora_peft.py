"""AdaLoRA (Zhang et al. 2023) from PEFT's public API: the reference that models/methods/adalora.py must equal.

On a GPU its allocator reads every score back to the host, each time that it renews the mask.
The tuner's own forward adds the regulariser to whatever loss the model returns, evaluation losses included. It is never
called here: the model is called itself, and the regulariser is a penalty of the training loop.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lora2.config.methods import AdaLoRAMethodConfig, BudgetConfig, RankConfig
from lora2.core.matrices import matrices_of
from lora2.core.orthogonality import distances, grams
from lora2.core.targets import find_targets
from lora2.models.methods.base import Method, ParameterCounts, ParameterGroup, Stateful, rank_numbers
from lora2.models.methods.parts import backbone_size, size, trained_parts

ADAPTER = "default"  # PEFT's name for the only adapter
T = TypeVar("T")


class PeftAdaLoRA(Method):
    """Train PEFT's layers, with PEFT's allocator, in this project's training loop.

    Not merged in evaluation: PEFT unmerges by subtraction, which does not give the weights back bit for bit.
    """

    def __init__(
        self, model: nn.Module, method: AdaLoRAMethodConfig, rank: RankConfig, budget: BudgetConfig | None, total: int
    ) -> None:
        from peft import AdaLoraModel  # It takes seconds to import, and only LoRA and AdaLoRA need it.

        self._backbone = backbone_size(model)
        self._matrices = find_targets(model, matrices_of(method.targets))
        self._shapes = {name: model.get_parameter(f"{name}.weight").shape for name in self._matrices}
        self._tuner = AdaLoraModel(model, _peft_config(list(self._matrices), rank, budget, total), ADAPTER)
        self._adapter, self._head = trained_parts(model)
        self.groups = [ParameterGroup(self._adapter), ParameterGroup(self._head)]
        self._state = AllocatorState(self._tuner)
        self._gamma = method.penalty.weight
        self._right = _by_shape(p for name, p in self._adapter.items() if "lora_A" in name)  # Q, each (r, d)
        self._left = _by_shape(p for name, p in self._adapter.items() if "lora_B" in name)  # P, each (o, r)
        self._rank, self._target = rank.r, rank.r if budget is None else int(budget.target_rank)
        self._final = total if budget is None else total - budget.t_f
        self._has_budget = budget is not None

    @property
    def stateful(self) -> Stateful:
        """State of PEFT's allocator."""
        return self._state

    def penalties(self) -> dict[str, Tensor]:
        """Return γ times the mean over all P and Q of ‖·‖_F, un-squared, as in AdaLoRA's trainer and in PEFT."""
        if self._gamma == 0:
            return {}
        right = [torch.stack([*group]) for group in self._right]  # each (n, r, d)
        left = [torch.stack([*group]).mT for group in self._left]  # each (n, r, o)
        mean = distances(grams([*right, *left]), "norm").sum() / (2 * len(self._matrices))
        return {"PQ": self._gamma * mean}

    @contextmanager
    def step(self, step: int, grads_finite: bool) -> Iterator[None]:
        """Call PEFT's allocator after the optimizer step, while the gradients are still there, as PEFT documents.

        From the first step of the last phase it reads no gradient, so an overflow must not keep it from fixing the
        final pattern. With target = initial rank there is nothing to prune, and PEFT would ask for the 0-th smallest
        score, so it is not called.
        """
        yield
        if self._target < self._rank and (grads_finite or step >= self._final):
            self._tuner.update_and_allocate(step)

    def monitor(self) -> dict[str, float]:
        """Return the kept ranks."""
        return rank_numbers(self._named(self._kept()))

    def count_parameters(self) -> ParameterCounts:
        """Count what was trained.

        Raises:
            RuntimeError: the final budget was not reached exactly.
        """
        kept = self._kept()
        wanted, alive = self._target * len(kept), sum(int(p.count_nonzero()) for p in self._singular().values())
        if sum(kept.values()) != wanted or alive > wanted:
            raise RuntimeError(
                f"final budget missed: {wanted} wanted, mask keeps {sum(kept.values())}, {alive} are not zero"
            )
        return ParameterCounts(
            adapter=size(self._adapter),
            active_adapter=self._active(kept),
            head=size(self._head),
            backbone=self._backbone,
            ranks=self._named(kept),
            masks=self._named(self._masks()) if self._has_budget else {},
        )

    def _kept(self) -> dict[str, int]:
        """Kept singular values of each matrix, by module name."""
        return {name: mask.count("1") for name, mask in self._masks().items()}

    def _masks(self) -> dict[str, str]:
        """1 for each kept singular value, 0 for the others, by module name, from the pattern that PEFT masks with."""
        pattern: dict[str, list[bool]] = self._tuner.peft_config[ADAPTER].rank_pattern or {}
        everything = [True] * self._rank  # before the first mask, and without pruning
        masks = {name: pattern.get(f"{name}.lora_E.{ADAPTER}", everything) for name in self._matrices}
        return {name: "".join("1" if kept else "0" for kept in mask) for name, mask in masks.items()}

    def _singular(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self._adapter.items() if "lora_E" in name}

    def _named(self, found: dict[str, T]) -> dict[str, T]:
        return {self._matrices[name]: value for name, value in found.items()}

    def _active(self, kept: dict[str, int]) -> int:
        """Parameters that still act: d + o + 1 for each kept singular value, so the count depends on where they are."""
        return sum(rank * (sum(self._shapes[name]) + 1) for name, rank in kept.items())


class AllocatorState:
    """Expose PEFT's importance statistics and rank pattern, which it does not save itself, as tensors by name."""

    PARTS = ("ipt", "exp_avg_ipt", "exp_avg_unc")

    def __init__(self, tuner: Any) -> None:
        self._tuner, self._allocator, self._config = tuner, tuner.rankallocator, tuner.peft_config[ADAPTER]

    def state_dict(self) -> dict[str, Tensor]:
        """Return the statistics as "part/parameter" and the pattern, bool, as "pattern/parameter"."""
        parts = {f"{part}/{name}": x for part in self.PARTS for name, x in getattr(self._allocator, part).items()}
        return parts | {f"pattern/{name}": torch.tensor(x) for name, x in (self._config.rank_pattern or {}).items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned, on the model's device (a checkpoint is read to the CPU)."""
        device = next(self._tuner.parameters()).device
        pattern: dict[str, list[bool]] = {}
        for key, value in state.items():
            part, name = key.split("/", 1)
            if part == "pattern":
                pattern[name] = value.tolist()
            else:
                getattr(self._allocator, part)[name] = value.to(device)
        self._config.rank_pattern = pattern or None


def _peft_config(modules: list[str], rank: RankConfig, budget: BudgetConfig | None, total: int) -> Any:
    from peft import AdaLoraConfig

    sizes = {"init_r": rank.r, "lora_alpha": rank.alpha, "target_modules": modules, "total_step": total}
    if budget is None:
        return AdaLoraConfig(**sizes, target_r=rank.r)
    return AdaLoraConfig(
        **sizes,
        target_r=int(budget.target_rank),
        tinit=budget.t_i,
        tfinal=budget.t_f,
        deltaT=budget.interval,
        beta1=budget.beta1,
        beta2=budget.beta2,
    )


def _by_shape(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Grouped by shape, so that each group can be stacked into one batched product."""
    groups: dict[torch.Size, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(parameter.shape, []).append(parameter)
    return list(groups.values())
