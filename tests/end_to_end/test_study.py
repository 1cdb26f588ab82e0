"""The whole study as a newcomer types it, on random weights and data of our own: two steps of every row of Table 1."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.runs import ROOT

SMALL = ("--model", "tiny", "--data", "demo", "--seeds", "1", "recipe=demo", "recipe.max_steps=2", "task=rte")


def type_in(folder: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "scripts" / "experiment.py"), command, *SMALL, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("study")
    return folder, type_in(folder, "tune", "--trials", "2", "--write")


def test_a_search_and_a_study_of_every_row(searched):
    folder, tuned = searched
    assert tuned.returncode == 0, tuned.stderr
    assert "20 runs: 20 done now, 0 done before, 0 failed" in tuned.stderr
    assert tuned.stdout.count("| rte |") == 10
    done = type_in(folder, "study")
    assert done.returncode == 0, done.stderr
    assert "20 runs: 20 done now, 0 done before, 0 failed" in done.stderr
    assert "docs/STUDY.md" in done.stderr
    records = [json.loads(path.read_text()) for path in (folder / "outputs" / "results" / "runs").glob("*.json")]
    kinds = Counter((record["config"]["recipe"], record["config"]["seed"]) for record in records)
    assert kinds == {("trial", 0): 20, ("demo", 0): 10, ("tuned", 10): 10}
    assert [path.name for path in folder.iterdir()] == ["outputs"]  # nothing of play is published


def test_typed_again_it_does_nothing_and_chooses_the_same(searched):
    folder, tuned = searched
    chosen = folder / "outputs" / "results" / "tuned" / "tiny.yaml"
    before = chosen.read_bytes()
    again = type_in(folder, "tune", "--trials", "2", "--write")
    assert (again.returncode, again.stdout) == (0, tuned.stdout)
    assert "0 done now, 20 done before" in again.stderr
    assert chosen.read_bytes() == before
