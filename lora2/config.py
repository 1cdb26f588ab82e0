"""The typed tree of one run's settings; it imports neither torch nor Hydra.

`resolve` takes the plain dict that Hydra composed, fills what was left null from the recipe's row for the task,
validates everything and reports every problem at once.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from lora2.config_methods import (
    BUDGETED,
    RANKED,
    AdaLoRAMethodConfig,
    BottleneckMethodConfig,
    BudgetConfig,
    Fraction,
    LoRA2MethodConfig,
    LoRAMethodConfig,
    MethodConfig,
    Natural,
    NonNegative,
    PenaltyConfig,
    Positive,
    RankConfig,
    Rate,
    Section,
    SoRAMethodConfig,
    SubsetMethodConfig,
    method_problems,
    variant_name,
)
from lora2.errors import UserError
from lora2.glue.tasks import TASKS

__all__ = [
    "AdaLoRAMethodConfig",
    "BottleneckMethodConfig",
    "BudgetConfig",
    "LoRA2MethodConfig",
    "LoRAMethodConfig",
    "PenaltyConfig",
    "RankConfig",
    "SoRAMethodConfig",
    "SubsetMethodConfig",
]


class ModelConfig(Section):
    """The backbone: one source of weights (hub_id, path or package), or random weights from `architecture`."""

    name: str
    model_type: Literal["bert", "roberta", "deberta-v2"]
    hub_id: str | None = None
    revision: str | None = None
    package: str | None = None
    path: str | None = None
    random_init: bool = False
    architecture: dict[str, Any]


class RecipeConfig(Section):
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

    def total_steps(self, train_examples: int) -> int:
        """T: optimizer steps of the whole run, from the real number of examples."""
        steps = self.epochs * -(-train_examples // self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


class DataConfig(Section):
    """Where the task's data comes from."""

    source: Literal["hub", "local", "demo"]
    dir: str | None = None


class TrackerConfig(Section):
    """Live logging besides the record."""

    name: Literal["none", "wandb", "tensorboard", "trackio"]
    project: str = "lora2-glue"


class RunConfig(Section):
    """All settings of one run."""

    model: ModelConfig
    task: str
    method: MethodConfig
    rank: RankConfig | None = None
    budget: BudgetConfig | None = None
    recipe: RecipeConfig
    data: DataConfig
    tracker: TrackerConfig
    seed: Annotated[int, Field(ge=0, lt=2**32, strict=True)]
    experiment: str
    results_dir: str
    output_dir: str
    num_workers: Natural
    force: bool

    @property
    def variant(self) -> str:
        """The method with its size, as the tables' rows name it: "lora2_k8", "bitfit"."""
        return variant_name(self.method, self.rank, self.budget)


# Settings that cannot change a number of the record.
IDENTITY_FREE = ("experiment", "results_dir", "output_dir", "num_workers", "force", "tracker")


def setting_id(cfg: RunConfig, data_fingerprint: str) -> str:
    """Name of a setting whatever its seed: a short hash of what can change the numbers."""
    return _short_hash(cfg, data_fingerprint, (*IDENTITY_FREE, "seed"))


def run_id(cfg: RunConfig, data_fingerprint: str) -> str:
    """Name of a run: readable parts and a short hash of every setting that can change the numbers, data included."""
    return f"{cfg.model.name}-{cfg.task}-{cfg.variant}-s{cfg.seed}-{_short_hash(cfg, data_fingerprint, IDENTITY_FREE)}"


