"""The one reader reads all that the schema writes, names what is no record, and starts quickly."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.fake_records import record
from pydantic import BaseModel

from lora2.common.errors import UserError
from lora2.runs.caveats import CAVEATS
from lora2.runs.cells import choose
from lora2.runs.format import STATUSES
from lora2.runs.reader import Run, UnreadableRecordError, load_runs, parse_run, read_run
from lora2.runs.record import Counts, Metrics, RecordConfig, RunRecord, Timing, Verification, read_record, write_record

NEEDED = {
    "run_id": "a-run",
    "config": RecordConfig(
        model="minilm",
        task="mrpc",
        method="lora2",
        seed=3,
        variant="lora2_k8",
        recipe="short",
        data="local",
        experiment="table1",
        setting_id="aaa",
        resolved={"recipe": {"lr": 0.001}, "targets": ["query", "key"]},
    ),
    "synthetic": True,
    "model_random_init": True,
}
OPTIONAL = {
    "error": "it broke",
    "notes": ["one", "two"],
    "caveats": ["other data", "shortened"],
    "constant": ["last"],
    "metrics": Metrics(best={"accuracy": 0.8, "f1": 0.9}, last={"accuracy": 0.7, "f1": 0.8}, best_step=230, main="f1"),
    "counts": Counts(adapter=1000, active_adapter=900, head=50, backbone=99),
    "ranks": {"layer.0.query": 8},
    "masks": {"layer.0.query": "11111111"},
    "padding_share": 0.25,
    "steps": 12,
    "tokens": 3456,
    "padded_tokens": 4567,
    "history": {"train": [{"step": 1, "loss/task": 0.5}, {"step": 2, "loss/task": 0.25}], "eval": [], "monitor": []},
    "checks": {"head_moved": True, "budget_reached": False},
    "hashes": {"data": "f" * 64},
    "timing": Timing(
        wall_s=9.0, train_s=6.0, eval_s=2.0, seconds_per_step=0.5, tokens_per_s=576.0, shares={"forward": 0.75}
    ),
    "memory": {"process_bytes": 1e9},
    "provenance": {"device": "cpu", "packages": {"torch": "2.0"}},
    "verified": Verification(
        passed=False,
        problems=["accuracy"],
        which="best",
        form="lora",
        metrics={"accuracy": 0.7},
        recorded={"accuracy": 0.8},
        date="2026-11-26",
    ),
}
INLINE = ("config", "metrics")  # parts whose fields stand beside the others in a Run


def flat_fields() -> set[str]:
    """Every field of the schema, those of the parts that a Run holds inline among them."""
    inline = {*RecordConfig.model_fields, *Metrics.model_fields}
    return {*RunRecord.model_fields, *inline} - {"schema_version", *INLINE}


def comparable(value: Any) -> Any:
    """A schema's or a reader's value as plain JSON types."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return json.loads(json.dumps(value))  # tuples become lists


def expected(written: RunRecord) -> dict[str, Any]:
    """What a Run must hold, by field: as the schema has it, and nothing in place of a part that is not there."""
    fields = {
        name: getattr(written, name) for name in RunRecord.model_fields if name not in ("schema_version", *INLINE)
    }
    metrics = {"best": {}, "last": {}, "best_step": None, "main": ""}
    if written.metrics is not None:
        metrics = {name: getattr(written.metrics, name) for name in Metrics.model_fields}
    fields |= {"counts": written.counts or {}} | metrics
    fields |= {name: getattr(written.config, name) for name in RecordConfig.model_fields}
    fields["caveats"] = [kind for kind in CAVEATS if kind in {*written.caveats, *implied(written)}]
    return {name: comparable(value) for name, value in fields.items()}


def implied(written: RunRecord) -> set[str]:
    """The caveats that follow from the other fields of the cases."""
    kinds = {
        "synthetic": written.synthetic,
        "random weights": written.model_random_init and written.status != "timed",
        "check failed": False in written.checks.values(),
        "collapsed": bool(written.constant),
        "verification failed": written.verified is not None and not written.verified.passed,
    }
    return {kind for kind, holds in kinds.items() if holds}


def test_the_cases_have_every_field_of_the_schema():
    """Else a new field would be compared at its default alone."""
    assert {*NEEDED, *OPTIONAL, "status", "schema_version"} == set(RunRecord.model_fields)
    assert all(value != RunRecord.model_fields[name].default for name, value in OPTIONAL.items())
    assert {field.name for field in dataclasses.fields(Run)} == flat_fields()


CASES = [
    (status, left_out)
    for status in STATUSES
    for left_out in ("nothing", "everything", *OPTIONAL)
    if status != "ok" or left_out not in ("everything", "metrics")  # a finished run has metrics
]


@pytest.mark.parametrize(("status", "left_out"), CASES)
def test_it_reads_whatever_the_schema_writes(status: Any, left_out: str, tmp_path: Path):
    optional = {} if left_out == "everything" else {key: value for key, value in OPTIONAL.items() if key != left_out}
    written = RunRecord(**{**NEEDED, **optional, "status": status})
    run = read_run(write_record(written, tmp_path))
    assert {field.name: comparable(getattr(run, field.name)) for field in dataclasses.fields(run)} == expected(written)


