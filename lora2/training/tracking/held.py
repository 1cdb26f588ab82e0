"""What a tracker's own files still hold of an earlier part of a run, so that a run that goes on logs nothing twice.

A tracker that is killed loses what it had not yet written (wandb its last 32 KiB, tensorboard its last two minutes),
and may hold steps after the checkpoint that the run goes on from: neither the checkpoint nor the tracker alone knows
what is missing.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lora2.config.schema import RunConfig

Held = Mapping[int, set[str]]  # names of the numbers by step


def held(cfg: RunConfig, run_id: str) -> Held:
    """Return what the tracker of this run has on this machine from before; nothing of a run that has just begun.

    Raises:
        Exception: the tracker's files cannot be read.
    """
    readers: Mapping[str, Callable[[RunConfig, str], Held]] = {
        "wandb": _in_wandb,
        "tensorboard": _in_tensorboard,
        "trackio": _in_trackio,
    }
    return readers[cfg.tracker.name](cfg, run_id)


def _in_wandb(cfg: RunConfig, run_id: str) -> Held:
    """Read the offline files by wandb's own command; it reads one that was cut off as far as it goes."""
    found: dict[int, set[str]] = defaultdict(set)
    for file in sorted(Path(cfg.output_dir).glob(f"wandb/*run-*-{run_id}/run-{run_id}.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file.resolve())]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for record in map(json.loads, text.splitlines()):
            if record["type"] == "history":
                item: dict[str, Any] = record["history"]["item"]
                found[int(item["_step"])] |= {name for name in item if not name.startswith("_")}
    return found


def _in_tensorboard(cfg: RunConfig, run_id: str) -> Held:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[int, set[str]] = defaultdict(set)
    for file in (Path(cfg.output_dir) / cfg.tracker.project / run_id).glob("events.*"):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()  # 0: all of them
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                found[event.step].add(name)
    return found


def _in_trackio(cfg: RunConfig, run_id: str) -> Held:
    from trackio.sqlite_storage import SQLiteStorage

    found: dict[int, set[str]] = defaultdict(set)
    for row in SQLiteStorage.get_logs(cfg.tracker.project, run_id):
        found[int(row["step"])] |= set(row) - {"step", "timestamp"}
    return found
