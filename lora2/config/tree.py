"""Nested settings as plain dicts, addressed by dotted paths."""

from collections.abc import Mapping
from typing import Any

from lora2.common.errors import UserError

Tree = Mapping[str, Any]


def flatten(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """List every setting of a tree by its dotted path."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def merge(into: dict[str, Any], layer: Tree) -> None:
    """Put a layer over a tree, section by section."""
    for key, value in layer.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge(into[key], value)
        else:
            into[key] = value


def value_at(tree: Tree, path: str) -> Any:
    """Return a setting, or None where there is no such path."""
    node: Any = tree
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def has_value(tree: dict[str, Any], path: str) -> bool:
    """Return whether there is a setting of this path, be it null."""
    node, key = _parent(tree, path)
    return node is not None and key in node


def set_value(tree: dict[str, Any], path: str, value: Any, *, add: bool = False) -> None:
    """Set a key that exists, or with `add` one that does not, and its sections; a section over a section is merged.

    As Hydra does.

    Raises:
        UserError: there is no such key.
    """
    *parents, key = path.split(".")
    node: Any = tree
    for parent in parents:
        if add and isinstance(node, dict) and node.get(parent) is None:
            node[parent] = {}
        node = node.get(parent) if isinstance(node, dict) else None
    if not isinstance(node, dict) or (key not in node and not add):
        raise UserError(f"{path}: no such setting here; choose one of those that scripts/train.py --cfg job shows")
    if isinstance(value, dict) and isinstance(node.get(key), dict):
        merge(node[key], value)
    else:
        node[key] = value


def delete_value(tree: dict[str, Any], path: str) -> None:
    """Take a key away that exists.

    Raises:
        UserError: there is no such key.
    """
    node, key = _parent(tree, path)
    if node is None or key not in node:
        raise UserError(f"~{path}: no such setting here; delete one of those that scripts/train.py --cfg job shows")
    del node[key]


def replaced(tree: Tree, path: str, value: object) -> Tree:
    """Copy a tree with another value of a setting that exists; one that does not stays absent."""
    key, _, rest = path.partition(".")
    if key not in tree:
        return tree
    if not rest:
        return {**tree, key: value}
    return {**tree, key: replaced(tree[key], rest, value)} if isinstance(tree[key], dict) else tree


def removed(tree: Tree, path: str) -> Tree:
    """Copy a tree without a setting."""
    key, _, rest = path.partition(".")
    if rest and isinstance(tree.get(key), dict):
        return {**tree, key: removed(tree[key], rest)}
    return {name: value for name, value in tree.items() if rest or name != key}


def _parent(tree: dict[str, Any], path: str) -> tuple[dict[str, Any] | None, str]:
    """The section that holds a path's last key; None where there is none."""
    *parents, key = path.split(".")
    node: Any = value_at(tree, ".".join(parents)) if parents else tree
    return (node if isinstance(node, dict) else None), key
