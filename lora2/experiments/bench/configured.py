"""A run's own method on its own backbone, ready to be timed: built as lora2/training/session.py builds it."""

from functools import partial

import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from lora2.config.schema import RunConfig
from lora2.experiments.bench.measure import Runner
from lora2.glue.tasks import TASKS, TaskSpec
from lora2.models.backbone import load_model
from lora2.models.methods.build import build
from lora2.training.loop import task_loss
from lora2.training.optim import optimizer_groups

RATE = 1e-4  # of learning: nothing diverges at it, and it costs the same as another


def configured_runner(cfg: RunConfig, examples: int, device: torch.device) -> Runner:
    """A fresh model with the method of a config whose budget fits its steps.

    Args:
        examples: of the training split.
    """
    set_seed(cfg.seed)
    task = TASKS[cfg.task]
    model = load_model(cfg.model, task.num_labels, cfg.recipe.cls_dropout)
    nn.Module.to(model.train(), device)  # before the method, whose state lives where the weights do
    method = build(model, cfg, cfg.recipe.total_steps(examples))
    optimizer = torch.optim.AdamW(optimizer_groups(method, cfg.recipe), lr=RATE, fused=True)
    return Runner(model, method, optimizer, cfg.recipe.precision, device, partial(_mean_loss, task))


def _mean_loss(task: TaskSpec, logits: Tensor, labels: Tensor) -> Tensor:
    return task_loss(task, logits, labels).mean()
