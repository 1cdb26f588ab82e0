"""Checkpoints and records on disk: found when whole, named when damaged, never half there, whenever a writer dies."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.exporting import Home, record_of, settings
from helpers.toys import encoder
from helpers.training import TOTAL, lora2, trainer

from lora2.common.files import StorageError
from lora2.config.schema import CheckpointConfig
from lora2.runs.record import read_record, record_path, write_record
from lora2.training.checkpoint import MANIFEST, STATE, TENSORS, Checkpoint, CheckpointFolder
from lora2.training.loop import CancelledError, RunControl, Trainer
from lora2.training.state import TrainState, trained_parameters


def checkpoint(step: int) -> Checkpoint:
    return Checkpoint(step, {"weights/a": torch.full((4, 3), float(step))}, {"train_state": {"steps": step}})


def flip(path: Path) -> None:
    """One bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def rewrite(path: Path, **changes: object) -> None:
    """Change a manifest."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated tensors": (lambda x: truncate(x / TENSORS), "tensors.safetensors does not match its checksum"),
    "a bit of the tensors": (lambda x: flip(x / TENSORS), "tensors.safetensors does not match its checksum"),
    "a bit of the state": (lambda x: flip(x / STATE), "state.json does not match its checksum"),
    "state is not JSON": (lambda x: (x / STATE).write_text("{"), "state.json does not match its checksum"),
    "no tensors": (lambda x: (x / TENSORS).unlink(), "tensors.safetensors cannot be read (No such file"),
    "no state": (lambda x: (x / STATE).unlink(), "state.json cannot be read (No such file"),
    "no manifest": (lambda x: (x / MANIFEST).unlink(), "manifest.json cannot be read (No such file"),
    "manifest is not JSON": (lambda x: truncate(x / MANIFEST), "manifest.json is damaged"),
    "manifest is not text": (lambda x: (x / MANIFEST).write_bytes(b"\xff\xfe"), "manifest.json is damaged"),
    "manifest is a list": (lambda x: (x / MANIFEST).write_text("[]"), "manifest.json is damaged"),
    "manifest lacks a sum": (lambda x: rewrite(x / MANIFEST, sha256={}), "manifest.json is damaged"),
    "of another config": (lambda x: rewrite(x / MANIFEST, run="tiny-rte-s1"), "it is of another run, tiny-rte-s1"),
    "of another version": (lambda x: rewrite(x / MANIFEST, format=0), "it has format 0, this version reads"),
}


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """With checkpoints of steps 3 and 5."""
    made = CheckpointFolder(tmp_path / "checkpoints", "run")
    for step in (1, 3, 5):
        made.save(checkpoint(step))
    return made


def names(folder: CheckpointFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_what_was_saved_is_found(folder):
    found, notes = folder.latest()
    assert (found.step, found.state, notes) == (5, {"train_state": {"steps": 5}}, [])
    assert torch.equal(found.tensors["weights/a"], checkpoint(5).tensors["weights/a"])
    folder.clear()
    assert folder.latest() == (None, [])


def test_the_newest_and_the_one_before_it_are_kept(folder):
    assert names(folder) == ["step-00000003", "step-00000005"]


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_the_one_before_is_used(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder.path / "step-00000005")
    found, (note,) = folder.latest()
    assert found.step == 3
    assert re.fullmatch(
        rf"checkpoint step-00000005 is not used: {re.escape(message)}.*; the run goes on from step-00000003", note
    )
    damage(folder.path / "step-00000003")
    found, notes = folder.latest()
    assert found is None
    assert len(notes) == 2
    assert all(note.endswith("none is left, the run starts anew") for note in notes)


def test_a_whole_one_takes_the_place_of_damaged_ones(folder):
    """Those of later steps too: the run has been there before it had to go back."""
    flip(folder.path / "step-00000005" / TENSORS)
    folder.save(checkpoint(4))
    assert names(folder) == ["step-00000003", "step-00000004"]
    flip(folder.path / "step-00000004" / TENSORS)
    folder.save(checkpoint(4))
    assert folder.latest()[0].step == 4


# --------------------------------------------------------------------------------------------- killed while writing

FILE_OPERATIONS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "os.fsync"}


def killed_before(operation: int, write: Callable[[], object]) -> bool:
    """Do `write` in a child that dies, as by kill -9, before so many file operations; whether it did die."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        operations = itertools.count()

        def die(event: str, arguments: object) -> None:
            if event in FILE_OPERATIONS and next(operations) == operation:
                os.kill(os.getpid(), signal.SIGKILL)

        fsync = os.fsync
        os.fsync = lambda descriptor: (sys.audit("os.fsync"), fsync(descriptor))[1]  # has no event of its own
        sys.addaudithook(die)
        try:
            write()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status != 0


