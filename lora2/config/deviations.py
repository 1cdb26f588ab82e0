"""Settings that are not those of the recipe that a run is named after.

A table puts runs of one recipe into one row, so a run that changed the recipe and kept its name must be told from the
others. A recipe by another name (`recipe.name=mine`) is whatever its run does.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lora2.config.compose import choices, options, read, read_option, read_whole_option
from lora2.config.resolve import Draft, fill_from_recipe, recipe_rows
from lora2.config.schema import RunConfig
from lora2.config.tree import Tree, flatten
from lora2.config.unused import without_effect

Deviations = Mapping[str, tuple[object, object]]  # (what the recipe says, what the run does) by dotted path
NO_DEVIATION: Deviations = {}
# A batch in parts and another way to the same product change no result; max_steps is told by itself; seeds repeat.
FREE = {"recipe.name", "recipe.tasks", "recipe.accumulation", "method.impl", "recipe.max_steps", "seed"}
# What the name of a method says, so that a table shows it in another row (config/methods.py: variant_name).
IN_THE_NAME = {"rank.k", "method.bottleneck", "method.targets", "method.penalty.terms", "budget.score", "budget.name"}
SIZE_IN_THE_NAME = {"lora": "rank.r", "sora": "rank.r", "adalora": "budget.target_rank"}
SAID_BY_TRAIN_YAML = {"selection": "dev", "model.keep_head": False}


def deviations(composed: Tree, cfg: RunConfig, configs: Path) -> Deviations:
    """List what a run does otherwise than its recipe says.

    The recipe's file and its rows say it, and for what they leave open the files of the method and of the budget; for
    a method with a file in configs/row, such as adalora_r8, that file has the last word.

    Args:
        composed: the settings before a recipe's rows fill them.
        cfg: what they became.
        configs: the folder of the groups.
    """
    name = composed["recipe"]["name"]
    if name in options("recipe", configs):
        said = _said(name, composed, cfg, configs)
    else:
        said = _said_by_experiment(name, composed, cfg, configs)
    done = flatten(fill_from_recipe(Draft(composed, {})).tree)  # before fidelity, which has a name of its own
    known = flatten(cfg.model_dump(mode="json")).keys() & done.keys() & said.keys()
    left_out = FREE | IN_THE_NAME | {SIZE_IN_THE_NAME.get(cfg.method.name, "")} | without_effect(cfg).keys()
    return {path: (said[path], done[path]) for path in sorted(known - left_out) if said[path] != done[path]}


def deviation_notes(name: str, found: Deviations) -> list[str]:
    """Say what was changed in a note, or nothing."""
    changes = ", ".join(f"{path} {done} instead of {said}" for path, (said, done) in found.items())
    return [f"recipe {name}, changed: {changes}; recipe.name=NAME gives it a name of its own"] if found else []


def has_fewer_epochs(found: Deviations) -> bool:
    """Return whether the run ends before the recipe's last epoch."""
    said, done = found.get("recipe.epochs", (0, 0))
    return isinstance(said, int) and isinstance(done, int) and done < said


def _said_by_experiment(name: str, composed: Tree, cfg: RunConfig, configs: Path) -> dict[str, Any]:
    """What the recipe holds that an experiment has made of a file and given a name; nothing for a name of the user's.

    It is another one if `recipe=` on the command line puts another file below it.
    """
    experiment = composed.get("experiment")
    if experiment not in options("experiment", configs):
        return {}
    file = read_option("experiment", experiment, configs)
    own = file.get("recipe") or {}
    if not fnmatchcase(name, re.sub(r"\$\{.*?\}", "*", own.get("name", ""))):
        return {}
    usual, chosen = (choices(each.get("defaults", [])) for each in (read(configs / "train.yaml"), file))
    below = (usual | chosen)["recipe"]
    said = _said(below, composed, cfg, configs) | flatten({"recipe": own})
    return {path: value for path, value in said.items() if path.startswith("recipe.")}


def _said(name: str, composed: Tree, cfg: RunConfig, configs: Path) -> dict[str, Any]:
    """Every value that the files give, by dotted path; the later file wins where it says something."""
    recipe, method, budget = read_whole_option("recipe", name, configs), cfg.method.name, composed.get("budget") or {}
    said = dict(SAID_BY_TRAIN_YAML)
    said |= flatten({"recipe": recipe, "method": read_option("method", method, configs)})
    said |= flatten({"budget": read_option("budget", budget.get("name"), configs)})
    said |= {path: value for path, (value, _) in recipe_rows(recipe, cfg.task, method).items()}
    if cfg.variant in options("row", configs):
        row = read_option("row", cfg.variant, configs)
        said |= flatten({key: section for key, section in row.items() if key != "defaults"})
    return said
