"""The GLUE metrics behind the interface of `evaluate`, loadable from this folder without a network.

`evaluate` copies this file into its cache and finds the imports with regular expressions: keep one a line.
"""

from typing import Any

import datasets
import evaluate
import numpy.typing as npt

from lora2.glue.metrics import score
from lora2.glue.tasks import get_task

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
        kind = "float32" if get_task(self.config_name).is_regression else "int64"
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Value(kind), "references": datasets.Value(kind)}),
            format="numpy",
        )

    def _compute(self, predictions: npt.NDArray[Any], references: npt.NDArray[Any]) -> dict[str, float]:
        return score(get_task(self.config_name), predictions, references)
