"""configs/*.yaml composed without Hydra, in milliseconds: a sweep of hundreds of jobs is known before it starts.

Only what the files of this project use: a defaults list of groups, `override /group: option` in the two files of global
package (experiment, row), `group=option` and `key=value`. The folder is given by the caller. scripts/train.py composes
with Hydra itself; a test holds that both give the same for every job of every experiment.
"""

import copy
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from lora2.common.errors import UserError

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
    pairs = [pair for item in train.pop("defaults") if item != "_self_" for pair in item.items()]
    groups = {group: option for group, option in pairs if not group.startswith("override ")}  # those are Hydra's own
    chosen, values = _sort(overrides, groups)
    chosen_by = dict.fromkeys(chosen, COMMAND_LINE)
    global_layers = []
    for group in GLOBAL:
        name, body = f"{group}/{chosen.get(group)}.yaml", read_option(group, chosen.get(group), configs)
        for other, option in _overridden(body.pop("defaults", [])).items():
            chosen.setdefault(other, option)  # what was said first stands
            chosen_by.setdefault(other, name)
        global_layers.append((name, body))
    layers = []
    for group in [name for name in groups if name not in GLOBAL]:
        option = chosen.get(group, groups[group])
        origin = f"{group}/{option}.yaml ({chosen_by.get(group, 'default')})"
        layers.append((origin, {group: read_option(group, option, configs)}))
    return _stacked([*layers, ("train.yaml (default)", train), *global_layers], values)


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
        raise UserError(f"{group}: got {option!r}; allowed are {', '.join(options(group, configs))}: {group}=...")
    return read(configs / group / f"{option}.yaml")


def read(path: Path) -> dict[str, Any]:
    """Read a yaml file as a dict of one's own."""
    return copy.deepcopy(_parsed(path))


def parse_value(path: str, text: str) -> Any:
    """Read the value of an override as Hydra does; unlike yaml 1.1 it takes 1e-3 for a number.

    Raises:
        UserError: no value, for example an open bracket.
    """
    try:
        value = yaml.load(text, LOADER)
    except yaml.YAMLError:
        raise UserError(f"{path}: got {text!r}; allowed are numbers, words and lists: {path}=...") from None
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put a layer over a tree, section by section."""
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def set_value(tree: dict[str, Any], path: str, value: Any) -> None:
    """Set a key that exists.

    Raises:
        UserError: there is no such key.
    """
    *parents, key = path.split(".")
    node: Any = tree
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or key not in node:
        raise UserError(f"{path}: no such setting here; allowed are those that scripts/train.py --cfg job shows")
    node[key] = value


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """List every setting of a tree by its dotted path."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _stacked(
    layers: Iterable[tuple[str, dict[str, Any]]], values: Iterable[tuple[str, str]]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Layers over each other, then the values of the command line; with the origin of each value by dotted path."""
    composed: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        merge(composed, layer)
        origins |= dict.fromkeys(flatten(layer), origin)
    composed.pop("hydra", None)
    for path, text in values:
        set_value(composed, path, parse_value(path, text))
        origins[path] = COMMAND_LINE
    return composed, origins


@functools.cache
def _parsed(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(encoding="utf-8"), LOADER) or {}


def _sort(overrides: Iterable[str], groups: Mapping[str, Any]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Group choices, and values by path in their order."""
    chosen: dict[str, str] = {}
    values = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path or path[0] in "+~":
            raise UserError(f"{override}: allowed are group=option and key=value, for example task=rte seed=1")
        if path in groups:
            chosen[path] = text
        else:
            values.append((path, text))
    return chosen, values


def _overridden(defaults: Iterable[Any]) -> dict[str, str]:
    """`override /group: option` entries of a file's defaults list."""
    pairs = (pair for item in defaults if item != "_self_" for pair in item.items())
    return {key.removeprefix("override /"): value for key, value in pairs}
