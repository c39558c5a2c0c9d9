"""Figures of what training costs and reaches: validation loss, the schedule and its kept layers, the time of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pldrepro.analysis.arms import validation_loss, validation_losses
from pldrepro.analysis.curves import (
    flops_data,
    is_far_above,
    loss_data,
    mean_flops_saving,
    mean_over_runs,
    tau_data,
    trade_off_data,
)
from pldrepro.analysis.keep import keep_data, kept_layers_data
from pldrepro.analysis.reported import Paper, mark_notes
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.text import FAMILIES, number
from pldrepro.analysis.tidy import claimed
from pldrepro.errors import RecordError
from pldrepro.exhibits.figures.style import (
    MARKERS,
    FigureData,
    arm_marker,
    arm_style,
    axis_scale,
    fit_y,
    interval_bars,
    left_out,
    not_here,
    nothing,
    seeds_text,
    shared_legend,
    style,
)
from pldrepro.exhibits.text import device_text
from pldrepro.runs.step_times import StepTimes

# ---- validation loss ----


TASKS = {"bert": "masked-language modelling", "gpt": "next token"}  # of the others: classification


def figure7(evidence: Evidence, paper: Paper) -> FigureData:
    """Validation loss against samples, FLOPs and time, both learning rates (PLD, Figure 7); a thin line per seed."""
    axes_shown = [axis for axis in ("samples", "flops", "reference_time") if evidence.measured(axis)]
    if "reference_time" not in axes_shown:
        axes_shown.append("measured_time")
    named = evidence.shown_in("figure7")
    arms = [arm for arm in evidence.arms if arm in (named or evidence.methods)]
    data = loss_data(evidence, arms)
    figure, axes = plt.subplots(1, len(axes_shown), figsize=(7.2, 3.2), sharey=True, squeeze=False)
    target = validation_loss(evidence, evidence.baseline).value
    for ax, axis in zip(axes[0], axes_shown, strict=True):
        scale, unit = axis_scale(data[axis].max(), axis)
        for arm in arms:
            look = arm_style(evidence, arm)
            loss_lines(ax, data[data["arm"] == arm], axis, scale, evidence.label(arm), look)
        ax.axhline(target, color="#7f7f7f", linewidth=0.8, zorder=1)
        ax.set_xlabel(f"{AXES[axis]}{unit}")
        ax.set_xlim(left=0)
    axes[0][0].set_ylabel("validation loss [nats]")
    shared_legend(figure, axes[0][:1])
    task = TASKS.get(evidence.family, "classification")
    caption = (
        f"Validation loss ({task}, held-out data) against what it cost. Thin lines: single runs; bold lines: mean over "
        "runs at equal steps; grey line: the baseline's final loss. "
        f"{seeds_text(evidence, arms)}." + not_here(evidence.missing_in("figure7"))
    )
    return figure, data, caption


def trade_off(evidence: Evidence, paper: Paper) -> FigureData:
    """Final validation loss of every method against its reference time: what each reaches, and at what cost."""
    data = trade_off_data(evidence)
    figure, ax = plt.subplots(figsize=(7.2, max(4.2, 0.8 + 0.19 * len(data))))
    for position, row in enumerate(data.to_dict("records")):
        look = arm_style(evidence, row["arm"])
        runs = validation_losses(evidence, row["arm"])
        ax.plot([row["time"]] * len(runs), runs, ".", markersize=3, alpha=0.5, color=look["color"])
        interval_bars(
            ax, [row["time"]], [validation_loss(evidence, row["arm"])], marker=arm_marker(evidence, row["arm"]),
            markersize=5, linestyle="none", color=look["color"], label=f"{position + 1} {row['label']}",
        )  # fmt: skip
        ax.annotate(
            str(position + 1), (row["time"], row["loss"]), xytext=(5, 4), textcoords="offset points", fontsize=8,
            color=look["color"],
        )  # fmt: skip
    far = is_far_above(data["loss"])
    fit_y(ax, [loss for arm in data["arm"][~far] for loss in validation_losses(evidence, arm)])
    ax.set(xlabel="reference time of the whole run / the baseline's", ylabel="final validation loss [nats]")
    figure.legend(loc="outside right upper", handletextpad=0.3, fontsize=8)
    caption = (
        "Final validation loss against the reference time of the whole run, relative to the baseline's. Points: mean "
        "over pre-training seeds; dots: single runs; bars: 95 % t interval of the mean over 3 or more seeds, cut off "
        "at the panel's edge; towards the lower left is better. "
        f"{seeds_text(evidence, data['arm'].tolist())}."
    )
    above = [f"{row['label']} ({row['loss']:.2f} nats)" for row in data[far].to_dict("records")]
    return figure, data, caption + (f" Above the panel: {'; '.join(above)}." if above else "")


def loss_lines(ax: Axes, data: pd.DataFrame, axis: str, scale: float, label: str, look: dict[str, Any]) -> None:
    """A thin line per run of an arm and a bold one for their mean at equal steps."""
    for _, run in data.groupby("seed"):
        ax.plot(run[axis] / scale, run["validation_loss"], color=look["color"], linewidth=0.6, alpha=0.45)
    mean = mean_over_runs(data, axis)
    ax.plot(mean[axis] / scale, mean["validation_loss"], linewidth=1.8, label=label, **look)


# Losses before this share of a run are left out of a scale: they would hide all differences.
SHOWN_FROM = 0.2


def late_losses(data: pd.DataFrame, axis: str) -> list[float]:
    """The validation losses that set the scale of a figure."""
    return [float(loss) for loss in data[data[axis] >= SHOWN_FROM * data[axis].max()]["validation_loss"]]


# ---- FLOPs along the schedule ----

MOST_ARMS = 6  # in one figure; the csv holds all of them


def first_of(evidence: Evidence, arms: Sequence[str], exhibit: str) -> list[str]:
    """At most MOST_ARMS of some arms, those that name the exhibit before the others, in the order of the study."""
    named = list(evidence.shown_in(exhibit))
    ranked = sorted(arms, key=lambda arm: named.index(arm) if arm in named else len(named))
    return [arm for arm in arms if arm in ranked[:MOST_ARMS]]


def figure6(evidence: Evidence, paper: Paper) -> FigureData:
    """FLOPs of a step along the run, relative to a step that drops nothing: predicted and counted (PLD, Figure 6)."""
    every = [arm for arm in evidence.methods if evidence.runs(arm)[0].settings.drop.schedule != "none"]
    if not every:
        return nothing("no arm of this study drops layers")
    data, arms = flops_data(evidence, every), first_of(evidence, every, "figure6")
    reported = claimed(paper, "flops_along_schedule")
    figure, ax = plt.subplots(figsize=(7.2, 3.2))
    for arm in arms:
        part, look = data[data["arm"] == arm], arm_style(evidence, arm)
        label = f"{evidence.label(arm)}: {number(mean_flops_saving(data, arm), 1)} % less"
        ax.plot(part["share"], part["predicted"], linewidth=1.6, label=label, **look)
        ax.plot(part["share"], part["counted"], ".", markersize=4, alpha=0.6, color=look["color"])
    if reported:
        ax.axhline(1 - reported.value / 100, color="#7f7f7f", linewidth=0.9, zorder=1)
        ax.annotate(
            f"paper: {number(reported.value, 0)} % less{reported.mark}", (1, 1 - reported.value / 100), xytext=(-2, -3),
            textcoords="offset points", ha="right", va="top", fontsize=7.5, color="#555555",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    ax.set(xlabel="share of the run", ylabel="FLOPs of a step / without dropping", xlim=(0, 1))
    ax.set_ylim(min(0.5, 0.9 * float(data["counted"].min())), 1.03)
    figure.legend(loc="outside lower center", ncols=min(2, len(arms)), handlelength=3)
    staged = len(getattr(evidence.runs(arms[0])[0].settings.model, "stages", ())) > 1
    caption = (
        "FLOPs of a training step (matrix products, forward and backward, embeddings' decoder included) relative to a "
        "step of the same model that drops nothing. Lines: predicted from the policy; dots: counted between two log "
        f"lines, mean over seeds. {'Layers of all stages count at their mean. ' if staged else ''}"
        f"{seeds_text(evidence, arms)}.{left_out(evidence, every, arms)} "
        + " ".join(mark_notes([reported.provenance] if reported else []))
    )
    return figure, data, caption


# ---- the schedule ----


def schedule(evidence: Evidence, paper: Paper) -> FigureData:
    """Keep probability per layer along PLD's run, and kept layers of every arm: expected and measured."""
    arm = evidence.pld if evidence.pld in evidence.arms else evidence.arms[-1]
    run = evidence.runs(arm)[0]
    keep = keep_data(run)
    depth = kept_layers_data(evidence, evidence.methods)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.0), width_ratios=(1, 1.15))
    layers = sorted(keep["layer"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.75, len(layers)))
    for layer, shade in zip(layers, shades, strict=True):
        part = keep[keep["layer"] == layer]
        left.plot(part["share"], part["keep_probability"], color=shade, linewidth=1.3)
        if layer in (layers[0], layers[-1]) or len(layers) <= 6:
            left.annotate(
                f"layer {layer}" if layer in (layers[0], layers[-1]) else str(layer),
                (1, part["keep_probability"].iloc[-1]), xytext=(3, 0), textcoords="offset points", va="center",
                fontsize=7.5, color=shade, annotation_clip=False,
            )  # fmt: skip
    left.set(xlabel="share of the run", ylabel="keep probability", ylim=(0, 1.04), xlim=(0, 1))
    left.set_title(f"{evidence.label(arm)}: policy", loc="left")
    shown = first_of(evidence, evidence.methods, "schedule")
    for name in shown:
        part = depth[depth["arm"] == name]
        look = arm_style(evidence, name)
        right.plot(part["share"], part["expected"], linewidth=1.6, label=evidence.label(name), **look)
        right.plot(part["share"], part["measured"], ".", markersize=4, alpha=0.5, color=look["color"])
    right.set(xlabel="share of the run", ylabel="kept layers per step", xlim=(0, 1))
    right.set_ylim(0, 1.06 * run.summary.num_layers)
    right.set_title("lines: expected; dots: measured", loc="left")
    shared_legend(figure, [right])
    caption = (
        f"Left: keep probability of each layer along the run ({evidence.label(arm)}). Right: layers kept per forward "
        "pass, expected from the policy (lines) and counted between two log lines (dots, mean over seeds). "
        f"{seeds_text(evidence, shown)}.{left_out(evidence, evidence.methods, shown)}"
    )
    data = pd.concat([keep.assign(quantity="keep_probability"), depth.assign(quantity="kept_layers")])
    return figure, data, caption


