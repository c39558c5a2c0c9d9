"""Figures of what was measured on checkpoints: PLD's Figures 1 to 4, and what is left with fewer layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from pldrepro import stats
from pldrepro.analysis.reported import MARKS, Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits.figures.style import COLOURS, MARKERS, Drawing, nothing
from pldrepro.stats import Estimate

NOT_PROBED = "no checkpoint of the baseline, of PreLN without dropping or of PLD was probed"
FEWEST = 3  # seeds from which on an interval is drawn: that of two is 12.7 standard errors wide to each side
Interval = Callable[[Sequence[float]], Estimate]


def figure1(evidence: Evidence, paper: Paper) -> Drawing:
    """L2 norm of the loss gradient of each layer's weights, at every checkpoint (PLD, Figure 1)."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    data = layer_data(evidence, arms, "gradient_norm", stats.geometric_interval)
    figure, panels = plt.subplots(1, len(arms), figsize=(7.2, 2.9), sharey=True, squeeze=False)
    _layer_row(evidence, panels[0], arms, data[data["part"] == "block"])
    _log(panels[0], "gradient norm of the weights")
    _checkpoint_legend(figure, panels[0][0])
    caption = (
        "L2 norm of the gradient of the training loss with respect to all weights of a layer, on held-out text, mean "
        f"over batches, at several points of the run. {interval_text(evidence, arms, 'geometric mean')} Compare the "
        "shapes: the paper's claim is that PostLN's gradients vanish towards the lower layers and PreLN's do not."
    )
    return figure, data, caption


def figure2(evidence: Evidence, paper: Paper) -> Drawing:
    """Gradient-preserving ratio of each block, |dL/dx| at its input over its output (PLD, Figure 2)."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    data = layer_data(evidence, arms, "gradient_ratio", stats.geometric_interval)
    figure, panels = plt.subplots(1, len(arms), figsize=(7.2, 2.9), sharey=True, squeeze=False)
    for panel in panels[0]:
        panel.axhline(1, color="#7f7f7f", linewidth=0.8, zorder=1)
    _layer_row(evidence, panels[0], arms, data)
    _log(panels[0], "gradient-preserving ratio")
    _checkpoint_legend(figure, panels[0][0])
    caption = (
        "Gradient-preserving ratio of each block: norm of the loss gradient at the block's input over that at its "
        "output, on held-out text, mean over batches; 1 (grey) means that the block passes it on unchanged. "
        f"{interval_text(evidence, arms, 'geometric mean')}"
    )
    return figure, data, caption


def figure3(evidence: Evidence, paper: Paper) -> Drawing:
    """L2 distance and angle between block input and output by relative depth (PLD, Figure 3), the paper's beside."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    distance = layer_data(evidence, arms, "distance", stats.geometric_interval)
    angle = layer_data(evidence, arms, "angle", stats.mean_interval)
    figure, panels = plt.subplots(2, len(arms), figsize=(7.2, 4.8), sharex=True, sharey="row", squeeze=False)
    _layer_row(evidence, panels[0], arms, distance, relative=True)
    _log(panels[0], "L2 distance")
    _layer_row(evidence, panels[1], arms, angle, relative=True)
    read_off = [_paper_angles(evidence, paper, panel, arm) for panel, arm in zip(panels[1], arms, strict=True)]
    for panel in panels[1]:
        panel.set_title("", loc="left")
        panel.set_ylim(bottom=0)
        panel.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    for panel in panels[0]:
        panel.set_xlabel("")
    panels[1][0].set_ylabel("angle [degrees]")
    _checkpoint_legend(figure, panels[1][0])
    relative = layer_data(evidence, arms, "relative_distance", stats.geometric_interval)
    cosine = layer_data(evidence, arms, "cosine", stats.mean_interval)
    data = pd.concat([distance, relative, cosine, angle, *read_off])
    caption = (
        "Input and output of each block on held-out text, at several points of the run, against relative depth. Top: "
        "L2 distance, mean over tokens. Bottom: angle of the mean cosine similarity over tokens. "
        f"{interval_text(evidence, arms, 'mean (distances: geometric mean)')} {_paper_text(paper)}"
    )
    return figure, data, caption


