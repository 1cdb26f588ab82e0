"""Read the official GLUE download on disk, `<folder>/{train,dev,test}.tsv`, with all its quirks.

The files are tab-separated without any quoting: fields contain unbalanced quotes, so a CSV reader that knows quotes
silently glues rows together. Only a newline ends a row (U+2028, U+0085 and the like occur inside fields).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora2.common.errors import UserError
from lora2.glue.raw import RawSplit
from lora2.glue.tasks import TaskSpec

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
_COLA_HEADER = ("source", "label", "mark", "sentence")  # train and dev of CoLA start with their first row


@dataclass(frozen=True)
class _Table:
    """Hold a TSV file: column names, rows of as many fields, and the 1-based line number of the first row."""

    path: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    first_line: int


def read_splits(task: TaskSpec, data_dir: Path, names: tuple[str, ...]) -> dict[str, RawSplit]:
    """Read the named splits of `task` from `data_dir/<folder>/`.

    Args:
        task: what to read.
        data_dir: the folder that holds CoLA/, MRPC/ and so on.
        names: of the splits, as on the hub.

    Returns:
        The splits by name.

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
    return {name: _read_split(task, folder / _FILES[name], name) for name in names}


def _read_split(task: TaskSpec, path: Path, name: str) -> RawSplit:
    labelled = name not in task.test_splits
    header = _COLA_HEADER if task.name == "cola" and labelled else None
    table = read_table(path, header)
    texts = tuple(_column(table, column) for column in _TEXT_COLUMNS.get(task.name, task.text_columns))
    return RawSplit(texts, _labels(task, table) if labelled else None)


def read_table(path: Path, header: tuple[str, ...] | None) -> _Table:
    """Read a TSV file. A byte-order mark, CRLF line ends and blank lines at the end are accepted.

    Args:
        path: of the file.
        header: names of the columns, for a file that has no header line.

    Raises:
        UserError: the file is missing, not UTF-8 or without rows, or a row has another number of columns than the
            header.
    """
    lines = [line.removesuffix("\r") for line in _read_text(path).split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    first_line = 1
    if header is None and lines:
        header, lines, first_line = tuple(lines[0].split("\t")), lines[1:], 2
    if header is None or not lines:
        raise UserError(f"{path}: no rows. An official GLUE file has at least one; download it again.")
    table = _Table(path, header, [line.split("\t") for line in lines], first_line)
    _check_widths(table)
    return table


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise UserError(
            f"{path}: no such file. data=local needs the official GLUE files under their official names; "
            "copy it there, or use data=hub or data=demo."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); allowed is a file that you may read: mend its permissions, or "
            "download it again."
        ) from None
    try:
        return content.decode("utf-8-sig")  # MRPC starts with a byte-order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8, the only encoding allowed. "
            f"Convert the file (iconv -t utf-8 {path.name}) or download it again."
        ) from error


def _check_widths(table: _Table) -> None:
    width = len(table.header)
    for number, row in enumerate(table.rows, start=table.first_line):
        if len(row) != width:
            raise UserError(
                f"{table.path}, line {number}: {len(row)} columns, expected {width} ({', '.join(table.header)}). "
                "Fields are split at tabs and must contain neither tabs nor newlines; "
                "mend or delete the line, or download the file again."
            )


def _column(table: _Table, name: str) -> list[str]:
    if name not in table.header:
        raise UserError(
            f"{table.path}, line 1: no column {name!r}, found {', '.join(map(repr, table.header))}. "
            "Put the official header back, or download the file again."
        )
    index = table.header.index(name)
    return [row[index] for row in table.rows]


def _labels(task: TaskSpec, table: _Table) -> list[float]:
    column = _LABEL_COLUMNS.get(task.name, "label")
    written = _column(table, column)
    if task.is_regression:
        parsed, allowed = [_score(text) for text in written], "a number from 0 to 5"
    else:
        ids = _label_ids(task)
        parsed, allowed = [ids.get(text) for text in written], " or ".join(ids)
    labels: list[float] = []
    for number, (text, label) in enumerate(zip(written, parsed, strict=True), start=table.first_line):
        if label is None:
            raise UserError(
                f"{table.path}, line {number}: {column} is {text!r}, allowed is {allowed}. "
                "Mend or delete the line, or download the file again."
            )
        labels.append(label)
    return labels


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
