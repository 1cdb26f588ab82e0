"""The whole study as a newcomer types it, on random weights and data of our own: two steps of every row of Table 1.

On a tiny encoder, and on a small MPNet, whose real weights are 405 MB.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from helpers.runs import ROOT, expand

from lora2.config.schema import RunConfig
from lora2.experiments.tuned import Choice, Tuned, write_tuned

SMALL = ("--data", "demo", "--seeds", "1", "recipe=demo", "recipe.max_steps=2", "task=rte")
SIZES = ("vocab_size=2000", "hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2", "intermediate_size=64")
TINY, MPNET = ("--model", "tiny"), ("--model", "mpnet", "model.random_init=true")


def type_in(
    folder: Path, command: str, *arguments: str, model: tuple[str, ...] = TINY
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(ROOT / "scripts" / "experiment.py"), command, *model, *SMALL, *arguments]
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
    assert done.stdout.count(" (n=1)") == 20  # both comparisons of each row
    assert done.stdout.count(" recipe.name=tuned | ") == 10
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


def test_the_study_of_mpnet_does_two_steps_of_every_row_in_both_comparisons(tmp_path):
    rows = {job.cfg.variant: job.cfg for job in expand("study_authors", ["data=demo", "task=rte"], seeds=1)}
    choices = {("rte", row): Choice(_values(cfg), score=0.5, trials=2, records=()) for row, cfg in rows.items()}
    write_tuned(Tuned("mpnet", "study_authors", (), (0, 1), choices), str(tmp_path / "outputs" / "results"))
    small = [f"model.architecture.{size}" for size in SIZES]
    done = type_in(tmp_path, "study", *small, model=MPNET)
    assert done.returncode == 0, done.stderr
    assert "20 runs: 20 done now, 0 done before, 0 failed" in done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "outputs" / "results" / "runs").glob("*.json")]
    ran = Counter((record["config"]["variant"], record["config"]["recipe"]) for record in records)
    assert ran == {(row, recipe): 1 for row in rows for recipe in ("demo", "tuned")}
    assert {(record["config"]["model"], record["steps"]) for record in records} == {("mpnet", 2)}


def _values(cfg: RunConfig) -> dict[str, float]:
    """What a search would choose for a row."""
    alpha = {} if cfg.rank is None else {"rank.alpha": 2 * cfg.rank.r}
    scale = {"method.lam_lr_scale": 20} if cfg.method.name == "lora2" else {}
    return {"recipe.lr": 2e-3, **scale, **alpha}
