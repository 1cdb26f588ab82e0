"""The whole study as a newcomer types it in a fresh checkout, on random weights and data of our own: `make tune`, `make
study`, `make verify`, with two steps of every row of Table 1; on a tiny encoder, and the study on a small MPNet too.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import ROOT, expand

from lora2.config.schema import RunConfig
from lora2.experiments.tuned import Choice, Tuned, write_tuned

CHECKOUT = ("scripts", "Makefile", "pyproject.toml", "constraints.txt")
INSTALLED = (f"PY={sys.executable}", "STAMP=pyproject.toml")  # `make install` has nothing to do
SMALL = (*INSTALLED, "DATA=demo", "SEEDS=1", "RECIPE=demo")
TWO_STEPS = "recipe.max_steps=2 task=rte"
SIZES = ("vocab_size=2000", "hidden_size=32", "num_hidden_layers=2", "num_attention_heads=2", "intermediate_size=64")
OUTER = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "ARGS")  # of a make that runs the tests


def checkout(folder: Path) -> Path:
    """A folder that looks like a fresh checkout, as far as make needs it: nothing has run there yet."""
    for name in CHECKOUT:
        (folder / name).symlink_to(ROOT / name)
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if name not in OUTER} | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(["make", *words], cwd=folder, env=own, capture_output=True, text=True, check=False)


def tune(folder: Path) -> subprocess.CompletedProcess[str]:
    return make(folder, "tune", *SMALL, "MODEL=tiny", f"ARGS={TWO_STEPS} --trials 2")


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in (folder / "outputs" / "results" / "runs").glob("*.json")]


@pytest.fixture(scope="module")
def searched(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = checkout(tmp_path_factory.mktemp("study"))
    return folder, tune(folder)


def test_a_search_and_a_study_of_every_row_whose_scores_are_verified(searched):
    folder, tuned = searched
    assert tuned.returncode == 0, tuned.stderr
    assert "20 runs: 20 done now, 0 done before, 0 failed" in tuned.stderr
    assert tuned.stdout.count("| rte |") == 10
    done = make(folder, "study", *SMALL, "MODEL=tiny", f"ARGS={TWO_STEPS}")
    assert done.returncode == 0, done.stderr
    assert "20 runs: 20 done now, 0 done before, 0 failed" in done.stderr
    assert "docs/STUDY.md" in done.stderr
    assert done.stdout.count(" (n=1)") == 20  # both comparisons of each row
    assert done.stdout.count(" recipe.name=tuned | ") == 10
    kinds = Counter((record["config"]["recipe"], record["config"]["seed"]) for record in records(folder))
    assert kinds == {("trial", 0): 20, ("demo", 0): 10, ("tuned", 10): 10}
    assert not (folder / "results").exists()  # nothing of play is published
    chosen = next(each for each in records(folder) if _is(each, "lora2_k8", "tuned"))
    verified = make(folder, "verify", *INSTALLED, f"RUN={chosen['run_id']}")
    assert verified.returncode == 0, verified.stderr
    assert [each["run_id"] for each in records(folder) if each["verified"]] == [chosen["run_id"]]


def test_typed_again_it_does_nothing_and_chooses_the_same(searched):
    folder, tuned = searched
    chosen = folder / "outputs" / "results" / "tuned" / "tiny.yaml"
    before = chosen.read_bytes()
    again = tune(folder)
    assert (again.returncode, again.stdout) == (0, tuned.stdout)
    assert "0 done now, 20 done before" in again.stderr
    assert chosen.read_bytes() == before


def test_the_study_of_mpnet_does_two_steps_of_every_row_in_both_comparisons(tmp_path):
    """Its real weights are 405 MB; these are random, and few."""
    folder = checkout(tmp_path)
    rows = {job.cfg.variant: job.cfg for job in expand("study_authors", ["data=demo", "task=rte"], seeds=1)}
    choices = {("rte", row): Choice(_values(cfg), score=0.5, trials=2, records=()) for row, cfg in rows.items()}
    write_tuned(Tuned("mpnet", "study_authors", (), (0, 1), choices), str(folder / "outputs" / "results"))
    small = " ".join(f"model.architecture.{size}" for size in SIZES)
    done = make(folder, "study", *SMALL, "MODEL=mpnet", f"ARGS={TWO_STEPS} model.random_init=true {small}")
    assert done.returncode == 0, done.stderr
    assert "20 runs: 20 done now, 0 done before, 0 failed" in done.stderr
    ran = Counter((each["config"]["variant"], each["config"]["recipe"]) for each in records(folder))
    assert ran == {(row, recipe): 1 for row in rows for recipe in ("demo", "tuned")}
    assert {(each["config"]["model"], each["steps"]) for each in records(folder)} == {("mpnet", 2)}


def _is(record: dict[str, Any], variant: str, recipe: str) -> bool:
    return (record["config"]["variant"], record["config"]["recipe"]) == (variant, recipe)


def _values(cfg: RunConfig) -> dict[str, float]:
    """What a search would choose for a row."""
    alpha = {} if cfg.rank is None else {"rank.alpha": 2 * cfg.rank.r}
    scale = {"method.lam_lr_scale": 20} if cfg.method.name == "lora2" else {}
    return {"recipe.lr": 2e-3, **scale, **alpha}
