"""From a composed dict to a RunConfig, step by step, from describe_model to validate.

No step changes what it is given. Each notes where the values that it sets come from, so that
`scripts/train.py ... --resolved` can show the origin of every setting.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from lora2.common.errors import UserError
from lora2.config.architecture import described
from lora2.config.checks import combination_problems, schema_problems, task_problems
from lora2.config.methods import BUDGETED, RANKED
from lora2.config.schema import RunConfig
from lora2.config.tree import Tree, flatten, removed, replaced, value_at

EXAMPLES = {"rank": "k8", "budget": "cubic"}
DEFAULT = "default"  # of the typed tree: no file and nobody on the command line gives a value
NAMES = ("recipe.name", "method.name", "budget.name", "fidelity.name", "data.source", "model.name")


@dataclass(frozen=True)
class Draft:
    """Settings on their way to a RunConfig.

    Attributes:
        tree: the nested settings.
        origins: where a value comes from, by dotted path.
        problems: what is known to be wrong so far, a sentence each.
    """

    tree: Tree
    origins: Mapping[str, str]
    problems: tuple[str, ...] = ()

    def section(self, name: str) -> Tree:
        """Return a section; an empty one where there is none."""
        found = self.tree.get(name)
        return found if isinstance(found, dict) else {}

    def with_value(self, path: str, value: object, origin: str) -> "Draft":
        """Return a draft with one setting replaced; a setting that this run does not have stays absent."""
        return replace(self, tree=replaced(self.tree, path, value), origins={**self.origins, path: origin})

    def without(self, path: str) -> "Draft":
        """Return a draft without one setting, by its dotted path."""
        return replace(self, tree=removed(self.tree, path))


def resolve(composed: Tree) -> RunConfig:
    """Fill and validate a composed dict.

    Raises:
        UserError: lists every field that is wrong: its name, what it got, what is allowed.
    """
    return resolve_with_origins(composed, {})[0]


def resolve_with_origins(composed: Tree, origins: Mapping[str, str]) -> tuple[RunConfig, dict[str, str]]:
    """Fill and validate a composed dict; return with the RunConfig the origin of every setting by its dotted path.

    Args:
        composed: the settings, as `compose` or Hydra makes them.
        origins: where each of them comes from, as `compose_with_origins` tells.

    Raises:
        UserError: lists every field that is wrong: its name, what it got, what is allowed.
    """
    refuse_other_shapes(composed)
    draft = Draft(composed, origins)
    for step in (describe_model, name_own_task, fill_from_recipe, apply_fidelity, drop_unused):
        draft = step(draft)
    cfg = validate(draft)
    return cfg, {path: draft.origins.get(path, DEFAULT) for path in flatten(cfg.model_dump(mode="json"))}


def refuse_other_shapes(composed: Tree) -> None:
    """Refuse what the steps below could not read: a list for a name, a number for a section.

    Raises:
        UserError: names the setting.
    """
    for path in NAMES:
        value = value_at(composed, path)
        if value is not None and not isinstance(value, str):
            raise UserError(f"configuration: {path}: got {value!r}; it must be a word: {path}=NAME")
    rows = value_at(composed, "recipe.tasks")
    sections = {"recipe.tasks": rows, "fidelity.set": value_at(composed, "fidelity.set")}
    sections |= {f"recipe.tasks.{name}": row for name, row in rows.items()} if isinstance(rows, dict) else {}
    for path, value in sections.items():
        if value is not None and not isinstance(value, dict):
            raise UserError(
                f"configuration: {path}: got {value!r}; it holds settings by their names: {path}={{recipe.lr: 0.001}}"
            )


def describe_model(draft: Draft) -> Draft:
    """Fill in what the files of a model tell that no file of configs/model describes (model=hub).

    Raises:
        UserError: as described.
    """
    model = draft.section("model")
    if model.get("model_type", "") is not None or model.get("architecture") is not None:
        return draft
    for key, value in described(model).items():
        draft = draft.with_value(f"model.{key}", value, "config.json of the model")
    return draft


def name_own_task(draft: Draft) -> Draft:
    """Name the task of one's own files as data.name says."""
    data = draft.section("data")
    return draft.with_value("task", data.get("name"), "data.name") if data.get("source") == "files" else draft


