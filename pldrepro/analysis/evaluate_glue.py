"""GLUE's metrics as a local ``evaluate.Metric``: nothing is downloaded, counted or reported anywhere.

Importing ``evaluate`` takes seconds, so only ``score`` imports this module, when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np

from pldrepro.analysis.glue_metrics import TASK_METRICS, metric_values


class Glue(evaluate.Metric):
    """The metrics of one GLUE task (``config_name``), in 0..1 or -1..1."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in TASK_METRICS:
            raise ValueError(f"unknown GLUE task {self.config_name!r}; allowed: {', '.join(TASK_METRICS)}")
        value = datasets.Value("float32" if self.config_name == "stsb" else "int64")
        return evaluate.MetricInfo(
            description="GLUE metrics of one task",
            citation="",
            inputs_description="predictions and references: class ids, or scores for stsb",
            features=datasets.Features({"predictions": value, "references": value}),
            format="numpy",
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        runs, labels = np.asarray(predictions)[np.newaxis], np.asarray(references)
        return {name: float(metric_values(name, runs, labels)[0]) for name in TASK_METRICS[str(self.config_name)]}
