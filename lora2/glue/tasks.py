"""The eight GLUE tasks as data: names and titles, labels, metrics, splits and official row counts.

A user's own files make a task of their own (`own_task`). Imports nothing heavy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lora2.common.errors import UserError


@dataclass(frozen=True)
class TaskSpec:
    """What one task is, of GLUE or of a user's own: all that other files need to know about it.

    Attributes:
        name: the project's name for the task, equal to the configuration name of `nyu-mll/glue`.
        folder: the task's folder in the official download.
        text_columns: the hub's column names of the one or two texts.
        label_names: class names in the order of their ids (the hub's order); empty for regression.
        metrics: the keys of every metric of the task; `main_metric` is the one that tables and model selection use.
        dev_splits, test_splits: the hub's split names.
        rows: official number of rows per split.
        version: raise it when the meaning of the task's data changes here; it enters every fingerprint.
    """

    name: str
    folder: str
    text_columns: tuple[str, ...]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...]
    main_metric: str
    dev_splits: tuple[str, ...]
    test_splits: tuple[str, ...]
    rows: Mapping[str, int]
    version: int = 1

    @property
    def title(self) -> str:
        """Return what a reader calls the task; the official download names its folders so."""
        return self.folder

    @property
    def is_regression(self) -> bool:
        """Say whether labels are real scores (STS-B: 0 to 5)."""
        return not self.label_names

    @property
    def num_labels(self) -> int:
        """Return the width of the classification head: one output for regression."""
        return max(1, len(self.label_names))


def _rows(train: int, dev: int, test: int) -> Mapping[str, int]:
    return MappingProxyType({"train": train, "validation": dev, "test": test})


def _task(
    name: str,
    folder: str,
    text_columns: tuple[str, ...],
    label_names: tuple[str, ...],
    metrics: tuple[str, ...],
    rows: Mapping[str, int],
) -> TaskSpec:
    """Build a task with one dev and one test split, whose main metric is its first."""
    return TaskSpec(
        name=name,
        folder=folder,
        text_columns=text_columns,
        label_names=label_names,
        metrics=metrics,
        main_metric=metrics[0],
        dev_splits=("validation",),
        test_splits=("test",),
        rows=rows,
    )


METRIC_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "matthews": "Mcc",
        "accuracy": "acc",
        "f1": "F1",
        "accuracy_mm": "mm",
        "pearson": "Pearson",
        "spearman": "Spearman",
    }
)

_PAIR = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

_MNLI = TaskSpec(
    name="mnli",
    folder="MNLI",
    text_columns=("premise", "hypothesis"),
    label_names=("entailment", "neutral", "contradiction"),
    metrics=("accuracy", "accuracy_mm"),
    main_metric="accuracy",
    dev_splits=("validation_matched", "validation_mismatched"),
    test_splits=("test_matched", "test_mismatched"),
    rows=MappingProxyType(
        {
            "train": 392_702,
            "validation_matched": 9_815,
            "validation_mismatched": 9_832,
            "test_matched": 9_796,
            "test_mismatched": 9_847,
        }
    ),
)

TASKS: Mapping[str, TaskSpec] = MappingProxyType(
    {
        task.name: task
        for task in (
            _task(
                "cola",
                "CoLA",
                ("sentence",),
                ("unacceptable", "acceptable"),
                ("matthews",),
                _rows(8_551, 1_043, 1_063),
            ),
            _task("sst2", "SST-2", ("sentence",), ("negative", "positive"), ("accuracy",), _rows(67_349, 872, 1_821)),
            _task(
                "mrpc",
                "MRPC",
                _PAIR,
                ("not_equivalent", "equivalent"),
                ("accuracy", "f1"),
                _rows(3_668, 408, 1_725),
            ),
            _task(
                "qqp",
                "QQP",
                ("question1", "question2"),
                ("not_duplicate", "duplicate"),
                ("accuracy", "f1"),
                _rows(363_846, 40_430, 390_965),
            ),
            _task("stsb", "STS-B", _PAIR, (), ("pearson", "spearman"), _rows(5_749, 1_500, 1_379)),
            _MNLI,
            _task(
                "qnli",
                "QNLI",
                ("question", "sentence"),
                _ENTAILMENT,
                ("accuracy",),
                _rows(104_743, 5_463, 5_463),
            ),
            _task("rte", "RTE", _PAIR, _ENTAILMENT, ("accuracy",), _rows(2_490, 277, 3_000)),
        )
    }
)


def own_task(
    name: str, text_columns: tuple[str, ...], label_names: tuple[str, ...], metrics: tuple[str, ...]
) -> TaskSpec:
    """Return the task of a user's own files, which has no official rows and no test set on a server.

    Args:
        name: what the user calls it; none of TASKS.
        text_columns: the columns of the one or two texts.
        label_names: as they are written in the files, in the order of their ids; empty for real scores.
        metrics: keys of metrics.FUNCTIONS, the main one first.
    """
    return TaskSpec(
        name=name,
        folder=name,
        text_columns=text_columns,
        label_names=label_names,
        metrics=metrics,
        main_metric=metrics[0],
        dev_splits=("validation",),
        test_splits=(),
        rows=MappingProxyType({}),
    )


def task_title(name: str) -> str:
    """Return the title of a task; a task that is not known here keeps its name."""
    return TASKS[name].title if name in TASKS else name


def metric_title(name: str) -> str:
    """Return the title of a task's main metric.

    Raises:
        KeyError: no such task.
    """
    return METRIC_TITLES[TASKS[name].main_metric]


def get_task(name: str) -> TaskSpec:
    """Return the task called `name`.

    Raises:
        UserError: no such task; the message lists the allowed names.
    """
    if name not in TASKS:
        raise UserError(f"task: got {name!r}; choose one of {', '.join(TASKS)}, for example task=mrpc.")
    return TASKS[name]
