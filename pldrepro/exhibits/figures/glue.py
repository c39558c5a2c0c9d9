"""Figures of fine-tuning: GLUE along the checkpoints, and over the grid of learning rates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.glue_curves import checkpoint_data, rate_data
from pldrepro.analysis.glue_table import reported_glue
from pldrepro.analysis.reported import Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import number
from pldrepro.config.arm import ROLES
from pldrepro.exhibits.figures.style import (
    FigureData,
    arm_marker,
    arm_style,
    estimates,
    fit_y,
    interval_bars,
    left_out,
    nothing,
    seeds_text,
    shared_legend,
)
from pldrepro.exhibits.text import marked_number

# More lines with bars than this cannot be told apart; the data file holds the others, too.
MOST_LINES = 4
BARS = (
    "thin bars: 95 % t interval of the mean over 3 or more pre-training seeds, cut off at a panel's edge; thick bars: "
    "from the lowest run to the highest"
)


def drawn(evidence: Evidence, arms: Iterable[str]) -> list[str]:
    """Those of some arms that are drawn: those of the most important roles first, in the order of the study."""
    roles = [*ROLES, None]
    chosen = sorted(arms, key=lambda arm: roles.index(evidence.role(arm)))[:MOST_LINES]
    return [arm for arm in evidence.arms if arm in chosen]


def small_multiples(count: int, height: float = 1.75) -> tuple[Figure, list[Axes]]:
    """A figure of print width with so many axes, three in a row."""
    rows = -(-count // 3)
    figure, grid = plt.subplots(rows, 3, figsize=(7.2, height * rows + 0.6), squeeze=False)
    axes = list(grid.flat)
    for ax in axes[count:]:
        ax.axis("off")
    return figure, axes[:count]


def _draw_arm(evidence: Evidence, ax: Axes, x: pd.Series, part: pd.DataFrame, arm: str) -> None:
    """An arm's means with bars; ``x`` is shifted by arm, so that they stand side by side."""
    look = arm_style(evidence, arm)
    marker = arm_marker(evidence, arm)
    ax.vlines(x, part["lowest"], part["highest"], color=look["color"], linewidth=4, alpha=0.3)
    line = {**look, "linestyle": look["linestyle"] if len(part) > 1 else "none"}
    interval_bars(ax, x.tolist(), estimates(part), marker=marker, linewidth=1.4, label=evidence.label(arm), **line)


# ---- along the checkpoints ----


def figure8(evidence: Evidence, paper: Paper) -> FigureData:
    """GLUE values along the checkpoints of pre-training (PLD, Figure 8); the baseline's final ones as a line."""
    data = checkpoint_data(evidence)
    several = [arm for arm in evidence.arms if data.empty or data[data["arm"] == arm]["checkpoint"].nunique() > 1]
    if data.empty or not several:
        return nothing("no arm of this study was fine-tuned at several checkpoints")
    shown = drawn(evidence, several)
    names = data["quantity"].unique().tolist()
    figure, axes = small_multiples(len(names))
    for ax, name in zip(axes, names, strict=True):
        part = data[data["quantity"] == name]
        for position, arm in enumerate(shown):
            own = part[part["arm"] == arm]
            _draw_arm(evidence, ax, own["share"] + 0.015 * (position - (len(shown) - 1) / 2), own, arm)
        baseline = part[part["arm"] == evidence.baseline]
        level = [] if evidence.baseline in several or baseline.empty else [baseline["mean"].iloc[-1]]
        for value in level:
            label = f"{evidence.label(evidence.baseline)}, at its end"
            ax.axhline(value, color="#7f7f7f", linewidth=1, zorder=1, label=label)
        visible = part[part["arm"].isin(shown)]
        fit_y(ax, [*visible["lowest"], *visible["highest"], *level])
        ax.set_title(_panel_title(evidence, paper, name), loc="left")
        ax.set_xlim(0, 1.06)
    reported = _reported_along(evidence, paper, data, axes[-1])
    _finish(figure, axes, "share of the run")
    caption = (
        "Fine-tuned scores on the development sets along the checkpoints of pre-training [%]: per pre-training seed "
        "the median over fine-tuning seeds at the best learning rate, primary metric of each task; then the mean, "
        f"{BARS}. {seeds_text(evidence, shown)}.{left_out(evidence, several, shown)} {reported}"
    )
    return figure, data, caption.strip()


def _panel_title(evidence: Evidence, paper: Paper, name: str) -> str:
    if name == "mean":
        return "mean of the tasks"
    if name == "glue":
        return glue_scores.CONVENTIONS[comparisons.glue_convention(evidence)[0]]
    return paper.tables["table2"].columns[name].label


