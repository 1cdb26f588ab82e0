"""The typed tree of one run's settings. `resolve` (lora2/config/resolve.py) makes it of a composed dict."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from lora2.common.voice import Log
from lora2.config.methods import (
    BudgetConfig,
    Fraction,
    MethodConfig,
    Module,
    Name,
    Natural,
    NonNegative,
    Positive,
    RankConfig,
    Rate,
    Settings,
    variant_name,
)
from lora2.glue.own import Metric, OwnFiles, class_name

# 1, 1.0 and true are names too, as YAML and Hydra read them
ClassName = Annotated[str, BeforeValidator(lambda x: class_name(x) if isinstance(x, (str, int, float)) else x)]


class ModelConfig(Settings):
    """The backbone: one source of weights (hub_id, path or package), or random weights from `architecture`.

    A run starts from a fresh head, also where the weights come with a trained one; `keep_head` starts from that.
    """

    name: Name
    model_type: Name
    hub_id: str | None = None
    revision: str | None = None
    package: Module | None = None
    path: str | None = None
    random_init: bool = False
    keep_head: bool = False
    architecture: dict[str, Any]


class RecipeConfig(Settings):
    """Optimisation. `batch_size` is the effective one, whatever the number of processes and of accumulated parts."""

    name: str
    lr: Rate
    epochs: Positive
    max_steps: Positive | None = None
    batch_size: Positive
    accumulation: Positive
    weight_decay: NonNegative
    warmup_steps: Natural | None = None
    warmup_ratio: Fraction | None = None
    max_grad_norm: Rate
    max_length: Positive
    padding: Literal["dynamic", "max_length"]
    group_by_length: bool
    precision: Literal["fp32", "bf16", "fp16"]
    eval_every: Positive | None = None
    cls_dropout: Fraction | None = None

    @property
    def padded_to(self) -> int | None:
        """The length every batch is padded to, or None for the longest of each batch."""
        return self.max_length if self.padding == "max_length" else None

    def total_steps(self, train_examples: int) -> int:
        """Count T, the optimizer steps of the whole run, from the real number of examples."""
        steps = self.epochs * math.ceil(train_examples / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


class GlueDataConfig(Settings):
    """Where a GLUE task's data comes from, and what becomes of rows of local files that cannot be read."""

    source: Literal["hub", "local", "demo"]
    dir: str | None = None
    on_bad_row: Literal["refuse", "drop"] = "refuse"

    @property
    def folder(self) -> Path | None:
        """`dir` as a path."""
        return None if self.dir is None else Path(self.dir)


class FilesDataConfig(Settings):
    """A task of one's own: two files with named columns of text and labels (lora2/glue/own.py)."""

    source: Literal["files"]
    name: Name
    train: str
    dev: str
    text: str
    text_pair: str | None = None
    label: str
    metric: Metric | None = None
    labels: tuple[ClassName, ...] | None = None  # in the order of their ids; a run fills in those that it finds

    @property
    def files(self) -> OwnFiles:
        """What is read, and how."""
        return OwnFiles(
            name=self.name,
            train=Path(self.train),
            dev=Path(self.dev),
            text_columns=(self.text,) if self.text_pair is None else (self.text, self.text_pair),
            label_column=self.label,
            metric=self.metric,
            labels=self.labels,
        )


DataConfig = Annotated[GlueDataConfig | FilesDataConfig, Field(discriminator="source")]


class CheckpointConfig(Settings):
    """How often a run is saved, so that it can go on after being killed."""

    every_steps: Positive | None = None
    every_minutes: Rate = 10.0


class TrackerConfig(Settings):
    """Live logging besides the record."""

    name: Literal["none", "wandb", "tensorboard", "trackio"]
    project: Name = "lora2-glue"


class RunConfig(Settings):
    """All settings of one run.

    `init_from` is a run, or a folder with its weights, from whose adapter this one starts, with a fresh head
    (lora2/config/initial.py).
    """

    model: ModelConfig
    task: str
    method: MethodConfig
    rank: RankConfig | None = None
    budget: BudgetConfig | None = None
    recipe: RecipeConfig
    data: DataConfig
    tracker: TrackerConfig
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)]
    selection: Literal["dev", "heldout"] = "dev"
    init_from: Annotated[str, Field(min_length=1)] | None = None
    checkpoint: CheckpointConfig = CheckpointConfig()
    experiment: str
    results_dir: str
    output_dir: str
    num_workers: Natural  # processes that make batches ahead of training; changes no number
    force: bool
    step: Literal["auto", "eager", "captured"] = "auto"  # how a training step is carried out; changes no number
    deterministic: Literal["auto", True, False] = "auto"  # whether a GPU computes the same bits every time
    log: Log = "normal"  # how much is said; no record holds it

    @property
    def variant(self) -> str:
        """The method with its size, as the tables' rows name it: "lora2_k8", "bitfit", "lora_r8_init"."""
        name = variant_name(self.method, self.rank, self.budget)
        return name if self.init_from is None else f"{name}_init"