def fill_from_recipe(draft: Draft) -> Draft:
    """Fill what is null from the recipe's rows; a row never overrides what the user chose."""
    recipe = draft.section("recipe")
    values = recipe_rows(recipe, draft.tree.get("task"), draft.section("method").get("name"))
    warmup_chosen = any(recipe.get(key) is not None for key in ("warmup_steps", "warmup_ratio"))  # one of the two
    filled = draft.without("recipe.tasks")
    for path, (value, row) in values.items():
        if value_at(draft.tree, path) is None and not (warmup_chosen and path.startswith("recipe.warmup_")):
            filled = filled.with_value(path, value, f"recipe {recipe.get('name')}, row {row}")
    return filled


def recipe_rows(recipe: Tree, task: object, method: object) -> dict[str, tuple[Any, str]]:
    """Return what a recipe's rows say of a task and a method, by dotted path: the value, and the row that has it.

    The rows are "all", "rte", "all.lora" and "rte.lora"; the later one wins.
    """
    table = recipe.get("tasks") or {}
    rows = ("all", f"{task}", f"all.{method}", f"{task}.{method}")
    return {path: (value, row) for row in rows for path, value in (table.get(row) or {}).items()}


def apply_fidelity(draft: Draft) -> Draft:
    """Put the values of fidelity.set in the place of whatever was chosen, and say so in the recipe's name."""
    fidelity = draft.section("fidelity")
    changed, name = draft.without("fidelity"), fidelity.get("name", "paper")
    for path, value in (fidelity.get("set") or {}).items():
        changed = changed.with_value(path, value, f"fidelity {name}")
    if name != "paper" and changed.section("recipe"):
        replayed = f"{changed.section('recipe').get('name')}-{name}"
        changed = changed.with_value("recipe.name", replayed, f"fidelity {name}")
    return changed


def drop_unused(draft: Draft) -> Draft:
    """Take away what the method has no use for, and note the sections that it needs and that are not there."""
    method = draft.section("method").get("name")
    kept = draft
    for name, users in (("rank", RANKED), ("budget", BUDGETED)):
        if method not in users:
            kept = kept.with_value(name, None, f"not used by {method}")
        elif not isinstance(kept.tree.get(name), dict):
            problem = f"{name}: no value; {method} needs it, for example {name}={EXAMPLES[name]}"
            kept = replace(kept, problems=(*kept.problems, problem))
    if method != "lora2":  # so that rank=k1 and rank=k8 name the same run of a method without an outer width
        kept = kept.with_value("rank.k", None, f"not used by {method}")
    if kept.section("budget").get("name") == "none":
        return kept.with_value("budget", None, kept.origins.get("budget.name", DEFAULT))
    return kept.without("budget.name")


def validate(draft: Draft) -> RunConfig:
    """Make the typed tree.

    Raises:
        UserError: lists every problem at once.
    """
    unknown_task = task_problems(draft.tree.get("task"), draft.section("data").get("source"))
    problems = [*unknown_task, *draft.problems, *combination_problems(flatten(draft.tree))]
    try:
        cfg = RunConfig.model_validate(draft.tree)
    except ValidationError as error:
        problems = schema_problems(error, task_known=not unknown_task) + problems
    if len(problems) == 1:
        raise UserError(f"configuration: {problems[0]}")
    if problems:
        raise UserError("\n  ".join([f"{len(problems)} problems in the configuration:", *problems]))
    return cfg


def listing(cfg: RunConfig, origins: Mapping[str, str]) -> str:
    """Lay out every setting with its value and its origin, a line each."""
    values = {path: json.dumps(x, ensure_ascii=False) for path, x in flatten(cfg.model_dump(mode="json")).items()}
    path_width, value_width = max(map(len, values)), max(map(len, values.values()))
    return "\n".join(f"{path:{path_width}}  {text:{value_width}}  {origins[path]}" for path, text in values.items())
