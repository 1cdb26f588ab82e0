"""Prediction files for the GLUE server: one `index<TAB>prediction` table per test split."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lora2.glue.tasks import TaskSpec

_SUFFIXES: Mapping[str, str] = {"test": "", "test_matched": "-m", "test_mismatched": "-mm"}
_NAMED_LABELS = ("mnli", "qnli", "rte")  # the server wants ids for the other tasks


def submission_files(task: TaskSpec, folder: Path) -> dict[str, Path]:
    """Return the file of each test split in a folder, under the name that the server asks for."""
    return {split: folder / f"{task.folder}{_SUFFIXES[split]}.tsv" for split in task.test_splits}


def check_rows(task: TaskSpec, split: str, rows: int) -> None:
    """Compare the rows of a test split with what the server expects.

    Raises:
        ValueError: there are more or fewer.
    """
    if rows != task.rows[split]:
        raise ValueError(f"predictions: {rows} for {task.name}/{split}, the server expects {task.rows[split]}.")


def write_submission(task: TaskSpec, predictions: Mapping[str, npt.NDArray[Any]], path: Path) -> list[Path]:
    """Write the files of `task` into the folder `path`, and return their paths.

    Args:
        predictions: per test split, class ids or scores (n,) in the order of the test file's index, 0 to n - 1.

    Raises:
        ValueError: a test split is missing, or its predictions are not as many as the server expects, not finite or no
            class ids.
    """
    files = submission_files(task, path)
    texts = {split: _table(task, split, predictions) for split in files}  # check all before writing any
    path.mkdir(parents=True, exist_ok=True)
    for split, file in files.items():
        file.write_text(texts[split], encoding="utf-8", newline="\n")
    return list(files.values())


def _table(task: TaskSpec, split: str, predictions: Mapping[str, npt.NDArray[Any]]) -> str:
    if split not in predictions:
        raise ValueError(f"predictions: no {split}; {task.name} is submitted as {', '.join(task.test_splits)}.")
    values = np.asarray(predictions[split])
    check_rows(task, split, len(values))
    rows = (f"{index}\t{_written(task, value)}\n" for index, value in enumerate(values.tolist()))
    return "index\tprediction\n" + "".join(rows)


def _written(task: TaskSpec, value: float) -> str:
    if not np.isfinite(value):
        raise ValueError(f"predictions: got {value}; each must be a finite number.")
    if task.is_regression:
        return f"{min(5.0, max(0.0, value)):.3f}"
    if value not in range(task.num_labels):
        raise ValueError(f"predictions: got {value}; each must be a class id from 0 to {task.num_labels - 1}.")
    return task.label_names[int(value)] if task.name in _NAMED_LABELS else str(int(value))
