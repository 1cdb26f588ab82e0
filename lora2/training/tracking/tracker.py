"""Live logging beside the record, through accelerate's trackers. The record never depends on it: a tracker that fails
is reported once and left out. No server is waited for: wandb writes to files, which another process uploads.
"""

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import Popen, TimeoutExpired
from typing import Any

from accelerate import Accelerator

from lora2.common.voice import say
from lora2.common.wandb_key import has_wandb_key
from lora2.config.schema import RunConfig
from lora2.core import keys
from lora2.runs.caveats import NO_CAVEAT
from lora2.runs.record import RunRecord
from lora2.training.tracking.held import Held, held
from lora2.training.tracking.rank_course import draw_rank_course
from lora2.training.tracking.wandb_upload import start_upload

Number = int | float | str | bool
START_SECONDS = 4.0  # the longest that starting a tracker may hold up a run
FINISH_SECONDS = 1.0  # the longest that the end of an upload is waited for; it goes on without the run
# What wandb would collect by itself: the command line, host, packages, variables of SLURM, the screen. The record has
# what matters of it.
PRIVATE = {
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "console": "off",
    "silent": True,
}


class Tracking:
    """The tracker of one run, if it has one. Nothing here raises."""

    def __init__(self, accelerator: Accelerator, cfg: RunConfig, run_id: str, setting_id: str) -> None:
        self._accelerator, self._name = accelerator, cfg.tracker.name
        self._upload: Popen[bytes] | None = None
        self._held: Held = {}
        if self._name != "none" and accelerator.is_main_process and not cfg.force:  # force begins a curve anew
            self._try("cannot be read back", lambda: self._read_back(cfg, run_id))
        self._alive = self._name != "none" and self._try("does not start", lambda: self._start(cfg, run_id, setting_id))
        if self._alive and self._name == "wandb" and accelerator.is_main_process and _uploads():
            self._try("cannot upload", self._start_upload)
        if self._alive and accelerator.is_main_process:
            self._try("does not say where it writes", lambda: say(f"tracker: {self._place(cfg, run_id)}"))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log what is known after `step` optimizer steps, but for what the tracker has from an earlier part of the run.

        A run that goes on does the steps after its checkpoint once more, with the same numbers.
        """
        new = {name: value for name, value in numbers.items() if name not in self._held.get(step, ())}
        if self._alive and new:
            self._alive = self._try("takes no more", lambda: self._accelerator.log(new, step=step))

    def replay(self, history: Mapping[str, list[dict[str, float]]]) -> None:
        """Log what a checkpoint's history has and the tracker lost when it was killed; before the first `log`."""
        for step, numbers in sorted(curve(history).items()):
            self.log(step, numbers)

    def finish(self, record: RunRecord) -> None:
        """Log the record as the run's summary, and close."""
        if self._alive:
            self._try("does not end well", lambda: self._close(record))
        self._try("does not end", self._accelerator.end_training)
        if self._upload is not None:
            self._try("cannot upload", self._leave_upload)

    def _try(self, what: str, action: Callable[[], object]) -> bool:
        """Do it, and return whether it went well.

        A failure is told by its kind alone, as its text may hold an address or a key.
        """
        try:
            with contextlib.redirect_stdout(sys.stderr):  # trackio talks; standard output is kept for results
                action()
        except Exception as error:
            say(f"tracker: {self._name} {what} ({type(error).__name__}); the record has everything")
            return False
        return True

    def _read_back(self, cfg: RunConfig, run_id: str) -> None:
        self._held = held(cfg, run_id)

    def _start(self, cfg: RunConfig, run_id: str, setting_id: str) -> None:
        options = {"wandb": _wandb_options, "trackio": _trackio_options, "tensorboard": lambda *_: {}}[self._name]
        # tensorboard knows no runs, only folders
        project = str(Path(cfg.tracker.project) / run_id) if self._name == "tensorboard" else cfg.tracker.project
        self._accelerator.init_trackers(
            project,
            config=_flat(cfg.model_dump(mode="json"), "."),
            init_kwargs={self._name: options(cfg, run_id, setting_id)},
        )

    def _place(self, cfg: RunConfig, run_id: str) -> str:
        """Say where the tracker writes, and the command that shows it."""
        if self._name == "tensorboard":
            folder = Path(cfg.output_dir) / cfg.tracker.project
            return f"tensorboard writes to {folder / run_id}; {shlex.join(['tensorboard', '--logdir', str(folder)])}"
        if self._name == "trackio":
            folder_text = os.environ.get("TRACKIO_DIR", "its own folder")
            command = shlex.join(["trackio", "show", "--project", cfg.tracker.project])
            return f"trackio writes to {folder_text}; {command}"
        if os.environ.get("WANDB_MODE") == "disabled":
            return "wandb writes nothing, as WANDB_MODE=disabled says"
        folder = Path(self._wandb_run().dir).parent
        if self._upload is not None:
            return f"wandb writes to {folder}, and uploads it as it goes"
        return f"wandb writes to {folder}, offline; {shlex.join(['wandb', 'sync', str(folder)])} sends it"

    def _start_upload(self) -> None:
        self._upload = start_upload(Path(self._wandb_run().dir).parent)

    def _draw(self, record: RunRecord) -> None:
        """Log the ranks over time, as a picture of wandb's."""
        if png := draw_rank_course(record.history.get("monitor", [])):
            self._wandb_run().log({"rank_over_time": _wandb_image(png)}, step=record.steps)

    def _close(self, record: RunRecord) -> None:
        """Do what accelerate does not: wandb's summary, and how the run ended; trackio would end it again at exit."""
        if not self._accelerator.is_main_process:
            return
        if self._name == "wandb":
            self._try("takes no picture", lambda: self._draw(record))
            self._wandb_run().summary.update(summary(record))
            self._wandb_run().finish(exit_code=0 if record.status == "ok" else 1)
        if self._name == "trackio":
            import trackio

            trackio.finish()

    def _wandb_run(self) -> Any:
        return self._accelerator.get_tracker("wandb", unwrap=True)

    def _leave_upload(self) -> None:
        assert self._upload is not None
        try:
            self._upload.wait(FINISH_SECONDS)
        except TimeoutExpired:
            say("tracker: wandb goes on uploading for a minute; `wandb sync` takes up what it leaves")