def figure4(evidence: Evidence, paper: Paper) -> Drawing:
    """Validation loss with layers kept at random, beside the intact model's, along the run (PLD, Figure 4)."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    course, draws = lesion_data(evidence, arms), draw_data(evidence, arms)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.1), width_ratios=(1, 1.15))
    for position, arm in enumerate(arms):
        part = course[course["arm"] == arm]
        look: dict[str, Any] = {"marker": MARKERS[position], "color": COLOURS[position]}
        _points(left, part[part["state"] == "intact"], "share", label=evidence.label(arm), linestyle="-", **look)
        _points(left, part[part["state"] == "lesioned"], "share", linestyle="--", markerfacecolor="white", **look)
        _draws(right, draws[draws["arm"] == arm], position, len(arms))
    keep = evidence.probes[0].summary["lesion_keep"]
    left.set(xlabel="share of the run", ylabel="validation loss [nats]")
    left.set_title("solid: intact; dashed: lesioned", loc="left")
    right.set(xlabel="layers kept in a draw", ylabel="loss increase [nats]")
    right.set_title("at the end; hollow: first layer removed", loc="left")
    right.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    caption = (
        f"Lesion: validation loss when each layer is kept with probability {keep:g}, without rescaling. Left: intact "
        "(solid, filled) and lesioned (dashed, hollow; mean over draws, which are the same for all) along the run. "
        "Right: loss increase of every draw at the last checkpoint, mean over seeds; hollow: draws without the first "
        f"layer. {interval_text(evidence, arms, 'mean')}"
    )
    return figure, pd.concat([course, draws.assign(state="single draw")]), caption


def depth_robustness(evidence: Evidence, paper: Paper) -> Drawing:
    """Validation loss of the last checkpoint with fewer layers: first k, last k, least important out, one out."""
    arms = shown(evidence)
    if not arms:
        return nothing(NOT_PROBED)
    data = depth_data(evidence, arms)
    titles = {
        "first": "first k layers", "last": "last k layers",
        "least_important_removed": "least important layers removed first", "without_one": "one layer removed",
    }  # fmt: skip
    figure, panels = plt.subplots(2, 2, figsize=(7.2, 5.0))
    for panel in (panels[0][1], panels[1][0]):  # one layer less changes little: the last panel has a scale of its own
        panel.sharey(panels[0][0])
    for panel, (selection, title) in zip(panels.flat, titles.items(), strict=True):
        column = "removed" if selection == "without_one" else "num_kept"
        for position, arm in enumerate(arms):
            part = data[(data["arm"] == arm) & (data["selection"] == selection)].sort_values(column)
            look: dict[str, Any] = {
                "marker": MARKERS[position],
                "color": COLOURS[position],
                "label": evidence.label(arm),
            }
            shift = 0.06 * (position - (len(arms) - 1) / 2)
            _points(panel, part, column, shift=shift, linestyle="" if column == "removed" else "-", **look)
        panel.set_title(title, loc="left")
        panel.set_xlabel("layer removed" if column == "removed" else "layers kept, k")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    for panel in panels[:, 0]:
        panel.set_ylabel("validation loss [nats]")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    caption = (
        "Validation loss of the last checkpoint with fewer layers than it was trained with, none of them rescaled. A "
        "layer's importance is what the loss rises by without it, measured on one half of the held-out sequences; all "
        "losses shown are those of the other half. Zero layers: the head on the embeddings. "
        f"{interval_text(evidence, arms, 'mean')}"
    )
    return figure, data, caption


# ---- what is shown ----


def shown(evidence: Evidence) -> list[str]:
    """The baseline, PLD's twin without dropping (else a PreLN arm without dropping) and PLD, where they were probed."""
    twin = evidence.undropped_twin(evidence.pld) if evidence.pld in evidence.arms else None
    undropped = [
        arm
        for arm in evidence.probed
        if evidence.runs(arm)[0].settings["model"]["norm"] == "pre"
        and evidence.runs(arm)[0].settings["drop"]["schedule"] == "none"
    ]
    middle = [twin] if twin in undropped else undropped[:1]
    wanted = dict.fromkeys([evidence.baseline, *middle, evidence.pld])
    return [arm for arm in wanted if arm in evidence.probed]


