"""What steps measured in turn say of two arms: the first evidence on time, which assumes nothing of a step's time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from pldrepro import stats
from pldrepro.analysis.comparisons import Paired, percent_less
from pldrepro.analysis.results import Evidence

RESAMPLES = 1000


def time_ratio(
    evidence: Evidence, arm: str, other: str, of: Callable[[float], float] = lambda value: value
) -> Paired | None:
    """Seconds of an arm's steps over those of another arm in the same rounds, or a monotone function ``of`` it.

    One effect per process, the log ratio of the mean seconds. The interval is a t interval over the processes, see
    ``stats.group_interval``; None where the two were not measured in turn.
    """
    both = [(run.summary.seconds(arm), run.summary.seconds(other)) for run in evidence.interleaved]
    known = [(np.array(first), np.array(second)) for first, second in both if first and second]
    if not known:
        return None
    logs = [math.log(first.mean() / second.mean()) for first, second in known]
    errors = [round_error(first, second) for first, second in known]
    return Paired(
        stats.group_interval(logs, errors).map(lambda log: of(math.exp(log))), tuple(logs),
        least_spread=stats.root_mean_square(errors), unit="processes",
    )  # fmt: skip


def round_error(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Standard error of the log ratio of two arms' mean seconds, from a paired bootstrap over the rounds."""
    x, y = np.asarray(first), np.asarray(second)
    draws = np.random.default_rng(0).integers(0, len(x), size=(RESAMPLES, len(x)))
    return float(np.log(x[draws].mean(axis=1) / y[draws].mean(axis=1)).std(ddof=1))


def saving(evidence: Evidence, arm: str, other: str) -> Paired | None:
    """Percent less time of a step than another arm's."""
    return time_ratio(evidence, arm, other, percent_less)


def speedup(evidence: Evidence, arm: str, other: str) -> Paired | None:
    """Time of another arm's step over that of this arm."""
    return time_ratio(evidence, other, arm)
