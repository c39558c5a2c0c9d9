"""Figures of budgets: convergence by theta_bar, decayed baselines at PLD's reference time, epochs of a cut corpus."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator

from pldrepro.analysis import budgets as numbers
from pldrepro.analysis.arms import cost_estimate, validation_loss, validation_losses
from pldrepro.analysis.budgets import epochs_arms, original, treatments
from pldrepro.analysis.curves import final_validations, loss_data
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits.figures.costs import late_losses, loss_lines
from pldrepro.exhibits.figures.style import (
    COLOURS,
    MARKERS,
    FigureData,
    arm_marker,
    arm_style,
    axis_scale,
    estimates,
    fit_y,
    interval_bars,
    not_here,
    nothing,
    seeds_text,
    style,
)

BARS = "bars: 95 % t interval of the mean over 3 or more pre-training seeds, cut off at a panel's edge"


# ---- theta_bar ----


def figure10(evidence: Evidence, paper: Paper) -> FigureData:
    """Convergence for several theta_bar, and the loss that each ends at (PLD, Figure 10)."""
    arms = evidence.theta_arms
    if arms and (twin := evidence.undropped_twin(evidence.pld)):
        arms[twin] = 1.0
    if len(arms) < 2:
        return nothing("no arm of this study differs from PLD by theta_bar only")
    data = loss_data(evidence, list(arms))
    data = data.assign(theta_bar=data["arm"].map(arms))
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.3), width_ratios=(1.5, 1))
    scale, unit = axis_scale(data["samples"].max(), "samples")
    for arm, theta in arms.items():
        look = arm_style(evidence, arm)
        loss_lines(left, data[data["arm"] == arm], "samples", scale, _theta_label(evidence, arm, theta), look)
        marker, final = arm_marker(evidence, arm), validation_loss(evidence, arm)
        interval_bars(right, [theta], [final], marker=marker, color=look["color"])
        runs = validation_losses(evidence, arm)
        right.plot([theta] * len(runs), runs, ".", color=look["color"], alpha=0.5)
    fit_y(left, late_losses(data, "samples"), 0.06)
    fit_y(right, [loss for arm in arms for loss in validation_losses(evidence, arm)])
    left.set(xlabel=f"samples{unit}", ylabel="validation loss [nats]")
    left.set_xlim(left=0)
    right.set(xlabel="theta_bar", xlim=(0, 1.05))
    right.set_title("at the end", loc="left")
    left.set_title("along the run", loc="left")
    figure.legend(loc="outside lower center", ncols=3, handlelength=3)
    caption = (
        "Validation loss for several limits theta_bar of the keep probability (1: nothing is dropped). Left: single "
        "runs (thin) and their mean (bold). Right: final losses on a scale of their own; dots: single runs, marks: "
        f"mean, {BARS}. {seeds_text(evidence, list(arms))}."
        + not_here(evidence.missing_in("figure10"))
        + " A run that diverges leaves no record."
    )
    return figure, data, caption


def _theta_label(evidence: Evidence, arm: str, theta: float) -> str:
    return f"theta_bar {theta:g}" + {evidence.pld: " (PLD)"}.get(arm, " (no dropping)" if theta == 1 else "")


# ---- fair budgets ----


def fair_budgets(evidence: Evidence, paper: Paper) -> FigureData:
    """Loss against reference time: PLD, the baseline in mid-schedule, and what is fully decayed at PLD's budgets."""
    cut = [arm for arm in evidence.arms if (budget := evidence.budget(arm)) and budget[0] == evidence.pld]
    if evidence.pld not in evidence.arms or not evidence.measured("reference_time"):
        return nothing("no PLD with reference time in this study")
    twin = evidence.undropped_twin(evidence.pld)
    curves = list(dict.fromkeys(arm for arm in (evidence.baseline, twin, evidence.pld) if arm))
    courses, ends = loss_data(evidence, curves).assign(kind="curve"), final_validations(evidence, cut)
    data = pd.concat([courses, ends], ignore_index=True)
    figure, ax = plt.subplots(figsize=(7.2, 3.8))
    scale, unit = axis_scale(data["reference_time"].max(), "reference_time")
    for arm in curves:
        own = data[(data["arm"] == arm) & (data["kind"] == "curve")]
        loss_lines(ax, own, "reference_time", scale, evidence.label(arm), arm_style(evidence, arm))
    for position, arm in enumerate(cut):
        _end_point(evidence, ax, arm, scale, position)
    at = {budget[1] for arm in cut if (budget := evidence.budget(arm))}
    budgets = [checkpoint for checkpoint in evidence.checkpoints(evidence.pld) if checkpoint in at]
    for position, checkpoint in enumerate(budgets):
        # The paper's first two lie so close that their names go to either side.
        _budget_line(evidence, ax, checkpoint, scale, ("right", "left", "center")[min(position, 2)])
    fit_y(ax, late_losses(data, "reference_time"), 0.06)
    ax.set(xlabel=f"reference time{unit}", ylabel="validation loss [nats]")
    ax.set_xlim(left=0)
    figure.legend(loc="outside lower center", ncols=2, handlelength=3)
    return figure, data, _fair_caption(evidence, curves, cut)


