"""pyproject.toml, constraints.txt and uv.lock speak of the same packages in the same versions."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def canonical(name: str) -> str:
    """A package's one name: PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def wanted() -> set[str]:
    """What pyproject.toml asks for, extras included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(item for extra in project["optional-dependencies"].values() for item in extra)]
    return {canonical(re.match(r"[\w.-]+", item)[0]) for item in asked}


@pytest.fixture(scope="module")
def locked() -> dict[str, dict[str, Any]]:
    """uv.lock's packages by name."""
    return {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().split()
    return {canonical(name): version for name, version in (line.split("==") for line in lines)}


def test_the_lock_is_of_this_project(locked):
    """If not: make lock."""
    ours = locked["lora2-glue"]
    assert {item["name"] for item in ours["metadata"]["requires-dist"]} == wanted()
    assert wanted() <= locked.keys()


def test_lock_and_constraints_pin_the_same_versions(locked):
    shared = pins().keys() & locked.keys()
    assert {name: locked[name]["version"] for name in shared} == {name: pins()[name] for name in shared}
    assert wanted() <= shared


def test_only_what_a_gpu_needs_is_not_in_the_constraints(locked):
    more = locked.keys() - pins().keys() - {"lora2-glue", "setuptools"}
    assert {name for name in more if not name.startswith(("nvidia-", "cuda-"))} == {"triton"}
