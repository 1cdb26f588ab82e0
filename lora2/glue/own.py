"""A task of one's own: two files of CSV, TSV, JSON or Parquet with named columns of text and labels."""

import glob
import math
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lora2.common.errors import UserError
from lora2.glue.raw import RawSplit, RawTask, fingerprint
from lora2.glue.tasks import TaskSpec, own_task

Metric = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]
CORRELATIONS = ("pearson", "spearman")  # of real labels
BINARY = ("f1", "matthews")  # of two classes
AS_WRITTEN = {"keep_default_na": False}  # the words NA and None are text
FORMATS: dict[str, tuple[str, dict[str, Any]]] = {  # builder of `datasets`, and its options
    ".csv": ("csv", AS_WRITTEN),
    ".tsv": ("csv", AS_WRITTEN | {"sep": "\t", "quoting": 3}),  # QUOTE_NONE: a stray quote would swallow rows
    ".json": ("json", {}),
    ".jsonl": ("json", {}),
    ".parquet": ("parquet", {}),
}
MOST_CLASSES = 1000
WHOLE = re.compile(r"^(-?\d+)\.0+$")
SPLITS = {"train": "train", "validation": "dev"}  # the setting of each split's file


@dataclass(frozen=True)
class OwnFiles:
    """What to read, and how.

    Attributes:
        name: of the task.
        train, dev: the files.
        text_columns: one or two.
        label_column: class names or numbers.
        metric: chooses the best evaluation; None for accuracy of classes, Pearson of real labels.
        labels: class names in the order of their ids; None for those of the train file, in order.
    """

    name: str
    train: Path
    dev: Path
    text_columns: tuple[str, ...]
    label_column: str
    metric: Metric | None
    labels: tuple[str, ...] | None


def own_spec(files: OwnFiles, label_names: tuple[str, ...]) -> TaskSpec:
    """Return the task of the files.

    Args:
        files: whose task it is.
        label_names: in the order of their ids; empty for real labels.
    """
    main = files.metric or ("accuracy" if label_names else "pearson")
    beside = CORRELATIONS if not label_names else ("accuracy",)
    return own_task(files.name, files.text_columns, label_names, tuple(dict.fromkeys((main, *beside))))


def read_own(files: OwnFiles) -> RawTask:
    """Read both files.

    Raises:
        UserError: a file cannot be read, a column is missing, a text is empty, or a label is not what it should be.
    """
    columns = {split: _columns(files, setting) for split, setting in SPLITS.items()}
    label_names = _label_names(files, columns["train"][-1])
    splits = {
        split: RawSplit(tuple(texts), _labels(files, SPLITS[split], written, label_names))
        for split, (*texts, written) in columns.items()
    }
    spec = own_spec(files, label_names)
    return RawTask(
        spec=spec,
        splits=splits,
        source="files",
        synthetic=False,
        fingerprint=fingerprint(spec, splits),
        warnings=(),
    )


def _columns(files: OwnFiles, setting: str) -> list[list[str]]:
    """The texts and the labels of a file, as they are written."""
    path: Path = getattr(files, setting)
    wanted = (*files.text_columns, files.label_column)
    table = _read(path, setting, wanted)
    if len(table) == 0:
        raise UserError(f"data.{setting}: {path} has no rows; give a file with at least one: data.{setting}=FILE")
    names = {"text": files.text_columns[0], "label": files.label_column}
    if len(files.text_columns) == 2:
        names["text_pair"] = files.text_columns[1]
    for key, name in names.items():
        if name not in table.column_names:
            raise UserError(
                f"data.{key}: got {name!r}; {path} has the columns {', '.join(table.column_names)}: data.{key}=COLUMN"
            )
    *texts, labels = (_written(list(table[name]), name, path, setting) for name in wanted)
    return [*texts, [class_name(label) for label in labels]]


