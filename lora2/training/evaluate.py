"""Dev-set scores of a model; the processes of a run share the work."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from lora2.glue.batches import eval_batches
from lora2.glue.metrics import compute, predict, score
from lora2.glue.tokens import TokenisedSplit
from lora2.models.logits import Logits, compute_parts, in_order
from lora2.models.methods.base import Method
from lora2.training.data import TaskData, width_multiple
from lora2.training.deterministic import deterministic_algorithms

Arrays = dict[str, np.ndarray]  # by split, (n,)
SAME_SCORE = 1e-3  # of a regression's scale, 0 to 5: below it scores differ by rounding alone


@dataclass(frozen=True)
class Evaluation:
    """What a model did on the dev splits.

    Attributes:
        metrics: by name.
        constant: whether it gave one prediction for all examples of a split.
        selection: the number that the best checkpoint is chosen by.
    """

    metrics: dict[str, float]
    constant: bool
    selection: float


def evaluation_form(method: Method, accelerator: Accelerator) -> AbstractContextManager[None]:
    """Return the context in which a model is evaluated: merged in float32, as it was trained in 16 bits.

    W + ΔW rounded to 16 bits is another function than W rounded to 16 bits beside ΔW, and only the latter was trained.
    In float32 merging changes no more than the last digits of the logits.
    """
    return method.merged() if accelerator.mixed_precision == "no" else nullcontext()


@dataclass(frozen=True)
class Evaluator:
    """Scores the task's dev splits with the model that was trained, or with a cheaper form that computes the same.

    Args:
        batch_size: examples per optimizer step of training.
        max_length: what every batch is padded to; None for the longest of each.
        longest: tokens that the model takes; a GPU's widths are rounded up, but not beyond this.
        deterministic: whether a GPU must compute the same way every time. Attention then takes the kernel that training
            took; else torch 2.11 would take cuDNN's for bf16, which makes a plan for each new width.
    """

    accelerator: Accelerator
    method: Method
    data: TaskData
    batch_size: int
    max_length: int | None
    longest: int
    deterministic: bool

    def score(self, model: nn.Module) -> tuple[dict[str, float], bool]:
        """Return every metric of the task on its dev splits, and whether the predictions on any are constant."""
        task = self.data.task
        predictions, labels = self._predict(model, task.dev_splits)
        return compute(task, predictions, labels), any(map(is_constant, predictions.values()))

    def score_split(self, model: nn.Module, name: str) -> dict[str, float]:
        """Return the task's metrics on one split."""
        predictions, labels = self._predict(model, (name,))
        return score(self.data.task, predictions[name], labels[name])

    def logits(self, model: nn.Module, split: TokenisedSplit) -> Logits:
        """Return the head outputs of every example, (n, c), in the split's order, each computed by one process."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        own = eval_batches(split.lengths, self.batch_size)[rank::world]
        with deterministic_algorithms(self.deterministic):
            parts = compute_parts(
                model,
                split,
                own,
                pad_id=self.data.pad_id,
                max_length=self.max_length,
                pad_to_multiple=width_multiple(self.accelerator.device.type),
                at_most=self.longest,
            )
        return in_order(gather_object(parts))

    def _predict(self, model: nn.Module, names: Sequence[str]) -> tuple[Arrays, Arrays]:
        """Return predictions and labels of labelled splits; the model is in training mode afterwards."""
        # not the wrapper that averages gradients: it would talk to processes that may have no batch here
        model = self.accelerator.unwrap_model(model, keep_fp32_wrapper=True)
        splits = {name: self.data.splits[name] for name in names}
        model.eval()
        with torch.no_grad(), evaluation_form(self.method, self.accelerator):
            predictions = {name: predict(self.data.task, self.logits(model, split)) for name, split in splits.items()}
        model.train()
        return predictions, {name: split.labels for name, split in splits.items() if split.labels is not None}


def is_constant(predictions: np.ndarray) -> bool:
    """Return whether every example, (n,), got the same class or, of a regression, the same score but for rounding."""
    return float(np.ptp(predictions)) < SAME_SCORE
