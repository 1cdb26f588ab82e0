"""Tokens of a task's examples, known without torch: measured once on data at hand, else from stored quantiles.

A measurement is a small JSON file in output_dir/lengths/, made by a process of its own (`measure`): tokenising loads
transformers and torch, which a listing must not wait for a second time. Legend: n examples.
"""

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from lora2.common.errors import UserError
from lora2.config.schema import RunConfig
from lora2.glue.batches import MEGA_BATCHES
from lora2.glue.tasks import TASKS

UNKNOWN = "unknown"
STORED = Path(__file__).with_name("lengths.yaml")

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lengths:
    """Tokens per example, truncated, of the train split (n,) and of all dev splits together (n',)."""

    train: Counts
    dev: Counts
    source: str

    @functools.cache  # noqa: B019 (there are a few dozen, for the life of a listing)
    def train_epoch(self, batch_size: int, grouped: bool, width: int | None) -> tuple[int, int]:
        """`padded` of one pass over the train split."""
        return padded(self.train, batch_size, grouped=grouped, width=width)

    @functools.cache  # noqa: B019
    def dev_epoch(self, batch_size: int, width: int | None) -> tuple[int, int]:
        """`padded` of one evaluation, which sorts by length."""
        return padded(np.sort(self.dev), batch_size, grouped=True, width=width)


def lengths(cfg: RunConfig) -> Lengths:
    """Find what is known of a run's data; source: "measured here", or "measured" or "estimate" of the stored file.

    A task of one's own files that was not measured is UNKNOWN, and counts as one example.
    """
    path = measured_path(cfg)
    if path.is_file():
        return _measured(path)
    if cfg.task not in TASKS:
        return Lengths(np.full(1, cfg.recipe.max_length), np.full(1, cfg.recipe.max_length), UNKNOWN)
    return stored(cfg.task, cfg.recipe.max_length)


@functools.cache
def stored(task: str, max_length: int) -> Lengths:
    """Take lengths at evenly spaced points of the stored distribution, as many as the official splits have rows."""
    data = _stored_file()
    spec, entry = TASKS[task], data["tasks"][task]

    def spread(n: int) -> Counts:
        values = np.interp((np.arange(n) + 0.5) * 100 / n, data["points"], entry["quantiles"])
        tokens: Counts = np.minimum(np.rint(values), max_length).astype(np.int64)
        return tokens

    return Lengths(spread(spec.rows["train"]), spread(sum(spec.rows[s] for s in spec.dev_splits)), entry["source"])


def measured_path(cfg: RunConfig) -> Path:
    """Name the file that holds, or would hold, the measurement for this data, tokenizer and length limit."""
    tokenizer = cfg.model.model_dump(mode="json", exclude={"architecture"})
    data = cfg.data.model_dump(exclude={"labels"})  # a run fills them in
    key = json.dumps([cfg.task, data, tokenizer, cfg.recipe.max_length], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return Path(cfg.output_dir) / "lengths" / f"{cfg.task}-{cfg.model.name}-{digest}.json"


def measure(configs: Iterable[RunConfig]) -> None:
    """Tokenise what is at hand (data=local, data=demo) and was not measured before, in one process of its own.

    Raises:
        UserError: the data cannot be read; says why.
    """
    missing = {measured_path(cfg): cfg for cfg in configs if cfg.data.source != "hub"}
    wanted = [cfg.model_dump(mode="json") for path, cfg in missing.items() if not path.is_file()]
    if not wanted:
        return
    command = [sys.executable, "-P", "-m", "lora2.experiments.cost.measure_lengths"]  # -P: nothing of this folder's
    done = subprocess.run(command, input=json.dumps(wanted), text=True, capture_output=True, check=False)
    if done.returncode:
        raise UserError(f"lengths cannot be measured: {done.stderr.strip()}")


def padded(tokens: Counts, batch_size: int, *, grouped: bool, width: int | None) -> tuple[int, int]:
    """Count one epoch's positions, padding included, and the sum over examples of the squared padded length.

    Args:
        tokens: lengths (n,).
        grouped: batches hold examples of like length, as lora2/glue/batches.py forms them.
        width: pad all to it; None pads each batch to its longest example.
    """
    if width is not None:
        return width * len(tokens), width * width * len(tokens)
    order = np.random.default_rng(0).permutation(tokens)
    if grouped:
        order = np.concatenate([np.sort(mega) for mega in _cut(order, batch_size * MEGA_BATCHES)])
    starts = np.arange(0, len(order), batch_size)
    widths = np.maximum.reduceat(order, starts)  # (batches,)
    sizes = np.diff(np.append(starts, len(order)))  # (batches,)
    return int(widths @ sizes), int(widths**2 @ sizes)


@functools.cache
def _measured(path: Path) -> Lengths:
    found = json.loads(path.read_text(encoding="utf-8"))
    return Lengths(np.array(found["train"], np.int64), np.array(found["dev"], np.int64), "measured here")


def _cut(values: Counts, size: int) -> list[Counts]:
    return [values[start : start + size] for start in range(0, len(values), size)]


@functools.cache
def _stored_file() -> dict[str, Any]:
    return yaml.safe_load(STORED.read_text(encoding="utf-8"))  # type: ignore[no-any-return]
