"""Readers of files that others wrote: whatever the bytes, they return what they promise or raise our error, soon."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora2.analysis.html.records import facts
from lora2.common.errors import UserError
from lora2.glue.local import OnBadRow, read_splits
from lora2.glue.tasks import TASKS, TaskSpec
from lora2.glue.tsv import parse_table
from lora2.runs.reader import load_runs
from lora2.runs.record import RunRecord, read_record, write_record

soon = settings(max_examples=150, deadline=5000, suppress_health_check=[HealthCheck.too_slow])  # 5 s: it hangs

# ------------------------------------------------------------------------------------------------ the official files

HEADERS = {  # text and label columns as the files name them, in another order than is asked for
    "cola": None,
    "sst2": "sentence\tlabel",
    "mrpc": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
    "qqp": "is_duplicate\tquestion2\tquestion1",
    "stsb": "score\tsentence2\tsentence1",
    "mnli": "gold_label\tsentence1\tsentence2",
    "qnli": "sentence\tquestion\tlabel",
    "rte": "label\tsentence2\tsentence1",
}
PIECES = (
    "0",
    "1",
    "entailment",
    "neutral",
    "2.5",
    "5.1",
    "nan",
    "1e999",
    "1_0",
    "a b",
    '"',
    "\t",
    "\t",
    "\n",
    "\n",
    "\r",
)
FIELD = st.sampled_from((*PIECES, "\ufeff", "\u2028", "\x00", "\x1c", "é", "٣")) | st.text(max_size=4)
TEXT = st.lists(FIELD, max_size=40).map(lambda parts: "".join(parts).encode("utf-8", "surrogatepass"))


@soon
@given(
    task=st.sampled_from(list(TASKS.values())),
    rows=TEXT | st.binary(max_size=200),
    headed=st.booleans(),
    on_bad_row=st.sampled_from(["refuse", "drop"]),
)
def test_any_bytes_are_a_valid_split_or_a_user_error(
    tmp_path_factory, task: TaskSpec, rows: bytes, headed: bool, on_bad_row: OnBadRow
):
    header = HEADERS[task.name]
    path = tmp_path_factory.getbasetemp() / "fuzz" / task.folder / "train.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((f"{header}\n".encode() if header and headed else b"") + rows)
    try:
        split = read_splits(task, path.parents[1], ("train",), on_bad_row)[0]["train"]
    except UserError:
        return
    assert split.labels is not None
    assert {len(column) for column in split.texts} == {len(split.labels)} != {0}
    assert len(split.texts) == len(task.text_columns)
    assert all("\t" not in text and "\n" not in text for column in split.texts for text in column)
    allowed = range(task.num_labels)
    assert all(0 <= label <= 5 if task.is_regression else label in allowed for label in split.labels)


@soon
@given(content=TEXT | st.binary(max_size=200), advice=st.sampled_from(["Mend it.", None]))
def test_any_bytes_are_a_table_of_equal_rows_or_a_user_error(content: bytes, advice: str | None):
    try:
        table = parse_table(Path("fuzz.tsv"), content, None, advice)
    except UserError:
        return
    assert table.rows
    assert all(len(row) == len(table.header) for row in table.rows)
    assert not any("\n" in field or "\t" in field for row in table.rows for field in row)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_fuzzed_headers_are_right(task: TaskSpec, tmp_path: Path):
    """Else every example above would end at its header."""
    header = HEADERS[task.name]
    label = {"stsb": "2.5", "rte": "entailment", "qnli": "entailment", "mnli": "neutral"}.get(task.name, "1")
    names = ("source", "label", "mark", "sentence") if header is None else tuple(header.split("\t"))
    filled = dict.fromkeys(("label", "score", "gold_label", "Quality", "is_duplicate"), label) | {"mark": "*"}
    row = "\t".join(filled.get(name, "x") for name in names)
    (tmp_path / task.folder).mkdir()
    (tmp_path / task.folder / "train.tsv").write_text((f"{header}\n" if header else "") + row)
    assert len(read_splits(task, tmp_path, ("train",), "refuse")[0]["train"]) == 1


# ------------------------------------------------------------------------------------------------------------ records

(GOOD,) = sorted(Path(__file__).resolve().parents[2].glob("results/runs/minilm-rte-*.json"))[:1]
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 0, 1e-320])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NESTED = st.integers(1, 200_000).map(lambda depth: b'{"x":' * depth)  # deeper than any parser's stack


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real record with one value replaced, removed or added, or with its bytes cut or changed."""
    record = small_record()
    if draw(st.booleans()):
        node: Any = record
        while draw(st.booleans()) and isinstance(node[key := draw(st.sampled_from(sorted(node)))], dict) and node[key]:
            node = node[key]
        key = draw(st.sampled_from(sorted(node)) | st.text(max_size=5))
        if draw(st.booleans()):
            node.pop(key, None)
        else:
            node[key] = draw(VALUES)
    content = bytearray(json.dumps(record).encode("utf-8", "surrogatepass"))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(content) - 1))
        content[place] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.none() | st.integers(0, len(content)))])


def small_record() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(GOOD.read_text(encoding="utf-8"))
    record["history"] = {name: rows[:2] for name, rows in record["history"].items()}
    return record


ANY_RECORD = damaged() | st.binary(max_size=100) | VALUES.map(lambda value: json.dumps(value).encode()) | NESTED


@soon
@given(content=ANY_RECORD)
def test_any_bytes_are_a_record_or_a_user_error(tmp_path_factory, content: bytes):
    folder = tmp_path_factory.getbasetemp() / "records"
    path = folder / "runs" / "fuzz.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    try:
        record = read_record(path)
    except UserError:
        pass
    else:
        again = write_record(record, tmp_path_factory.getbasetemp() / "again")  # no path, and every number is one
        assert read_record(again) == record
        again.unlink()
    runs, warnings = load_runs(path.parent)
    assert len(runs) + len(warnings) == 1
    for run in runs:
        assert isinstance(run.task, str)
        assert isinstance(run.hashes.get("data"), str | None)
        assert isinstance(facts(run), dict)  # what the page says of it


def test_the_fuzzed_record_is_right(tmp_path: Path):
    """Else every example above would be refused for the same reason."""
    record = RunRecord.model_validate(small_record())
    assert read_record(write_record(record, tmp_path)) == record
    assert len(load_runs(tmp_path / "runs")[0]) == 1
