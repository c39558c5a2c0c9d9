"""Estimates with intervals over seeds: small, exact, and silent where there is nothing to say.

One convention: ``values`` is a sequence with one number per independent run (seed). An interval needs at least two
of them; with one, ``low`` and ``high`` are None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import optimize, special  # not scipy.stats: it takes half a second to import, in every process

CONFIDENCE = 0.95
NORMAL = 1.959964  # half-width of a normal 95 % interval in standard errors
# Of fewer values no interval is shown (of two it is 12.7 times as wide as they differ) but the values themselves.
FEWEST = 3


@dataclass(frozen=True)
class Estimate:
    """A number with its interval (None where n is 1), the number of seeds behind it, and how it was made.

    ``values``: what it is the mean of, where these are fewer than FEWEST; else empty.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    method: str
    values: tuple[float, ...] = field(default=(), compare=False)

    def map(self, function: Callable[[float], float]) -> Estimate:
        """The estimate of a monotone function of the quantity; a falling function swaps the limits."""
        value, values = function(self.value), tuple(map(function, self.values))
        if self.low is None or self.high is None:
            return replace(self, value=value, values=values)
        low, high = sorted((function(self.low), function(self.high)))
        return replace(self, value=value, low=low, high=high, values=values)


def mean_interval(
    values: Sequence[float],
    confidence: float = CONFIDENCE,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
) -> Estimate:
    """Mean with a Student t interval, mean +- t(n - 1) s / sqrt(n).

    ``shared_error``: standard error of something that all values have in common (a calibration, the examples of a test
    set), which more seeds do not average out; its t interval, of ``shared_freedom`` degrees of freedom (infinite: a
    normal one), is added in quadrature.
    """
    data = _checked(values)
    mean, n = float(data.mean()), len(data)
    if n < 2:
        return Estimate(mean, None, None, n, "one seed", _few(data))
    half = _half_width(data, (1 - confidence) / 2, shared_error, shared_freedom)
    method = f"mean, {confidence:.0%} t interval" + (" with the error that the seeds share" if shared_error else "")
    return Estimate(mean, mean - half, mean + half, n, method, _few(data))


def _few(data: np.ndarray) -> tuple[float, ...]:
    """The values themselves, where they are too few for an interval that is worth showing."""
    return tuple(map(float, data)) if len(data) < FEWEST else ()


def _half_width(
    data: np.ndarray, tail: float, shared_error: float, shared_freedom: float, least_spread: float = 0.0
) -> float:
    """Half of the interval that leaves out ``tail`` on either side: the values' part and the shared in quadrature."""
    spread = max(float(data.std(ddof=1)), least_spread) / math.sqrt(len(data))
    parts = (spread, len(data) - 1), (shared_error, shared_freedom)
    return math.hypot(*(half_width(error, freedom, tail) for error, freedom in parts))


def half_width(error: float, freedom: float, tail: float = (1 - CONFIDENCE) / 2) -> float:
    """Half of the t interval of a standard error that leaves out ``tail`` on either side (infinite freedom: normal)."""
    return float(t_limit(tail, freedom)) * error


def t_limit(tail: float, freedom: float | np.ndarray) -> float | np.ndarray:
    """The value that Student's t exceeds with probability ``tail``; with infinite freedom the normal one's."""
    with np.errstate(invalid="ignore"):  # stdtrit of an infinite freedom
        return -np.where(np.isinf(freedom), special.ndtri(tail), special.stdtrit(freedom, tail))


def p_value(
    values: Sequence[float],
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
    least_spread: float = 0.0,
) -> float | None:
    """Two-sided p of a mean of 0: the level at which its interval ends at 0; None for one value.

    The interval is that of ``mean_interval``, or with ``least_spread`` that of ``group_interval``. Without a shared
    error this is Student's p, with one it is found by bisection; down to 1e-15.
    """
    data = _checked(values)
    if len(data) < 2:
        return None
    distance = abs(float(data.mean()))

    def excess(logarithm: float) -> float:
        return _half_width(data, math.exp(logarithm) / 2, shared_error, shared_freedom, least_spread) - distance

    least = math.log(1e-15)
    if not distance:
        return 1.0
    if not shared_error:
        error = max(float(data.std(ddof=1)), least_spread) / math.sqrt(len(data))
        return max(1e-15, 2 * float(special.stdtr(len(data) - 1, -distance / error))) if error else 1e-15
    return math.exp(least if excess(least) <= 0 else float(optimize.brentq(excess, least, 0.0)))


def paired_difference(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = CONFIDENCE,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
) -> Estimate:
    """Mean of first - second, paired by position, with a t interval; ``shared_error`` as in mean_interval."""
    _check_pairs(first, second)
    estimate = mean_interval(
        [a - b for a, b in zip(first, second, strict=True)], confidence, shared_error, shared_freedom
    )
    return replace(estimate, method=estimate.method.replace("mean", "paired mean difference"))


