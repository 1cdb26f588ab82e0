"""An experiment as a list of jobs. Its file holds base settings and, as `hydra.sweeper.params`, a grid.

The grid is Hydra's own, so `python scripts/train.py -m experiment=NAME` runs the same jobs through any Hydra launcher.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora2.common.errors import UserError
from lora2.config.compose import compose, options, read_option
from lora2.config.identity import run_id
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what all its jobs share, where this one stands on the grid's axes, and its settings."""

    shared: tuple[str, ...]
    axes: tuple[str, ...]
    cfg: RunConfig

    @property
    def overrides(self) -> tuple[str, ...]:
        """The command line that starts it."""
        return (*self.shared, *self.axes, f"seed={self.cfg.seed}")

    @property
    def cell(self) -> str:
        """What tells the cells of the experiment apart, seeds aside: "lora2_k8 task=rte"."""
        return " ".join(axis.removeprefix("row=") for axis in self.axes) or self.cfg.variant

    @property
    def label(self) -> str:
        """What tells the jobs apart: "lora2_k8 task=rte seed=0"."""
        return f"{self.cell} seed={self.cfg.seed}"


def expand(name: str | None, overrides: Sequence[str] = (), seeds: int | None = None, *, configs: Path) -> list[Job]:
    """List the jobs of an experiment, in the order of its grid.

    Args:
        name: a file of configs/experiment/, or None: the grid is in the overrides alone.
        overrides: further settings for every job; one that names an axis of the grid replaces it, and comma-separated
            values make an axis.
        seeds: run the seeds 0 ... seeds - 1 instead of the experiment's own.
        configs: the folder that holds train.yaml and the groups.

    Raises:
        UserError: no such experiment, or settings that do not hold together; the message names the job.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds: got {seeds}; allowed are whole numbers from 1, for example --seeds 5")
    axes: dict[str, list[str]] = {}
    fixed: list[str] = []
    if name is not None:
        axes, fixed = grid(name, configs), [f"experiment={name}"]
    asked = list(overrides)
    if seeds is not None:
        asked.append(f"seed={','.join(map(str, range(seeds)))}")
    for override in asked:
        key, _, value = override.partition("=")
        if len(split(value)) > 1 or key == "seed":
            axes[key] = split(value)
        else:
            axes.pop(key, None)
            fixed.append(override)
    seed_axis = axes.pop("seed", None)  # None: the recipe's own
    combinations = itertools.product(*([f"{key}={value}" for value in values] for key, values in axes.items()))
    jobs = (job for cell in combinations for job in _cell(tuple(fixed), cell, seed_axis, configs))
    return list({run_id(job.cfg, ""): job for job in jobs}.values())  # two names of one setting are one job


def experiments(configs: Path) -> list[str]:
    """List the names of all experiments."""
    return options("experiment", configs)


def grid(name: str, configs: Path) -> dict[str, list[str]]:
    """Read the axes of an experiment: key -> values as they stand on a command line.

    Raises:
        UserError: no such experiment, or one without a grid.
    """
    hydra: Mapping[str, Any] = read_option("experiment", name, configs).get("hydra", {})
    params: Mapping[str, object] = hydra.get("sweeper", {}).get("params", {})
    if not params:
        raise UserError(f"experiment: {name!r} has no hydra.sweeper.params; give it at least task and seed")
    return {key: split(str(value)) for key, value in params.items()}


def split(text: str) -> list[str]:
    """Split at the commas that stand in no bracket: "[uv],[uv,UV]" has two values."""
    values, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return [value.strip() for value in values]


def _cell(shared: tuple[str, ...], axes: tuple[str, ...], seeds: Sequence[str] | None, configs: Path) -> list[Job]:
    """One job for each seed; the settings are composed and checked once."""
    if wrong := [seed for seed in seeds or () if not seed.isdecimal()]:
        raise UserError(f"seed: got {wrong[0]!r}; allowed are whole numbers from 0, for example seed=0,1,2")
    any_seed = ("seed=0",) if seeds else ()
    try:
        cfg = resolve(compose((*shared, *axes, *any_seed), configs))
    except UserError as error:
        raise UserError(f"{' '.join((*shared, *axes))}: {error}") from None
    if seeds is None:
        return [Job(shared, axes, cfg)]
    return [Job(shared, axes, cfg.model_copy(update={"seed": int(seed)})) for seed in seeds]
