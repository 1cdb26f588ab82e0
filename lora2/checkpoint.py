"""Checkpoints that survive being killed at any moment: whole or absent, verified when read.

A checkpoint is a folder step-00000123/ with tensors.safetensors, state.json and sums.json (SHA-256 of the two). It is
written under another name, flushed to disk and renamed; the one before it is removed only after that.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

PREFIX = "step-"
TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "sums.json"


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on after `step` optimizer steps; `state` is plain JSON."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint`, then remove the older ones."""
    final = folder / f"{PREFIX}{checkpoint.step:08d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    contents = {
        TENSORS: save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}),
        STATE: json.dumps(checkpoint.state, sort_keys=True).encode(),
    }
    contents[SUMS] = json.dumps({name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}).encode()
    try:
        for name, data in contents.items():
            _write_through(temporary / name, data)
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        _flush_folder(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in _all(folder):
        if old != final:
            shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint, or None; and a sentence about each damaged one that was passed over."""
    damaged: list[str] = []
    for path in reversed(_all(folder)):
        try:
            return _read(path), damaged
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            damaged.append(f"checkpoint {path.name} is damaged ({error}); going on from an earlier one or the start")
    return None, damaged


def _read(path: Path) -> Checkpoint:
    sums = json.loads((path / SUMS).read_text())
    contents = {name: (path / name).read_bytes() for name in (TENSORS, STATE)}
    for name, data in contents.items():
        if hashlib.sha256(data).hexdigest() != sums[name]:
            raise ValueError(f"{name} does not match its checksum")
    return Checkpoint(int(path.name.removeprefix(PREFIX)), load(contents[TENSORS]), json.loads(contents[STATE]))


def _all(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(folder.glob(f"{PREFIX}*"))


def _write_through(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