# ---- step time ----


STAGED = (
    "The k layers are the first ones, and those of the stages do not cost the same: runs are priced by stage, not by "
    "the fit. "
)


def step_time(evidence: Evidence, paper: Paper) -> FigureData:
    """tau(k), the time of a training step with k active layers, with its interval and its linear fit; every study."""
    if evidence.calibration is None:
        raise RecordError("figure step_time needs a calibration; none was given")
    measured = {s.family: s.calibration for s in (evidence, *evidence.others) if s.calibration is not None}
    width = 5.0 if len(measured) == 1 else 7.2
    figure, axes = plt.subplots(1, len(measured), figsize=(width, 3.2), squeeze=False)
    position = 0
    for ax, (family, calibration) in zip(axes[0], measured.items(), strict=True):
        name = f"{FAMILIES[family]}, " if len(measured) > 1 else ""
        _step_time_panel(ax, calibration.shapes, position, name)
        ax.set_title(name.removesuffix(", "), loc="left")
        position += len(calibration.shapes)
    figure.legend(loc="outside lower center", handletextpad=0.6)
    data = pd.concat([tau_data(shape).assign(family=name) for name, one in measured.items() for shape in one.shapes])
    shapes = [shape for calibration in measured.values() for shape in calibration.shapes]
    n = min(min(shape.n) for shape in shapes)
    staged = any(len(shape.stages) > 1 for shape in shapes)
    caption = (
        f"Time of a training step of one micro-batch with k active layers. Points: median of n = {n} interleaved "
        f"repetitions {_spread_text(shapes)}; lines: linear fit. The intercept is the part of a step that dropping "
        f"layers cannot save. {STAGED if staged else ''}"
        f"Device: {device_text(evidence.calibration.summary.device)}."
    )
    return figure, data, caption


