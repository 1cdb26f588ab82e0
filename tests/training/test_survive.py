"""A run that is stopped, fails or finds a damaged checkpoint: the record says so, and the same command goes on from
there to the record of a run to which nothing happened.
"""

import copy
import errno
import functools
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.clocks import without_clocks
from helpers.runs import TINY, compose, resolve_elsewhere

from lora2.common.errors import UserError
from lora2.config.schema import RunConfig
from lora2.glue.data import load_raw
from lora2.runs.record import RunRecord, read_record
from lora2.training.checkpoint import TENSORS
from lora2.training.run import run
from lora2.training.step import TrainStep

STEPS, LAST = 7, 4  # steps in all, the last one before anything happens
SETTINGS = (  # dropout and length-grouped batches are on, and pruning is under way when it happens
    *TINY, f"recipe.max_steps={STEPS}", "recipe.eval_every=3", "recipe.batch_size=8", "checkpoint.every_steps=2",
    "budget.t_i=1", "budget.t_f=1", "budget.interval=1",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _data_once() -> Iterator[None]:
    """The demo data is made once, not for every run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lora2.config.task.load_raw", functools.cache(load_raw))
        yield


@pytest.fixture(scope="module")
def cfg() -> RunConfig:
    """With its folders below the working directory, so that the settings in all records are the same."""
    return resolve_elsewhere(compose(*SETTINGS, "results_dir=results", "output_dir=outputs"))


@pytest.fixture(scope="module")
def undisturbed(cfg, tmp_path_factory) -> dict[str, object]:
    """The record of a run to which nothing happened, without clocks and notes."""
    home = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("undisturbed"))
    try:
        assert run(cfg) == 0
        return comparable(record())
    finally:
        os.chdir(home)


def comparable(of: RunRecord) -> dict[str, object]:
    return {name: value for name, value in without_clocks(of).items() if name != "notes"}


def record() -> RunRecord:
    (file,) = Path("results/runs").iterdir()
    return read_record(file)


def checkpoints() -> list[Path]:
    return sorted(Path("outputs").glob("tiny-*/checkpoints/*"))


@pytest.fixture
def happens(monkeypatch, tmp_path) -> Callable[[Callable[[], object]], None]:
    """happens(what): in this test's own folder, `what` is done once, in the step after LAST."""
    monkeypatch.chdir(tmp_path)

    def plan(what: Callable[[], object]) -> None:
        step = TrainStep.__call__

        def disturbed(self: TrainStep, batch: object, index: int, clock: object) -> object:
            if index == LAST:
                monkeypatch.setattr(TrainStep, "__call__", step)
                what()
            return step(self, batch, index, clock)

        monkeypatch.setattr(TrainStep, "__call__", disturbed)

    return plan


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)], ids=lambda x: str(x)
)
def test_a_signal_stops_the_run_at_the_next_step(cfg, undisturbed, happens, capsys, number, code):
    """SIGUSR1 is what SLURM is asked to send some time before it ends a job (sbatch --signal)."""
    happens(lambda: os.kill(os.getpid(), number))
    assert run(cfg) == code
    cancelled = record()
    assert cancelled.status == "cancelled"
    assert cancelled.error == f"stopped by a signal after step {LAST + 1} of {STEPS}; run again to go on"
    assert cancelled.error in capsys.readouterr().err
    assert [path.name for path in checkpoints()] == [f"step-{LAST:08d}", f"step-{LAST + 1:08d}"]
    assert run(cfg) == 0
    assert comparable(record()) == undisturbed
    assert checkpoints() == []


def workers() -> list[int]:
    """The processes that make this run's batches."""
    found = [child.pid for child in multiprocessing.active_children() if child.pid]
    assert found
    return found


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than this machine has cores
def test_the_number_of_workers_changes_nothing(cfg, undisturbed, happens, number):
    happens(lambda: seen.append(len(workers())))
    seen: list[int] = []
    assert run(cfg.model_copy(update={"num_workers": number})) == 0
    assert seen == [number]
    mine = comparable(record())
    assert mine["config"]["resolved"].pop("num_workers") == number
    expected = copy.deepcopy(undisturbed)
    assert expected["config"]["resolved"].pop("num_workers") == 0
    assert mine == expected


def test_a_dead_worker_ends_the_run_and_its_record_says_so(cfg, undisturbed, happens, capsys):
    happens(lambda: [os.kill(worker, signal.SIGKILL) for worker in workers()])
    assert run(cfg.model_copy(update={"num_workers": 1})) == 1
    assert record().status == "failed"
    assert record().error == "a process that makes batches died; num_workers=0 does without them"
    assert "Traceback" not in capsys.readouterr().err
    assert run(cfg) == 0
    assert comparable(record()) == undisturbed


