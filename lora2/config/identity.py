"""The names of runs and settings: short hashes of what can change a number."""

import hashlib
import json
from collections.abc import Iterable

from lora2.config.initial import adapter_hash
from lora2.config.schema import FilesDataConfig, RunConfig
from lora2.config.task import task_of

# Settings that cannot change a number of the record by more than another machine would.
IDENTITY_FREE = (
    "experiment",
    "results_dir",
    "output_dir",
    "num_workers",
    "force",
    "tracker",
    "checkpoint",
    "step",
    "deterministic",
    "log",
)


def run_id(cfg: RunConfig, data_fingerprint: str) -> str:
    """Name a run: readable parts and a short hash of every setting that can change the numbers, data included."""
    return f"{cfg.model.name}-{cfg.task}-{cfg.variant}-s{cfg.seed}-{_short_hash(cfg, data_fingerprint, IDENTITY_FREE)}"


def timed_id(run: str) -> str:
    """Name the record of a run whose steps are only timed; the run itself may have one too."""
    return f"{run}-timed"


def setting_id(cfg: RunConfig, data_fingerprint: str) -> str:
    """Name a setting whatever its seed: a short hash of what can change the numbers."""
    return _short_hash(cfg, data_fingerprint, (*IDENTITY_FREE, "seed"))


def _short_hash(cfg: RunConfig, data_fingerprint: str, left_out: Iterable[str]) -> str:
    settings = cfg.model_dump(mode="json", exclude=set(left_out))
    settings["data"] = {"fingerprint": data_fingerprint}  # what the data is, not where it lies
    if isinstance(cfg.data, FilesDataConfig):
        settings["data"]["metric"] = cfg.data.metric  # it chooses the best evaluation
    # what was added or renamed since is left out or has its old name, so that older runs keep theirs
    if not cfg.model.keep_head:
        del settings["model"]["keep_head"]
    if settings["method"].get("impl") == "peft":
        del settings["method"]["impl"]
    if cfg.method.name == "lora2":
        settings["method"]["path"] = settings["method"].pop("impl")
    if cfg.init_from is None:
        del settings["init_from"]
    else:
        settings["init_from"] = adapter_hash(cfg)  # what it is, not where it lies
    settings["task_version"] = task_of(cfg).version
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
