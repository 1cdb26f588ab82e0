"""The package as a wheel, in a folder and a process that cannot see this checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import ROOT

SOURCE = ("lora2", "pyproject.toml", "README.md", "LICENSE")
DATA = ("experiments/cost/gpus.yaml", "analysis/html/page.html", "analysis/html/style.css", "analysis/html/page.js")
CODE = """
import runpy, sys
from pathlib import Path
import lora2
from lora2.analysis.html import page
from lora2.experiments.cost import lengths, speed
assert "A100" in speed.gpu_names()
assert lengths.stored("rte", 64).train.max() == 64
runpy.run_path("own_loop.py", run_name="__main__")
here = {Path(m.__file__).parts[:-1] for n, m in sys.modules.items() if n.split(".")[0] == "lora2"}
print({Path(*parts).is_relative_to(Path(lora2.__file__).parent) for parts in here}, lora2.__file__)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed wheel and nothing else; setuptools is there because torch needs it."""
    pytest.importorskip("setuptools", minversion="77")
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "target"))
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    _pip("install", "--no-deps", "--no-index", "--target", str(target), str(wheel))
    return target


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_its_data(installed: Path):
    assert [name for name in DATA if not (installed / "lora2" / name).is_file()] == []


def test_the_library_works_without_the_checkout(installed: Path, tmp_path: Path):
    shutil.copy(ROOT / "examples" / "own_loop.py", tmp_path)
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.splitlines()
    assert "singular values left" in "\n".join(said)
    assert last == f"{{True}} {installed / 'lora2' / '__init__.py'}"