def test_a_signal_to_the_whole_group_is_the_runs(cfg, happens):
    happens(lambda: [os.kill(process, signal.SIGTERM) for process in (*workers(), os.getpid())])
    assert run(cfg.model_copy(update={"num_workers": 1})) == 143
    assert record().status == "cancelled"


def nothing_to_hold_it() -> None:
    torch.empty(2**46)


def nothing_to_hold_it_in_numpy() -> None:
    np.ones(2**46)


def out_of_device_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


def batch_fails() -> None:
    raise IndexError("index 7 is out of bounds")


FAILURES = {
    "memory of the processor": (nothing_to_hold_it, "oom", r"RuntimeError: .*can't allocate memory"),
    "memory of numpy": (nothing_to_hold_it_in_numpy, "oom", r"MemoryError: Unable to allocate 512\. TiB"),
    "memory of the device": (out_of_device_memory, "oom", r"OutOfMemoryError: CUDA out of memory. Tried"),
    "preparing a batch": (batch_fails, "failed", r"IndexError: index 7 is out of bounds"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_is_told_and_the_same_command_goes_on(cfg, undisturbed, happens, capsys, kind):
    what, status, reason = FAILURES[kind]
    happens(what)
    assert run(cfg) == 1
    assert record().status == status
    assert re.search(reason, record().error)
    said = capsys.readouterr().err
    assert record().error.splitlines()[0] in said
    assert ("Traceback" in said) == (status == "failed")  # a fault of ours shows where
    assert [path.name for path in checkpoints()] == ["step-00000002", f"step-{LAST:08d}"]
    assert run(cfg) == 0
    assert comparable(record()) == undisturbed


@pytest.mark.parametrize("damaged", [1, 2], ids=["the newest", "all"])
def test_a_damaged_checkpoint_is_passed_over_and_named(cfg, undisturbed, happens, capsys, damaged):
    happens(out_of_device_memory)
    assert run(cfg) == 1
    for path in checkpoints()[-damaged:]:
        (path / TENSORS).write_bytes((path / TENSORS).read_bytes()[:-1])
    capsys.readouterr()
    assert run(cfg) == 0
    outcome = {1: "the run goes on from step-00000002", 2: "none is left, the run starts anew"}[damaged]
    reason = "is not used: tensors.safetensors does not match its checksum"
    notes = [f"checkpoint step-{step:08d} {reason}; {outcome}" for step in (4, 2)[:damaged]]
    assert [note for note in record().notes if note.startswith("checkpoint")] == notes
    said = capsys.readouterr().err
    assert all(f"note: {note}\n" in said for note in notes)
    assert comparable(record()) == undisturbed


def test_a_run_that_diverges_does_not_go_on_from_its_checkpoint(cfg, happens, monkeypatch):
    """It would end in the same step again."""
    happens(
        lambda: monkeypatch.setattr("lora2.training.step.task_loss", lambda task, logits, labels: logits[:, 0] * np.nan)
    )
    assert run(cfg) == 1
    assert record().status == "failed"
    assert re.search(rf"step {LAST}: .*not finite", record().error)
    assert checkpoints() == []


@pytest.mark.parametrize(
    ("disk", "unwritten"),
    [
        ("outputs", rf"checkpoints/step-0000000{LAST + 2}"),
        ("results", r"results/runs/tiny-"),
        (".", rf"checkpoints/step-0000000{LAST + 2}"),
    ],
)
def test_a_full_disk_ends_in_one_message(cfg, undisturbed, happens, tmp_path, capsys, disk, unwritten):
    """Really full ones: tests/faults/full_disk.py."""
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(tmp_path / disk):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        happens(lambda: patch.setattr(os, "fsync", full))
        assert run(cfg) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert len(re.findall(rf"failed: cannot write \S*{unwritten}\S*: No space left on device; mend that", said)) == 1
    assert said.count("No space left") == 1
    assert ("the record could not be written either" in said) == (disk == ".")
    assert [file.name for file in Path("results").rglob("*") if file.is_file()] == (
        [f"{record().run_id}.json"] if disk == "outputs" else []
    )
    assert run(cfg) == 0
    assert comparable(record()) == undisturbed


HOLD = """
import filelock, sys, time
lock = filelock.FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_second_process_refuses_and_a_dead_ones_lock_is_taken_over(cfg, undisturbed, happens):
    happens(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert run(cfg) == 143
    lock = checkpoints()[0].parents[1] / ".lock"
    owner = subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=rf"{lock.parent.name}: another process is doing this run; wait for it"):
            run(cfg)
    finally:
        owner.kill()
        owner.communicate()
    assert lock.exists()
    assert run(cfg) == 0
    assert comparable(record()) == undisturbed