def interval_text(evidence: Evidence, arms: Sequence[str], statistic: str) -> str:
    """What stands for the seeds in a figure, n included."""
    seeds = {arm: evidence.probe_results.query("arm == @arm")["seed"].nunique() for arm in arms}
    counts = sorted(set(seeds.values()))
    n = str(counts[0]) if len(counts) == 1 else ", ".join(f"{seeds[arm]} ({evidence.label(arm)})" for arm in arms)
    if counts[-1] == 1:
        return f"n = {n} pre-training seed per arm: no interval."
    drawn = ["95 % t interval"] if counts[-1] >= FEWEST else []
    drawn += [f"the range of the seeds where there are fewer than {FEWEST}, too few for an interval"] * (
        counts[0] < FEWEST
    )
    return f"Points: {statistic} over n = {n} pre-training seeds; bands or bars: {'; '.join(drawn)}."


def summarised(frame: pd.DataFrame, by: Sequence[str], interval: Interval) -> pd.DataFrame:
    """One row per group with the estimate over its seeds, and the range of the seeds' own values."""
    rows = []
    for key, group in frame.groupby(list(by), sort=False, dropna=False):
        values = group["value"].tolist()
        one = interval(values)
        estimate = {"value": one.value, "low": one.low, "high": one.high, "n": one.n, "method": one.method}
        rows.append({**dict(zip(by, key, strict=True)), **estimate, "least": min(values), "most": max(values)})
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def layer_data(evidence: Evidence, arms: Sequence[str], quantity: str, interval: Interval) -> pd.DataFrame:
    """A quantity of the probes by arm, checkpoint and layer (1..L), and by part of the block if it has any."""
    frame = evidence.probe_results
    frame = frame[frame["arm"].isin(arms) & (frame["quantity"] == quantity)]
    by = ["quantity", "arm", "label", "num_layers", "checkpoint", "share", "part", "layer"]
    data = summarised(frame.assign(part=frame["part"].fillna("")), by, interval)
    data["depth"] = data["layer"] / data["num_layers"]
    return data


def losses(evidence: Evidence, arms: Sequence[str], text: str) -> pd.DataFrame:
    """Every loss on a text (all, order, report) with the number of kept layers and the layers that are left out."""
    frame = evidence.probe_results
    frame = frame[frame["arm"].isin(arms) & (frame["quantity"] == "loss") & (frame["text"] == text)].copy()
    frame["num_kept"] = frame["kept"].map(len)
    return frame


def lesion_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """Intact and lesioned loss by arm and checkpoint; of each seed the mean over its draws."""
    frame = losses(evidence, arms, "all")
    frame["state"] = frame["selection"].map({"all": "intact", "lesion": "lesioned"})
    by = ["arm", "label", "checkpoint", "share", "state"]
    return summarised(frame.groupby([*by, "seed"], sort=False)["value"].mean().reset_index(), by, stats.mean_interval)


def draw_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """Loss increase of each draw at the last checkpoint of an arm."""
    frame = losses(evidence, arms, "all")
    frame = frame[frame["share"] == frame.groupby("arm")["share"].transform("max")]
    intact = frame[frame["selection"] == "all"].set_index(["arm", "seed"])["value"]
    drawn = frame[frame["selection"] == "lesion"]
    increase = drawn["value"] - intact.loc[list(zip(drawn["arm"], drawn["seed"], strict=True))].to_numpy()
    first = drawn["kept"].map(lambda kept: 1 in kept)
    by = ["arm", "label", "checkpoint", "share", "draw", "num_kept", "first_layer_kept"]
    return summarised(drawn.assign(value=increase, first_layer_kept=first), by, stats.mean_interval)


def depth_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """Loss on the reported half of the text by selection and kept layers; "removed" is the layer that was left out.

    Which layers are the least important may differ between seeds: their rows are told apart by number alone.
    """
    frame = losses(evidence, arms, "report")
    # The sum of 1..L less that of the kept layers is the one that is missing.
    missing = frame["num_layers"] * (frame["num_layers"] + 1) // 2 - frame["kept"].map(sum)
    frame["removed"] = missing.where(frame["selection"] == "without_one", 0)
    by = ["arm", "label", "checkpoint", "selection", "num_kept", "removed"]
    return summarised(frame, by, stats.mean_interval)


# ---- drawing ----


