"""GLUE's metrics as a local ``evaluate.Metric``: nothing is downloaded, counted or reported anywhere.

Importing ``evaluate`` takes seconds, so only ``score`` imports this module, when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import evaluate
import numpy as np
from scipy.stats import rankdata

TASK_METRICS: dict[str, tuple[str, ...]] = {
    "rte": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("pearson", "spearman"),
    "cola": ("matthews",),
    "sst2": ("accuracy",),
    "qnli": ("accuracy",),
    "qqp": ("f1", "accuracy"),
    "mnli": ("accuracy",),
}


def accuracy(predictions: np.ndarray, references: np.ndarray) -> float:
    """Share of equal entries, in 0..1."""
    return float(np.mean(predictions == references))


def f1(predictions: np.ndarray, references: np.ndarray) -> float:
    """F1 of class 1, 2 TP / (2 TP + FP + FN); 0 when class 1 is neither present nor predicted."""
    hits = np.sum((predictions == 1) & (references == 1))
    total = np.sum(predictions == 1) + np.sum(references == 1)
    return float(2 * hits / total) if total else 0.0


def matthews(predictions: np.ndarray, references: np.ndarray) -> float:
    """Matthews correlation of two classes, in -1..1; 0 when either side is constant."""
    return pearson((predictions == 1).astype(float), (references == 1).astype(float))


def pearson(predictions: np.ndarray, references: np.ndarray) -> float:
    """Pearson correlation, in -1..1.

    It is undefined when either side is constant. Then it is 0: a constant prediction knows nothing about the
    order, and a run that collapsed must count as such instead of vanishing from a mean.
    """
    x = predictions.astype(float) - predictions.mean(dtype=float)
    y = references.astype(float) - references.mean(dtype=float)
    if np.ptp(predictions) == 0 or np.ptp(references) == 0:
        return 0.0
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def spearman(predictions: np.ndarray, references: np.ndarray) -> float:
    """Spearman correlation: Pearson of the ranks, ties at their mean rank; 0 when either side is constant."""
    return pearson(rankdata(predictions), rankdata(references))


FUNCTIONS = {function.__name__: function for function in (accuracy, f1, matthews, pearson, spearman)}


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
        arrays = np.asarray(predictions), np.asarray(references)
        return {name: FUNCTIONS[name](*arrays) for name in TASK_METRICS[str(self.config_name)]}