def test_a_field_under_the_name_it_once_had_is_read(tmp_path: Path):
    path = write_record(RunRecord(**NEEDED, **OPTIONAL, status="ok"), tmp_path)
    content = json.loads(path.read_text())
    content["positions"] = content.pop("padded_tokens")
    path.write_text(json.dumps(content))
    assert read_run(path).padded_tokens == read_record(path).padded_tokens == OPTIONAL["padded_tokens"]


@pytest.mark.parametrize("place", [("provenance", "date"), ("config", "resolved", "seed")])
def test_a_number_that_json_has_not_is_refused_wherever_it_stands(place: tuple[str, ...], tmp_path: Path):
    """Else it would be written back as null."""
    path = write_record(RunRecord(**NEEDED, **OPTIONAL, status="ok"), tmp_path)
    content = json.loads(path.read_text())
    node = content
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = float("inf")
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"not a run record \(at {'.'.join(place[:-1])}: .*float"):
        read_record(path)


def test_a_finished_run_without_metrics_is_no_record(tmp_path: Path):
    optional = {key: value for key, value in OPTIONAL.items() if key != "metrics"}
    path = write_record(RunRecord(**{**NEEDED, **optional, "status": "ok"}), tmp_path)
    with pytest.raises(UnreadableRecordError, match="metrics: missing in a finished run"):
        read_run(path)


def test_the_made_up_records_are_records():
    assert RunRecord.model_validate(record()).model_dump(mode="json") == record()


def save(folder: Path, content: str) -> Path:
    path = folder / "run.json"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 2}, "schema_version: got 2, this version reads 1"),
        ({"status": "fine"}, "status: got 'fine', allowed: ok, failed"),
        ({"best": {"accuracy": float("nan")}}, "accuracy: nan is not finite"),
        ({"counts": {"adapter": float("inf")}}, "infinity"),
        ({"timing": {"wall_s": 1.0}}, "missing key 'train_s'"),
        ({"history": {"train": [{"step": 10**400}]}}, "too large"),
        ({"history": [1]}, "history: expected a mapping"),
        ({"model": 3}, "model: expected text, got 3"),
        ({"caveats": ["a bad day"]}, "caveats: got a bad day; allowed: synthetic, random weights"),
        ({"caveats": 3}, "not iterable"),
    ],
)
def test_what_is_no_record_is_left_out_with_its_reason(changes: dict[str, Any], reason: str, tmp_path: Path):
    path = save(tmp_path, json.dumps(record(**changes)))
    runs, warnings = load_runs(tmp_path)
    assert runs == []
    (warning,) = warnings
    assert warning.startswith(f"{path}: left out, not a run record: ")
    assert reason in warning


def test_a_point_of_a_curve_may_be_missing(tmp_path: Path):
    points = [{"step": 1, "loss/task": float("nan")}, {"step": 2, "loss/task": 0.5}]
    run = read_run(save(tmp_path, json.dumps(record(history={"train": points}, memory={"a": float("inf"), "b": 1.0}))))
    assert list(run.history["train"]) == [{"step": 1}, {"step": 2, "loss/task": 0.5}]
    assert run.memory == {"b": 1.0}


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UnreadableRecordError, match="No such file"):
        read_run(tmp_path / "none.json")
    assert load_runs(tmp_path / "none") == ([], [])


def test_equal_settings_are_taken_in_alphabetical_order_and_a_seed_counts_once() -> None:
    runs = [parse_run(record(setting_id=name)) for name in ("bbb", "aaa")]
    assert choose(runs).runs[0].setting_id == "aaa"
    twice = [parse_run(record(run_id=name)) for name in ("two", "one")]
    cell = choose(twice)
    assert [run.run_id for run in cell.runs] == ["one"]
    assert cell.dropped_runs == 1


@pytest.mark.parametrize(
    ("changes", "caveats"),
    [
        ({}, ()),
        ({"steps": 8, "resolved": {"recipe": {"max_steps": 8}}}, ("shortened",)),
        ({"steps": 8, "resolved": {"recipe": {"max_steps": 9}}}, ()),  # its epochs ended it
        ({"steps": 8, "resolved": {"recipe": {"max_steps": 8}}, "status": "timed"}, ()),
        ({"steps": 8, "resolved": {"recipe": {"max_steps": 8}}, "caveats": []}, ()),  # its writer knew better
        ({"task": "cola", "best": {"matthews": 0.0}}, ("collapsed",)),
        ({"task": "cola", "best": {"matthews": 0.0}, "constant": []}, ()),
        ({"task": "cola", "best": {"matthews": 1e-9}}, ()),
        ({"status": "failed", "error": "step 3: the loss is not finite"}, ("diverged",)),
        ({"status": "failed", "error": "OSError: no space left"}, ()),
    ],
)
def test_what_a_record_from_before_the_caveats_implies(changes: dict[str, Any], caveats: tuple[str, ...]):
    older = {key: value for key, value in record(**changes).items() if key in changes or key not in NEW}
    assert parse_run(older).caveats == caveats


NEW = ("caveats", "constant")


def test_clean_settings_stand_before_those_of_which_a_seed_collapsed():
    marked = [parse_run(record(seed=seed, constant=["best"] if seed == 0 else [])) for seed in range(4)]
    clean = parse_run(record(setting_id="zzz"))
    assert choose(marked).runs == tuple(marked[1:])
    assert choose(marked).fallen == ({"collapsed": 1}, 4)
    assert choose(marked).caveats == ("collapsed",)
    assert choose([*marked, clean]).runs == (clean,)
