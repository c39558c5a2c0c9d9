"""Curves of (cost, value), linear between their points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def first_at_or_below(points: Iterable[tuple[float | None, float]], level: float) -> float | None:
    """Cost at which a curve of (cost, value) first falls to a level, linear between points; None: never."""
    before: tuple[float, float] | None = None
    for cost, value in points:
        if cost is None:
            return None
        if value <= level:
            if before is None:
                return cost
            return before[0] + (before[1] - level) / (before[1] - value) * (cost - before[0])
        before = (cost, value)
    return None


def value_at(points: Sequence[tuple[float | None, float]], cost: float | None) -> float | None:
    """Value of a curve of (cost, value) at a cost, linear between points; None outside of them."""
    known = [(at, value) for at, value in points if at is not None]
    if cost is None or not known or not known[0][0] <= cost <= known[-1][0]:
        return None
    return float(np.interp(cost, [at for at, _ in known], [value for _, value in known]))
