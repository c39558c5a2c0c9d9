"""The metrics of GLUE, of many runs over many resamples of the development set at once.

Shape legend: A runs (pre-training seed x fine-tuning seed) of an arm, N examples, R resamples.

``weights``, (N, R), says how often each example is in each resample; a column of ones is the development set itself.
What is undefined is 0, so that a run that collapsed counts as such instead of vanishing from a mean: F1 when class 1 is
neither present nor predicted; a Matthews, Pearson or Spearman correlation when either side is constant (in evaluate's
own GLUE metric the last two would be nan).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pldrepro.data.tasks import TASKS

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

TASK_METRICS: dict[str, tuple[str, ...]] = {name: task.metrics for name, task in TASKS.items()}


def accuracy(predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of equal entries, in 0..1; predictions (A, N), labels (N,), weights (N, R) -> (A, R)."""
    return _quotient((predictions == labels).astype(float) @ weights, weights.sum(axis=0))


def f1(predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """F1 of class 1, 2 TP / (2 TP + FP + FN); (A, N), (N,), (N, R) -> (A, R)."""
    predicted, present = (predictions == 1).astype(float), (labels == 1).astype(float)
    return _quotient(2 * (predicted * present) @ weights, (predicted + present) @ weights)


def matthews(predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Matthews correlation of class 1 against the rest, in -1..1; (A, N), (N,), (N, R) -> (A, R)."""
    predicted, present = (predictions == 1).astype(float), (labels == 1).astype(float)
    n, hits = weights.sum(axis=0), (predicted * present) @ weights
    p, q = predicted @ weights, present @ weights
    return _quotient(n * hits - p * q, np.sqrt(p * (n - p) * q * (n - q)))


def pearson(predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Pearson correlation, in -1..1; (A, N), (N,), (N, R) -> (A, R)."""
    y = _centred(labels, weights)
    return np.stack([_correlation(_centred(run, weights), y, weights) for run in predictions])


def spearman(predictions: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Spearman correlation: Pearson of each resample's own ranks, ties at their mean rank; -> (A, R)."""
    y = _centred_ranks(labels, weights)
    return np.stack([_correlation(_centred_ranks(run, weights), y, weights) for run in predictions])


METRICS: dict[str, Metric] = {metric.__name__: metric for metric in (accuracy, f1, matthews, pearson, spearman)}


def _quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole; 0 where whole is 0."""
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)


def _correlation(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation of centred values in every resample; (N, R) each -> (R,)."""
    covariance, square_x, square_y = (
        np.einsum("nr,nr,nr->r", weights, a, b) for a, b in ((x, y), (x, x), (y, y))
    )  # fmt: skip
    return _quotient(covariance, np.sqrt(square_x * square_y))


def _centred(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Values (N,) less their mean in every resample, (N, R).

    All 0 where a resample has only one value; that is decided on the values, which no rounding touches.
    """
    column = values[:, np.newaxis].astype(float)
    centred: np.ndarray = column - (weights * column).sum(axis=0) / weights.sum(axis=0)
    drawn = weights > 0
    constant = np.where(drawn, column, -np.inf).max(axis=0) == np.where(drawn, column, np.inf).min(axis=0)
    return np.where(constant, 0.0, centred)


def _centred_ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean rank of every example less (n + 1) / 2 in every resample of n examples; (N,) -> (N, R).

    Copies of an example and equal values are ties. A multiple of 1/2, so exactly 0 where all are tied.
    """
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    sizes = np.add.reduceat(weights[order], np.flatnonzero(np.diff(group[order], prepend=-1)), axis=0)
    ranks = np.cumsum(sizes, axis=0) - sizes / 2 - weights.sum(axis=0) / 2
    centred: np.ndarray = ranks[group]
    return centred


def metric_values(metric: str, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A metric of every run on the development set itself; predictions (A, N), labels (N,) -> (A,)."""
    return METRICS[metric](predictions, labels, np.ones((len(labels), 1)))[:, 0]


def constant_value(metric: str, labels: np.ndarray) -> float:
    """The best value of a metric that one and the same prediction for all examples reaches; labels (N,).

    Accuracy: the share of the majority class; F1: that of predicting class 1 always; a correlation: 0.
    """
    constants = np.stack([np.full_like(labels, value) for value in np.unique(labels)])
    return float(metric_values(metric, constants, labels).max())
