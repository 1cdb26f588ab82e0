"""The GLUE metrics behind the interface of `evaluate`, by scikit-learn and scipy alone.

`evaluate` has a module of this kind on the hub only; this one loads from its folder, without a network. It imports
nothing of lora2, so that it can judge what lora2's own metrics say (runs/verify).
`evaluate` copies this file into its cache and finds the imports with regular expressions: keep one a line.
"""

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

Array = npt.NDArray[Any]

_DESCRIPTION = "The official metrics of the GLUE benchmark, for one split of one task (the configuration name)."
_INPUTS = """
Args:
    predictions: class ids, or scores for stsb.
    references: the gold labels.
Returns:
    a dict with the task's metrics as fractions.
"""


class GlueMetric(evaluate.Metric):  # type: ignore[misc]
    """Score one split of the task that `config_name` names."""

    def _info(self) -> evaluate.MetricInfo:
        kind = "float32" if self.config_name == "stsb" else "int64"
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value(kind), "references": datasets.Value(kind)}),
            format="numpy",
        )

    def _compute(self, predictions: Array, references: Array) -> dict[str, float]:
        match self.config_name:
            case "stsb":
                return {
                    "pearson": _correlation(pearsonr, predictions, references),
                    "spearman": _correlation(spearmanr, predictions, references),
                }
            case "cola":
                return {"matthews": float(matthews_corrcoef(references, predictions))}
        scores = {"accuracy": float(accuracy_score(references, predictions))}
        if self.config_name in ("mrpc", "qqp"):
            scores["f1"] = float(f1_score(references, predictions, zero_division=0.0))
        return scores


def _correlation(function: Callable[..., Any], predictions: Array, references: Array) -> float:
    """Correlate two lists of scores; 0 if either is constant, where scipy has no number."""
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    return float(function(predictions.astype(np.float64), references.astype(np.float64)).statistic)
