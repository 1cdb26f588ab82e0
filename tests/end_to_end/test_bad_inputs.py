"""Every mistake of the table tests/bad_inputs/ ends in one clear message and exit code 2; some in a process alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from bad_inputs import ALL, BadInput
from bad_inputs.case import Answer, Kind, faults
from bad_inputs.cures import CURES
from filelock import FileLock
from helpers import runs

ATTEMPT = Path(__file__).parents[1] / "bad_inputs" / "attempt.py"


@pytest.fixture(scope="session")
def attempts(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> dict[str, Any]:
    """Every mistake made in one process; made once, however many workers share the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "bad_inputs.json"
    with FileLock(f"{shared}.lock"):
        if not shared.exists():
            done = subprocess.run(
                [sys.executable, str(ATTEMPT)], capture_output=True, text=True, timeout=600, check=False
            )
            assert done.returncode == 0, done.stderr
            shared.write_text(done.stdout)
    return json.loads(shared.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])
def test_a_mistake_ends_in_one_clear_message(case: BadInput, attempts: dict[str, Any]):
    answer = Answer(**attempts["answers"][case.name])
    assert faults(case, answer) == [], answer.err


@pytest.mark.parametrize("name", CURES)
def test_the_cure_that_a_message_states_lets_the_run_start(name: str, attempts: dict[str, Any]):
    assert attempts["uncured"][name] == ""


@pytest.mark.parametrize("name", CURES)
def test_the_message_names_the_setting_of_its_cure(name: str, attempts: dict[str, Any]):
    key = CURES[name].partition("=")[0]
    assert key.removeprefix("recipe.") in attempts["answers"][name]["err"]


def test_the_figures_are_those_of_the_table(attempts: dict[str, Any]):
    assert attempts["tried"] == attempts["clear"] == len(ALL) == len({case.name for case in ALL}) >= 40


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_table_has_mistakes_of_every_kind(kind: Kind):
    assert sum(case.kind == kind for case in ALL) >= 7
    assert all(all(case.says) for case in ALL)  # field, what is allowed, how to mend it


CASE = BadInput("x", "config", "train x", ("a field", "allowed", "mend it"))
CLEAR = Answer(2, "", "error: a field: allowed is this: mend it\n", torch=False, records=[])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"code": 1}, "exit code 1"),
        ({"out": "x"}, "standard output"),
        ({"err": f"{CLEAR.err}Traceback (most recent call last)"}, "a traceback"),
        ({"err": CLEAR.err * 2}, "not one error"),
        ({"err": f"Hydra says hello\n{CLEAR.err}"}, "more than the error"),
        ({"err": "error: a field: mend it"}, "does not say 'allowed'"),
        ({"torch": True}, "torch was imported"),
        ({"records": ["x.json"]}, "a record was written"),
    ],
)
def test_what_is_not_clear_is_seen(change: dict[str, Any], fault: str):
    assert faults(CASE, CLEAR) == []
    assert any(fault in found for found in faults(CASE, replace(CLEAR, **change)))


PROCESSES = ("config: unknown task", "config: Hydra: misspelled key", "data: no such label")


@pytest.mark.parametrize("name", PROCESSES)
def test_a_mistake_from_the_shell_leaves_nothing_behind(name: str, tmp_path: Path):
    """In a process of its own, where importing torch is an error; no log file of Hydra's, no record."""
    (case,) = (case for case in ALL if case.name == name)
    if case.prepare is not None:
        case.prepare(tmp_path)
    before = {path.name for path in tmp_path.iterdir()} | {"results", "outputs"}
    poison = tmp_path / "poison" / "torch"
    poison.mkdir(parents=True)
    (poison / "__init__.py").write_text("raise RuntimeError('torch was imported')\n")
    done = runs.command(*case.command.split()[1:], cwd=tmp_path, PYTHONPATH=f"{poison.parent}{os.pathsep}{runs.ROOT}")
    assert faults(case, Answer(done.returncode, done.stdout, done.stderr, torch=False, records=[])) == []
    assert {path.name for path in tmp_path.iterdir()} <= before | {"poison"}
    assert not [path for path in tmp_path.rglob("runs/*") if path.is_file()]
