"""SBLD's figures: sensitivity by layer, keep probability by layer and step, and validation loss against time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from pldrepro.analysis.curves import loss_data
from pldrepro.analysis.keep import keep_map, stage_ends
from pldrepro.analysis.layer_sensitivity import mean_scores, sensitivity_data, typical_score
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.sbld import IMAGES
from pldrepro.analysis.text import FAMILIES, number
from pldrepro.exhibits.figures.costs import late_losses, loss_lines
from pldrepro.exhibits.figures.style import (
    COLOURS,
    FigureData,
    arm_style,
    axis_scale,
    fit_y,
    left_out,
    nothing,
    seeds_text,
    shared_legend,
)

UNITS = {"lesion": "nats", "train_lesion": "nats", "gate_taylor": "nats", "cosine": "1 − cos"}
# What a layer's rank means for it, and how it is drawn.
LISTS = {"block": ("^", "always kept"), "neutral": ("o", "neutral"), "allow": ("v", "dropped more")}
LARGE = 20  # a score of more than so many typical ones would hide the order of the others on a linear scale
COLOURS_OF_KEEP = "cividis"


def studies(evidence: Evidence) -> list[Evidence]:
    """The studies of GPT and of images that have an SBLD arm, in the order of the set."""
    return [study for study in evidence.all_of("gpt", *IMAGES) if study.sbld in study.arms]


# ---- sensitivity ----


def sbld_sensitivity(evidence: Evidence, paper: Paper) -> FigureData:
    """Sensitivity of every layer as SBLD's runs measured it: seeds, their mean, and the list that each layer is in."""
    analysed = [study for study in studies(evidence) if any(run.sensitivity for run in study.runs(study.sbld))]
    if not analysed:
        return nothing("no SBLD arm with an analysis of sensitivity in this set")
    data = pd.concat([sensitivity_data(study) for study in analysed], ignore_index=True)
    figure, axes = plt.subplots(1, len(analysed), figsize=(7.2, 3.0), squeeze=False)
    for ax, study in zip(axes[0], analysed, strict=True):
        part = data[(data["family"] == study.family) & (data["arm"] == study.sbld)]
        _sensitivity_panel(ax, part)
        ax.set_title(FAMILIES[study.family], loc="left")
        _stage_lines(ax, study, vertical=True)
    marks = [
        Line2D([], [], marker=marker, linestyle="none", color=COLOURS[1], markersize=5, label=name)
        for marker, name in LISTS.values()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    is_log = any(ax.get_yscale() == "symlog" for ax in axes[0])
    caption = (
        f"Sensitivity of the layers as the runs of {paper.label} measured it, before they drop. Line: mean over "
        "pre-training seeds; marks: single seeds, by the list that the layer is in. "
        f"{'Fainter lines: measured again later, moving average. ' if _is_refreshed(data) else ''}"
        f"{'A logarithmic scale is linear around 0. ' if is_log else ''}Dotted lines: where a stage begins. "
        f"{_n_text(analysed)} The data file holds every arm that measures it."
    )
    return figure, data, caption


def _sensitivity_panel(ax: Axes, data: pd.DataFrame) -> None:
    for refresh, mean in mean_scores(data).items():
        look: dict[str, Any] = {"linewidth": 1.6} if refresh == 0 else {"linewidth": 1.0, "alpha": 0.35}
        ax.plot(mean.index, mean, color=COLOURS[2], zorder=2, **look)
    first = data[data["refresh"] == 0]
    for name, (marker, _) in LISTS.items():
        part = first[first["list"] == name]
        ax.plot(part["layer"], part["score"], marker, color=COLOURS[1], markersize=4.5, alpha=0.8, zorder=3)
    measure = str(data["measure"].iloc[0])
    unit = f" [{UNITS[measure]}]" if measure in UNITS else ""
    typical = typical_score(data)
    if typical and data["score"].abs().max() > LARGE * typical:
        ax.set_yscale("symlog", linthresh=typical)
    ax.set(xlabel="layer", xlim=(0.4, data["layer"].max() + 0.6))
    ax.set_ylabel(f"{measure.replace('_', ' ')}{unit}")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _is_refreshed(data: pd.DataFrame) -> bool:
    return bool(data["refresh"].max() > 0)


def _stage_lines(ax: Axes, study: Evidence, vertical: bool) -> None:
    """Where the later stages of a model of several begin, between the layers (1..L)."""
    for last in stage_ends(study)[:-1]:
        draw = ax.axvline if vertical else ax.axhline
        draw(last + 0.5, color="#7f7f7f" if vertical else "white", linewidth=0.8, linestyle=":")


def _n_text(analysed: Sequence[Evidence]) -> str:
    counts = {FAMILIES[study.family]: len(study.runs(study.sbld)) for study in analysed}
    return "n = " + ", ".join(f"{count} ({name})" for name, count in counts.items()) + "."


# ---- keep probability ----


def sbld_keep(evidence: Evidence, paper: Paper) -> FigureData:
    """Keep probability of every layer along the run, PLD next to SBLD, and the share of passes that kept each layer."""
    shown = studies(evidence)
    if not shown:
        return nothing("no SBLD arm in this set")
    data = pd.concat([keep_map(study, arm) for study in shown for arm in _pair(study)], ignore_index=True)
    heights = [0.7 + 0.13 * max(8, study.runs(study.sbld)[0].summary.num_layers) for study in shown]
    figure, grid = plt.subplots(
        len(shown), 4, figsize=(7.2, sum(heights) + 0.5), squeeze=False, width_ratios=(1, 0.14, 1, 0.14),
        height_ratios=heights,
    )  # fmt: skip
    for study, row in zip(shown, grid, strict=True):
        pair = _pair(study)
        for position, arm in enumerate(pair):
            part = data[(data["family"] == study.family) & (data["arm"] == arm)]
            ax, strip = row[2 * position], row[2 * position + 1]
            _keep_panel(ax, part, f"{FAMILIES[study.family]}: {study.label(arm)}")
            _kept_strip(strip, part)
            _stage_lines(ax, study, vertical=False)
        for ax in row[2 * len(pair) :]:
            ax.axis("off")
        row[0].set_ylabel("layer")
    _colour_bar(figure, grid)
    caption = (
        "Keep probability of each layer along the run, from the recorded settings and ranks, mean over pre-training "
        f"seeds (ranks differ between them), for PLD and {paper.label}. Narrow columns: share of the forward passes "
        "that kept the layer over the whole run, counted, same colours"
        f"{'; in numbers [%] where the layers are few' if _has_numbers(data) else ''}. Dotted lines: where a stage "
        f"begins. {_n_text(shown)}"
    )
    return figure, data, caption


def _pair(study: Evidence) -> list[str]:
    return [arm for arm in (study.pld, study.sbld) if arm in study.arms]


MOST_NUMBERS = 24  # layers up to which a strip has room for numbers


def _has_numbers(data: pd.DataFrame) -> bool:
    return bool(data.groupby("family")["layer"].max().min() <= MOST_NUMBERS)


def _keep_panel(ax: Axes, data: pd.DataFrame, title: str) -> None:
    table = data.pivot(index="layer", columns="step", values="keep_probability")
    ax.pcolormesh(
        table.columns, table.index, table.to_numpy(), cmap=COLOURS_OF_KEEP, vmin=0, vmax=1, shading="nearest",
        rasterized=True,
    )  # fmt: skip
    ax.set_title(title, loc="left")
    ax.set_xlabel("step")
    ax.grid(False)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(8, integer=True))


