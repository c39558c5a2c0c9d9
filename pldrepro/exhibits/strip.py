"""Reported against measured as a small picture for each claim, on a scale of its own: no effect, and the reported one.

Without a reported number the scale is the measured one's own. What is off the scale is cut, with an arrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

WIDTH, HEIGHT, LEFT, RIGHT = 170, 18, -1.0, 2.0


def strip(row: Mapping[Any, Any], null: float) -> Markup:
    """An SVG for a row of claims.csv; empty where nothing was measured."""
    if pd.isna(row["measured"]):
        return Markup("")
    limits = [] if pd.isna(row["low"]) or row["values"] else [float(row["low"]), float(row["high"])]
    points = [float(text) for text in str(row["values"]).split()] or [float(row["measured"])]
    reported = None if pd.isna(row["reported"]) else float(row["reported"])
    span = max(abs(value - null) for value in (*limits, *points)) or 1.0
    unit = span if reported is None else reported - null
    at = [_x((value - null) / unit) for value in points]
    parts = [f'<line class="null" x1="{_x(0)}" x2="{_x(0)}" y1="1" y2="{HEIGHT - 1}"/>']
    if limits:
        low, high = sorted(_x((value - null) / unit) for value in limits)
        parts.append(f'<line class="interval" x1="{low}" x2="{high}" y1="9" y2="9"/>')
    if reported is not None:
        middle = _x(1)
        parts.append(f'<path class="paper" d="M{middle - 5} 9 L{middle} 4 L{middle + 5} 9 L{middle} 14 Z"/>')
    parts += [f'<circle class="dot" cx="{x}" cy="9" r="3.6"/>' for x in at]
    ends = {*at, *((_x((limits[0] - null) / unit), _x((limits[1] - null) / unit)) if limits else ())}
    parts += [_arrow(x) for x in (_x(LEFT), _x(RIGHT)) if x in ends]
    return Markup(
        f'<svg class="strip" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
        f'aria-label="measured against no effect{"" if reported is None else " and reported"}">{"".join(parts)}</svg>'
    )


def _x(scaled: float) -> float:
    """Place on the strip of a value on the scale, 0 no effect and 1 the reported one; cut at the edges."""
    share = (min(max(scaled, LEFT), RIGHT) - LEFT) / (RIGHT - LEFT)
    return round(6 + share * (WIDTH - 12), 1)


def _arrow(x: float) -> str:
    side = 1 if x > WIDTH / 2 else -1
    return f'<path class="dot" d="M{x + 5 * side} 9 L{x} 5 L{x} 13 Z"/>'