def test_a_writer_of_checkpoints_may_die_at_any_moment(folder, tmp_path):
    for operation in itertools.count():
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        copy = CheckpointFolder(Path(shutil.copytree(folder.path, tmp_path / "copy")), "run")
        died = killed_before(operation, lambda copy=copy: copy.save(checkpoint(7)))
        found, notes = copy.latest()
        assert (found.step in (5, 7), notes) == (True, [])
        assert torch.equal(found.tensors["weights/a"], checkpoint(found.step).tensors["weights/a"])
        copy.save(checkpoint(8))
        assert names(copy)[-1] == "step-00000008"
        assert len(names(copy)) == 2  # and nothing of the killed writer's
        if not died:
            break
    assert operation > 10


@pytest.mark.parametrize("replaced", [False, True])
def test_a_writer_of_records_may_die_at_any_moment(tmp_path, replaced):
    first = record_of(Home("run", tmp_path, tmp_path), settings("bert"), "0" * 64)
    second, path = first.model_copy(update={"steps": 9}), record_path(tmp_path, "run")
    for operation in itertools.count():
        shutil.rmtree(path.parent, ignore_errors=True)
        if replaced:
            write_record(first, tmp_path)
        died = killed_before(operation, lambda: write_record(second, tmp_path))
        assert path.exists() or (died and not replaced)
        assert not path.exists() or read_record(path) in (first, second)
        write_record(second, tmp_path)
        assert [file.name for file in path.parent.iterdir()] == ["run.json"]
        assert read_record(path) == second
        if not died:
            break
    assert operation > 3


# ------------------------------------------------------------------------------------------------------- a full disk


@pytest.fixture
def full_disk(monkeypatch):
    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)


def test_a_full_disk_leaves_what_was_there(folder, tmp_path, full_disk):
    with pytest.raises(StorageError, match=r"cannot write .*step-00000007: No space left on device; mend that"):
        folder.save(checkpoint(7))
    assert names(folder) == ["step-00000003", "step-00000005"]
    record = record_of(Home("run", tmp_path, tmp_path), settings("bert"), "0" * 64)
    with pytest.raises(StorageError, match=r"cannot write .*run\.json: No space left on device; mend that"):
        write_record(record, tmp_path)
    assert list((tmp_path / "runs").iterdir()) == []


# -------------------------------------------------------------------------------------------------- going on from it


def with_dropout(folder: CheckpointFolder, stop_after: int) -> Trainer:
    """Dropout, pruning and batches grouped by length; a checkpoint after every other step."""
    model = encoder("bert", dropout=0.1)
    run = trainer(model, lora2(model), group_by_length=True)
    torch.manual_seed(11)
    steps = itertools.count(1)
    return replace(
        run,
        control=RunControl(
            checkpoints=folder, every=CheckpointConfig(every_steps=2), stop=lambda: next(steps) == stop_after
        ),
    )


def outcome(run: Trainer, state: TrainState) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    """Everything that a run leaves behind but its clocks."""
    plain = state.to_json()
    del plain["seconds"]
    weights = {name: p.detach().clone() for name, p in trained_parameters(run.method).items()}
    method = {f"method/{name}": x.clone() for name, x in run.method.stateful.state_dict().items()}
    return plain, weights | method | {f"best/{name}": x for name, x in state.best_weights.items()}


@pytest.mark.parametrize(
    ("damaged", "start"), [((), 7), (("7",), 6), (("6", "7"), 0)], ids=["whole", "newest damaged", "all damaged"]
)
def test_the_resumed_run_is_the_uninterrupted_one(tmp_path, damaged, start):
    folder = CheckpointFolder(tmp_path, "run")
    whole = with_dropout(folder, 0)
    plain, tensors = outcome(whole, whole.fit())
    folder.clear()
    with pytest.raises(CancelledError, match=rf"stopped by a signal after step 7 of {TOTAL}; run again to go on"):
        with_dropout(folder, 7).fit()
    for step in damaged:
        flip(tmp_path / f"step-0000000{step}" / TENSORS)
    found, _ = folder.latest()
    assert (0 if found is None else found.step) == start
    resumed = with_dropout(folder, 0)
    plain_again, tensors_again = outcome(resumed, resumed.fit(found))
    assert plain_again == plain
    assert tensors_again.keys() == tensors.keys()
    assert all(torch.equal(tensors_again[name], value) for name, value in tensors.items())
