"""Cache arrays on disk: one safetensors file for each key, whole or not there, with a checksum."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lora2.common.files import write_whole

Tensors = dict[str, npt.NDArray[Any]]


def digest(content: bytes) -> str:
    """Return the SHA-256 as 64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def load(path: Path, key: Mapping[str, str]) -> Tensors | None:
    """Return the arrays of a whole file that `store` made for `key`; None for a missing, damaged or foreign one."""
    try:
        with safe_open(path, framework="np") as file:
            made_for = (file.metadata() or {}).get("made_for")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError):
        return None
    return tensors if made_for == _stamp(key, tensors) else None


def store(path: Path, tensors: Tensors, key: Mapping[str, str]) -> None:
    """Write the file so that other processes see the whole one or none.

    Args:
        path: of the file.
        tensors: arrays by name.
        key: what they were made for; `load` compares it.

    Raises:
        StorageError: the disk does not take it.
    """
    write_whole(path, save(tensors, metadata={"made_for": _stamp(key, tensors)}))


def _stamp(key: Mapping[str, str], tensors: Tensors) -> str:
    """Return key and checksum in one string, because safetensors writes several metadata entries in no fixed order."""
    return json.dumps({**key, "checksum": _checksum(tensors)}, sort_keys=True)


def _checksum(tensors: Tensors) -> str:
    """Return the SHA-256 over names, types, shapes and bytes; safetensors itself would not notice a flipped bit."""
    running = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        running.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        running.update(array.tobytes())
    return running.hexdigest()
