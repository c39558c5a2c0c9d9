"""How many seeds find an effect: the power of a paired t test, with an error that all seeds share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, special

from pldrepro.stats import CONFIDENCE, t_limit

POWER = 0.8


def power(
    n: int,
    effect: float,
    spread: float,
    confidence: float = CONFIDENCE,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
) -> float:
    """Probability that a two-sided paired t test of n pairs finds a mean difference ``effect``.

    ``spread``: standard deviation of the differences, > 0. P(|T| > t(n - 1)) for T noncentral t with noncentrality
    effect sqrt(n) / spread. Source: Cohen 1988, Statistical Power Analysis, ch. 2. With an error that the pairs share
    (see ``mean_interval``) the test is whether that interval excludes 0, and T has the degrees of freedom of Welch and
    Satterthwaite: nearly exact.
    """
    if n < 2 or not spread > 0:
        raise ValueError(f"power needs n >= 2 and spread > 0, got {n} and {spread:g}")
    return float(_power(np.array([n]), effect, spread, confidence, shared_error, shared_freedom)[0])


def _power(
    n: np.ndarray, effect: float, spread: float, confidence: float, shared_error: float, shared_freedom: float
) -> np.ndarray:
    tail, own = (1 - confidence) / 2, spread / np.sqrt(n)
    error = np.hypot(own, shared_error)
    half = np.hypot(t_limit(tail, n - 1) * own, t_limit(tail, shared_freedom) * shared_error)
    freedom = error**4 / (own**4 / (n - 1) + shared_error**4 / shared_freedom)
    # Far beyond this power is 1, and the distribution nan.
    noncentrality = np.minimum(abs(effect) / error, 1e5)
    # The lower tail as the upper one of the mirrored T.
    return _beyond(half / error, freedom, noncentrality) + _beyond(half / error, freedom, -noncentrality)


def _beyond(limit: np.ndarray, freedom: np.ndarray, noncentrality: np.ndarray) -> np.ndarray:
    """P(T > limit) of noncentral t, limit > 0; scipy's distribution function is nan where it is all but 0 or 1."""
    below = special.nctdtr(freedom, noncentrality, limit)
    beyond: np.ndarray = 1 - np.where(np.isnan(below), noncentrality < 0, below)
    return beyond


def smallest_seen(
    n: int,
    spread: float,
    target: float = POWER,
    confidence: float = CONFIDENCE,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
) -> float:
    """The smallest mean difference that a paired t test of n pairs finds with probability ``target``.

    The effect at which ``power`` is ``target``, found by bisection; by itself, as if the spread were the true one.
    """
    error = math.hypot(spread / math.sqrt(n), shared_error)

    def missing(effect: float) -> float:
        return power(n, effect, spread, confidence, shared_error, shared_freedom) - target

    return float(optimize.brentq(missing, 1e-6 * error, 1e3 * error))


def pairs_for_power(
    differences: Sequence[float],
    target: float = POWER,
    confidence: float = CONFIDENCE,
    most: int = 1000,
    *,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
    least_spread: float = 0.0,
) -> int | None:
    """Pairs with which a paired t test finds the observed mean difference with probability ``target``.

    The smallest n >= 2 with power(n, |mean|, s) >= target; None when more than ``most`` are needed (of an error that
    the pairs share: when no number is enough), or one pair gives no spread. It takes mean and spread as if they were
    true: of few pairs it is a rough guide for a new study, and says nothing about how sure the present one is. It is
    for one test by itself. ``least_spread``: as in p_value.
    """
    data = np.asarray(differences, dtype=float)
    if len(data) < 2:
        return None
    effect, spread = float(data.mean()), max(float(data.std(ddof=1)), least_spread)
    if not spread and not shared_error:
        return 2 if effect else None
    # Without any spread of their own the pairs leave the shared error, whose power no number of them changes.
    own = spread or 1e-9 * shared_error
    sizes = np.arange(2, most + 1)
    enough = np.flatnonzero(_power(sizes, effect, own, confidence, shared_error, shared_freedom) >= target)
    return int(sizes[enough[0]]) if len(enough) else None
