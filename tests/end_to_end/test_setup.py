"""`make install`: which Python it takes, when it installs, which build of torch, and what it says before."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import runs

TOOLS = ("make", "bash", "cat", "cksum", "cut", "sed", "test", "uname", "awk", "rm", "touch", "env")
PINS = ("pyproject.toml", "constraints.txt")


@pytest.fixture
def project(tmp_path) -> Path:
    """The files that `make install` reads, and a folder of programs, `bin`, that holds no Python yet."""
    for name in ("Makefile", *PINS):
        shutil.copy(runs.ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    return tmp_path


OUTER = ("PYTHON", "VENV", "GPU", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # of a make that runs the tests


def make(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if key not in OUTER}
    own |= {"PATH": str(project / "bin"), **environment}
    return subprocess.run(["make", *arguments], cwd=project, env=own, capture_output=True, text=True, check=False)


def program(project: Path, name: str, script: str) -> None:
    path = project / "bin" / name
    path.write_text(f"#!{shutil.which('bash')}\n{script}\n")
    path.chmod(0o755)


def made_with(project: Path, *arguments: str) -> str:
    """The Python that would make the environment."""
    return re.search(r"(\S+) -m venv", make(project, "-n", "install", *arguments).stdout)[1]


def test_the_first_python_that_starts_and_is_in_range_is_taken(project):
    program(project, "python3.13", "exit 127")  # pyenv has names of Pythons that do not start
    program(project, "python3.11", f'exec {sys.executable} "$@"')
    program(project, "python3", f'exec {sys.executable} "$@"')
    assert made_with(project) == "python3.11"
    program(project, "python3.12", f'exec {sys.executable} "$@"')
    assert made_with(project) == "python3.12"
    assert made_with(project, "PYTHON=/opt/python") == "/opt/python"
    assert made_with(project, "PYTHON=python3.11") == "python3.11"


@pytest.mark.parametrize("version", [(3, 10), (3, 14)])
def test_a_python_out_of_range_is_passed_over(project, version):
    asked = f"import sys; sys.version_info = {version}; exec(sys.argv.pop(2))"
    program(project, "python3", f"exec {sys.executable} -c '{asked}' \"$@\"")
    program(project, "python", f'exec {sys.executable} "$@"')
    assert made_with(project) == "python"


def test_no_python_is_said_in_one_line(project):
    done = make(project, "--no-print-directory", "install")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1
    assert "no Python of 3.11 to 3.13" in said[0]
    assert "PYTHON=" in said[0]
    assert not (project / ".venv").exists()


def stamp(project: Path, *arguments: str) -> Path:
    """The file that says that this content is installed."""
    return project / re.findall(r"^touch (\S+)$", make(project, "-n", "install", *arguments).stdout, re.MULTILINE)[-1]


def installs(project: Path, *arguments: str) -> bool:
    return "pip install" in make(project, "-n", "install", *arguments).stdout


def test_it_installs_when_the_content_has_changed_and_only_then(project):
    program(project, "python3", f'exec {sys.executable} "$@"')
    assert installs(project)
    done = stamp(project)
    done.parent.mkdir()
    done.touch()
    os.utime(done, (0, 0))
    for name in PINS:
        (project / name).touch()
    assert not installs(project)
    for name in PINS:
        text = (project / name).read_text()
        (project / name).write_text(text + "\n")
        assert installs(project)
        (project / name).write_text(text)
        assert not installs(project)


def test_an_environment_of_before_stays_while_it_is_newer(project):
    program(project, "python3", f'exec {sys.executable} "$@"')
    (project / ".venv").mkdir()
    (project / ".venv" / ".installed").touch()
    for name in PINS:
        os.utime(project / name, (0, 0))
    assert not installs(project)
    (project / "constraints.txt").touch()
    os.utime(project / ".venv" / ".installed", (1, 1))
    assert installs(project)


def test_gpu_takes_the_build_of_pypi_and_keeps_it(project):
    program(project, "python3", f'exec {sys.executable} "$@"')
    pin = re.search(r"^torch==(.*)$", (project / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"-c constraints.txt torch==={pin}\n" in make(project, "-n", "install", "GPU=1").stdout
    done = stamp(project, "GPU=1")
    done.parent.mkdir()
    done.touch()
    assert not installs(project)
    (project / "constraints.txt").write_text((project / "constraints.txt").read_text() + "\n")
    assert f"torch==={pin}\n" in make(project, "-n", "install").stdout
    assert installs(project, "GPU=")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI has the CPU build")
def test_without_gpu_it_is_the_cpu_build(project):
    program(project, "python3", f'exec {sys.executable} "$@"')
    told = make(project, "-n", "install").stdout
    asked = re.findall(r"torch=\S+", told)
    assert asked
    assert all(word.endswith("+cpu") for word in asked)
    assert "torch===" not in told


@pytest.mark.parametrize("gpu", ["", "1"])
def test_time_or_disk_is_said_first(project, gpu):
    program(project, "python3", f'exec {sys.executable} "$@"')
    first = make(project, "-n", "install", f"GPU={gpu}").stdout.splitlines()[0]
    assert re.search(r"\d GB on disk", first)
