"""GLUE metrics of many runs over many resamples of the development set at once, and the paired bootstrap they serve.

Shape legend: A runs (pre-training seed x fine-tuning seed) of an arm, N distinct examples, R resamples.

``weights``, (N, R), says how often each example is in each resample; a column of ones is the development set itself.
What is undefined has the value that ``glue_metrics`` gives it, so that tables agree: F1 is 0 when class 1 is neither
present nor predicted, a Matthews, Pearson or Spearman correlation is 0 when either side is constant (in evaluate's own
GLUE metric the last two would be nan).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pldrepro.stats import CONFIDENCE, Estimate

Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
# Resamples are drawn in blocks of about this many weights, which stay in the processor's cache.
BLOCK = 200_000


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

    All 0 where a resample has one value alone; that is decided on the values, which no rounding touches.
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


@dataclass(frozen=True)
class BootstrapTest:
    """A difference with its interval (n: examples) and the two-sided p value of no difference."""

    estimate: Estimate
    p: float


def paired_bootstrap(
    metric: str,
    first: np.ndarray,
    second: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = CONFIDENCE,
) -> BootstrapTest:
    """Metric of first - metric of second by the paired bootstrap over examples.

    first (A, N) and second (A2, N): predictions of the runs of two arms; labels (N,). Every resample draws N examples
    with replacement, the same for both arms, and averages the metric over the runs of each. Percentile interval;
    p = 2 min(#(d <= 0) + 1, #(d >= 0) + 1) / (R + 1), at most 1: the interval inverted, with the observed sample as
    one of the draws. Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13 and 15; for paired
    test sets Berg-Kirkpatrick, Burkett & Klein 2012 (EMNLP).

    Where the metric counts examples, a resample without a difference counts on both sides, which makes the test a
    little conservative: wrong about nothing in 3 to 4 of 100 sets of 300 examples, where 5 are allowed (simulated).

    It says how much depends on the examples that happen to be in the set, for these very runs; how much depends on
    the seeds it does not see. Examples that no run and no label tells apart are drawn together (a multinomial of
    their numbers), which is the same distribution.
    """
    for runs in (first, second):
        if runs.ndim != 2 or runs.shape[1:] != labels.shape or not runs.size:
            raise ValueError(f"predictions of shape (runs, {len(labels)}) are needed, got {runs.shape}")
    table, counts = np.unique(np.vstack([labels, first, second]), axis=1, return_counts=True)
    distinct = table[0], table[1 : 1 + len(first)], table[1 + len(first) :]
    observed = float(_mean_difference(metric, *distinct, counts[:, np.newaxis].astype(float))[0])
    rng = np.random.default_rng(seed)
    block = max(1, BLOCK // len(counts))
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    shares = counts / counts.sum()
    draws = np.concatenate(
        [
            _mean_difference(
                metric, *distinct, rng.multinomial(len(labels), shares, size=size).T.astype(float, order="C")
            )
            for size in sizes
        ]
    )
    return bootstrap_test(observed, draws, len(labels), confidence)


def _mean_difference(
    metric: str, labels: np.ndarray, first: np.ndarray, second: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    difference: np.ndarray = np.subtract(
        *(METRICS[metric](runs, labels, weights).mean(axis=0) for runs in (first, second))
    )
    return difference


def bootstrap_test(observed: float, draws: np.ndarray, n: int, confidence: float = CONFIDENCE) -> BootstrapTest:
    """The test from the differences of all resamples, (R,); see paired_bootstrap."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    rarer = min(int((draws <= 0).sum()), int((draws >= 0).sum())) + 1
    method = f"paired difference, {confidence:.0%} percentile bootstrap over examples"
    return BootstrapTest(Estimate(observed, float(low), float(high), n, method), min(1.0, 2 * rarer / (len(draws) + 1)))