def _reported_along(evidence: Evidence, paper: Paper, data: pd.DataFrame, ax: Axes) -> str:
    """The paper's GLUE scores of PLD's checkpoints: in the panel where they lie on its scale, and in words."""
    part = data[(data["arm"] == evidence.pld) & (data["quantity"] == "glue")]
    found = {}
    for row in part.to_dict("records"):
        reported = reported_glue(paper, "pld", row["checkpoint"], "glue")
        if reported is not None:
            found[row["checkpoint"]] = (row["share"], reported)
    base = reported_glue(paper, "baseline", evidence.final_checkpoint(evidence.baseline), "glue")
    if not found:
        return ""
    low, high = ax.get_ylim()
    comparable = len({name for values in evidence.glue_values.values() for name in values}) == len(glue_scores.VALUES)
    inside = comparable and all(low <= reported.value <= high for _, reported in found.values())
    if inside:
        shares, values = zip(*((share, reported.value) for share, reported in found.values()), strict=True)
        ax.plot(shares, values, "x", color="#555555", markersize=5, zorder=5, label="PLD, reported")
    texts = [f"{checkpoint} {marked_number(reported, 1)}" for checkpoint, (_, reported) in found.items()]
    against = f", against {marked_number(base, 1)} of its baseline" if base else ""
    place = "crosses" if inside else "off the scale of the last panel"
    marks = mark_notes([reported.provenance for _, reported in found.values()])
    return f"The paper's GLUE scores of PLD ({place}): {', '.join(texts)}{against}. {' '.join(marks)}"


def _finish(figure: Figure, axes: Sequence[Axes], x_label: str) -> None:
    """Labels only at the edges, and one legend of all lines."""
    for position, ax in enumerate(axes):
        if position + 3 >= len(axes):
            ax.set_xlabel(x_label)
        if position % 3 == 0:
            ax.set_ylabel("score [%]")
    shared_legend(figure, axes)


# ---- over the learning rates ----


def figure9(evidence: Evidence, paper: Paper) -> FigureData:
    """GLUE values over the grid of fine-tuning learning rates at the end of pre-training (PLD, Figure 9)."""
    data = rate_data(evidence)
    if data.empty:
        return nothing("no arm of this study was fine-tuned")
    if data["learning_rate"].nunique() == 1:
        rate = f"{data['learning_rate'].iloc[0]:g}"
        return nothing(f"the grid of learning rates has one rate, {rate}, so that nothing is said about robustness")
    arms = data["arm"].unique().tolist()
    shown = drawn(evidence, arms)
    names, rates = data["quantity"].unique().tolist(), sorted(data["learning_rate"].unique())
    figure, axes = small_multiples(len(names))
    for ax, name in zip(axes, names, strict=True):
        part = data[data["quantity"] == name]
        for position, arm in enumerate(shown):
            own = part[part["arm"] == arm].sort_values("learning_rate")
            _draw_arm(evidence, ax, own["learning_rate"] * 1.04 ** (position - (len(shown) - 1) / 2), own, arm)
        visible = part[part["arm"].isin(shown)]
        fit_y(ax, [*visible["lowest"], *visible["highest"]])
        ax.set_title(_panel_title(evidence, paper, name), loc="left")
        _rate_axis(ax, rates)
    _finish(figure, axes, "fine-tuning learning rate")
    grid = f"Best rate minus worst, mean of the tasks: {_ranges(evidence, data, shown)}"
    caption = (
        "Fine-tuned scores on the development sets at the end of pre-training over the grid of learning rates [%]: per "
        "pre-training seed the median over fine-tuning seeds at that rate, primary metric of each task; then the mean, "
        f"{BARS}. {grid}. {seeds_text(evidence, shown)}.{left_out(evidence, arms, shown)}"
    )
    return figure, data, caption


def _rate_axis(ax: Axes, rates: Sequence[float]) -> None:
    """A logarithmic axis that names the rates of the grid, every second one where they stand close."""
    ax.set_xscale("log")
    ax.set_xlim(rates[0] / 1.4, rates[-1] * 1.4)
    named = [rates[0]]
    for rate in rates[1:]:
        if rate > 1.6 * named[-1]:
            named.append(rate)
    ax.set_xticks(named, [f"{rate:.0e}".replace("e-0", "e−") for rate in named])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def _ranges(evidence: Evidence, data: pd.DataFrame, arms: Sequence[str]) -> str:
    """How far the mean of the tasks falls from the best rate of the grid to the worst, by arm [points]."""
    return "; ".join(f"{evidence.label(arm)} {number(comparisons.rate_range(data, arm), 1)}" for arm in arms)
