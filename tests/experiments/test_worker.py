"""One process for many runs: each is what it is in a process of its own, whatever ran before; a crash costs one run."""

import gc
import io
import json
import os
import signal
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest
import torch
from helpers.clocks import without_clocks
from helpers.runs import CONFIGS, ROOT, TINY, folders

from lora2.experiments.run_process import start_run
from lora2.experiments.worker import Worker, run_here, serve, worker_command
from lora2.runs.reason import REASON
from lora2.runs.record import RunRecord, read_record
from lora2.training import session
from lora2.training.memory import free_memory
from lora2.training.recording import peak_memory

TRAIN = ROOT / "scripts" / "train.py"
# They differ in what a process remembers: precision, library, task and its loss, dropout, checkpoints, signals.
JOBS = {
    "lora2": ("method=lora2", "recipe.precision=bf16", "rank.k=2", "seed=1"),
    "lora": ("method=lora", "task=stsb", "recipe.cls_dropout=0.1", "checkpoint.every_steps=2"),
    "adalora": ("method=adalora", "selection=heldout", "method.penalty.weight=0.2"),
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def words(name: str, path: Path) -> list[str]:
    return [*TINY, *JOBS[name], *folders(path)]


def left(path: Path) -> dict[str, tuple[object, bytes, bytes]]:
    """What runs leave below a folder: records but for clocks and places, and weights."""
    found = {}
    for file in (path / "results" / "runs").glob("*.json"):
        record: RunRecord = read_record(file)
        for place in ("results_dir", "output_dir"):
            del record.config.resolved[place]
        best, last = (path / "outputs" / file.stem / f"{kind}.safetensors" for kind in ("best", "last"))
        found[record.config.method] = (without_clocks(record), best.read_bytes(), last.read_bytes())
    return found


# ------------------------------------------------------------------------------------------------- the same numbers


def test_runs_of_one_process_are_those_of_processes_of_their_own_in_any_order(tmp_path):
    for name in JOBS:
        assert start_run(TRAIN, words(name, tmp_path / "alone")).code == 0
    with Worker(worker_command(CONFIGS, ROOT / "scripts" / "export.py")) as start:
        for order, names in (("there", list(JOBS)), ("back", list(reversed(JOBS)))):
            assert [start(words(name, tmp_path / order)).code for name in names] == [0, 0, 0]
    alone = left(tmp_path / "alone")
    assert set(alone) == set(JOBS)
    assert left(tmp_path / "there") == alone
    assert left(tmp_path / "back") == alone


# ------------------------------------------------------------------------------------------------ the same memory


@pytest.fixture
def models(monkeypatch) -> list["weakref.ref[torch.nn.Module]"]:
    """Weak references to the model of each run of this process."""
    seen = []

    def build(*arguments):
        trainer = build_trainer(*arguments)
        seen.append(weakref.ref(trainer.model))
        return trainer

    build_trainer = session.build_trainer
    monkeypatch.setattr(session, "build_trainer", build)
    return seen


@pytest.mark.parametrize("name", JOBS)
def test_the_model_of_a_run_is_gone_before_the_next_begins(name, models, tmp_path):
    assert run_here(words(name, tmp_path), CONFIGS).code == 0
    free_memory()
    assert [model() for model in models] == [None]


def test_the_model_of_a_run_that_fails_is_gone_too(models, monkeypatch, tmp_path):
    def broken(*arguments):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(session.Trainer, "fit", broken)
    ended = run_here(words("lora2", tmp_path), CONFIGS)
    assert (ended.code, ended.reason) == (
        1, "failed: RuntimeError: CUDA error: an illegal memory access was encountered",
    )  # fmt: skip
    free_memory()
    assert [model() for model in models] == [None]


@pytest.mark.gpu
def test_memory_of_the_gpu_returns_to_its_start(tmp_path):
    torch.zeros(1, device="cuda")
    free_memory()
    before = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()
    for name in JOBS:
        assert run_here(words(name, tmp_path), CONFIGS).code == 0
        free_memory()
        assert (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) == before


def test_the_peak_of_a_run_is_not_that_of_the_run_before():
    block = b"x" * (256 << 20)
    high = peak_memory(torch.device("cpu"))["process_bytes"]
    del block
    free_memory()
    assert peak_memory(torch.device("cpu"))["process_bytes"] < high


# ---------------------------------------------------------------------------------------------- a run in this process


def test_a_mistake_in_the_settings_is_told_as_by_the_script(tmp_path, capsys):
    ended = run_here([*words("lora2", tmp_path), "recipe.lr=-1"], CONFIGS)
    assert ended.code == 2
    assert "recipe.lr: got -1" in ended.reason
    assert f"error: {ended.reason}\n" in capsys.readouterr().err


def test_a_fault_of_the_program_ends_one_run(monkeypatch, tmp_path, capsys):
    def broken(*arguments):
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("lora2.experiments.worker.run_composed", broken)
    ended = run_here(words("lora2", tmp_path), CONFIGS)
    assert (ended.code, ended.reason) == (1, "ZeroDivisionError: of ours")
    assert "Traceback" in capsys.readouterr().err
    assert REASON not in os.environ


def test_settings_without_effect_are_noted_in_the_record(tmp_path):
    assert run_here([*words("lora", tmp_path), "rank.k=4"], CONFIGS).code == 0
    (file,) = (tmp_path / "results" / "runs").glob("*.json")
    assert any(note.startswith("rank.k: given, but without effect") for note in read_record(file).notes)


def test_every_record_of_a_process_tells_which_variables_are_not_heeded(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", os.environ | {"MKL_CBWR": "AVX2"})
    asked = io.StringIO("".join(f"{json.dumps([*words('lora', tmp_path), f'seed={seed}'])}\n" for seed in range(2)))
    answers = io.StringIO()
    serve(asked, answers, CONFIGS, Path("export.py"))
    assert [json.loads(line)[0] for line in answers.getvalue().splitlines()] == [0, 0]
    records = [read_record(file) for file in (tmp_path / "results" / "runs").glob("*.json")]
    assert len(records) == 2
    assert all(record.notes[0].startswith("MKL_CBWR=AVX2: not heeded") for record in records)


# --------------------------------------------------------------------------------------------------- the other process

# Answers as a worker does, with its own number as the reason; the word says how the run ends.
FAKE = """
import json, os, signal, sys, time
pipe = os.fdopen(int(sys.argv[1]), "w")
caught = []
signal.signal(signal.SIGUSR1, lambda number, frame: caught.append(number))
for line in sys.stdin:
    (word,) = json.loads(line)
    if word == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    while word == "wait" and not caught:
        time.sleep(0.01)
    code = 130 if word == "wait" else int(word)
    print(json.dumps([code, str(os.getpid())]), file=pipe, flush=True)
"""


@pytest.fixture
def worker():
    with Worker([sys.executable, "-c", FAKE]) as worker:
        yield worker


def test_one_process_does_run_after_run(worker):
    ended = [worker(["0"]) for _ in range(3)]
    assert [end.code for end in ended] == [0, 0, 0]
    assert len({end.reason for end in ended}) == 1


@pytest.mark.parametrize(("code", "processes"), [(0, 1), (2, 1), (3, 1), (1, 2), (137, 2)])
def test_a_run_that_fails_takes_its_process_with_it(worker, code, processes):
    """A mistake in the settings and a run of another process are no failures."""
    ended = [worker([str(code)]), worker(["0"])]
    assert [end.code for end in ended] == [code, 0]
    assert len({end.reason for end in ended}) == processes


def test_a_process_that_is_killed_costs_one_run(worker):
    first, killed, last = worker(["0"]), worker(["die"]), worker(["0"])
    assert (killed.code, killed.reason, killed.interrupted) == (-signal.SIGKILL, "exit code -9", False)
    assert (first.code, last.code) == (0, 0)
    assert first.reason != last.reason


def test_a_process_that_is_killed_between_two_runs_costs_none(worker):
    pid = int(worker(["0"]).reason)
    os.kill(pid, signal.SIGKILL)
    while worker._process.poll() is None:
        time.sleep(0.01)
    assert worker(["0"]).code == 0


def test_an_interruption_is_passed_on_and_waited_for(worker):
    assert worker(["0"]).code == 0
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    ended = worker(["wait"])
    assert ended.code == 130
    assert ended.interrupted


def test_no_process_is_left_behind():
    with Worker([sys.executable, "-c", FAKE]) as worker:
        pid = int(worker(["0"]).reason)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    gc.collect()  # an unclosed pipe would warn
