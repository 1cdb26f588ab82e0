"""configs/*.yaml composed without Hydra, in milliseconds: a sweep of hundreds of jobs is known before it starts.

Only what the files of this project use: a defaults list of groups, and `override /group: option` in the two files of
global package (experiment, row), and in a file of any other group the name of the one that it is built on (`- authors`,
before `- _self_`). The folder is given by the caller. Command lines are read by Hydra's parser
(overrides.py). scripts/train.py composes with Hydra itself; a test holds that both give the same for every job of every
experiment.
"""

import copy
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lora2.common.errors import UserError
from lora2.config.overrides import Setting, parse, resolve_interpolations
from lora2.config.tree import delete_value, flatten, has_value, merge, set_value

GLOBAL = ("experiment", "row")  # groups whose files speak about the whole tree
COMMAND_LINE = "command line"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def compose(overrides: Iterable[str], configs: Path) -> dict[str, Any]:
    """Compose the plain dict that Hydra makes of train.yaml and these overrides.

    Args:
        overrides: group=option and key=value, as on a command line.
        configs: the folder that holds train.yaml and the groups.

    Raises:
        UserError: not of the form key=value, or no such option or key.
    """
    return compose_with_origins(overrides, configs)[0]


def compose_with_origins(overrides: Iterable[str], configs: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Compose as `compose` does, and return with the dict the origin of each of its values by dotted path.

    Raises:
        UserError: not of the form key=value, or no such option or key.
    """
    train = read(configs / "train.yaml")
    usual = choices(train.pop("defaults"))
    groups = {group: option for group, option in usual.items() if not group.startswith("override ")}  # Hydra's own
    chosen, settings = _sort(overrides, groups, configs)
    chosen_by = dict.fromkeys(chosen, COMMAND_LINE)
    global_layers = []
    for group in GLOBAL:
        name, body = f"{group}/{chosen.get(group)}.yaml", read_option(group, chosen.get(group), configs)
        for other, option in choices(body.pop("defaults", [])).items():
            chosen.setdefault(other, option)  # what was said first stands
            chosen_by.setdefault(other, name)
        global_layers.append((name, body))
    layers: list[tuple[str, dict[str, Any]]] = []
    for group in [name for name in groups if name not in GLOBAL]:
        layers += _group_layers(group, chosen.get(group, groups[group]), chosen_by.get(group, "default"), configs)
    return _stacked([*layers, ("train.yaml (default)", train), *global_layers], settings)


def options(group: str, configs: Path) -> list[str]:
    """List the names of a group's files."""
    return sorted(path.stem for path in (configs / group).glob("*.yaml"))


def read_option(group: str, option: str | None, configs: Path) -> dict[str, Any]:
    """Read one file of a group; nothing for null.

    Raises:
        UserError: no such file; the message lists those that there are.
    """
    if option in (None, "null"):
        return {}
    if option not in options(group, configs):
        raise UserError(f"{group}: got {option!r}; choose one of {', '.join(options(group, configs))}: {group}=...")
    return read(configs / group / f"{option}.yaml")


def read_whole_option(group: str, option: str | None, configs: Path) -> dict[str, Any]:
    """Read one file of a group together with those of the group that it is built on.

    Raises:
        UserError: no such file; the message lists those that there are.
    """
    whole: dict[str, Any] = {}
    for _, layer in _group_layers(group, option, "", configs):
        merge(whole, layer[group])
    return whole


def read(path: Path) -> dict[str, Any]:
    """Read a yaml file as a dict of one's own."""
    return copy.deepcopy(_parsed(path))


def _group_layers(group: str, option: str | None, why: str, configs: Path) -> list[tuple[str, dict[str, Any]]]:
    """A group's chosen file, over those of the group that it is built on, each with its origin."""
    body = read_option(group, option, configs)
    bases = [item for item in body.pop("defaults", []) if item != "_self_"]
    below = [layer for base in bases for layer in _group_layers(group, base, why, configs)]
    return [*below, (f"{group}/{option}.yaml ({why})", {group: body})]


def _stacked(
    layers: Iterable[tuple[str, dict[str, Any]]], settings: Iterable[Setting]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Layers over each other, then the command line; with the origin of each value by dotted path."""
    composed: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        merge(composed, layer)
        origins |= dict.fromkeys(flatten(layer), origin)
    composed.pop("hydra", None)
    for setting in settings:
        if setting.kind == "delete":
            delete_value(composed, setting.key)
        else:
            if setting.kind == "add" and has_value(composed, setting.key):
                raise UserError(f"{setting.key}: there is one already; without the plus sign: {setting.key}=...")
            set_value(composed, setting.key, setting.value, add=setting.kind != "change")
            origins[setting.key] = COMMAND_LINE
    return resolve_interpolations(composed), origins


@functools.cache
def _parsed(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), LOADER) or {}


def _sort(overrides: Iterable[str], groups: Mapping[str, Any], configs: Path) -> tuple[dict[str, str], list[Setting]]:
    """Group choices, and the other settings in their order."""
    chosen: dict[str, str] = {}
    others = []
    for override in overrides:
        setting = parse(override, configs)
        if setting.sweeps:
            raise UserError(f"{override}: got several values; give one, or sweep with -m: {setting.key}=VALUE")
        if setting.key in GLOBAL and setting.kind == "delete":
            chosen.pop(setting.key, None)
        elif setting.key in groups and setting.kind == "change":
            chosen[setting.key] = setting.value
        else:
            others.append(setting)
    return chosen, others


def choices(defaults: Iterable[Any]) -> dict[str, str]:
    """Read the options that a file's defaults list chooses, by group: `group: option`, `override /group: option`."""
    pairs = (pair for item in defaults if item != "_self_" for pair in item.items())
    return {key.removeprefix("override /"): value for key, value in pairs}