def _spread_text(shapes: Sequence[StepTimes]) -> str:
    """What the bars are, and over how many processes."""
    processes = min(shape.processes for shape in shapes)
    if processes == 1:
        return "with 95 % interval (bootstrap)"
    return f"in {processes} processes, with 95 % t interval over the processes"


def _step_time_panel(ax: Axes, shapes: Sequence[StepTimes], first: int, name: str) -> None:
    """The shapes of one calibration; ``first``: place of the first one among the colours."""
    frames = [tau_data(shape) for shape in shapes]
    scale, unit = (1.0, "s") if max(data["median"].max() for data in frames) >= 1 else (1e-3, "ms")
    for position, (shape, data) in enumerate(zip(shapes, frames, strict=True)):
        look = style(first + position)
        times = data[["median", "low", "high", "fit"]] / scale
        # Shapes of one depth stand side by side instead of on top of one another.
        at = data["active_layers"] + 0.12 * (position - (len(shapes) - 1) / 2)
        error = [times["median"] - times["low"], times["high"] - times["median"]]
        ax.errorbar(
            at, times["median"], yerr=error, fmt=MARKERS[(first + position) % len(MARKERS)], markersize=4, capsize=2,
            color=look["color"], elinewidth=1, label=f"{name}{_shape_label(shape, scale, unit)}",
        )  # fmt: skip
        ax.plot(data["active_layers"], times["fit"], linewidth=1, **look)
    ax.set(xlabel="active layers k", ylabel=f"time of a step [{unit}]")
    ax.set_ylim(bottom=0)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _shape_label(shape: StepTimes, scale: float, unit: str) -> str:
    norm = {"post": "PostLN", "pre": "PreLN", "res_post": "LayerNorm before the sum"}[shape.norm]
    fit = f"{shape.fit.intercept / scale:.3g} + {shape.fit.slope / scale:.3g} k {unit} (R² {shape.fit.r2:.3f})"
    return f"{norm}, {shape.num_layers} layers: {fit}; layers: {100 * shape.layer_share:.0f} % of a full step"