def _wandb_image(png: bytes) -> Any:
    import wandb
    from PIL import Image

    return wandb.Image(Image.open(io.BytesIO(png)))


def _wandb_options(cfg: RunConfig, run_id: str, setting_id: str) -> dict[str, Any]:
    """Return wandb's options, with our own run id, so that a resumed run continues its curve."""
    import wandb

    return {
        "id": run_id,
        "name": run_id,
        "group": cfg.experiment,
        "job_type": cfg.variant,
        "tags": [cfg.model.name, cfg.task, cfg.variant, cfg.recipe.name, setting_id],
        "resume": "allow",
        "dir": str(Path(cfg.output_dir).resolve()),  # wandb's own process may stand elsewhere
        "mode": "disabled" if os.environ.get("WANDB_MODE") == "disabled" else "offline",
        "settings": wandb.Settings(init_timeout=START_SECONDS, x_service_wait=START_SECONDS, **PRIVATE),
    }


def _trackio_options(cfg: RunConfig, run_id: str, setting_id: str) -> dict[str, Any]:
    return {"name": run_id, "group": cfg.experiment, "resume": "allow", "auto_log_cpu": False}


def _uploads() -> bool:
    """Whether there is a key, and nobody has said offline."""
    return has_wandb_key() and os.environ.get("WANDB_MODE", "online") in ("online", "run", "shared")


def curve(history: Mapping[str, list[dict[str, float]]]) -> dict[int, dict[str, float]]:
    """Return the numbers of a record's history by step, under the names that a tracker knows them by."""
    steps: dict[int, dict[str, float]] = {}
    for kind, rows in history.items():
        for row in rows:
            numbers = {name: value for name, value in row.items() if name not in (keys.STEP, keys.SELECTION)}
            named = {keys.evaluation(name): value for name, value in numbers.items()} if kind == "eval" else numbers
            steps.setdefault(int(row[keys.STEP]), {}).update(named)
    return steps


def summary(record: RunRecord) -> dict[str, Number]:
    """Return the record but for settings and curves, which the tracker has, flat.

    Its keys are "best/accuracy", "counts/adapter", "status" and so on.
    """
    whole = record.model_dump(mode="json", exclude={"config", "history"})
    whole |= {"caveats": ", ".join(record.caveats) or NO_CAVEAT, "constant": ", ".join(record.constant)}
    metrics = whole.pop("metrics") or {}
    return _flat(whole | metrics, "/")


def _flat(node: Mapping[str, Any], sign: str, prefix: str = "") -> dict[str, Number]:
    """Return joined keys and plain values: tensorboard takes no list and no None."""
    flat: dict[str, Number] = {}
    for key, value in node.items():
        if isinstance(value, dict):
            flat |= _flat(value, sign, f"{prefix}{key}{sign}")
        elif value is not None:
            flat[f"{prefix}{key}"] = value if isinstance(value, Number) else str(value)
    return flat
