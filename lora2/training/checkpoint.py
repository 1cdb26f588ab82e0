"""Checkpoints that survive being killed at any moment: whole or absent, verified when read.

A checkpoint is a folder step-00000123/ with tensors.safetensors, state.json and manifest.json (the run that it belongs
to, and the SHA-256 of the two others). It is written under another name, flushed to disk and renamed.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lora2.common.files import flush_folder, storing, write_through

PREFIX = "step-"
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
FORMAT = 2  # of what state.capture returns; a checkpoint of another format is passed over
KEPT = 2  # the newest, and the one before it in case the newest is damaged
DAMAGE = (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError)


@dataclass(frozen=True)
class Checkpoint:
    """Everything needed to go on after `step` optimizer steps.

    Attributes:
        tensors: by name.
        state: what is no tensor, as plain JSON.
    """

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoints of one run; those of another run, copied here by mistake, are passed over."""

    path: Path
    run_id: str

    def save(self, checkpoint: Checkpoint) -> None:
        """Write `checkpoint`, then remove what is older than the one before it, and leftovers of killed writers.

        Raises:
            StorageError: the disk does not take it; what was there before is untouched.
        """
        contents = {
            TENSORS: save({name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}),
            STATE: json.dumps(checkpoint.state, sort_keys=True).encode(),
        }
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
        contents[MANIFEST] = json.dumps({"format": FORMAT, "run": self.run_id, "sha256": sums}).encode()
        final = self.path / f"{PREFIX}{checkpoint.step:08d}"
        with storing(final):
            self._write(final, contents)
        older = [path for path in self._all() if path < final][-(KEPT - 1) :]
        for path in self.path.iterdir():
            if path not in (final, *older):
                shutil.rmtree(path, ignore_errors=True)

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """Return the newest whole checkpoint, or None; and a sentence about each one that had to be passed over."""
        damaged: list[str] = []
        for path in reversed(self._all()):
            try:
                return self._read(path), _report(damaged, f"the run goes on from {path.name}")
            except DAMAGE as error:
                damaged.append(f"checkpoint {path.name} is not used: {_reason(error)}")
        return None, _report(damaged, "none is left, the run starts anew")

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, final: Path, contents: dict[str, bytes]) -> None:
        temporary = self.path / f".{final.name}.tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        try:
            for name, data in contents.items():
                write_through(temporary / name, data)
            flush_folder(temporary)
            shutil.rmtree(final, ignore_errors=True)  # a damaged one
            temporary.rename(final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        flush_folder(self.path)

    def _read(self, path: Path) -> Checkpoint:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if manifest["run"] != self.run_id:
            raise ValueError(f"it is of another run, {manifest['run']}")
        if manifest["format"] != FORMAT:
            raise ValueError(f"it has format {manifest['format']}, this version reads {FORMAT}")
        contents = {name: (path / name).read_bytes() for name in (TENSORS, STATE)}
        for name, data in contents.items():
            if hashlib.sha256(data).hexdigest() != manifest["sha256"][name]:
                raise ValueError(f"{name} does not match its checksum")
        return Checkpoint(int(path.name.removeprefix(PREFIX)), load(contents[TENSORS]), json.loads(contents[STATE]))

    def _all(self) -> list[Path]:
        """Return the finished checkpoints, oldest first."""
        return sorted(self.path.glob(f"{PREFIX}*"))


def _report(damaged: list[str], outcome: str) -> list[str]:
    return [f"{sentence}; {outcome}" for sentence in damaged]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(str(error.filename)).name} cannot be read ({error.strerror})"
    if isinstance(error, SafetensorError):
        return f"{TENSORS} holds no tensors ({error})"
    return str(error) if type(error) is ValueError else f"{MANIFEST} is damaged ({type(error).__name__})"