def _short_hash(cfg: RunConfig, data_fingerprint: str, left_out: Iterable[str]) -> str:
    settings = cfg.model_dump(mode="json", exclude=set(left_out))
    settings["data"] = {"fingerprint": data_fingerprint}  # what the data is, not where it lies
    settings["task_version"] = TASKS[cfg.task].version
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def resolve(composed: Mapping[str, Any]) -> RunConfig:
    """The RunConfig of a composed dict.

    Raises:
        UserError: lists every field that is wrong: its name, what it got, what is allowed.
    """
    raw = copy.deepcopy(dict(composed))
    table = (raw.get("recipe") or {}).pop("tasks", None) or {}
    for path, value in {**table.get("all", {}), **table.get(raw.get("task"), {})}.items():
        _fill_null(raw, path.split("."), value)
    method = (raw.get("method") or {}).get("name")
    if method not in RANKED:
        raw["rank"] = None
    if method not in BUDGETED or (raw.get("budget") or {}).get("name") == "none":
        raw["budget"] = None
    else:
        raw["budget"].pop("name", None)
    problems: list[str] = []
    try:
        cfg = RunConfig.model_validate(raw)
    except ValidationError as error:
        problems = [_explain(item) for item in error.errors()]
        raise UserError(_report(problems + _task_problem(raw.get("task")))) from None
    problems = _task_problem(cfg.task) + _combination_problems(cfg)
    if problems:
        raise UserError(_report(problems))
    return cfg


def _fill_null(node: Any, path: list[str], value: Any) -> None:
    """Set node[path] where that setting exists and is null; a recipe's row never overrides what the user chose."""
    *parents, last = path
    for key in parents:
        node = node.get(key) if isinstance(node, dict) else None
    if isinstance(node, dict) and last in node and node[last] is None:
        node[last] = value


def _report(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"configuration: {problems[0]}"
    return "\n  ".join([f"{len(problems)} problems in the configuration:", *problems])


def _explain(item: Mapping[str, Any]) -> str:
    """One pydantic error in our words: field, what it got, what is allowed."""
    path = ".".join(str(part) for part in item["loc"] if part not in {"lora2", "full", "bitfit", "head"})
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key; allowed are the keys that --cfg job shows for this section"
    if item["type"] == "missing" or item["input"] is None:
        return f"{path}: no value, and the recipe has none for this task; set {path}=..."
    message = item["msg"][0].lower() + item["msg"][1:]
    return (
        f"{path}: got {item['input']!r}; {message.replace('input should be', 'allowed is').replace('input', 'value')}"
    )


def _task_problem(task: object) -> list[str]:
    return [] if task in TASKS else [f"task: got {task!r}; allowed are {', '.join(TASKS)}"]


def _combination_problems(cfg: RunConfig) -> list[str]:
    """Settings that are each right but cannot go together."""
    recipe, rank, budget, found = cfg.recipe, cfg.rank, cfg.budget, []
    if cfg.method.name == "lora2" and (rank is None or rank.k is None):
        found.append("rank.k: no value; LoRA² needs an outer width, for example rank=k8 or rank.k=8")
    if rank is not None and budget is not None and budget.target_rank > rank.r:
        found.append(
            f"budget.target_rank: got {budget.target_rank:g}, above the initial rank.r={rank.r}; "
            f"lower budget.target_rank, raise rank.r, or use budget=none"
        )
    if cfg.data.source == "local" and cfg.data.dir is None:
        found.append("data.dir: no value; data=local needs the folder that holds CoLA/, MRPC/ ...: data.dir=DIR")
    if cfg.model.path is not None and not Path(cfg.model.path).is_dir():
        found.append(f"model.path: {cfg.model.path!r} is not a folder; give one with config.json and model.safetensors")
    if (recipe.warmup_steps is None) == (recipe.warmup_ratio is None):
        found.append("recipe.warmup_steps, recipe.warmup_ratio: set exactly one of the two, the other null")
    if recipe.batch_size < recipe.accumulation:
        found.append(
            f"recipe.accumulation: got {recipe.accumulation}; a batch of {recipe.batch_size} has no more parts"
        )
    return found + [
        problem for name in ("results_dir", "output_dir") for problem in _unwritable(name, getattr(cfg, name))
    ]


def _unwritable(field: str, folder: str) -> list[str]:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".write-test-{id(path)}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        return [f"{field}: cannot write into {folder!r} ({error.strerror}); choose a folder you may write, {field}=DIR"]
    return []
