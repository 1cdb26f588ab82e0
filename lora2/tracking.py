"""Live logging beside the record, through accelerate's trackers. The record never depends on it: a tracker that fails
is reported once and left out.
"""

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from lora2.config import RunConfig
from lora2.wandb_key import has_wandb_key

Log = Callable[[int, dict[str, float]], None]
INIT_SECONDS = 5.0  # the longest that an unreachable wandb server may hold up a run


def start_tracking(accelerator: Accelerator, cfg: RunConfig, run_id: str, setting_id: str) -> Log:
    """Begin tracking; returns the function that takes a step and its numbers. Without a tracker it does nothing."""
    if cfg.tracker.name == "none":
        return _ignore
    settings = _flat(cfg.model_dump(mode="json"))
    try:
        accelerator.init_trackers(cfg.tracker.project, config=settings, init_kwargs=_options(cfg, run_id, setting_id))
    except Exception as error:
        _tell(f"{cfg.tracker.name} does not start ({type(error).__name__}); the record has everything")
        return _ignore
    return _Guarded(accelerator, cfg.tracker.name)


class _Guarded:
    """Logs until the tracker fails once."""

    def __init__(self, accelerator: Accelerator, name: str) -> None:
        self._accelerator, self._name, self._alive = accelerator, name, True

    def __call__(self, step: int, numbers: dict[str, float]) -> None:
        if not self._alive:
            return
        try:
            self._accelerator.log(numbers, step=step)
        except Exception as error:
            self._alive = False
            _tell(f"{self._name} stopped taking numbers ({type(error).__name__}); the record has everything")


def finish_tracking(accelerator: Accelerator, summary: Mapping[str, float]) -> None:
    """Send the final numbers and close; a failure is not the run's."""
    with suppress(Exception):
        for tracker in accelerator.trackers:
            if tracker.name == "wandb":
                tracker.tracker.summary.update(dict(summary))
        accelerator.end_training()


def _options(cfg: RunConfig, run_id: str, setting_id: str) -> dict[str, dict[str, Any]]:
    """wandb: our own run id, so that a resumed run continues its curve; offline where there is no key."""
    if cfg.tracker.name != "wandb":
        return {}
    import wandb

    offline = not has_wandb_key() and "WANDB_MODE" not in os.environ
    return {
        "wandb": {
            "id": run_id,
            "name": run_id,
            "group": cfg.experiment,
            "job_type": cfg.variant,
            "tags": [cfg.model.name, cfg.task, cfg.variant, cfg.recipe.name, setting_id],
            "resume": "allow",
            "dir": str(Path(cfg.output_dir)),
            "mode": "offline" if offline else None,
            "settings": wandb.Settings(init_timeout=INIT_SECONDS, silent=True),
        }
    }


def _flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, int | float | str | bool]:
    """Dotted keys and plain values: tensorboard takes no list and no None."""
    flat: dict[str, int | float | str | bool] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str) else str(value)
    return flat


def _ignore(step: int, numbers: dict[str, float]) -> None:
    """No tracker."""


def _tell(text: str) -> None:
    print(f"tracker: {text}", file=sys.stderr, flush=True)
