"""Reading the yaml files of results/paper: strict mappings, and errors that name the file and the field."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lora2.common.errors import UserError


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML lets a repeated key silently win over the first one; in a table of numbers that is a lost row, so here it
    is an error.
    """


def _unique_mapping(loader: _UniqueKeyLoader, node: yaml.MappingNode) -> dict[str, Any]:
    keys = [str(loader.construct_object(key)) for key, _ in node.value]
    repeated = sorted({key for key in keys if keys.count(key) > 1})
    if repeated:
        raise yaml.constructor.ConstructorError(None, None, f"repeated key: {', '.join(repeated)}", node.start_mark)
    return {str(key): value for key, value in loader.construct_mapping(node, deep=True).items()}


_UniqueKeyLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in one yaml file.

    Raises:
        UserError: the file is missing, unreadable, not a mapping, or repeats a key.
    """
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeyLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(
            f"{path}: cannot read the paper's numbers: {' '.join(str(error).split())}; it must be a yaml mapping: "
            f"restore the file, git checkout -- {path}"
        ) from error
    if not isinstance(data, dict):
        raise UserError(f"{path}: expected a mapping, got {type(data).__name__}")
    return data


def number(path: Path, field: str, value: Any) -> float:
    """Return a number as float; raise UserError for text and for true or false."""
    require(
        isinstance(value, int | float) and not isinstance(value, bool),
        path,
        f"{field}: expected a number, got {value!r}",
    )
    return float(value)


def check_keys(path: Path, data: Mapping[str, Any], allowed: set[str], needed: set[str]) -> None:
    """Raise UserError for a key that is not `allowed` (a slip would lose a number), or one `needed` and missing."""
    unknown, missing = sorted(set(data) - allowed), sorted(needed - set(data))
    require(not unknown, path, f"unknown key: {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}")
    require(not missing, path, f"missing key: {', '.join(missing)}")


def require(condition: bool, path: Path, problem: str) -> None:
    """Raise UserError, naming the file, unless `condition` holds."""
    if not condition:
        raise UserError(f"{path}: {problem}")
