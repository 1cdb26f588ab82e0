"""LoRA² in transformers' Trainer: `LoRA2Callback` allocates the ranks, `LoRA2Trainer` adds the regularisers.

Either works without the other. Within a step the Trainer follows the paper's order: backward, clip, importance
(on_pre_optimizer_step), optimizer step, mask (on_optimizer_step).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import find_batch_size
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from lora2.common.errors import UserError
from lora2.core.adapter import Adapter
from lora2.core.allocator import RankAllocator
from lora2.core.orthogonality import PenaltyForm
from lora2.core.terms import TERMS

STATE_FILE = "lora2_allocator.safetensors"  # in each of the Trainer's checkpoints


class LoRA2Callback(TrainerCallback):
    """Prune singular values under a budget while the Trainer trains, and check after the last step that it was met.

    Its statistics are saved with the Trainer's checkpoints and read again by `train(resume_from_checkpoint=...)`.

    Args:
        new_allocator: makes the allocator from the run's number of optimizer steps, which the Trainer alone knows:
            `lambda steps: RankAllocator(adapter, steps, target_rank=4)`.

    Attributes:
        allocator: the RankAllocator, from the beginning of training on.
    """

    allocator: RankAllocator

    def __init__(self, new_allocator: Callable[[int], RankAllocator]) -> None:
        self._new_allocator = new_allocator

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Build the allocator, after a resume with the statistics of the checkpoint.

        Raises:
            UserError: fp16 is on, whose scaled gradients would be scored, or the checkpoint lacks the callback's file.
        """
        if args.fp16:
            raise UserError("fp16: importance would be read from scaled gradients; use bf16=True or float32")
        self.allocator = self._new_allocator(state.max_steps)
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

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Check the final budget when the last step has been taken.

        Not at the end of training: by then `load_best_model_at_end` may have put other weights in their place, from
        before the final ranks.

        Raises:
            RuntimeError: the budget was missed.
        """
        if state.global_step >= state.max_steps:
            self.allocator.assert_final_budget()


class LoRA2Trainer(Trainer):
    """Train with γ times the regularisers of eq. 5 added to each optimizer step, once, before clipping.

    The regularisers have a backward pass of their own. So every loss that the Trainer reports, in training and in
    evaluation, is the task's alone, and gradient accumulation does not multiply the regularisers. The optimizer gives Λ
    its own rate (LoRA2Config.lam_lr_scale).

    An optimizer step trains the mean loss of all its items (labels that are not -100), however it is cut into
    micro-batches, so γ means the same for each cut. The Trainer itself leaves that to the model's loss, and adds up the
    means of a loss that does not know of the other micro-batches, as every sequence classifier's.

    Args:
        adapter: what `inject` returned.
        gamma: γ, the weight of the regularisers.
        terms: which of "uv", "UV", "PQ".
        form: "squared" as printed, or "norm" as AdaLoRA's trainer has it.
        kwargs: what transformers.Trainer takes.

    Raises:
        UserError: several GPUs in one process, whose copies of the model would not share the factors.
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
        if self.args.n_gpu > 1:
            raise UserError(
                f"args.n_gpu: got {self.args.n_gpu}; a process drives one GPU: torchrun --nproc-per-node "
                f"{self.args.n_gpu} SCRIPT, or CUDA_VISIBLE_DEVICES=0"
            )
        self._regularise = (adapter, gamma, terms, form)
        self._step_items: Tensor | int | None = None  # of all micro-batches of the optimizer step, in this process

    def penalty(self) -> Tensor:
        """Return γ times the sum of the regularisers, a scalar."""
        adapter, gamma, terms, form = self._regularise
        return adapter.penalty(gamma, terms, form)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """Make the Trainer's own optimizer, in which Λ learns at its own rate; one that was given stays as it is."""
        given = self.optimizer is not None
        optimizer: Optimizer = super().create_optimizer(*args, **kwargs)
        if given:
            return optimizer
        adapter = self._regularise[0]
        singular = {id(stack.lam) for stack in adapter.factor_stacks()}
        for group in list(optimizer.param_groups):
            own = [p for p in group["params"] if id(p) in singular]
            group["params"] = [p for p in group["params"] if id(p) not in singular]
            if own:
                optimizer.add_param_group({**group, "params": own, "lr": group["lr"] * adapter.lam_lr_scale})
        return optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Tensor | int | None]:
        """Fetch the micro-batches of an optimizer step, and count their items."""
        samples, number = super().get_batch_samples(*args, **kwargs)
        self._step_items = sum(_items(inputs) for inputs in samples)
        return samples, number

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return a batch's mean loss; in training, times the batch's share of its optimizer step's items.

        The model, or `compute_loss_func`, is told of this batch's items alone. So its loss is the batch's mean, whether
        it divides a sum by that number or takes the mean by itself.

        Args:
            model: in training mode, or in evaluation, where this does what the Trainer does.
            inputs: one micro-batch.
            return_outputs: return (loss, outputs).
            num_items_in_batch: the items of the whole optimizer step, of all processes; None if the Trainer does not
                count them for this model.
        """
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        items = _items(inputs)
        total = self._step_items if num_items_in_batch is None else num_items_in_batch
        told = None if num_items_in_batch is None else items
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=told)
        loss = loss * (items / (items if total is None else total))
        return (loss, outputs) if return_outputs else loss

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Run the Trainer's own step, and add the regularisers' gradient at an optimizer step's last micro-batch.

        Returns:
            The micro-batch's share of the task's loss, detached, a scalar; over an optimizer step they add up to it.
        """
        # A loss is its share already. Some of transformers' versions can be told so by an attribute, 5.17 cannot.
        self.current_gradient_accumulation_steps = 1
        loss = super().training_step(model, inputs, *args, **kwargs)
        if self.accelerator.sync_gradients:
            self.accelerator.backward(self.penalty())
        return loss


def _items(inputs: dict[str, Any]) -> Tensor:
    """What a batch's mean loss is taken over: labels that are not -100; without labels, rows. At least 1."""
    labels = inputs.get("labels")
    count = labels.ne(-100).sum() if isinstance(labels, Tensor) else torch.tensor(find_batch_size(inputs) or 1)
    return count.clamp(min=1)


def _checkpoint(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"
