"""How a run ends: who writes its record, and what becomes of one that is there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.exporting import Home, record_of, settings

from lora2.runs.record import RunRecord, read_record, record_path
from lora2.training.recording import save_record
from lora2.training.session import _content, _end_alone

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
