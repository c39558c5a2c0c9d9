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

from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.sbld import IMAGES
from pldrepro.analysis.text import FAMILIES, number
from pldrepro.exhibits.figures.costs import keep_data, late_losses, loss_data, loss_lines
from pldrepro.exhibits.figures.style import (
    COLOURS,
    Drawing,
    axis_scale,
    fit_y,
    left_out,
    measured,
    nothing,
    seeds_text,
    style,
)
from pldrepro.policy import drop
from pldrepro.runs.folder import PretrainRun

UNITS = {"lesion": "nats", "train_lesion": "nats", "gate_taylor": "nats", "cosine": "1 − cos"}
# What a layer's rank means for it, and how it is drawn.
LISTS = {"block": ("^", "always kept"), "neutral": ("o", "neutral"), "allow": ("v", "dropped more")}
LARGE = 20  # a score of more than so many typical ones would hide the order of the others on a linear scale
COLOURS_OF_KEEP = "cividis"


def studies(evidence: Evidence) -> list[Evidence]:
    """The studies of a set that have an SBLD arm, in the order of the set."""
    return [study for study in (evidence, *evidence.others) if study.sbld in study.arms]


# ---- sensitivity ----


def sbld_sensitivity(evidence: Evidence, paper: Paper) -> Drawing:
    """Sensitivity of every layer as SBLD's runs measured it: seeds, their mean, and the list that each layer is in."""
    analysed = [study for study in studies(evidence) if any(run.sensitivity for run in study.runs(study.sbld))]
    if not analysed:
        return nothing("no SBLD arm with an analysis of sensitivity in this set")
    data = pd.concat([sensitivity_data(study) for study in analysed], ignore_index=True)
    figure, panels = plt.subplots(1, len(analysed), figsize=(7.2, 3.0), squeeze=False)
    for panel, study in zip(panels[0], analysed, strict=True):
        part = data[(data["family"] == study.family) & (data["arm"] == study.sbld)]
        _sensitivity_panel(panel, part)
        panel.set_title(FAMILIES[study.family], loc="left")
        _stage_lines(panel, study, vertical=True)
    marks = [
        Line2D([], [], marker=marker, linestyle="none", color=COLOURS[1], markersize=5, label=name)
        for marker, name in LISTS.values()
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    is_log = any(panel.get_yscale() == "symlog" for panel in panels[0])
    caption = (
        f"Sensitivity of the layers as the runs of {paper.label} measured it, before they drop. Line: mean over "
        "pre-training seeds; marks: single seeds, by the list that the layer is in. "
        f"{'Fainter lines: measured again later, moving average. ' if _is_refreshed(data) else ''}"
        f"{'A logarithmic scale is linear around 0. ' if is_log else ''}Dotted lines: where a stage begins. "
        f"{_n_text(analysed)} The data file holds every arm that measures it."
    )
    return figure, data, caption


def sensitivity_data(study: Evidence) -> pd.DataFrame:
    """One row per arm, seed, analysis and layer (1..L): score, rank, and list (block, neutral, allow)."""
    rows = []
    for run in study.pretrain:
        settings = drop.DropSettings.model_validate(run.settings["drop"])
        for refresh, line in enumerate(run.sensitivity):
            layers = drop.layer_numbers(len(line["scores"]))
            for layer, score, rank in zip(layers, line["scores"], line["ranks"], strict=True):
                rows.append(
                    {"family": study.family, "arm": run.arm, "label": run.label, "seed": run.seed, "refresh": refresh,
                     "step": line["step"], "measure": line["measure"], "layer": layer, "score": score, "rank": rank,
                     "list": list_of(settings, rank, len(layers))}
                )  # fmt: skip
    return pd.DataFrame(rows)


def list_of(settings: drop.DropSettings, rank: int, num_layers: int) -> str:
    """The list that a rank (1: most sensitive) puts a layer in."""
    blocked, allowed = drop.list_sizes(settings, num_layers)
    if rank <= blocked:
        return "block"
    return "allow" if rank > num_layers - allowed else "neutral"


def _sensitivity_panel(panel: Axes, data: pd.DataFrame) -> None:
    for refresh, part in data.groupby("refresh"):
        mean = part.groupby("layer")["score"].mean()
        look: dict[str, Any] = {"linewidth": 1.6} if refresh == 0 else {"linewidth": 1.0, "alpha": 0.35}
        panel.plot(mean.index, mean, color=COLOURS[2], zorder=2, **look)
    first = data[data["refresh"] == 0]
    for name, (marker, _) in LISTS.items():
        part = first[first["list"] == name]
        panel.plot(part["layer"], part["score"], marker, color=COLOURS[1], markersize=4.5, alpha=0.8, zorder=3)
    measure = str(data["measure"].iloc[0])
    unit = f" [{UNITS[measure]}]" if measure in UNITS else ""
    typical = float(data["score"].abs().median())
    if typical and data["score"].abs().max() > LARGE * typical:
        panel.set_yscale("symlog", linthresh=typical)
    panel.set(xlabel="layer", xlim=(0.4, data["layer"].max() + 0.6))
    panel.set_ylabel(f"{measure.replace('_', ' ')}{unit}")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _is_refreshed(data: pd.DataFrame) -> bool:
    return bool(data["refresh"].max() > 0)


def _stage_lines(panel: Axes, study: Evidence, vertical: bool) -> None:
    """Where the later stages of a model of several begin, between the layers (1..L)."""
    depths = study.runs(study.baseline)[0].settings["model"].get("stages", [])
    for first in np.cumsum(depths)[:-1]:
        draw = panel.axvline if vertical else panel.axhline
        draw(first + 0.5, color="#7f7f7f" if vertical else "white", linewidth=0.8, linestyle=":")


def _n_text(analysed: Sequence[Evidence]) -> str:
    counts = {FAMILIES[study.family]: len(study.runs(study.sbld)) for study in analysed}
    return "n = " + ", ".join(f"{count} ({name})" for name, count in counts.items()) + "."


# ---- keep probability ----


def sbld_keep(evidence: Evidence, paper: Paper) -> Drawing:
    """Keep probability of every layer along the run, PLD beside SBLD, and the share of passes that kept each layer."""
    shown = studies(evidence)
    if not shown:
        return nothing("no SBLD arm in this set")
    data = pd.concat([keep_map(study, arm) for study in shown for arm in _pair(study)], ignore_index=True)
    heights = [0.7 + 0.13 * max(8, study.runs(study.sbld)[0].summary["num_layers"]) for study in shown]
    figure, grid = plt.subplots(
        len(shown), 4, figsize=(7.2, sum(heights) + 0.5), squeeze=False, width_ratios=(1, 0.14, 1, 0.14),
        height_ratios=heights,
    )  # fmt: skip
    for study, row in zip(shown, grid, strict=True):
        pair = _pair(study)
        for position, arm in enumerate(pair):
            part = data[(data["family"] == study.family) & (data["arm"] == arm)]
            panel, strip = row[2 * position], row[2 * position + 1]
            _keep_panel(panel, part, f"{FAMILIES[study.family]}: {study.label(arm)}")
            _kept_strip(strip, part)
            _stage_lines(panel, study, vertical=False)
        for panel in row[2 * len(pair) :]:
            panel.axis("off")
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


def keep_map(study: Evidence, arm: str) -> pd.DataFrame:
    """Keep probability by layer (1..L) and step, mean over seeds, and ``kept``, the share of passes that kept it."""
    runs = study.runs(arm)
    frames = [keep_data(run) for run in runs]
    mean = pd.concat(frames).groupby(["layer", "step"])["keep_probability"].mean().reset_index()
    kept = np.mean([kept_shares(run) for run in runs], axis=0)
    return mean.assign(
        family=study.family, arm=arm, label=study.label(arm), kept=[kept[layer - 1] for layer in mean["layer"]]
    )


def kept_shares(run: PretrainRun) -> list[float]:
    """Share of the forward passes of a run in which each layer was kept; (L,), NaN where it was not recorded."""
    counts = run.summary.get("passes_by_layer") or [float("nan")] * run.summary["num_layers"]
    passes = sum(run.summary["steps_by_kept_layers"].values())
    return [count / passes for count in counts]


def _keep_panel(panel: Axes, data: pd.DataFrame, title: str) -> None:
    table = data.pivot(index="layer", columns="step", values="keep_probability")
    panel.pcolormesh(
        table.columns, table.index, table.to_numpy(), cmap=COLOURS_OF_KEEP, vmin=0, vmax=1, shading="nearest",
        rasterized=True,
    )  # fmt: skip
    panel.set_title(title, loc="left")
    panel.set_xlabel("step")
    panel.grid(False)
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    panel.yaxis.set_major_locator(MaxNLocator(8, integer=True))


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


def sbld_loss(evidence: Evidence, paper: Paper) -> Drawing:
    """Validation loss against reference time on GPT and on images: no dropping, PLD, SBLD and controls."""
    shown = [*evidence.all_of("gpt"), *evidence.all_of(*IMAGES)]
    if not shown:
        return nothing("no study of GPT or of images in this set")
    figure, panels = plt.subplots(1, len(shown), figsize=(7.2, 3.5), squeeze=False)
    parts, rest = [], []
    lines: dict[str, Any] = {}
    for panel, study in zip(panels[0], shown, strict=True):
        axis = "reference_time" if measured(study, "reference_time") else "measured_time"
        arms = _loss_arms(study)
        data = loss_data(study, arms)
        drawn = {arm: place for arm, place in study.shown_in("sbld_loss").items() if arm in arms}
        scale, unit = axis_scale(data[axis].max(), axis)
        for arm, place in drawn.items():
            part = data[data["arm"] == arm]
            loss_lines(panel, part, axis, scale, study.label(arm), style(place - 1))
        visible = data[data["arm"].isin(list(drawn))]
        fit_y(panel, late_losses(visible, axis), 0.06)
        panel.set(xlabel=f"{AXES[axis]}{unit}")
        panel.set_xlim(left=0)
        panel.set_title(FAMILIES[study.family], loc="left")
        handles, names = panel.get_legend_handles_labels()
        lines |= dict(zip(names, handles, strict=True))
        parts.append(data.assign(family=study.family))
        rest.append(f"{FAMILIES[study.family]}: {seeds_text(study, arms)}.{left_out(study, arms, list(drawn))}")
    panels[0][0].set_ylabel("validation loss [nats]")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=3, handlelength=3)
    caption = (
        "Validation loss on held-out data against reference time, as many samples each; the analysis of sensitivity "
        "counts from where it is done. Thin lines: single runs; bold lines: mean over runs at equal steps. The first "
        f"fifth of the runs is off the scale. {' '.join(rest)}"
    )
    return figure, pd.concat(parts, ignore_index=True), caption


def _loss_arms(study: Evidence) -> list[str]:
    wanted = {study.baseline, study.pld, study.sbld, *study.arms_with_role("control"), *study.shown_in("sbld_loss")}
    return [arm for arm in study.arms if arm in wanted]
