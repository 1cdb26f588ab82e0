"""The official GLUE metrics as pure functions on numpy arrays.

Every value is a fraction: 0 to 1, or -1 to 1 for correlations. `n` examples, `c` outputs of the head.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import NearConstantInputWarning, pearsonr, spearmanr
from sklearn.metrics import f1_score

from lora2.glue.tasks import TaskSpec

Array = npt.NDArray[Any]


def predict(task: TaskSpec, logits: Array) -> Array:
    """Turn head outputs into predictions: the class of the largest output, or the single output of a regression.

    Args:
        task: whose head it is.
        logits: (n, c).

    Returns:
        (n,) class ids or scores.

    Raises:
        FloatingPointError: an output is NaN or infinite; its argmax would be a class like any other.
    """
    _check_finite(logits, "logits")
    return logits[:, 0] if task.is_regression else logits.argmax(axis=1)


def compute(task: TaskSpec, predictions: Mapping[str, Array], references: Mapping[str, Array]) -> dict[str, float]:
    """Compute every metric in `task.metrics`.

    Args:
        task: what is scored.
        predictions: class ids or scores (n,) by dev split. MNLI needs both its splits.
        references: the same for the true labels.

    Returns:
        Fractions by metric; those of MNLI's mismatched split end in "_mm".

    Raises:
        ValueError: a dev split is missing, or the lengths differ or are 0.
        FloatingPointError: a value is NaN or infinite.
    """
    for given, values in (("predictions", predictions), ("references", references)):
        missing = [split for split in task.dev_splits if split not in values]
        if missing:
            raise ValueError(
                f"{given}: no {', '.join(missing)}; {task.name} is scored on {', '.join(task.dev_splits)}."
            )
    matched, *mismatched = (score(task, predictions[split], references[split]) for split in task.dev_splits)
    return matched | {f"{key}_mm": value for scores in mismatched for key, value in scores.items()}


def score(task: TaskSpec, predictions: Array, references: Array) -> dict[str, float]:
    """Compute the metrics of one split.

    Args:
        task: what is scored.
        predictions: class ids or scores (n,).
        references: the true ones (n,).

    Returns:
        Fractions by metric.

    Raises:
        ValueError: as for `compute`.
    """
    _check(predictions, references)
    return {name: FUNCTIONS[name](predictions, references) for name in task.metrics if name in FUNCTIONS}


def accuracy(predictions: Array, references: Array) -> float:
    """Return the share of equal ids."""
    return float(np.mean(predictions == references))


def f1(predictions: Array, references: Array) -> float:
    """Return the F1 of class 1, as GLUE defines it for MRPC and QQP; 0 if neither side ever says 1."""
    return float(f1_score(references, predictions, pos_label=1, average="binary", zero_division=0.0))


def matthews(predictions: Array, references: Array) -> float:
    """Return the Matthews correlation of two binary variables, their Pearson one; 0 if either side is constant."""
    return pearson(predictions, references)


def pearson(predictions: Array, references: Array) -> float:
    """Return the Pearson correlation; 0 if either side is constant."""
    return _correlation(pearsonr, predictions, references)


def spearman(predictions: Array, references: Array) -> float:
    """Return the Spearman rank correlation; 0 if either side is constant."""
    return _correlation(spearmanr, predictions, references)


FUNCTIONS: Mapping[str, Callable[[Array, Array], float]] = {
    "matthews": matthews,
    "accuracy": accuracy,
    "f1": f1,
    "pearson": pearson,
    "spearman": spearman,
}


def _correlation(function: Callable[..., Any], predictions: Array, references: Array) -> float:
    x, y = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
    if x.min() == x.max() or y.min() == y.max():
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NearConstantInputWarning)  # Seen early in training.
        return float(function(x, y).statistic)


def _check(predictions: Array, references: Array) -> None:
    if predictions.shape != references.shape or predictions.ndim != 1 or predictions.size == 0:
        raise ValueError(
            f"predictions and references: got the shapes {predictions.shape} and {references.shape}; "
            "both need the same shape (n,) with n at least 1."
        )
    _check_finite(predictions, "predictions")
    _check_finite(references, "references")


def _check_finite(values: Array, name: str) -> None:
    bad = int(np.size(values) - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise FloatingPointError(f"{name}: {bad} of {np.size(values)} values are not finite: the model has diverged")
