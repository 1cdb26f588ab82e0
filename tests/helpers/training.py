"""A small run of the real training loop: the MLP of toys.py, two dozen examples, LoRA² under a budget."""

from dataclasses import replace

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn

from lora2.config.methods import BudgetConfig, LoRA2MethodConfig, PenaltyConfig, RankConfig
from lora2.config.schema import RecipeConfig
from lora2.glue.tasks import TASKS
from lora2.glue.tokens import TokenisedSplit
from lora2.models.methods.lora2 import LoRA2
from lora2.training.data import TaskData
from lora2.training.loop import Trainer
from lora2.training.state import TrainState

K, R, TOTAL, EXAMPLES, BATCH = 2, 3, 12, 23, 8
TARGET_RANK = 1  # of 6 matrices with 3 values each: 18 -> 6


def split(examples: int = EXAMPLES, *, labels: int = 2, seed: int = 0) -> TokenisedSplit:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, 9, examples)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    targets = rng.integers(0, labels, examples) if labels > 1 else rng.uniform(0, 5, examples).astype(np.float32)
    return TokenisedSplit(rng.integers(4, 30, int(offsets[-1])).astype(np.int32), None, offsets, targets)


def recipe(**changes: object) -> RecipeConfig:
    values = {
        "name": "test", "lr": 0.02, "epochs": 4, "max_steps": TOTAL, "batch_size": BATCH, "accumulation": 1,
        "weight_decay": 0.1, "warmup_steps": 2, "warmup_ratio": None, "max_grad_norm": 0.5, "max_length": 16,
        "padding": "dynamic", "group_by_length": False, "precision": "fp32", "eval_every": 5,
    }  # fmt: skip
    return RecipeConfig(**{**values, **changes})


def lora2(model: nn.Module, *, targets: str = "qkv", impl: str = "plain", lam: float = 3.0, **changes: object) -> LoRA2:
    penalty = PenaltyConfig(
        weight=changes.pop("gamma", 0.1), terms=("uv", "UV", "PQ"), form=changes.pop("form", "squared")
    )
    budget = {
        "target_rank": TARGET_RANK, "t_i": 2, "t_f": 4, "interval": 1, "scale": "strict", "schedule": "released",
        "score": "reduced", "beta1": 0.85, "beta2": 0.85,
    }  # fmt: skip
    return LoRA2(
        model,
        LoRA2MethodConfig(
            name="lora2", targets=targets, init="orthogonal", lam_lr_scale=lam, impl=impl, penalty=penalty
        ),
        RankConfig(k=K, r=R, alpha=6.0),
        BudgetConfig(**{**budget, **changes}),
        TOTAL,
    )


def trainer(
    model: nn.Module,
    method: object,
    task: str = "rte",
    seed: int = 3,
    accelerator: Accelerator | None = None,
    **changes: object,
) -> Trainer:
    """A trainer on the CPU, or on the accelerator's device, where the model is then."""
    if accelerator is None:
        AcceleratorState._reset_state(reset_partial_state=False)
        GradientState._reset_state()
        accelerator = Accelerator(cpu=True)
    labels = TASKS[task].num_labels
    splits = {"train": split(labels=labels)} | {
        name: split(17, labels=labels, seed=9) for name in TASKS[task].dev_splits
    }
    if task == "stsb" and next(model.parameters()).dtype == torch.float64:  # torch 2.11 mixes no precisions in a loss
        splits = {name: replace(part, labels=part.labels.astype(np.float64)) for name, part in splits.items()}
    return Trainer(
        accelerator=accelerator,
        model=model,
        method=method,
        data=TaskData(task=TASKS[task], splits=splits, pad_id=0),
        recipe=recipe(**changes),
        seed=seed,
    )


def fit(model: nn.Module, method: object, task: str = "rte", seed: int = 3, **changes: object) -> TrainState:
    """Train, without a checkpoint."""
    return trainer(model, method, task, seed, **changes).fit()
