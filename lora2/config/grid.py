"""An experiment as a list of jobs. Its file holds base settings and, as `hydra.sweeper.params`, a grid.

The grid is Hydra's own, so `python scripts/train.py -m experiment=NAME` runs the same jobs through any Hydra launcher.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora2.common.errors import UserError
from lora2.config.compose import compose, options, read_option
from lora2.config.identity import run_id
from lora2.config.overrides import Setting, literal_paths, parse
from lora2.config.resolve import resolve
from lora2.config.schema import RunConfig

SEEDS = 2**32  # as many as numpy's generators take


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
    def experiment(self) -> str:
        """The experiment that it is a job of; of a grid of overrides alone there is none to name."""
        return self.shared[0].removeprefix("experiment=")

    @property
    def pinned(self) -> tuple[list[str], list[str]]:
        """What makes the jobs of this cell again, its experiment and seeds aside: the shared words, and each axis as a
        sweep of its one value.
        """
        axes = [f"{key}=choice({value})" for key, _, value in (axis.partition("=") for axis in self.axes)]
        return [*self.shared[1:]], axes

    @property
    def cell(self) -> str:
        """What tells the cells of the experiment apart, seeds aside: "lora2_k8 task=rte"."""
        return " ".join(axis.removeprefix("row=") for axis in self.axes) or self.cfg.variant

    @property
    def label(self) -> str:
        """What tells the jobs apart: "lora2_k8 task=rte seed=0"."""
        return f"{self.cell} seed={self.cfg.seed}"


def expand(name: str | None, overrides: Sequence[str] = (), seeds: int | None = None, *, configs: Path) -> list[Job]:
    """List the jobs of an experiment, a seed after the other: stopped half way, it has done as much for each method.

    Args:
        name: a file of configs/experiment/, or None: the grid is in the overrides alone.
        overrides: further settings for every job, in Hydra's grammar; one that names an axis of the grid replaces it,
            and a sweep (a,b or range or choice or glob) makes an axis.
        seeds: run the seeds 0 ... seeds - 1 instead of the experiment's own.
        configs: the folder that holds train.yaml and the groups.

    Raises:
        UserError: no such experiment, a sweep of no job, or settings that do not hold together; the message names the
            jobs, and equal reasons once.
    """
    if seeds is not None and seeds < 1:
        raise UserError(f"--seeds: got {seeds}; it takes whole numbers from 1, for example --seeds 5")
    axes: dict[str, tuple[str, ...]] = {}
    fixed: list[str] = []
    if name is not None:
        axes, fixed = grid(name, configs), [f"experiment={name}"]
    asked = literal_paths(overrides)
    if seeds is not None:
        asked.append(f"seed=range(0,{seeds})")
    for word in asked:
        setting = parse(word, configs)
        axes.pop(setting.key, None)
        if setting.sweeps or (setting.key == "seed" and setting.value is not None):
            axes[setting.key] = _values(setting, word)
        else:
            fixed.append(word)
    seed_axis = axes.pop("seed", None)  # None: the recipe's own
    jobs: list[Job] = []
    wrong: list[tuple[str, str]] = []
    for cell in itertools.product(*axes.values()):
        try:
            jobs += _cell(tuple(fixed), cell, seed_axis, configs)
        except UserError as error:
            wrong += [(" ".join((*fixed, *cell)), str(error))] * len(seed_axis or " ")
    if wrong:
        raise UserError("\n  ".join(together(wrong)))
    unique = {run_id(job.cfg, ""): job for job in jobs}  # two names of one setting are one job
    if name is None:
        return list(unique.values())  # Hydra's own multirun goes in its own order
    return sorted(unique.values(), key=lambda job: job.cfg.seed)


def together(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Tell (job, why it is refused) of many jobs; equal reasons are told once, with their number."""
    jobs: dict[str, list[str]] = defaultdict(list)
    for job, reason in reasons:
        jobs[reason].append(job)
    return [f"{_several(names)}: {reason}" for reason, names in jobs.items()]


def _several(names: Sequence[str]) -> str:
    """Which jobs: the one, or how many and the first."""
    return names[0] if len(names) == 1 else f"{len(names)} jobs ({names[0]} ...)"


def experiments(configs: Path) -> list[str]:
    """List the names of all experiments."""
    return options("experiment", configs)


def grid(name: str, configs: Path) -> dict[str, tuple[str, ...]]:
    """Read the axes of an experiment: key -> words of a command line, one for each value.

    Raises:
        UserError: no such experiment, or one without a grid.
    """
    hydra: Mapping[str, Any] = read_option("experiment", name, configs).get("hydra", {})
    params: Mapping[str, object] = hydra.get("sweeper", {}).get("params", {})
    if not params:
        raise UserError(f"experiment: {name!r} has no hydra.sweeper.params; give it at least task and seed")
    return {key: _values(parse(f"{key}={value}", configs), f"{key}={value}") for key, value in params.items()}


def _values(setting: Setting, word: str) -> tuple[str, ...]:
    """The words of an axis."""
    if not setting.words:
        raise UserError(
            f"{word}: a sweep over no value has no job; give it at least one, for example {setting.key}=choice(a,b)"
        )
    return setting.words


def _cell(shared: tuple[str, ...], axes: tuple[str, ...], seeds: Sequence[str] | None, configs: Path) -> list[Job]:
    """One job for each seed; the settings are composed and checked once."""
    values = [parse(word, configs).value for word in seeds or ()]
    if seeds and all(_is_seed(value) for value in values):
        cfg = resolve(compose((*shared, *axes, "seed=0"), configs))
        return [Job(shared, axes, cfg.model_copy(update={"seed": value})) for value in values]
    for word, value in zip(seeds or (), values, strict=True):
        if value is not None and not _is_seed(value) and not (isinstance(value, str) and "${" in value):
            raise UserError(
                f"seed: got {word.partition('=')[2]!r}; seeds are whole numbers from 0, less than {SEEDS}, for example "
                f"seed=0,1,2"
            )
    words: list[tuple[str, ...]] = [(word,) for word in seeds or ()] or [()]  # without one, the recipe's
    return [Job(shared, axes, resolve(compose((*shared, *axes, *word), configs))) for word in words]


def _is_seed(value: object) -> bool:
    return type(value) is int and 0 <= value < SEEDS
