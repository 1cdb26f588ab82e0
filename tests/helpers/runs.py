"""Composing and running configurations inside the test process."""

import copy
import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from lora2.config import compose as own
from lora2.config import grid as experiments
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs"
TINY = ("model=tiny", "data=demo", "task=rte", "rank=k1", "recipe.max_steps=4", "recipe.precision=fp32")


def import_path(*folders: Path) -> str:
    """PYTHONPATH for a process of its own: the folders, then what this one was started with."""
    return os.pathsep.join([*map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])])


def compose(*overrides: str) -> dict[str, Any]:
    """What Hydra makes of configs/train.yaml and a command line, as a plain dict."""
    return copy.deepcopy(_composed(overrides))


@functools.cache
def _composed(overrides: tuple[str, ...]) -> dict[str, Any]:
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose("train", list(overrides)), resolve=True)
    assert isinstance(composed, dict)
    return composed  # type: ignore[return-value]


def compose_hydra(*overrides: str) -> DictConfig:
    """The same with Hydra's own settings."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("train", list(overrides), return_hydra_config=True)


def compose_without_hydra(overrides: Iterable[str]) -> dict[str, Any]:
    """The same by the package itself, in milliseconds."""
    return own.compose(overrides, CONFIGS)


def resolve_elsewhere(composed: dict[str, Any]) -> RunConfig:
    """Resolve in an empty folder: below the checkout, results_dir=results would be the published records."""
    with tempfile.TemporaryDirectory() as here, chdir(here):
        return resolve(composed)


def expand(name: str | None, overrides: Sequence[str] = (), seeds: int | None = None) -> list[experiments.Job]:
    """The jobs of one of our experiments."""
    return experiments.expand(name, overrides, seeds, configs=CONFIGS)


def grid(name: str) -> dict[str, list[str]]:
    """The axes of one of our experiments."""
    return experiments.grid(name, CONFIGS)


def folders(path: Path) -> tuple[str, str]:
    """Overrides that keep a run's files below `path`."""
    return f"results_dir={path / 'results'}", f"output_dir={path / 'outputs'}"


def command(*overrides: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """scripts/train.py in a process of its own."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "train.py"), *overrides],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
