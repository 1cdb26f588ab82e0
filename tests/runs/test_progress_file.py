"""The file that tells how far a run is: written whole, read from any machine, never in the way."""

import json
import socket
import threading
from dataclasses import replace

from lora2.runs.progress import (
    NAME,
    STALE_SECONDS,
    RunProgress,
    read_progress,
    remove_progress,
    write_progress,
)

HERE = RunProgress(
    step=40,
    total=120,
    seconds_left=80.0,
    loss=0.5,
    metrics={"accuracy": 0.7},
    best={"accuracy": 0.75},
    evaluating=False,
    host=socket.gethostname(),
    written=1000.0,
)


def test_what_is_written_is_read_by_the_name_of_the_run(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_progress(tmp_path / name, replace(HERE, step=len(name)))
    assert read_progress(tmp_path) == {name: replace(HERE, step=3) for name in ("one", "two")}
    assert [path.name for path in (tmp_path / "one").iterdir()] == [NAME]  # nothing temporary is left
    remove_progress(tmp_path / "one")
    remove_progress(tmp_path / "one")  # twice does no harm
    assert list(read_progress(tmp_path)) == ["two"]


def test_damaged_files_and_files_of_another_version_are_left_out(tmp_path):
    for name, text in (("half", '{"step": 1'), ("list", "[]"), ("other", json.dumps({"steps": 3})), ("empty", "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_text(text)
    assert read_progress(tmp_path) == {}


def test_a_reader_never_sees_half_a_file(tmp_path):
    (tmp_path / "run").mkdir()
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            write_progress(tmp_path / "run", HERE)

    writer = threading.Thread(target=write)
    write_progress(tmp_path / "run", HERE)
    writer.start()
    try:
        assert all(read_progress(tmp_path) == {"run": HERE} for _ in range(200))
    finally:
        over.set()
        writer.join()


def test_a_disk_that_takes_nothing_is_no_reason_to_stop(tmp_path):
    write_progress(tmp_path / "gone", HERE)
    remove_progress(tmp_path / "gone")
    assert read_progress(tmp_path) == {}


def test_an_old_file_is_stale_and_one_from_a_clock_that_is_ahead_is_not():
    assert not HERE.is_stale(now=HERE.written + STALE_SECONDS)
    assert HERE.is_stale(now=HERE.written + STALE_SECONDS + 1)
    assert HERE.age(now=HERE.written - 500) == 0
    assert (HERE.is_elsewhere, replace(HERE, host="gpu7").is_elsewhere) == (False, True)
