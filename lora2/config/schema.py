"""The typed tree of one run's settings; it imports neither torch nor Hydra.

`resolve` takes the plain dict that Hydra composed, fills what was left null from the recipe's row for the task,
validates everything and reports every problem at once.
"""

import copy
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from lora2.common.errors import UserError
from lora2.config.checks import combination_problems
from lora2.config.methods import (
    BUDGETED,
    RANKED,
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
    Section,
    variant_name,
)
from lora2.glue.tasks import TASKS

__all__ = ["BudgetConfig", "RunConfig", "resolve", "run_id", "setting_id"]


class ModelConfig(Section):
    """The backbone: one source of weights (hub_id, path or package), or random weights from `architecture`."""

    name: Name
    model_type: Literal["bert", "roberta", "deberta-v2", "mpnet"]
    hub_id: str | None = None
    revision: str | None = None
    package: Module | None = None
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

    @property
    def padded_to(self) -> int | None:
        """The length every batch is padded to, or None for the longest of each batch."""
        return self.max_length if self.padding == "max_length" else None

    def total_steps(self, train_examples: int) -> int:
        """T: optimizer steps of the whole run, from the real number of examples."""
        steps = self.epochs * math.ceil(train_examples / self.batch_size)
        return steps if self.max_steps is None else min(steps, self.max_steps)


class DataConfig(Section):
    """Where the task's data comes from."""

    source: Literal["hub", "local", "demo"]
    dir: str | None = None


class CheckpointConfig(Section):
    """How often a run is saved, so that it can go on after being killed."""

    every_steps: Positive | None = None
    every_minutes: Rate = 10.0


class TrackerConfig(Section):
    """Live logging besides the record."""

    name: Literal["none", "wandb", "tensorboard", "trackio"]
    project: Name = "lora2-glue"


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
    selection: Literal["dev", "heldout"] = "dev"
    checkpoint: CheckpointConfig = CheckpointConfig()
    experiment: str
    results_dir: str
    output_dir: str
    num_workers: Natural  # processes that make batches ahead of training; changes no number
    force: bool

    @property
    def variant(self) -> str:
        """The method with its size, as the tables' rows name it: "lora2_k8", "bitfit"."""
        return variant_name(self.method, self.rank, self.budget)


FILLED = ("recipe", "rank", "method", "budget", "seed")  # what a recipe's row may fill
NO_ROW = ", and the recipe has none for this task"
EXAMPLES = {"rank": "k8", "budget": "cubic"}
# Settings that cannot change a number of the record.
IDENTITY_FREE = ("experiment", "results_dir", "output_dir", "num_workers", "force", "tracker", "checkpoint")


def setting_id(cfg: RunConfig, data_fingerprint: str) -> str:
    """Name of a setting whatever its seed: a short hash of what can change the numbers."""
    return _short_hash(cfg, data_fingerprint, (*IDENTITY_FREE, "seed"))


def timed_id(run: str) -> str:
    """Name of the record of a run whose steps are only timed; the run itself may have one too."""
    return f"{run}-timed"


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
    method = (raw.get("method") or {}).get("name")
    for path, value in _recipe_row(raw, method).items():
        _fill_null(raw, path, value)
    _replay(raw)
    problems = _task_problem(raw.get("task")) + _without_sections(raw, method)
    problems += combination_problems(_flat(raw))
    try:
        cfg = RunConfig.model_validate(raw)
    except ValidationError as error:
        problems = _explained(error, task_known=not _task_problem(raw.get("task"))) + problems
    if problems:
        raise UserError(_report(problems))
    return cfg


