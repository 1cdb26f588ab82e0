"""The cures that messages state as a setting: typed behind the mistaken command, they must let the run start."""

from typing import Any

CURES = {  # by the name of the mistake: what its message says, with a value where it leaves one open
    "config: unknown task": "task=rte",
    "config: two tasks": "task=rte",
    "config: no task": "task=rte",
    "config: k = 0": "rank.k=1",
    "config: k a fraction": "rank.k=1",
    "config: no k": "rank.k=8",
    "config: k above the model": "rank.k=32",
    "config: r above the model": "rank.r=8",
    "config: unknown size": "rank=k8",
    "config: target 0": "budget.target_rank=1",
    "config: target above the start": "budget.target_rank=8",
    "config: schedule too long": "budget.scale=auto",
    "config: one step": "budget=none",
    "config: precision misspelled": "recipe.precision=bf16",
    "config: negative rate": "recipe.lr=1e-3",
    "config: empty batch": "recipe.batch_size=1",
    "config: more parts than examples": "recipe.accumulation=32",
    "config: two warm-ups": "recipe.warmup_ratio=null",
    "config: dropout 1": "recipe.cls_dropout=0.1",
    "config: padding": "recipe.padding=dynamic",
    "config: negative seed": "seed=0",
    "config: unknown method": "method=lora",
    "config: unknown matrices": "method.targets=qv",
    "config: unknown regulariser": "method.penalty.terms=[uv,PQ]",
    "config: half a rank for PEFT": "budget.target_rank=2",
    "config: printed schedule for PEFT": "budget.schedule=released",
    "config: unknown selection": "selection=heldout",
    "config: unknown tracker": "tracker=none",
    "config: no minutes": "checkpoint.every_minutes=1",
    "config: heads that do not divide": "model.architecture.num_attention_heads=3",
    "config: architecture without a size": "model.architecture.hidden_size=32",
    "config: name with a path": "model.name=mine",
    "config: package with a path": "model.package=mine",
    "config: results nowhere": "results_dir=DIR",
    "config: outputs below a file": "output_dir=DIR",
    "config: a head of random weights is to be kept": "model.keep_head=false",
    "config: full starts from a run": "init_from=null",
    "data: no data folder given": "data=demo",
    "data: no such folder": "data=demo",
    "data: folder without the task": "data=demo",
    "data: a row cut in two": "data.on_bad_row=drop",
    "data: a stray byte": "data.on_bad_row=drop",
    "data: rows dropped from demo data": "data.on_bad_row=refuse",
    "record: damaged": "force=true",
    "environment: no network for data": "data=demo",
    "environment: no tracker": "tracker=none",
}


class Started(Exception):
    """The run got as far as torch."""


class Session:
    """Stands for lora2.training.session, which imports torch and trains."""

    @staticmethod
    def execute(*_: Any, **__: Any) -> None:
        """Say that everything before training is in order."""
        raise Started
