"""The study in one picture: loss against cost, and what each change that makes PLD of the baseline contributes."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from pldrepro.analysis.arms import validation_loss
from pldrepro.analysis.curves import mean_over_runs, relative_loss_data
from pldrepro.analysis.reported import MARKS, Paper, mark_notes
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.story import Finding, contributions, fewer_layers, story_frame
from pldrepro.analysis.tidy import claimed
from pldrepro.config.arm import Role
from pldrepro.exhibits.figures.style import FigureData, arm_style, fit_y, nothing, seeds_text
from pldrepro.stats import FEWEST

# Losses before this part of the baseline's run [%] set no scale: they would hide all differences.
SHOWN_FROM = 35
SHOWN: tuple[Role, ...] = ("baseline", "preln", "preln_higher_lr", "pld")


def finding(evidence: Evidence, paper: Paper) -> FigureData:
    """Left: validation loss against time, relative to the baseline's whole run; right: the parts of PLD's effect."""
    study = evidence.of("bert")
    parts = contributions(study) if study is not None else []
    if study is None or not parts:
        return nothing("no BERT with PLD in this set")
    arms = [*map(study.arm_with_role, SHOWN), *fewer_layers(study)]
    arms = [arm for arm in dict.fromkeys(arms) if arm in study.arms]
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3.4), width_ratios=(1.25, 1))
    data = _losses(left, study, arms)
    claim = claimed(paper, "speedup_same_loss") if parts[0].unit == "x" else None
    _parts(right, parts, None if claim is None else claim.value)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, handlelength=3)
    caption = (
        f"Left: validation loss on held-out text against {AXES[study.clock]}, relative to the baseline's whole run "
        "(100). Thin lines: single runs; bold: mean at equal steps; grey line: the baseline's final loss. Right: "
        f"{WORDS[parts[0].unit]}, paired by seed; bars: 95 % t interval. {seeds_text(study, arms)}."
    )
    if claim is not None:
        caption += f" Diamond: {paper.label} paper{MARKS[claim.provenance]}. {' '.join(mark_notes([claim.provenance]))}"
    return figure, pd.concat([data, story_frame(parts)], ignore_index=True), caption.strip()


WORDS = {
    "x": "by what factor each change makes the baseline's final loss cheaper to reach, and their product",
    "nats": "what each change does to the final loss, below 0 is better, and their sum (not all runs reach the "
    "baseline's loss, so that no speedup can be taken apart)",
}


def _losses(ax: Axes, study: Evidence, arms: list[str]) -> pd.DataFrame:
    axis, data = study.clock, relative_loss_data(study, arms)
    for arm in arms:
        own, look = data[data["arm"] == arm], arm_style(study, arm)
        for _, run in own.groupby("seed"):
            ax.plot(run["relative"], run["validation_loss"], color=look["color"], linewidth=0.5, alpha=0.35)
        mean = mean_over_runs(own, "relative")
        ax.plot(mean["relative"], mean["validation_loss"], linewidth=1.8, label=study.label(arm), **look)
    ax.axhline(validation_loss(study, study.baseline).value, color="#7f7f7f", linewidth=0.8, zorder=1)
    fit_y(ax, data.loc[data["relative"] >= SHOWN_FROM, "validation_loss"].tolist(), 0.06)
    ax.set(xlabel=f"{AXES[axis]} [% of the baseline's run]", ylabel="validation loss [nats]")
    ax.set_xlim(left=0)
    ax.set_title("Loss against cost", loc="left")
    return data


def _parts(ax: Axes, parts: list[Finding], reported: float | None) -> None:
    """A row per change, from top to bottom, and one for all of them."""
    null = parts[0].null
    for row, one in enumerate(reversed(parts)):
        estimate, whole = one.estimate, row == 0
        if estimate is None:
            continue
        look: dict[str, Any] = {"color": "#000000" if whole else "#0072B2", "zorder": 3}
        ax.plot([null, estimate.value], [row, row], linewidth=7, alpha=0.25, solid_capstyle="butt", **look)
        if estimate.n >= FEWEST and estimate.low is not None and estimate.high is not None:
            ax.plot([estimate.low, estimate.high], [row, row], linewidth=1.4, **look)
        ax.plot(estimate.values or [estimate.value], [row] * max(1, len(estimate.values)), "o", markersize=5, **look)
        digits, unit = (2, " x") if one.unit == "x" else (3, "")
        ax.annotate(
            f"{estimate.value:.{digits}f}{unit}", (estimate.value, row), xytext=(0, 7), textcoords="offset points",
            ha="center", fontsize=8, color=look["color"],
        )  # fmt: skip
    if reported is not None:
        ax.plot(reported, 0, "D", markerfacecolor="white", color="#D55E00", markersize=6, zorder=4)
    ax.axvline(null, color="#7f7f7f", linewidth=0.8, zorder=1)
    ax.set_yticks(range(len(parts)), [one.note for one in reversed(parts)])
    ax.set_ylim(-0.5, len(parts) - 0.3)
    ax.grid(axis="y", visible=False)
    if parts[0].unit == "x":
        _factors(ax, [one.estimate.value for one in parts if one.estimate], reported)
    else:
        ax.set_xlabel("change in final loss [nats]")
        ax.set_title("Where the difference comes from", loc="left")


def _factors(ax: Axes, values: list[float], reported: float | None) -> None:
    ax.set_xscale("log")
    largest = max([*values, reported or 1.0])
    ticks = [tick for tick in (0.5, 0.8, 1, 1.5, 2, 3, 5, 10) if tick <= 1.3 * largest and tick >= 0.8 * min(values)]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("speedup to that loss [x]")
    ax.set_title("Where the speedup comes from", loc="left")