def paired_ratio(
    first: Sequence[float],
    second: Sequence[float],
    confidence: float = CONFIDENCE,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
) -> Estimate:
    """Geometric mean of first / second, paired by position, with a t interval on the log scale.

    ``shared_error``: as in mean_interval, of the log ratio.
    """
    _check_pairs(first, second)
    if min(*first, *second) <= 0:
        raise ValueError("a ratio needs positive values")
    logs = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    estimate = mean_interval(logs, confidence, shared_error, shared_freedom).map(math.exp)
    return replace(estimate, method=estimate.method.replace("mean", "paired mean ratio").replace("t i", "log-t i"))


def geometric_interval(values: Sequence[float]) -> Estimate:
    """Geometric mean of positive values with a t interval on the log scale, whose limits are positive, too."""
    estimate = paired_ratio(values, [1.0] * len(values))
    return replace(estimate, method=estimate.method.replace("paired mean ratio", "geometric mean"))


def group_interval(values: Sequence[float], errors: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean over groups (processes of one machine) with a t interval, mean +- t(n - 1) max(s, e) / sqrt(n).

    ``errors``: the standard error of each value within its group; e is their root mean square. The spread s between
    the values holds it already, but of few groups s is often too small by chance, and can then not be the truth.
    """
    data, mean, n = _checked(values), float(np.mean(values)), len(values)
    if n < 2:
        return Estimate(mean, None, None, n, "one process", _few(data))
    half = _half_width(data, (1 - confidence) / 2, 0.0, math.inf, root_mean_square(errors))
    method = f"mean over processes, {confidence:.0%} t interval"
    return Estimate(mean, mean - half, mean + half, n, method, _few(data))


def root_mean_square(values: Sequence[float]) -> float:
    """sqrt(mean x^2)."""
    return float(np.sqrt((_checked(values) ** 2).mean()))


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
    statistic: Callable[..., Any] = np.mean,
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Percentile bootstrap interval of a statistic with numpy's ``axis``; the same seed gives the same interval."""
    data = _checked(values)
    n = len(data)
    value = float(statistic(data))
    if n < 2:
        return Estimate(value, None, None, n, "one seed")
    draws = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    replicates = statistic(data[draws], axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), n, f"{confidence:.0%} percentile bootstrap")


# Fewer values than this make a percentile bootstrap too narrow to be shown.
BOOTSTRAP_SEEDS = 6


def bootstrap_difference(
    first: Sequence[float],
    second: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = 10_000,
    confidence: float = CONFIDENCE,
) -> Estimate:
    """Mean of first - second, paired by position, with a percentile bootstrap interval over the pairs.

    Unreliable below about 6 pairs (BOOTSTRAP_SEEDS), and not good there: the percentile interval is too narrow by about
    the factor sqrt((n - 1) / n) z / t(n - 1). Of normal differences its 95 % cover some 74 % at n = 3, 85 % at 6 and
    90 % at 20 (simulated); the t interval of paired_difference is the one to judge by. Source: Efron & Tibshirani 1993,
    An Introduction to the Bootstrap, ch. 13.
    """
    _check_pairs(first, second)
    estimate = bootstrap_interval(
        [a - b for a, b in zip(first, second, strict=True)], seed=seed, resamples=resamples, confidence=confidence
    )
    return replace(estimate, method=estimate.method.replace("percentile", "paired percentile"))


def deviation_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate | None:
    """Standard deviation (n - 1) with the chi-square interval of normal values; None for one value."""
    data = _checked(values)
    return _deviation(float(data.var(ddof=1)), len(data) - 1, len(data), confidence) if len(data) > 1 else None


def _deviation(variance: float, freedom: int, n: int, confidence: float) -> Estimate:
    """sqrt(variance) with limits sqrt(freedom x variance / chi2(freedom)); n values stand behind it."""
    tail = (1 - confidence) / 2
    low, high = (math.sqrt(freedom * variance / (2 * special.gammaincinv(freedom / 2, p))) for p in (1 - tail, tail))
    return Estimate(math.sqrt(variance), low, high, n, f"standard deviation, {confidence:.0%} chi-square interval")


