"""Estimates with intervals over seeds: small, exact, and silent where there is nothing to say.

One convention: ``values`` is a sequence with one number per independent run (seed). An interval needs at least two
of them; with one, ``low`` and ``high`` are None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats as scipy_stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval (None where n is 1), the number of seeds behind it, and how it was made."""

    value: float
    low: float | None
    high: float | None
    n: int
    method: str

    def map(self, function: Callable[[float], float]) -> Estimate:
        """The estimate of a monotone function of the quantity; a falling function swaps the limits."""
        value = function(self.value)
        if self.low is None or self.high is None:
            return replace(self, value=value)
        low, high = sorted((function(self.low), function(self.high)))
        return replace(self, value=value, low=low, high=high)


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, shared_error: float = 0.0) -> Estimate:
    """Mean with a Student t interval, mean +- t(n - 1) s / sqrt(n).

    ``shared_error``: standard error of something that all values have in common (a calibration), which more seeds do
    not average out; its normal interval is added in quadrature.
    """
    data = _checked(values)
    mean, n = float(data.mean()), len(data)
    if n < 2:
        return Estimate(mean, None, None, n, "one seed")
    tail = (1 + confidence) / 2
    spread = float(scipy_stats.t.ppf(tail, n - 1)) * float(data.std(ddof=1)) / math.sqrt(n)
    half = math.hypot(spread, float(scipy_stats.norm.ppf(tail)) * shared_error)
    method = f"mean, {confidence:.0%} t interval" + (" with the calibration's error" if shared_error else "")
    return Estimate(mean, mean - half, mean + half, n, method)


def paired_difference(first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean of first - second, paired by position, with a t interval."""
    _check_pairs(first, second)
    estimate = mean_interval([a - b for a, b in zip(first, second, strict=True)], confidence)
    return replace(estimate, method=estimate.method.replace("mean", "paired mean difference"))


def paired_ratio(
    first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE, shared_error: float = 0.0
) -> Estimate:
    """Geometric mean of first / second, paired by position, with a t interval on the log scale.

    ``shared_error``: as in mean_interval, of the log ratio.
    """
    _check_pairs(first, second)
    if min(*first, *second) <= 0:
        raise ValueError("a ratio needs positive values")
    logs = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    estimate = mean_interval(logs, confidence, shared_error).map(math.exp)
    return replace(estimate, method=estimate.method.replace("mean", "paired mean ratio").replace("t i", "log-t i"))


def geometric_interval(values: Sequence[float]) -> Estimate:
    """Geometric mean of positive values with a t interval on the log scale, whose limits are positive, too."""
    estimate = paired_ratio(values, [1.0] * len(values))
    return replace(estimate, method=estimate.method.replace("paired mean ratio", "geometric mean"))


def median(values: Sequence[float]) -> float:
    """Median; of an even number of values the mean of the middle two."""
    return float(np.median(_checked(values)))


def geometric_mean(values: Sequence[float]) -> float:
    """(prod x)^(1/n); a value that is not positive is a ValueError."""
    data = _checked(values)
    if data.min() <= 0:
        raise ValueError(f"a geometric mean needs positive values, got {data.min():g}")
    return float(np.exp(np.log(data).mean()))


def bootstrap_interval(
    values: Sequence[float],
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Percentile bootstrap interval of a statistic; the same seed gives the same interval."""
    data = _checked(values)
    n = len(data)
    value = float(statistic(data))
    if n < 2:
        return Estimate(value, None, None, n, "one seed")
    draws = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    replicates = np.array([statistic(data[draw]) for draw in draws])
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n, f"{confidence:.0%} percentile bootstrap")


def seeds_needed(values: Sequence[float], null: float, confidence: float = CONFIDENCE, most: int = 1000) -> int | None:
    """Seeds after which the interval would exclude ``null`` if mean and spread stayed as observed.

    The smallest n >= 2 with t(n - 1) s / sqrt(n) < |mean - null|; None when more than ``most`` are needed or one
    value gives no spread.
    """
    data = _checked(values)
    if len(data) < 2:
        return None
    distance, spread = abs(float(data.mean()) - null), float(data.std(ddof=1))
    for n in range(2, most + 1):
        if scipy_stats.t.ppf((1 + confidence) / 2, n - 1) * spread / math.sqrt(n) < distance:
            return n
    return None


def _checked(values: Sequence[float]) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not len(data):
        raise ValueError("no values to estimate from")
    if not np.isfinite(data).all():
        raise ValueError("values must be finite")
    return data


def _check_pairs(first: Sequence[float], second: Sequence[float]) -> None:
    if len(first) != len(second):
        raise ValueError(f"pairs need equal numbers of values, got {len(first)} and {len(second)}")
