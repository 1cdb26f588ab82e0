"""LoRA² in transformers' Trainer: `LoRA2Callback` allocates the ranks, `LoRA2Trainer` adds the regularisers.

Either works without the other. Within a step the Trainer follows the paper's order: backward, clip, importance
(on_pre_optimizer_step), optimizer step, mask (on_optimizer_step).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lora2.common.errors import UserError
from lora2.core.allocator import RankAllocator, Score
from lora2.core.budget import BudgetSchedule
from lora2.core.functional import PenaltyForm
from lora2.core.inject import Adapter
from lora2.core.terms import TERMS

STATE_FILE = "lora2_allocator.safetensors"  # in each of the Trainer's checkpoints


class LoRA2Callback(TrainerCallback):
    """Prune singular values under a budget while the Trainer trains, and check at the end that it was met.

    Its statistics are saved with the Trainer's checkpoints and read again by `train(resume_from_checkpoint=...)`.

    Args:
        adapter: what `inject` returned.
        schedule: makes the budget schedule from the run's number of optimizer steps, which the Trainer alone knows:
            `lambda total: BudgetSchedule(total, initial, target, t_i, t_f)`.
        score: "reduced" (eq. 9) or "full" (eq. 8).

    Attributes:
        allocator: the RankAllocator, from the beginning of training on.
    """

    allocator: RankAllocator

    def __init__(self, adapter: Adapter, schedule: Callable[[int], BudgetSchedule], score: Score = "reduced") -> None:
        self.adapter, self.schedule, self.score = adapter, schedule, score

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Build the allocator, after a resume with the statistics of the checkpoint.

        Raises:
            UserError: fp16 is on, whose scaled gradients would be scored, or the checkpoint lacks the callback's file.
        """
        if args.fp16:
            raise UserError("fp16: importance would be read from scaled gradients; use bf16=True or float32")
        layers = list(self.adapter.layers.values())
        self.allocator = RankAllocator(layers, self.schedule(state.max_steps), self.score)
        if state.global_step:
            path = _checkpoint(args, state) / STATE_FILE
            if not path.is_file():
                raise UserError(f"{path}: not there; resume from a checkpoint that LoRA2Callback has seen")
            self.allocator.load_state_dict(load_file(path))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the importance from the weights and the clipped gradients that were taken at them."""
        self.allocator.observe(state.global_step)

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mask Λ. The Trainer counts the step only after this event."""
        self.allocator.mask(state.global_step)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the statistics to the checkpoint that was just written."""
        if state.is_world_process_zero:
            save_file(self.allocator.state_dict(), _checkpoint(args, state) / STATE_FILE)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check the final budget if training went to its last step.

        Raises:
            RuntimeError: the budget was missed.
        """
        if state.global_step >= state.max_steps:
            self.allocator.assert_final_budget()


class LoRA2Trainer(Trainer):
    """Train with γ times the regularisers of eq. 5 added to each optimizer step, once, before clipping.

    The regularisers have a backward pass of their own. So every loss that the Trainer reports, in training and in
    evaluation, is the task's alone, and gradient accumulation does not multiply the regularisers.

    Args:
        adapter: what `inject` returned.
        gamma: γ, the weight of the regularisers.
        terms: which of "uv", "UV", "PQ".
        form: "squared" as printed, or "norm" as AdaLoRA's trainer has it.
        kwargs: what transformers.Trainer takes.
    """

    def __init__(
        self,
        *,
        adapter: Adapter,
        gamma: float,
        terms: frozenset[str] = frozenset(TERMS),
        form: PenaltyForm = "squared",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._regularise = (adapter, gamma, terms, form)

    def penalty(self) -> Tensor:
        """Return γ times the sum of the regularisers, a scalar."""
        adapter, gamma, terms, form = self._regularise
        return gamma * torch.stack(list(adapter.penalties(terms, form).values())).sum()

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Run the Trainer's own step, and add the regularisers' gradient at an optimizer step's last micro-batch.

        Returns:
            The task's loss, detached, a scalar.
        """
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.accelerator.sync_gradients:
            self.accelerator.backward(self.penalty())
        return loss


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
