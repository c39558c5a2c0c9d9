"""What a test set leaves open: the standard error of a score that comes from its examples, which all seeds share.

All in points (percent). The examples of a test set are the same for all seeds, so that more seeds do not average this
error out. For a difference of two arms both errors are added in quadrature, as if each had examples of its own: an
upper bound, since what makes an example hard is common to both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from pldrepro.analysis import glue_scores


def value_error(metric: str, value: float, n: int) -> float:
    """Standard error of a metric over n examples: sqrt(p (1 - p) / n) of a share, (1 - r^2) / sqrt(n - 1) of r.

    F1 counts as a share, Matthews' and Spearman's correlations as Pearson's of normal values: both nearly.
    """
    x = value / 100
    if metric in ("accuracy", "f1"):
        return 100 * math.sqrt(max(0.0, x * (1 - x)) / n)
    return 100 * (1 - x**2) / math.sqrt(max(1, n - 1))


def accuracy_error(shares: Sequence[Sequence[float]], n: int | None) -> float:
    """Of a difference of accuracies over n examples; ``shares``: of each arm, its accuracies by seed [%]."""
    return 0.0 if n is None else math.hypot(*(value_error("accuracy", float(np.mean(arm)), n) for arm in shares))


def glue_error(values: Mapping[str, float], sizes: Mapping[str, int], convention: str) -> float:
    """Of a GLUE score in a convention; ``values`` and ``sizes``: each value [%] and its number of examples.

    Each value's error times what a point of it is worth in the score: added up within a task, whose metrics share
    their examples, in quadrature over tasks. 0 where the score is undefined.
    """
    whole = glue_scores.glue_scores(values)[convention].value
    tasks: dict[str, float] = {}
    for name, value in values.items():
        more = glue_scores.glue_scores({**values, name: value + 1e-3})[convention].value
        if whole is None or more is None:
            return 0.0
        task, _, metric = glue_scores.VALUES[name]
        error = value_error(metric, value, sizes[name]) * (more - whole) / 1e-3
        tasks[task] = tasks.get(task, 0.0) + error
    return math.hypot(*tasks.values())
