"""The first steps of a newcomer: a demo, then the command that it ends with; the name of one of its runs works too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import runs

from scripts import export

DEMO = ("run", "demo", "model=tiny", "task=sst2", "row=head,lora2_k1", "recipe.max_steps=4")


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[Path, str]:
    """A demo of random weights and few steps: where it ran, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, str(runs.ROOT / "scripts" / "experiment.py"), *DEMO]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stderr


def test_the_command_that_the_demo_ends_with_exports_a_run_of_it(demo):
    folder, said = demo
    line = said.splitlines()[-1].partition("to take away: ")[2]
    environment = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (folder / done.stdout.strip() / "adapter_model.safetensors").is_file()


def test_a_run_of_the_demo_is_found_by_its_name(demo, monkeypatch, capsys):
    folder, _ = demo
    monkeypatch.chdir(folder)
    (record,) = (folder / "outputs" / "demo" / "runs").glob("*lora2*.json")
    assert export.main(["lora", record.stem]) == 0
    assert export.main(["submission", record.stem]) == 2
    assert "synthetic data has no test set on the server" in capsys.readouterr().err


def test_a_wrong_name_proposes_runs_that_have_weights(demo, monkeypatch, capsys):
    folder, _ = demo
    monkeypatch.chdir(folder)
    assert export.main(["lora", "minilm-mrpc-lora2_k8"]) == 2
    said = capsys.readouterr().err
    proposed = said.partition("Nearest: ")[2].strip().split(", ")
    assert proposed
    assert all(any((folder / "outputs" / name).glob("*.safetensors")) for name in proposed)


def test_nothing_of_the_demo_lies_outside_outputs(demo):
    assert [path.name for path in demo[0].iterdir()] == ["outputs"]