def _read(path: Path, setting: str, wanted: Sequence[str]) -> Any:
    """The file as a table of `datasets`; these columns of a text file as they are written there.

    Else pandas would guess what each column holds, in each file and each part of a large one anew: 001 would be 1, and
    true the word True.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(
            f"data.{setting}: got {str(path)!r}; its ending must be one of {', '.join(FORMATS)}: data.{setting}=FILE"
        )
    import datasets  # Its import takes 2 s.

    kind, options = FORMATS[path.suffix.lower()]
    if kind == "csv":
        options = options | {"converters": dict.fromkeys(wanted, str)}
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is told below
    try:
        with tempfile.TemporaryDirectory() as cache:  # a copy in the user's cache would outlive the data
            table = datasets.load_dataset(
                kind, data_files=glob.escape(str(path)), split="train", cache_dir=cache, keep_in_memory=True, **options
            )
    except Exception as error:  # datasets, pandas and pyarrow raise many kinds, all about this file
        first = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
        reason = first.rpartition("error: ")[2]  # pandas says "Error tokenizing data. C error: ..."
        raise UserError(
            f"data.{setting}: {path} cannot be read ({reason}); save it in UTF-8, "
            f"in the format of its ending, or give another: data.{setting}=FILE"
        ) from None
    return table


def _written(values: Sequence[object], column: str, path: Path, setting: str) -> list[str]:
    """A column as text; a cell without any is refused."""
    texts = ["" if value is None else _as_text(value) for value in values]
    empty = [row for row, text in enumerate(texts, start=1) if not text.strip()]
    if empty:
        raise UserError(
            f"data.{setting}: {path}: {column} is empty in {len(empty)} of {len(texts)} rows, the first is row "
            f"{empty[0]}; every row needs text, so fill or delete them"
        )
    return texts


def class_name(label: object) -> str:
    """Write a label as its class is named: a whole number as such, however it was written, and true in lower case.

    >>> [class_name(label) for label in ("1.0", 1.0, 1, "01", True, "yes")]
    ['1', '1', '1', '01', 'true', 'yes']
    """
    return WHOLE.sub(r"\1", _as_text(label))


def _as_text(value: object) -> str:
    """A value of JSON or Parquet as JSON writes it; a whole number as such, which a column with a gap holds as 1.0."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _label_names(files: OwnFiles, written: Sequence[str]) -> tuple[str, ...]:
    """Find the class names, numbers in their order and words in the alphabet's; none if the labels are real scores."""
    found = set(written)
    numbers = {text: _number(text) for text in found}
    real = all(number is not None for number in numbers.values())
    fractions = real and any(number != int(number) for number in numbers.values() if number is not None)
    if files.labels is None and (files.metric in CORRELATIONS or (files.metric is None and fractions)):
        if not real:
            word = next(text for text in written if numbers[text] is None)
            raise UserError(
                f"data.metric: got {files.metric}, but {files.label_column} of {files.train} holds {word!r}; give "
                f"it numbers, or set data.metric=accuracy for classes"
            )
        return ()
    names = files.labels or tuple(sorted(found, key=lambda text: (not real, numbers[text] if real else 0, text)))
    _check_classes(files, names)
    return names


def _check_classes(files: OwnFiles, names: tuple[str, ...]) -> None:
    """Refuse classes that nothing could be learned of, or that the metric is not made for."""
    shown = ", ".join(names[:5])
    if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
        raise UserError(
            f"data.label: {files.label_column} of {files.train} has {len(names)} classes ({shown}); it needs 2 to "
            f"{MOST_CLASSES} different ones: data.label=COLUMN, or data.metric=pearson for numbers"
        )
    if files.metric in CORRELATIONS or (files.metric in BINARY and len(names) != 2):
        needs = "two classes" if files.metric in BINARY else "real labels"
        raise UserError(
            f"data.metric: got {files.metric}, which needs {needs}; {files.label_column} has {len(names)} classes "
            f"({shown}): data.metric=accuracy"
        )


def _labels(files: OwnFiles, setting: str, written: Sequence[str], names: tuple[str, ...]) -> list[float]:
    """Class ids, or real scores where there are no names."""
    path: Path = getattr(files, setting)
    ids = {name: float(index) for index, name in enumerate(names)}
    labels = [ids.get(text) if names else _number(text) for text in written]
    wrong = [row for row, label in enumerate(labels, start=1) if label is None]
    if wrong:
        allowed = f"a label of the train file ({', '.join(names[:5])})" if names else "a finite number"
        raise UserError(
            f"data.{setting}: {path}: {files.label_column} is {written[wrong[0] - 1]!r} in row {wrong[0]} "
            f"({len(wrong)} such rows); mend or delete them, as each must be {allowed}"
        )
    return [label for label in labels if label is not None]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
