"""How a run ends: who writes its record, and what becomes of one that is there."""

import functools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers.exporting import Home, record_of, settings
from helpers.runs import TINY, command, compose, folders
from helpers.toys import encoder
from helpers.training import EXAMPLES, lora2, recipe, trainer

from lora2.config.resolve import resolve
from lora2.glue.data import load_raw
from lora2.glue.tokens import TokenisedSplit
from lora2.runs.record import RunRecord, read_record, record_path
from lora2.training.evaluate import Evaluation, Evaluator
from lora2.training.recording import is_shortened, recipe_caveats, save_record
from lora2.training.run import run
from lora2.training.session import _content, _end_alone
from lora2.training.state import TrainState

SECOND = SimpleNamespace(num_processes=2, process_index=1)
ALONE = SimpleNamespace(num_processes=1, process_index=0)


@pytest.fixture
def good(tmp_path: Path) -> RunRecord:
    return record_of(Home("run", tmp_path, tmp_path), settings("bert"), "0" * 64)


def failed(good: RunRecord, error: str) -> RunRecord:
    return good.model_copy(update={"status": "failed", "error": error, "metrics": None, "notes": []})


@pytest.mark.parametrize("before", [False, True], ids=["first run", "run again"])
@pytest.mark.parametrize(("process", "told"), [(SECOND, "process 1 of 2: no memory"), (ALONE, "no memory")])
def test_the_first_process_to_fail_is_heard(tmp_path, good, before, process, told):
    path = record_path(tmp_path, "run")
    if before:
        save_record(failed(good, "of an earlier run"), str(tmp_path))
    earlier = _content(path)
    record = _end_alone(failed(good, "no memory"), str(tmp_path), process, earlier)
    assert record.error == told
    assert read_record(path) == record


def test_one_that_fails_because_of_it_is_not(tmp_path, good):
    first = _end_alone(failed(good, "no memory"), str(tmp_path), SECOND, None)
    other = SimpleNamespace(num_processes=2, process_index=0)
    assert _end_alone(failed(good, "connection closed"), str(tmp_path), other, None) == first
    assert read_record(record_path(tmp_path, "run")) == first


def test_a_failure_replaces_a_damaged_record_but_no_good_one(tmp_path, good):
    path = record_path(tmp_path, "run")
    save_record(good, str(tmp_path))
    record = failed(good, "no memory")
    save_record(record, str(tmp_path))
    assert read_record(path) == good
    assert record.notes == ["not written: the record of an earlier run, which ended well, is kept"]
    path.write_text("{")
    save_record(record, str(tmp_path))
    assert read_record(path) == record


# ------------------------------------------------------------------------------------------- what a record warns of


def trained(folder: Path, *overrides: str) -> RunRecord:
    cfg = resolve(compose(*TINY, *folders(folder), *overrides))
    assert run(cfg) == 0
    (path,) = (folder / "results" / "runs").glob("*.json")
    return read_record(path)


@pytest.mark.parametrize("task", ["cola", "stsb"])
@pytest.mark.parametrize("constant", [True, False])
def test_a_run_whose_predictions_are_constant_says_so(task, constant, tmp_path, monkeypatch):
    """Of a dead model every example gets the same logits; of a living one it does not."""

    def logits(self: Evaluator, model: Any, split: TokenisedSplit) -> np.ndarray:
        first = np.zeros(len(split)) if constant else np.arange(len(split)) % 2
        return np.stack([first, np.full(len(split), 0.25)], axis=1).astype(np.float32)

    monkeypatch.setattr(Evaluator, "logits", logits)
    record = trained(tmp_path, f"task={task}")
    assert record.constant == (["best", "last"] if constant else [])
    assert ("collapsed" in record.caveats) == constant


def test_best_and_last_are_told_apart_and_a_checkpoint_keeps_both():
    model = encoder("bert")
    toy = trainer(model, lora2(model))
    state = TrainState(steps=1)
    toy._note_evaluation(state, Evaluation(metrics={"accuracy": 0.9}, constant=False, selection=0.9))
    toy._note_evaluation(state, Evaluation(metrics={"accuracy": 0.5}, constant=True, selection=0.5))
    again = TrainState.from_json(json.loads(json.dumps(state.to_json())), {})
    assert (again.best_is_constant, again.last_is_constant) == (False, True)


def test_a_checkpoint_from_before_is_still_read():
    older = {name: value for name, value in TrainState(steps=3).to_json().items() if "constant" not in name}
    assert TrainState.from_json(older, {}) == TrainState(steps=3)


def test_a_record_lists_what_its_numbers_must_not_stand_beside(tmp_path, monkeypatch):
    """Random weights, made-up data and too few steps: all of it is in the record; other rows too."""
    assert {"synthetic", "random weights", "shortened"} <= set(trained(tmp_path / "a").caveats)
    odd = functools.partial(replace, warnings=("rte/dev: 3 rows, officially 277",), synthetic=False)
    monkeypatch.setattr("lora2.config.task.load_raw", lambda *given, **more: odd(load_raw(*given, **more)))
    caveats = trained(tmp_path / "b").caveats
    assert "other data" in caveats
    assert "synthetic" not in caveats


@pytest.mark.parametrize(
    ("changes", "caveats"),
    [
        ({}, []),
        ({"recipe.epochs": (5, 2)}, ["shortened"]),
        ({"recipe.epochs": (5, 9)}, ["recipe changed"]),
        ({"recipe.lr": (0.001, 0.01)}, ["recipe changed"]),
        ({"recipe.epochs": (5, 2), "rank.alpha": (16, 4)}, ["shortened", "recipe changed"]),
    ],
)
def test_what_a_changed_recipe_makes_of_a_number(changes, caveats):
    assert recipe_caveats(changes) == caveats


def test_a_changed_recipe_is_in_the_record(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = [*TINY, "recipe.epochs=1"]
    assert command(*given, cwd=tmp_path).returncode == 0
    (path,) = tmp_path.glob("outputs/results/runs/*.json")
    record = read_record(path)
    assert {"shortened", "recipe changed"} <= set(record.caveats)
    assert "recipe short, changed: recipe.epochs 1 instead of 5, recipe.precision fp32 instead of bf16; " in str(
        record.notes
    )


def test_a_run_that_its_epochs_end_is_not_shortened():
    whole = recipe(epochs=4, max_steps=None)  # 23 examples in batches of 8: 12 steps
    assert not is_shortened(whole, EXAMPLES)
    assert not is_shortened(recipe(epochs=4, max_steps=12), EXAMPLES)
    assert is_shortened(recipe(epochs=4, max_steps=11), EXAMPLES)