def paired_deviation_ratio(
    first: Sequence[float], second: Sequence[float], confidence: float = CONFIDENCE
) -> Estimate | None:
    """Standard deviation of first / that of second, paired by position, with the Pitman-Morgan interval.

    The variance ratio w has the limits w (K -+ sqrt(K^2 - 1)), K = 1 + 2 (1 - r^2) t(n - 2)^2 / (n - 2), r the
    correlation of the pairs: what pairs share makes the interval narrower. Sources: Pitman 1939 and Morgan 1939,
    both in Biometrika 31. Without an interval below 3 pairs; None where one pair, or no spread in ``second`` or
    ``first``, leaves no ratio.
    """
    _check_pairs(first, second)
    x, y = _checked(first), _checked(second)
    n = len(x)
    if n < 2 or not x.std() or not y.std():
        return None
    ratio = float(x.std() / y.std())
    if n < 3:
        return Estimate(ratio, None, None, n, "two seeds")
    correlation = float(np.corrcoef(x, y)[0, 1])
    quantile = float(t_limit((1 - confidence) / 2, n - 2))
    k = 1 + 2 * max(0.0, 1 - correlation**2) * quantile**2 / (n - 2)
    factor = math.sqrt(k + math.sqrt(k**2 - 1))
    method = f"paired ratio of standard deviations, {confidence:.0%} Pitman-Morgan interval"
    return Estimate(ratio, ratio / factor, ratio * factor, n, method)


def share_interval(count: int, n: int, confidence: float = CONFIDENCE) -> Estimate:
    """count / n, in 0..1, with the exact interval of Clopper & Pearson 1934 for independent trials."""
    if not 0 <= count <= n or n < 1:
        raise ValueError(f"a share needs 0 <= count <= n and n >= 1, got {count} of {n}")
    tail = (1 - confidence) / 2
    low = float(special.betaincinv(count, n - count + 1, tail)) if count else 0.0
    high = float(special.betaincinv(count + 1, n - count, 1 - tail)) if count < n else 1.0
    return Estimate(count / n, low, high, n, f"share, {confidence:.0%} Clopper-Pearson interval")


# ---- nested variance ----


@dataclass(frozen=True)
class VarianceParts:
    """Variance between groups and within them; None where there is nothing to tell it from.

    ``within_freedom``: degrees of freedom of ``within``, the values less the groups.
    """

    between: float | None
    within: float | None
    num_groups: int
    num_values: int
    within_freedom: int

    def within_deviation(self, confidence: float = CONFIDENCE) -> Estimate | None:
        """Standard deviation within groups with its chi-square interval; n counts the values."""
        if self.within is None:
            return None
        return _deviation(self.within, self.within_freedom, self.num_values, confidence)


def variance_parts(values: Sequence[Sequence[float]]) -> VarianceParts:
    """Variance between and within groups: one-way random effects, estimated by the analysis of variance.

    ``values``: one sequence per group (pre-training seed) with one number per member (fine-tuning seed); groups may
    differ in size. within = MSW, between = (MSB - MSW) / n0 with n0 = (N - sum n(i)^2 / N) / (a - 1): both are
    unbiased, until ``between`` is truncated at 0. Source: Searle, Casella & McCulloch 1992, Variance Components,
    sections 3.5 and 3.6. One member per group gives no ``within`` and one group no ``between``; with one member per
    group the two cannot be told apart either, so ``between`` is None there, too.
    """
    groups = [_checked(group) for group in values]
    if not groups:
        raise ValueError("no values to estimate from")
    sizes = np.array([len(group) for group in groups])
    total, freedom = int(sizes.sum()), int(sizes.sum()) - len(groups)
    if freedom == 0:
        return VarianceParts(None, None, len(groups), total, 0)
    means = np.array([group.mean() for group in groups])
    within = float(sum(((group - mean) ** 2).sum() for group, mean in zip(groups, means, strict=True))) / freedom
    if len(groups) < 2:
        return VarianceParts(None, within, 1, total, freedom)
    grand = float(sizes @ means) / total
    between_square = float(sizes @ (means - grand) ** 2) / (len(groups) - 1)
    size = (total - float(sizes @ sizes) / total) / (len(groups) - 1)
    return VarianceParts(max(0.0, (between_square - within) / size), within, len(groups), total, freedom)


def deviation_ratio(first: VarianceParts, second: VarianceParts, confidence: float = CONFIDENCE) -> Estimate | None:
    """Standard deviation within the groups of first / of second, with the F interval of independent values.

    None where one of them has no variance within groups, or none at all; n counts the values of ``first``.
    """
    if not first.within or not second.within:
        return None
    ratio, tail = first.within / second.within, (1 - confidence) / 2
    freedoms = first.within_freedom, second.within_freedom
    low, high = (math.sqrt(ratio / special.fdtri(*freedoms, p)) for p in (1 - tail, tail))
    method = f"ratio of standard deviations, {confidence:.0%} F interval"
    return Estimate(math.sqrt(ratio), low, high, first.num_values, method)


# ---- several tests ----


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for their number, in the order given: at most a share alpha of families has one below alpha.

    Step-down: the i-th smallest of m (i = 0..m - 1) becomes the largest of (m - j) p(j) over j <= i, at most 1.
    Source: Holm 1979, Scandinavian Journal of Statistics 6.
    """
    if not len(p_values):
        return []
    p = _checked(p_values)
    if p.min() < 0 or p.max() > 1:
        raise ValueError("p values must be in 0..1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


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