def _without_sections(raw: dict[str, Any], method: str | None) -> list[str]:
    """Take away what the method has no use for; the problems are sections that it needs and that are not there."""
    lost = []
    for section, users in (("rank", RANKED), ("budget", BUDGETED)):
        if method not in users:
            raw[section] = None
        elif not isinstance(raw.get(section), dict):
            lost.append(f"{section}: no value; {method} needs it, for example {section}={EXAMPLES[section]}")
    if isinstance(raw.get("rank"), dict) and method != "lora2":
        raw["rank"]["k"] = None  # so that rank=k1 and rank=k8 name the same run of a method without an outer width
    if isinstance(raw.get("budget"), dict) and raw["budget"].pop("name", None) == "none":
        raw["budget"] = None
    return lost


def _recipe_row(raw: dict[str, Any], method: str | None) -> dict[str, Any]:
    """The recipe's values by dotted path, from the rows "all", "rte", "all.lora" and "rte.lora"; the later one wins."""
    recipe, task = raw.get("recipe") or {}, raw.get("task")
    table = recipe.pop("tasks", None) or {}
    rows = ("all", f"{task}", f"all.{method}", f"{task}.{method}")
    merged = {path: value for row in rows for path, value in table.get(row, {}).items()}
    if any(recipe.get(key) is not None for key in ("warmup_steps", "warmup_ratio")):  # the user chose one of the two
        return {path: value for path, value in merged.items() if not path.startswith("recipe.warmup_")}
    return merged


def _replay(raw: dict[str, Any]) -> None:
    """Put the values of fidelity.set in the place of whatever was chosen, and say so in the recipe's name."""
    fidelity = raw.pop("fidelity", None) or {"name": "paper", "set": {}}
    for path, value in fidelity["set"].items():
        node, key = _slot(raw, path)
        if key in node:
            node[key] = value
    if fidelity["name"] != "paper" and raw.get("recipe"):
        raw["recipe"]["name"] = f"{raw['recipe']['name']}-{fidelity['name']}"


def _fill_null(raw: dict[str, Any], path: str, value: Any) -> None:
    """Set a setting that exists and is null; a recipe's row never overrides what the user chose."""
    node, key = _slot(raw, path)
    if key in node and node[key] is None:
        node[key] = value


def _slot(raw: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The section that a dotted path ends in (empty if this run has none) and the key within it."""
    *parents, key = path.split(".")
    node: Any = raw
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    return (node if isinstance(node, dict) else {}), key


def _report(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"configuration: {problems[0]}"
    return "\n  ".join([f"{len(problems)} problems in the configuration:", *problems])


def _explained(error: ValidationError, *, task_known: bool) -> list[str]:
    """Each of pydantic's errors in our words; without a task, what no recipe could fill is not the user's fault."""
    found = [_explain(item) for item in error.errors() if item["loc"] != ("task",)]
    return [text for text in found if task_known or NO_ROW not in text]


def _explain(item: Mapping[str, Any]) -> str:
    """One pydantic error in our words: field, what it got, what is allowed, how to set it."""
    loc = [str(part) for part in item["loc"]]
    if loc[0] == "method":
        del loc[1:2]  # the union's tag, the method's name: not a key of the section
    path = ".".join(loc)
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key; allowed are the keys that --cfg job shows for this section"
    if item["type"] == "missing" or item["input"] is None:
        recipe = NO_ROW if loc[0] in FILLED else ""
        return f"{path}: no value{recipe}; set {path}=..."
    if item["type"] == "string_pattern_mismatch":
        return f"{path}: got {item['input']!r}; allowed is a name of letters, digits and . _ -: {path}=NAME"
    message = item["msg"][0].lower() + item["msg"][1:]
    allowed = message.replace("input should be", "allowed is").replace("input", "value")
    key = ".".join(part for part in loc if not part.isdigit())  # of a list, the whole is set
    return f"{path}: got {item['input']!r}; {allowed}: {key}=..."


def _task_problem(task: object) -> list[str]:
    if isinstance(task, str) and task in TASKS:
        return []
    return [f"task: got {task!r}; allowed are {', '.join(TASKS)}: for example task=rte"]


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted path."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
