"""Read the official GLUE download on disk, `<folder>/{train,dev,test}.tsv`, with all its quirks; write its like."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from lora2.common.errors import UserError
from lora2.glue.official import is_official
from lora2.glue.raw import DROPPED, RawSplit
from lora2.glue.tasks import TaskSpec
from lora2.glue.tsv import Table, in_order_of, parse_table, read_bytes, without_bad_rows

OnBadRow = Literal["refuse", "drop"]

_FILES: Mapping[str, str] = {
    "train": "train.tsv",
    "validation": "dev.tsv",
    "test": "test.tsv",
    "validation_matched": "dev_matched.tsv",
    "validation_mismatched": "dev_mismatched.tsv",
    "test_matched": "test_matched.tsv",
    "test_mismatched": "test_mismatched.tsv",
}

# Where the files' column names differ from the hub's.
_TEXT_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "mrpc": ("#1 String", "#2 String"),
    "mnli": ("sentence1", "sentence2"),
}
_LABEL_COLUMNS: Mapping[str, str] = {
    "mrpc": "Quality",
    "qqp": "is_duplicate",
    "stsb": "score",
    "mnli": "gold_label",
}
_NAMED_LABELS = ("mnli", "qnli", "rte")  # the other classification files hold the ids themselves
_MARK = re.compile("[*? ]*")  # of a linguist's judgement
_COLA_HEADER = ("source", "label", "mark", "sentence")  # train and dev of CoLA start with their first row
_INDEX_COLUMNS: Mapping[str, str] = {"qqp": "id"}  # "index" elsewhere; every test file has one
_EVERY_ROW = "A submission needs every row: download the official file again."
_OLD_QQP = (
    "The old QQP.zip of GLUE has rows that are cut; the cleaned release, "
    "https://dl.fbaipublicfiles.com/glue/data/QQP-clean.zip, has none. "
)


def read_splits(
    task: TaskSpec, data_dir: Path, names: tuple[str, ...], on_bad_row: OnBadRow
) -> tuple[dict[str, RawSplit], tuple[str, ...]]:
    """Read the named splits of `task` from `data_dir/<folder>/`.

    Args:
        task: what to read.
        data_dir: the folder that holds CoLA/, MRPC/ and so on.
        names: of the splits, as on the hub.
        on_bad_row: "drop" leaves out rows with a wrong number of columns, bytes that are not UTF-8 or no valid label;
            a row of a test split is always refused, as a submission needs all of them.

    Returns:
        The splits by name, test splits in the order of their index, and sentences on what is not official.

    Raises:
        UserError: a folder or file is missing, or its content is not the official format; the message names file,
            line, what was found and the cure.
    """
    folder = data_dir / task.folder
    if not folder.is_dir():
        raise UserError(
            f"data.dir: no folder {folder}. data=local needs {data_dir} to hold the official GLUE folders "
            f"(here {task.folder}/ with {', '.join(_FILES[name] for name in names)}). "
            "Mend data.dir, or use data=hub or data=demo."
        )
    splits, warnings = {}, []
    for name in names:
        path = folder / _FILES[name]
        content = read_bytes(path)
        table, splits[name] = _read_split(task, path, content, name, on_bad_row)
        if table.dropped:
            warnings.append(_drop_note(task, name, table))
        if not is_official(task, name, content):
            warnings += _difference_notes(task, name, table, splits[name])
    return splits, tuple(warnings)


def write_split(task: TaskSpec, data_dir: Path, name: str, split: RawSplit) -> None:
    """Write a labelled split as `data_dir/<folder>/<file>`, with the columns that readers of the official file need.

    Args:
        task: whose split it is.
        data_dir: the folder that is to hold CoLA/, MRPC/ and so on.
        name: of the split, as on the hub.
        split: its texts hold neither tabs nor newlines.
    """
    assert split.labels is not None
    columns = dict(zip(_TEXT_COLUMNS.get(task.name, task.text_columns), split.texts, strict=True))
    written = {label: text for text, label in _label_ids(task).items()}
    columns[_LABEL_COLUMNS.get(task.name, "label")] = [
        repr(label) if task.is_regression else written[label] for label in split.labels
    ]
    header = _COLA_HEADER if task.name == "cola" else tuple(columns)
    rows = zip(*(columns.get(column, [""] * len(split)) for column in header), strict=True)
    lines = [*(() if task.name == "cola" else (header,)), *rows]
    path = data_dir / task.folder / _FILES[name]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


def _read_split(task: TaskSpec, path: Path, content: bytes, name: str, on_bad_row: OnBadRow) -> tuple[Table, RawSplit]:
    labelled = name not in task.test_splits
    header = _COLA_HEADER if task.name == "cola" and labelled else None
    advice = _advice(task, on_bad_row) if labelled else _EVERY_ROW
    table = parse_table(path, content, header, advice)
    columns = _TEXT_COLUMNS.get(task.name, task.text_columns)
    for column in columns:
        table.position(column)  # a wrong header is told before a wrong label
    labels = None
    if header is not None:  # CoLA's columns have no names; by its mark the third is known
        marks = enumerate(table.column("mark"))
        bad = {
            i: f"column 3 is {mark!r}, but must be empty or * or ?" for i, mark in marks if not _MARK.fullmatch(mark)
        }
        table = without_bad_rows(table, bad, advice)
    if labelled:
        table, labels = _labelled(task, table, advice)
    else:
        table = in_order_of(table, _index_column(task))
    return table, RawSplit(tuple(table.column(column) for column in columns), labels)


def _advice(task: TaskSpec, on_bad_row: OnBadRow) -> str | None:
    """How a bad row is mended; None to leave it out."""
    if on_bad_row == "drop":
        return None
    return (
        f"{_OLD_QQP if task.name == 'qqp' else 'The official files have no such row. '}"
        "Mend or delete the line, download the official file again, or leave such rows out with data.on_bad_row=drop, "
        "which the record tells."
    )


def _labelled(task: TaskSpec, table: Table, advice: str | None) -> tuple[Table, list[float]]:
    """The rows that have a label, and their labels."""
    column = _LABEL_COLUMNS.get(task.name, "label")
    written = table.column(column)
    if task.is_regression:
        labels, allowed = [_score(text) for text in written], "a number from 0 to 5"
    else:
        ids = _label_ids(task)
        labels, allowed = [ids.get(text) for text in written], " or ".join(ids)
    bad = {i: f"{column} is {written[i]!r}, but must be {allowed}" for i, label in enumerate(labels) if label is None}
    return without_bad_rows(table, bad, advice), [label for label in labels if label is not None]


def _drop_note(task: TaskSpec, name: str, table: Table) -> str:
    """One sentence on the rows that were left out."""
    total = len(table.rows) + len(table.dropped)
    return (
        f"{task.name}/{name}: {len(table.dropped)} of {total} rows of {table.path.name} {DROPPED} "
        f"(data.on_bad_row=drop), the first in line {min(table.dropped)}."
    )


def _difference_notes(task: TaskSpec, name: str, table: Table, split: RawSplit) -> Iterator[str]:
    """Sentences on a file that is not the official one."""
    where = f"{task.name}/{name}"
    yield f"{where}: {table.path.name} differs from the official file; scores may not be comparable with the paper's."
    rows = zip(table.lines, *split.texts, strict=True)
    if quoted := [line for line, *texts in rows if any(map(_is_requoted, texts))]:
        yield (
            f"{where}: {len(quoted)} rows have fields in quotes with doubled quotes inside, the first in line "
            f"{quoted[0]}, as a spreadsheet saves them; the official file has no quoting, so these texts are others."
        )
    column = _index_column(task)
    if column in table.header:
        doubled = [text for text, count in Counter(table.column(column)).items() if count > 1]
        if doubled:
            yield f"{where}: {len(doubled)} values of {column} are there more than once, the first is {doubled[0]!r}."


def _is_requoted(text: str) -> bool:
    """Say whether a field looks like one of a CSV file: in quotes, with every quote inside doubled.

    Official fields begin and end with a quote too, but hold no doubled one.
    """
    inside = text[1:-1]
    return text.startswith('"') and text.endswith('"') and '""' in inside and '"' not in inside.replace('""', "")


def _index_column(task: TaskSpec) -> str:
    return _INDEX_COLUMNS.get(task.name, "index")


def _label_ids(task: TaskSpec) -> dict[str, float]:
    """Map how each label is written in the task's files to its id."""
    names = task.label_names if task.name in _NAMED_LABELS else map(str, range(task.num_labels))
    return {name: float(index) for index, name in enumerate(names)}


def _score(text: str) -> float | None:
    """Parse a similarity score from 0 to 5, or return None if the text is none."""
    try:
        score = float(text)
    except ValueError:
        return None
    return score if math.isfinite(score) and 0 <= score <= 5 else None
