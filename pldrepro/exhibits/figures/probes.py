"""Figures of what was measured on checkpoints: PLD's Figures 1 to 4, and what is left with fewer layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pldrepro.analysis.curves import loss_data, mean_by_share
from pldrepro.analysis.probe_claims import random_arms
from pldrepro.analysis.probes import (
    depth_data,
    draw_data,
    gradient_frame,
    layer_data,
    lesion_data,
    paper_angle_data,
    paper_angles,
    shown,
)
from pldrepro.analysis.reported import MARKS, Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits.figures.style import MARKERS, FigureData, arm_marker, arm_style, nothing
from pldrepro.stats import FEWEST

NOT_PROBED = "no checkpoint of the baseline, of PreLN without dropping or of PLD was probed"


def figure1(evidence: Evidence, paper: Paper) -> FigureData:
    """L2 norm of the loss gradient of each layer's weights, at every probed step (PLD, Figure 1)."""
    frame, arms = gradient_frame(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    data = layer_data(frame, arms, "gradient_norm")
    figure, axes = plt.subplots(1, len(arms), figsize=(7.2, 2.9), sharey=True, squeeze=False)
    _layer_row(axes[0], arms, data[data["part"] == "block"])
    _log(axes[0], "gradient norm of the weights")
    _checkpoint_legend(figure, axes[0][0])
    caption = (
        "L2 norm of the gradient of the training loss with respect to all weights of a layer, on held-out text, mean "
        f"over batches. {_regime(evidence)} {interval_text(frame, arms, 'geometric mean')} Compare the "
        "shapes: the paper's claim is that PostLN's gradients vanish towards the lower layers and PreLN's do not."
    )
    return figure, data, caption


def figure2(evidence: Evidence, paper: Paper) -> FigureData:
    """Gradient-preserving ratio of each block, |dL/dx| at its input over its output (PLD, Figure 2)."""
    frame, arms = gradient_frame(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    data = layer_data(frame, arms, "gradient_ratio")
    figure, axes = plt.subplots(1, len(arms), figsize=(7.2, 2.9), sharey=True, squeeze=False)
    for ax in axes[0]:
        ax.axhline(1, color="#7f7f7f", linewidth=0.8, zorder=1)
    _layer_row(axes[0], arms, data)
    _log(axes[0], "gradient ratio (1: unchanged)")
    _checkpoint_legend(figure, axes[0][0])
    caption = (
        "Gradient-preserving ratio of each block: norm of the loss gradient at the block's input over that at its "
        "output, on held-out text, mean over batches; 1 (grey) means that the block passes it on unchanged. "
        f"{_regime(evidence)} {interval_text(frame, arms, 'geometric mean')}"
    )
    return figure, data, caption


def _regime(evidence: Evidence) -> str:
    """What models and which part of training the gradients are of."""
    if not evidence.early:
        return "The models are this study's, at several points of the whole run: not the paper's early training."
    summary = evidence.early[0].summary
    last = max(point.step for point in summary.checkpoints.values())
    return (
        f"Early in training: runs of their own with {summary.num_layers} layers, in the first {last} of "
        f"{summary.num_steps} steps, probed at steps that were fixed beforehand."
    )


def figure3(evidence: Evidence, paper: Paper) -> FigureData:
    """L2 distance and angle between block input and output by relative depth (PLD, Figure 3), with the paper's."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    frame = evidence.probe_results
    distance = layer_data(frame, arms, "distance")
    angle = layer_data(frame, arms, "angle")
    figure, axes = plt.subplots(2, len(arms), figsize=(7.2, 4.8), sharex=True, sharey="row", squeeze=False)
    _layer_row(axes[0], arms, distance, relative=True)
    _log(axes[0], "L2 distance")
    _layer_row(axes[1], arms, angle, relative=True)
    read_off = [_paper_angles(evidence, paper, ax, arm) for ax, arm in zip(axes[1], arms, strict=True)]
    for ax in axes[1]:
        ax.set_title("", loc="left")
        ax.set_ylim(bottom=0)
        ax.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    for ax in axes[0]:
        ax.set_xlabel("")
    axes[1][0].set_ylabel("angle [degrees]")
    _checkpoint_legend(figure, axes[1][0])
    relative = layer_data(frame, arms, "relative_distance")
    cosine = layer_data(frame, arms, "cosine")
    data = pd.concat([distance, relative, cosine, angle, *read_off])
    caption = (
        "Input and output of each block on held-out text, at several points of the run, against relative depth. Top: "
        "L2 distance, mean over tokens. Bottom: angle of the mean cosine similarity over tokens. "
        f"{interval_text(frame, arms, 'mean (distances: geometric mean)')} {_paper_text(paper)}"
    )
    return figure, data, caption


def figure4(evidence: Evidence, paper: Paper) -> FigureData:
    """Training with layers dropped at random, and the lesion of checkpoints (PLD, Figure 4); what there is of both."""
    arms, trained = shown(evidence), random_arms(evidence)
    if not arms:
        return _random_training(evidence, trained) if trained else nothing(NOT_PROBED)
    course, draws = lesion_data(evidence, arms), draw_data(evidence, arms)
    figure, axes = plt.subplots(1, 3 if trained else 2, figsize=(7.2, 3.1))
    left, right = axes[-2:]
    training = _training_panel(axes[0], evidence, trained) if trained else pd.DataFrame()
    for arm in arms:
        part = course[course["arm"] == arm]
        look: dict[str, Any] = {"marker": arm_marker(evidence, arm), "color": arm_style(evidence, arm)["color"]}
        _points(left, part[part["state"] == "intact"], "share", label=evidence.label(arm), linestyle="-", **look)
        _points(left, part[part["state"] == "lesioned"], "share", linestyle="--", markerfacecolor="white", **look)
        _draws(evidence, right, draws[draws["arm"] == arm], arms, arm)
    keep = evidence.probes[0].summary.lesion_keep
    left.set(xlabel="share of the run", ylabel="validation loss [nats]")
    left.set_title("lesion of checkpoints: dashed", loc="left")
    right.set(xlabel="layers kept in a draw", ylabel="loss increase [nats]")
    right.set_title("end; hollow: no layer 1", loc="left")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    caption = (
        f"{TRAINED if trained else ''}Lesion of a checkpoint: validation loss of a model trained as it was when each "
        f"layer is kept with probability {keep:g}, without rescaling; intact (solid, filled) and lesioned (dashed, "
        "hollow; mean over draws, which are the same for all) along the run. Right: loss increase of every draw at the "
        "last checkpoint, mean over seeds; hollow: draws without the first layer. "
        f"{interval_text(evidence.probe_results, arms, 'mean')}"
    )
    return figure, pd.concat([training, course, draws.assign(state="single draw")]), caption


TRAINED = (
    "Left: validation loss, all layers on, of models trained with all layers (solid), and of the same models trained "
    "with each layer kept with probability 1/2 in every step (dashed); mean over seeds. "
)


def _random_training(evidence: Evidence, trained: Mapping[str, str]) -> FigureData:
    """Figure 4 where no checkpoint was probed: training with random dropping only."""
    figure, ax = plt.subplots(figsize=(5.0, 3.1))
    data = _training_panel(ax, evidence, trained)
    return figure, data, f"{TRAINED}No checkpoint was probed in this study."


def _training_panel(ax: Axes, evidence: Evidence, trained: Mapping[str, str]) -> pd.DataFrame:
    """Loss curves of the arms trained with random dropping, and of the same models without; returns their data."""
    data = loss_data(evidence, [*trained, *trained.values()])
    for pair in trained.items():
        colour = arm_style(evidence, pair[1])["color"]
        for arm, line in zip(pair, ("--", "-"), strict=True):
            course = mean_by_share(data[data["arm"] == arm])
            label = None if arm in trained else evidence.label(arm)  # the dashed line has the colour of its twin
            ax.plot(course["share"], course["validation_loss"], line, color=colour, linewidth=1.2, label=label)
    ax.set(xlabel="share of the run", ylabel="validation loss [nats]")
    ax.set_title("training; dashed: dropped", loc="left")
    low, high = ax.get_ylim()
    ax.set_ylim(top=high + 0.07 * len(trained) * (high - low))  # room for the legend
    ax.legend(fontsize=5.5, handlelength=1.2, borderaxespad=0.2, loc="upper right")
    return data.rename(columns={"validation_loss": "value"}).assign(state="training")


def depth_robustness(evidence: Evidence, paper: Paper) -> FigureData:
    """Validation loss of the last checkpoint with fewer layers: first k, last k, least important out, one out."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    data = depth_data(evidence, arms)
    titles = {
        "first": "first k layers", "last": "last k layers",
        "least_important_removed": "least important layers removed first", "without_one": "one layer removed",
    }  # fmt: skip
    figure, axes = plt.subplots(2, 2, figsize=(7.2, 5.0))
    for ax in (axes[0][1], axes[1][0]):  # one layer less changes little: the last panel has a scale of its own
        ax.sharey(axes[0][0])
    for ax, (selection, title) in zip(axes.flat, titles.items(), strict=True):
        column = "removed" if selection == "without_one" else "num_kept"
        for position, arm in enumerate(arms):
            part = data[(data["arm"] == arm) & (data["selection"] == selection)].sort_values(column)
            look: dict[str, Any] = {
                "marker": arm_marker(evidence, arm),
                "color": arm_style(evidence, arm)["color"],
                "label": evidence.label(arm),
            }
            shift = 0.06 * (position - (len(arms) - 1) / 2)
            _points(ax, part, column, shift=shift, linestyle="" if column == "removed" else "-", **look)
        ax.set_title(title, loc="left")
        ax.set_xlabel("layer removed" if column == "removed" else "layers kept, k")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    for ax in axes[:, 0]:
        ax.set_ylabel("validation loss [nats]")
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    caption = (
        "Validation loss of the last checkpoint with fewer layers than it was trained with, none of them rescaled. A "
        "layer's importance is what the loss rises by without it, measured on one half of the held-out sequences; all "
        "losses shown are those of the other half. Zero layers: the head on the embeddings. "
        f"{interval_text(evidence.probe_results, arms, 'mean')}"
    )
    return figure, data, caption


# ---- what is shown ----


def interval_text(frame: pd.DataFrame, arms: Sequence[str], statistic: str) -> str:
    """What represents the seeds in a figure, n included; frame: of the probes."""
    seeds = {arm: frame.query("arm == @arm")["seed"].nunique() for arm in arms}
    counts = sorted(set(seeds.values()))
    n = str(counts[0]) if len(counts) == 1 else ", ".join(f"{seeds[arm]} ({_label(frame, arm)})" for arm in arms)
    if counts[-1] == 1:
        return f"n = {n} pre-training seed per arm: no interval."
    drawn = ["95 % t interval"] if counts[-1] >= FEWEST else []
    drawn += [f"the range of the seeds where there are fewer than {FEWEST}, too few for an interval"] * (
        counts[0] < FEWEST
    )
    return f"Points: {statistic} over n = {n} pre-training seeds; bands or bars: {'; '.join(drawn)}."


# ---- drawing ----


def _label(frame: pd.DataFrame, arm: str) -> str:
    return str(frame.loc[frame["arm"] == arm, "label"].iloc[0])


def _layer_row(axes: Sequence[Axes], arms: Sequence[str], data: pd.DataFrame, relative: bool = False) -> None:
    """An arm in each; a line per checkpoint over layers (or relative depth), darker the later, with its interval."""
    shares = sorted(data["share"].unique())
    shades = plt.get_cmap("viridis_r")(np.linspace(0.3, 1, len(shares)) if len(shares) > 1 else [1.0])
    for ax, arm in zip(axes, arms, strict=True):
        for share, shade, marker in zip(shares, shades, MARKERS * len(shares), strict=False):
            part = data[(data["arm"] == arm) & (data["share"] == share)].sort_values("layer")
            x = part["depth" if relative else "layer"]
            look = {"color": shade, "marker": marker, "markersize": 4, "linewidth": 1.3}
            ax.plot(
                x, part["value"], label=f"{100 * share:.2g} % of the run" if share < 1 else "end of the run", **look
            )
            ax.fill_between(x, *_spread(part), color=shade, alpha=0.15, linewidth=0)
        ax.set_title(_label(data, arm), loc="left")
        ax.set_xlabel("relative depth l/L" if relative else "layer")
        if relative:
            ax.set_xlim(0, 1.05)
        else:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _log(axes: Sequence[Axes], label: str) -> None:
    """A logarithmic scale with plain numbers: 1, 2 and 5 of a decade, or decades only."""
    axes[0].set_yscale("log")
    low, high = axes[0].get_ylim()
    decades = LogLocator(subs=(1, 2, 5) if high / low <= 100 else (1,))
    axes[0].yaxis.set_major_locator(MaxNLocator(5) if high / low < 5 else decades)
    axes[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel(label)


def _checkpoint_legend(figure: Figure, ax: Axes) -> None:
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) if len(labels) <= 4 else 3)


def _spread(part: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """What is drawn around the means: the interval, or the range of the seeds where they are few."""
    few = part["n"] < FEWEST
    return part["low"].where(~few, part["least"]), part["high"].where(~few, part["most"])


def _points(ax: Axes, part: pd.DataFrame, column: str, shift: float = 0.0, **look: Any) -> None:
    """Means with error bars where there are intervals."""
    low, high = _spread(part)
    error = [part["value"] - low, high - part["value"]]
    ax.errorbar(
        part[column] + shift,
        part["value"],
        yerr=error,
        markersize=4.5,
        linewidth=1.3,
        elinewidth=0.8,
        capsize=2,
        **look,
    )


def _draws(evidence: Evidence, ax: Axes, part: pd.DataFrame, arms: Sequence[str], arm: str) -> None:
    """A point per draw; hollow without the first layer. Arms stand side by side."""
    at = part["num_kept"] + 0.16 * (list(arms).index(arm) - (len(arms) - 1) / 2)
    colour, marker = arm_style(evidence, arm)["color"], arm_marker(evidence, arm)
    faces = [colour if kept else "white" for kept in part["first_layer_kept"]]
    ax.scatter(at, part["value"], s=18, marker=marker, facecolors=faces, edgecolors=colour, linewidths=1)


def _paper_text(paper: Paper) -> str:
    """What the grey curves are."""
    series = paper.series["figure3_angle_postln"]
    words = (
        f"Grey crosses: {paper.label} paper, {series.where}, {len(series.x)} layers, digitised by eye: another model "
        "at another point of its run."
    )
    return " ".join([words, *mark_notes([series.provenance])])


def _paper_angles(evidence: Evidence, paper: Paper, ax: Axes, arm: str) -> pd.DataFrame:
    """Overlay the paper's angles on an arm that is not dropped; returns them as rows."""
    series = paper_angles(evidence, paper, arm)
    if series is None:
        return pd.DataFrame()
    data = paper_angle_data(paper, series, arm)
    ax.plot(
        data["depth"], data["value"], color="#7f7f7f", linestyle=":", linewidth=1, marker="x", markersize=4, zorder=1,
        label=f"{paper.label} paper{MARKS[series.provenance]}",
    )  # fmt: skip
    return data