def _kept_strip(strip: Axes, data: pd.DataFrame) -> None:
    kept = data.groupby("layer")["kept"].first()
    edges = np.arange(len(kept) + 1) + 0.5
    strip.pcolormesh([-0.5, 0.5], edges, kept.to_numpy()[:, None], cmap=COLOURS_OF_KEEP, vmin=0, vmax=1)
    strip.set_xticks([])
    strip.set_yticks([])
    strip.grid(False)
    strip.set_title("kept", loc="center", fontsize=7.5)
    if len(kept) <= MOST_NUMBERS:
        counted = kept.dropna()
        for layer, share in zip(counted.index, counted, strict=True):
            colour = "black" if share > 0.55 else "white"
            strip.text(0, layer, number(100 * share, 0), ha="center", va="center", fontsize=6.5, color=colour)


def _colour_bar(figure: Figure, grid: np.ndarray) -> None:
    colours = ScalarMappable(norm=Normalize(0, 1), cmap=COLOURS_OF_KEEP)
    figure.colorbar(colours, ax=grid.ravel().tolist(), label="keep probability", fraction=0.03, pad=0.01, aspect=30)


# ---- loss against time ----


def sbld_loss(evidence: Evidence, paper: Paper) -> FigureData:
    """Validation loss against reference time on GPT and on images: no dropping, PLD, SBLD and controls."""
    shown = [*evidence.all_of("gpt"), *evidence.all_of(*IMAGES)]
    if not shown:
        return nothing("no study of GPT or of images in this set")
    figure, axes = plt.subplots(1, len(shown), figsize=(7.2, 3.5), squeeze=False)
    parts, rest = [], []
    for ax, study in zip(axes[0], shown, strict=True):
        axis = study.clock
        arms = _loss_arms(study)
        data = loss_data(study, arms)
        named = {arm: place for arm, place in study.shown_in("sbld_loss").items() if arm in arms}
        drawn = named or {arm: place for place, arm in enumerate(arms, start=1)}
        scale, unit = axis_scale(data[axis].max(), axis)
        for arm in drawn:
            part = data[data["arm"] == arm]
            loss_lines(ax, part, axis, scale, study.label(arm), arm_style(study, arm))
        visible = data[data["arm"].isin(list(drawn))]
        fit_y(ax, late_losses(visible, axis), 0.06)
        ax.set(xlabel=f"{AXES[axis]}{unit}")
        ax.set_xlim(left=0)
        ax.set_title(FAMILIES[study.family], loc="left")
        parts.append(data.assign(family=study.family))
        rest.append(f"{FAMILIES[study.family]}: {seeds_text(study, arms)}.{left_out(study, arms, list(drawn))}")
    axes[0][0].set_ylabel("validation loss [nats]")
    shared_legend(figure, axes[0])
    caption = (
        "Validation loss on held-out data against reference time, as many samples each; the analysis of sensitivity "
        "counts from where it is done. Thin lines: single runs; bold lines: mean over runs at equal steps. The first "
        f"fifth of the runs is off the scale. {' '.join(rest)}"
    )
    return figure, pd.concat(parts, ignore_index=True), caption


def _loss_arms(study: Evidence) -> list[str]:
    wanted = {study.baseline, study.pld, study.sbld, *study.arms_with_role("control"), *study.shown_in("sbld_loss")}
    return [arm for arm in study.arms if arm in wanted]