def _layer_row(
    evidence: Evidence, panels: Sequence[Axes], arms: Sequence[str], data: pd.DataFrame, relative: bool = False
) -> None:
    """One panel per arm; a line per checkpoint over layers (or relative depth), darker the later, with its interval."""
    shares = sorted(data["share"].unique())
    shades = plt.get_cmap("viridis_r")(np.linspace(0.3, 1, len(shares)) if len(shares) > 1 else [1.0])
    for panel, arm in zip(panels, arms, strict=True):
        for share, shade, marker in zip(shares, shades, MARKERS * len(shares), strict=False):
            part = data[(data["arm"] == arm) & (data["share"] == share)].sort_values("layer")
            x = part["depth" if relative else "layer"]
            look = {"color": shade, "marker": marker, "markersize": 4, "linewidth": 1.3}
            panel.plot(x, part["value"], label=f"{100 * share:.0f} % of the run", **look)
            panel.fill_between(x, *_spread(part), color=shade, alpha=0.15, linewidth=0)
        panel.set_title(evidence.label(arm), loc="left")
        panel.set_xlabel("relative depth l/L" if relative else "layer")
        if relative:
            panel.set_xlim(0, 1.05)
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def _log(panels: Sequence[Axes], label: str) -> None:
    """A logarithmic scale with plain numbers: 1, 2 and 5 of each decade, or over more than two the decades alone."""
    panels[0].set_yscale("log")
    low, high = panels[0].get_ylim()
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low <= 100 else (1,)))
    panels[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panels[0].yaxis.set_minor_locator(NullLocator())
    panels[0].set_ylabel(label)


def _checkpoint_legend(figure: Figure, panel: Axes) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels) if len(labels) <= 4 else 3)


def _spread(part: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """What is drawn around the means: the interval, or the range of the seeds where they are few."""
    few = part["n"] < FEWEST
    return part["low"].where(~few, part["least"]), part["high"].where(~few, part["most"])


def _points(panel: Axes, part: pd.DataFrame, column: str, shift: float = 0.0, **look: Any) -> None:
    """Means with error bars where there are intervals."""
    low, high = _spread(part)
    error = [part["value"] - low, high - part["value"]]
    panel.errorbar(
        part[column] + shift,
        part["value"],
        yerr=error,
        markersize=4.5,
        linewidth=1.3,
        elinewidth=0.8,
        capsize=2,
        **look,
    )


def _draws(panel: Axes, part: pd.DataFrame, position: int, count: int) -> None:
    """A point per draw; hollow without the first layer."""
    at = part["num_kept"] + 0.16 * (position - (count - 1) / 2)
    faces = [COLOURS[position] if kept else "white" for kept in part["first_layer_kept"]]
    panel.scatter(
        at, part["value"], s=18, marker=MARKERS[position], facecolors=faces, edgecolors=COLOURS[position], linewidths=1
    )


def _paper_text(paper: Paper) -> str:
    """What the grey curves are."""
    series = paper.series["figure3_angle_postln"]
    words = (
        f"Grey crosses: {paper.label} paper, {series.where}, {len(series.x)} layers, digitised by eye: another model "
        "at another point of its run."
    )
    return " ".join([words, *mark_notes([series.provenance])])


def _paper_angles(evidence: Evidence, paper: Paper, panel: Axes, arm: str) -> pd.DataFrame:
    """Overlay the paper's angles on an arm that is not dropped; returns them as rows."""
    settings = evidence.runs(arm)[0].settings
    if settings["drop"]["schedule"] != "none":
        return pd.DataFrame()
    series = paper.series[f"figure3_angle_{settings['model']['norm']}ln"]
    depth = np.array(series.x) / max(series.x)
    panel.plot(
        depth, series.y, color="#7f7f7f", linestyle=":", linewidth=1, marker="x", markersize=4, zorder=1,
        label=f"{paper.label} paper{MARKS[series.provenance]}",
    )  # fmt: skip
    return pd.DataFrame(
        {
            "quantity": "angle", "arm": arm, "label": f"{paper.label} paper", "num_layers": len(series.x),
            "layer": series.x, "depth": depth, "value": series.y, "method": f"reported: {series.where}; {series.note}",
        }
    )  # fmt: skip
