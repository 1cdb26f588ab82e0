"""The first steps of a newcomer: a demo, then the command that it ends with; the name of one of its runs works too."""

import os
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from helpers import runs
from helpers.demo_records import SEEN
from helpers.docs_commands import try_command

from lora2.analysis.demo import STORY, demo_cells, scores
from lora2.config.identity import run_id
from lora2.glue.data import load_raw
from lora2.runs.reader import Run, load_runs
from scripts import export, results

DEMO = ("run", "demo", "model=tiny", "task=sst2", "row=head,lora2_k1", "seed=0", "recipe.max_steps=4")


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


def test_it_ends_with_bars_a_picture_and_commands_that_work(demo, monkeypatch, capsys):
    folder, _ = demo
    monkeypatch.chdir(folder)
    assert results.main(["demo"]) == 0
    said = capsys.readouterr().out
    assert "(synthetic)" in said
    picture = Path(said.partition("picture: ")[2].splitlines()[0])
    assert picture.read_bytes().startswith(b"\x89PNG")
    following = [shlex.split(line, comments=True) for line in said.partition("next:\n")[2].splitlines()]
    assert [words[:2] for words in following] == [["make", "export"], ["make", "report"], ["make", "mrpc"]]
    for words in following[1:]:
        try_command(words)
    (asked,) = (word.removeprefix("RUN=") for word in following[0] if word.startswith("RUN="))
    assert export.main(["lora", asked]) == 0


# ------------------------------------------------------------------------------- what the real demo was seen to show


@pytest.fixture(scope="module")
def seen() -> list[Run]:
    return load_runs(SEEN)[0]


def test_the_records_are_of_the_demo_as_it_is_now(seen):
    """If not: make demo in an empty folder, and `python tests/helpers/demo_records.py outputs/demo`."""
    jobs = runs.expand("demo")
    data = {job.cfg.task: load_raw(job.cfg.task, "demo", None).fingerprint for job in jobs}
    assert {run.run_id for run in seen} == {run_id(job.cfg, data[job.cfg.task]) for job in jobs}


def test_the_demo_shows_that_the_method_works(seen):
    """Every seed of the trained head below every seed of k=1, and those below every seed of k=8."""
    tasks = demo_cells(seen)
    assert tasks
    for cells in tasks.values():
        for left, right in pairwise(STORY):
            assert max(scores(cells[left])) < min(scores(cells[right]))