def _end_point(evidence: Evidence, ax: Axes, arm: str, scale: float, position: int) -> None:
    """The loss at which a decayed run ends, in the colour of the arm that it is a copy of."""
    look = arm_style(evidence, arm)
    interval_bars(
        ax, [_reference_time(evidence, arm, evidence.final_checkpoint(arm)) / scale], [validation_loss(evidence, arm)],
        marker=MARKERS[(position + 1) % len(MARKERS)], color=look["color"], markerfacecolor="white", markersize=6,
        linestyle="none", label=evidence.label(arm), zorder=4,
    )  # fmt: skip


def _reference_time(evidence: Evidence, arm: str, checkpoint: str) -> float:
    """Reference time of an arm up to a checkpoint [s]; the figure is drawn only where every run has it."""
    time = cost_estimate(evidence, arm, "reference_time", checkpoint)
    assert time is not None
    return time.value


def _budget_line(evidence: Evidence, ax: Axes, checkpoint: str, scale: float, side: str) -> None:
    time = _reference_time(evidence, evidence.pld, checkpoint) / scale
    ax.axvline(time, color=COLOURS[7], linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    ax.annotate(
        f"PLD {checkpoint}", (time, 1), xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
        ha=side, va="bottom", fontsize=7.5, color="#555555",
    )  # fmt: skip


def _fair_caption(evidence: Evidence, curves: Sequence[str], cut: Sequence[str]) -> str:
    sources = {original(evidence, arm) for arm in cut}
    absent = [evidence.label(arm) for arm in curves if arm != evidence.pld and arm not in sources]
    return (
        "Validation loss against reference time. Lines: runs on their whole schedule (thin: single runs, bold: mean); "
        "PLD's line below the baseline's is the paper's comparison, in mid-schedule. Hollow marks: runs whose "
        "learning rate is fully decayed at the budget of PLD's checkpoint (dashed lines), the fair comparison; "
        f"{BARS}. {seeds_text(evidence, [*curves, *cut])}."
        + (f" Not in this study, fully decayed: {', '.join(absent)}." if absent else "")
    )


# ---- overfitting ----


def overfitting(evidence: Evidence, paper: Paper) -> FigureData:
    """Loss against the epochs of a cut corpus, as many steps each: with PLD, with dropout, with neither."""
    data = numbers.overfitting(evidence, paper).dropna(subset="measured")
    if data.empty:
        return nothing("no runs on a cut corpus that name a treatment in this study")
    data = data.assign(epochs=data["arm"].map(evidence.epochs), treatment=data["arm"].map(evidence.treatment))
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.2))
    arms = [arm for by_treatment in epochs_arms(evidence).values() for arm in by_treatment.values()]
    names = treatments(evidence)
    for position, (treatment, name) in enumerate(names.items()):
        look = style(position + 1)
        marker = MARKERS[position % len(MARKERS)]
        for quantity, ax, line in (
            ("validation_loss", left, {**look, "label": f"{name}: validation"}),
            ("train_loss", left, {**look, "alpha": 0.55, "markerfacecolor": "white", "label": f"{name}: training"}),
            ("minus_neither", right, look),
        ):
            part = data[(data["treatment"] == treatment) & (data["quantity"] == quantity)]
            if len(part):
                interval_bars(
                    ax, part["epochs"].tolist(), estimates(part, "measured"), marker=marker, linewidth=1.4, **line
                )
    right.axhline(0, color="#7f7f7f", linewidth=0.8, zorder=1)
    for ax, quantities in ((left, ["validation_loss", "train_loss"]), (right, ["minus_neither"])):
        _epochs_axis(ax, data, quantities)
    left.set_ylabel("loss [nats]")
    right.set_ylabel("loss minus neither's [nats]")
    figure.legend(loc="outside lower center", ncols=3, handlelength=3)
    absent = [name for treatment, name in names.items() if treatment not in set(data["treatment"])]
    caption = (
        "As many steps on a part of one corpus that makes N epochs. Left: final validation loss (filled) and training "
        "loss (hollow, mean over the last tenth of the steps, with layers or units dropped where they are). Right: "
        "validation loss minus that with neither PLD nor dropout, paired by seed; below 0 it regularises. "
        f"Mean, {BARS}. {seeds_text(evidence, arms)}." + not_here(absent)
    )
    return figure, data, caption


def _epochs_axis(ax: Axes, data: pd.DataFrame, quantities: Sequence[str]) -> None:
    values = data[data["quantity"].isin(quantities)]["measured"].tolist()
    epochs = sorted(data["epochs"].unique())
    fit_y(ax, [*values, 0.0] if "minus_neither" in quantities else values)
    ax.set_xscale("log")
    ax.set_xlim(epochs[0] / 1.3, epochs[-1] * 1.3)
    ax.set_xticks(epochs, [f"{count:g}" for count in epochs])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("epochs")
