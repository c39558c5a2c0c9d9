"""How figures look, and what their functions share.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; line styles repeat the distinction for print.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pldrepro.analysis.budgets import original
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits.text import time_unit
from pldrepro.stats import FEWEST, Estimate

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#7F7F7F")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), "-.", (0, (1, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (7, 3)))
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "pdf.fonttype": 42,
    "svg.hashsalt": "pldrepro",
    "figure.constrained_layout.use": True,
}
FigureData = tuple[Figure, pd.DataFrame, str]


def style(position: int) -> dict[str, Any]:
    """Colour and line style of the position-th of things that are no arms: shapes, treatments."""
    return {"color": COLOURS[position % len(COLOURS)], "linestyle": LINES[position % len(LINES)]}


# One arm looks the same in all figures: those of a role by it, the others by their name.
ROLE_STYLES: dict[str, tuple[str, Any, str]] = {
    "baseline": ("#000000", LINES[0], "o"),
    "pld": ("#0072B2", LINES[0], "s"),
    "preln": ("#56B4E9", LINES[1], "v"),
    "preln_higher_lr": ("#E69F00", LINES[1], "^"),
    "baseline_higher_lr": ("#7F7F7F", LINES[3], "P"),
    "sbld": ("#D55E00", LINES[0], "D"),
    "scratch": ("#BBBBBB", LINES[3], "X"),
}
# Tol's muted colours, which colour-blind readers can tell apart, too.
OTHERS = ("#009E73", "#CC79A7", "#882255", "#999933", "#332288", "#44AA99", "#AA4499", "#117733", "#DDCC77", "#661100")


def arm_style(evidence: Evidence, arm: str) -> dict[str, Any]:
    """Colour and line style of an arm."""
    colour, line, _ = _look(evidence, arm)
    return {"color": colour, "linestyle": line}


def arm_marker(evidence: Evidence, arm: str) -> str:
    """The mark of an arm's points."""
    return _look(evidence, arm)[2]


def _look(evidence: Evidence, arm: str) -> tuple[str, Any, str]:
    """What an arm looks like; a copy that is cut to a budget looks like the arm that it is a copy of."""
    source = (original(evidence, arm) if arm in evidence.arms and evidence.budget(arm) else None) or arm
    role = evidence.role(source)
    return ROLE_STYLES[role] if role in ROLE_STYLES else _others(evidence)[source]


def _others(evidence: Evidence) -> dict[str, tuple[str, Any, str]]:
    """The looks of the arms without such a role: a colour by name, the next free one where it is taken.

    First those whose files say something of them: they are known where an exhibit has only some of the runs, too.
    """
    found: dict[str, tuple[str, Any, str]] = {}
    named = {*evidence.arms, *evidence.untrained, *evidence.tags}
    others = [arm for arm in named if evidence.role(arm) not in ROLE_STYLES]
    for count, arm in enumerate(sorted(others, key=lambda arm: (arm not in evidence.tags, arm))):
        lap, first = divmod(count, len(OTHERS))[0], zlib.crc32(arm.encode())
        taken = {colour for colour, line, _ in found.values() if line == LINES[lap % len(LINES)]}
        ordered = [OTHERS[(first + step) % len(OTHERS)] for step in range(len(OTHERS))]
        colour = next((one for one in ordered if one not in taken), ordered[0])
        found[arm] = (colour, LINES[lap % len(LINES)], MARKERS[first % len(MARKERS)])
    return found


def interval_bars(ax: Axes, x: Sequence[float], estimates: Sequence[Estimate], **look: Any) -> None:
    """A line through estimates with their intervals as bars; an estimate of fewer than FEWEST seeds has none."""
    middle = [one.value for one in estimates]
    shown = [one if one.n >= FEWEST else replace(one, low=None, high=None) for one in estimates]
    error = [
        [0.0 if one.low is None else one.value - one.low for one in shown],
        [0.0 if one.high is None else one.high - one.value for one in shown],
    ]
    bars = error if any(one.low is not None for one in shown) else None
    _, _, drawn = ax.errorbar(x, middle, yerr=bars, **{"markersize": 4, "capsize": 2, "elinewidth": 0.8, **look})
    for lines in drawn:
        lines.set_alpha(0.6)  # behind the means, where several arms stand side by side


def estimates(part: pd.DataFrame, name: str = "mean") -> list[Estimate]:
    """The estimates in a figure's data: columns of this name, low, high, n and method."""
    rows = part.astype({"low": object, "high": object}).replace({np.nan: None}).to_dict("records")
    return [Estimate(row[name], row["low"], row["high"], row["n"], row["method"]) for row in rows]


def shared_legend(figure: Figure, axes: Iterable[Axes]) -> None:
    """One legend below a figure for the lines of some axes, each name once, in up to three columns that fit."""
    found: dict[str, Any] = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        found |= dict(zip(names, handles, strict=True))
    for columns in range(min(3, len(found)), 0, -1):
        legend = figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, handlelength=3)
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()


def not_here(absent: Iterable[str]) -> str:
    """A sentence on what a figure would show and this study lacks, if there is any."""
    names = ", ".join(absent)
    return f" Not in this study: {names}." if names else ""


def left_out(evidence: Evidence, arms: Sequence[str], shown: Sequence[str]) -> str:
    """A sentence on the arms that a figure's data hold and the figure does not draw, if there are any."""
    others = [evidence.label(arm) for arm in arms if arm not in shown]
    return f" Only in the data file: {'; '.join(others)}." if others else ""


def fit_y(ax: Axes, values: Sequence[float], margin: float = 0.25) -> None:
    """Limits from single runs or means: the intervals of few seeds are often too wide to set the scale by."""
    low, high = min(values), max(values)
    room = margin * (high - low) or 0.05 * abs(high) or 1.0
    ax.set_ylim(low - room, high + room)


def seeds_text(evidence: Evidence, arms: Sequence[str] | None = None) -> str:
    """n of each of these arms (none: of all), in words."""
    counts = {arm: len(evidence.runs(arm)) for arm in arms or evidence.arms}
    if len(set(counts.values())) == 1:
        n = next(iter(counts.values()))
        return f"n = {n} pre-training seed{'s' if n > 1 else ''} per arm"
    return "n = " + ", ".join(f"{count} ({evidence.label(arm)})" for arm, count in counts.items())


def axis_scale(largest: float, axis: str) -> tuple[float, str]:
    """Divisor and unit text of an axis."""
    if axis in ("reference_time", "measured_time"):
        unit, seconds = time_unit([largest])
        return seconds, f" [{unit}]"
    power = 3 * int(np.floor(np.log10(largest) / 3)) if largest >= 1000 else 0
    superscript = str(power).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return 10.0**power, f" [10{superscript}]" if power else ""


def nothing(reason: str) -> FigureData:
    """What is put in place of a figure that this study has no runs for."""
    figure, ax = plt.subplots(figsize=(7.2, 1.0))
    ax.axis("off")
    ax.text(0.5, 0.5, reason, ha="center", va="center", color="#555555", wrap=True)
    return figure, pd.DataFrame(), f"Not measured here: {reason}."
