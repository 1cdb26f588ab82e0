"""A batch gives the same run whether it is computed at once, in parts one after the other, or in parts side by side."""

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.clocks import without_clocks
from helpers.ddp_worker import DRY, STOPPED_IN, Notes, in_folder, noted, settings
from helpers.runs import ROOT, import_path

from lora2.runs.record import RunRecord, read_record

PROCESSES, STEPS, TRAIN, DEV = 2, 8, 33, 301
WORDS = ("the", "cat", "dog", "house", "runs", "sleeps", "red", "old", "tree", "river", "not", "sees", "likes", "bird")


def write_glue(folder: Path) -> None:
    """RTE in its official form, made up: 33 examples to train on, so that every other batch of 32 has one."""
    chance = random.Random(0)
    folder.mkdir(parents=True)
    for name, rows in (("train", TRAIN), ("dev", DEV)):
        lines = ["index\tsentence1\tsentence2\tlabel"]
        for index in range(rows):
            first, second = (" ".join(chance.choices(WORDS, k=chance.randint(2, 12))) for _ in range(2))
            lines.append(f"{index}\t{first}\t{second}\t{'not_' if 'not' in first else ''}entailment")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")


def record(folder: Path) -> RunRecord:
    (file,) = (folder / "results" / "runs").iterdir()
    return read_record(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds the data, and a folder for every run."""
    made = tmp_path_factory.mktemp("processes")
    write_glue(made / "glue" / "RTE")
    for name in ("alone", "parts", "failed", "dry", "whole", "resumed"):
        (made / name).mkdir()
    return made


@pytest.fixture(scope="module")
def alone(folder) -> Notes:
    """One process, whole batches, no dropout."""
    return by_itself(folder / "alone", "recipe.accumulation=1")


def by_itself(folder: Path, *overrides: str) -> Notes:
    home = Path.cwd()
    with noted() as notes:
        try:
            notes.codes.append(in_folder(folder, settings(folder.parent / "glue", *DRY, *overrides)))
        finally:
            os.chdir(home)
    assert notes.codes == [0]
    return notes


@pytest.fixture(scope="module")
def processes(folder) -> list[Notes]:
    """What each of two processes noted."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(PROCESSES), "--standalone"]
    done = subprocess.run(
        [*launch, str(ROOT / "tests" / "helpers" / "ddp_worker.py"), str(folder), port],
        env={**os.environ, "PYTHONPATH": import_path(ROOT, ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    noted_there = []
    for rank in range(PROCESSES):
        notes = Notes()
        vars(notes).update(json.loads((folder / f"notes-{rank}.json").read_text()))
        noted_there.append(notes)
    return noted_there


def assert_same(ours: RunRecord, theirs: RunRecord) -> None:
    """To what float32 leaves of it when sums are taken in another order."""
    assert (ours.status, theirs.status) == ("ok", "ok")
    for kind in ("train", "eval", "monitor"):
        for row, other in zip(ours.history[kind], theirs.history[kind], strict=True):
            assert row == pytest.approx(other, rel=1e-4, abs=1e-6)
    assert ours.metrics.model_dump() == theirs.metrics.model_dump()
    assert (ours.ranks, ours.counts, ours.tokens) == (theirs.ranks, theirs.counts, theirs.tokens)


def test_parts_one_after_the_other_are_the_whole_batch(folder, alone):
    notes = by_itself(folder / "parts", "recipe.accumulation=4")
    assert_same(record(folder / "parts"), record(folder / "alone"))
    assert [step["masks"] for step in notes.steps] == [step["masks"] for step in alone.steps]


def test_parts_side_by_side_are_the_whole_batch(folder, alone, processes):
    assert_same(record(folder / "dry"), record(folder / "alone"))
    assert [step["masks"] for step in processes[0].steps[:STEPS]] == [step["masks"] for step in alone.steps]


def test_processes_hold_the_same_after_every_step(processes):
    """In the runs with and without dropout, and in the one that was stopped and resumed."""
    assert len(processes[0].steps) == 3 * STEPS
    assert processes[0].steps == processes[1].steps
    for part in ("weights", "importance", "masks"):
        assert len({step[part] for step in processes[0].steps[:STEPS]}) > 2


def test_every_example_is_evaluated_once(processes):
    shares = zip(*(notes.evaluated for notes in processes), strict=True)
    counts = [len(first) + len(second) for first, second in shares]
    assert set(counts) == {DEV, 256}  # 256: the check of the merged weights
    for first, second in zip(*(notes.evaluated for notes in processes), strict=True):
        assert sorted(first + second) == list(range(len(first) + len(second)))
        assert first
        assert second


def test_only_the_first_process_writes(processes):
    assert processes[1].written == []


def test_a_signal_to_one_process_stops_all_and_all_resume(folder, processes):
    """To what an undisturbed run of as many processes gives, bit for bit, dropout included."""
    assert [notes.codes[1:] for notes in processes] == [[0, 0, 143, 0]] * PROCESSES
    steps = processes[0].steps
    assert steps[2 * STEPS : 2 * STEPS + STOPPED_IN + 1] == steps[STEPS : STEPS + STOPPED_IN + 1]
    assert steps[2 * STEPS :] == steps[STEPS : 2 * STEPS]
    assert without_clocks(record(folder / "resumed")) == without_clocks(record(folder / "whole"))
    assert record(folder / "whole").history != record(folder / "dry").history
    for name in ("best", "last"):
        one, other = (next((folder / run).glob(f"outputs/*/{name}.safetensors")) for run in ("whole", "resumed"))
        assert one.read_bytes() == other.read_bytes()


def test_a_process_that_fails_alone_is_named_and_nobody_waits_for_it(folder, processes):
    assert [notes.codes[0] for notes in processes] == [1] * PROCESSES
    failed = record(folder / "failed")
    assert (failed.status, failed.error) == ("oom", "process 1 of 2: MemoryError: nothing left")
