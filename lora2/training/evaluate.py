"""Dev-set scores of a model; the processes of a run share the work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from lora2.glue.batches import eval_batches
from lora2.glue.metrics import compute, predict, score
from lora2.glue.tasks import TaskSpec
from lora2.glue.tokens import TokenisedSplit
from lora2.models.logits import Logits, compute_parts, in_order
from lora2.models.methods import Method


@dataclass(frozen=True)
class Evaluator:
    """Scores the task's dev splits with the method merged into the model where it can be."""

    accelerator: Accelerator
    method: Method
    task: TaskSpec
    splits: Mapping[str, TokenisedSplit]
    pad_id: int
    max_length: int | None
    batch_size: int

    def score(self, model: nn.Module) -> dict[str, float]:
        """Every metric of the task on its dev splits."""
        decisions, labels = self._decisions(model, self.task.dev_splits)
        return compute(self.task, decisions, labels)

    def score_split(self, model: nn.Module, name: str) -> dict[str, float]:
        """The task's metrics on one split."""
        decisions, labels = self._decisions(model, (name,))
        return score(self.task, decisions[name], labels[name])

    def _decisions(self, model: nn.Module, names: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Predictions and labels of labelled splits; the model is in training mode afterwards."""
        # not the wrapper that averages gradients: it would talk to processes that may have no batch here
        model = self.accelerator.unwrap_model(model, keep_fp32_wrapper=True)
        model.eval()
        with torch.no_grad(), self.method.merged():
            decisions = {name: predict(self.task, self.logits(model, self.splits[name])) for name in names}
        model.train()
        return decisions, {name: labels for name in names if (labels := self.splits[name].labels) is not None}

    def logits(self, model: nn.Module, split: TokenisedSplit) -> Logits:
        """Head outputs for every example, (n, labels), in the split's order, each computed by one process."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        own = eval_batches(split.lengths, self.batch_size)[rank::world]
        parts = compute_parts(model, split, own, pad_id=self.pad_id, max_length=self.max_length)
        return in_order(gather_object(parts))
