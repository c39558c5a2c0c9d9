"""The study in one picture: loss against cost, and what the claimed speedup is made of. Narrow, for a README."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator

from pldrepro.analysis.arms import validation_loss
from pldrepro.analysis.curves import mean_over_runs, relative_loss_data
from pldrepro.analysis.early_stop import CHECKPOINT, STOP, WHOLE, early_stop, stretches
from pldrepro.analysis.finding import Finding
from pldrepro.analysis.findings import fewer_layers
from pldrepro.analysis.reported import Paper, Reported, mark_notes
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.story import story_frame
from pldrepro.analysis.text import number
from pldrepro.analysis.tidy import claimed
from pldrepro.config.arm import Role
from pldrepro.exhibits.figures.style import FigureData, arm_style, fit_y, nothing, seeds_text

# Losses before this part of the baseline's run [%] set no scale: they would hide all differences.
SHOWN_FROM = 35
SHOWN: tuple[Role, ...] = ("baseline", "preln", "preln_higher_lr", "pld")
CLAIMS = ("similar_accuracy", "same_loss")
GREY, DARK, PAPER = "#9a9a9a", "#404040", "#D55E00"


def finding(evidence: Evidence, paper: Paper) -> FigureData:
    """Above: validation loss against time, relative to the baseline's whole run; below: the parts of the speedup."""
    study = evidence.of("bert")
    if study is None or study.pld not in study.arms:
        return nothing("no BERT with PLD in this set")
    arms = [*map(study.arm_with_role, SHOWN), *fewer_layers(study)]
    arms = [arm for arm in dict.fromkeys(arms) if arm in study.arms]
    parts, claim, same = early_stop(study), *(claimed(paper, f"speedup_{name}") for name in CLAIMS)
    figure, axes = plt.subplots(2, 1, figsize=(5.0, 6.2), height_ratios=(1.5, 1))
    data = _losses(axes[0], study, arms)
    caption = (
        f"Above: validation loss on held-out text against {AXES[study.clock]}, relative to the baseline's whole run "
        "(100 %). Thin lines: single runs; bold: mean at equal steps; dashed: the baseline's final loss"
    )
    if parts:
        _place(axes[0], study, parts[-1], same)
        _parts(axes[1], study, parts, claim)
        caption += (
            f". Below: PLD's speedup at {_checkpoint(study)} (the ring above) as a product of factors; each bar starts "
            f"where the one above it ends. The three changes: {AXES[study.clock]} per sample, paired by seed. "
            "Whiskers: 95 % t interval; diamonds: the paper. The speedup is one to equal quality only if the ring "
            "is as low as the dashed line"
        )
    else:
        axes[1].axis("off")
    marks = mark_notes(one.provenance for one in (claim, same) if parts and one is not None)
    return (
        figure,
        pd.concat([data, story_frame(parts)], ignore_index=True),
        " ".join([f"{caption}. {seeds_text(study, arms)}.", *marks]),
    )


def _checkpoint(study: Evidence) -> str:
    """The checkpoint of the speedup in words: checkpoint 100 of 186."""
    last = study.final_checkpoint(study.pld)
    return f"checkpoint {CHECKPOINT.removeprefix('ckp')} of {last.removeprefix('ckp')}"


def _losses(ax: Axes, study: Evidence, arms: list[str]) -> pd.DataFrame:
    axis, data = study.clock, relative_loss_data(study, arms)
    for arm in arms:
        own, look = data[data["arm"] == arm], arm_style(study, arm)
        for _, run in own.groupby("seed"):
            ax.plot(run["relative"], run["validation_loss"], color=look["color"], linewidth=0.5, alpha=0.3)
        mean = mean_over_runs(own, "relative")
        ax.plot(mean["relative"], mean["validation_loss"], linewidth=2, label=study.label(arm), **look)
    final = validation_loss(study, study.baseline).value
    ax.axhline(final, color=GREY, linewidth=1, linestyle=(0, (4, 2)), zorder=1, label="the baseline's final loss")
    fit_y(ax, data.loc[data["relative"] >= SHOWN_FROM, "validation_loss"].tolist(), 0.1)
    ax.set(xlabel=f"{AXES[axis]} [% of the baseline's run]", ylabel="validation loss [nats]\n(lower is better)")
    ax.set_xlim(left=0)
    ax.set_title("Loss against cost", loc="left", fontweight="bold")
    ax.legend(loc="upper center", bbox_to_anchor=(0.44, -0.19), ncols=2, fontsize=8.5, handlelength=2.4)
    return data


def _place(ax: Axes, study: Evidence, whole: Finding, same: Reported | None) -> None:
    """Where PLD is at the checkpoint whose speedup is taken apart below, and where the paper has the same loss."""
    assert whole.estimate is not None
    colour, final = arm_style(study, study.pld)["color"], validation_loss(study, study.baseline).value
    ring = (100 / whole.estimate.value, validation_loss(study, study.pld, CHECKPOINT).value)
    ax.plot(*ring, "o", markersize=9, markerfacecolor="white", markeredgewidth=2, color=colour, zorder=5)
    high, label = ring[1] >= final, f"PLD at {_checkpoint(study)}"
    if high:
        _say(ax, label, ring, colour, above=True)
    else:  # left of the curves, which fall
        _say(ax, label.replace("checkpoint ", "checkpoint\n"), ring, colour, above=False, left=True)
    if same is not None:
        ax.plot(100 / same.value, final, "D", markersize=6, markerfacecolor="white", color=PAPER, zorder=5)
        text = f"paper: this loss {number(same.value, 1)} × sooner{same.mark}"
        _say(ax, text, (100 / same.value, final), PAPER, above=not high)


def _say(ax: Axes, text: str, at: tuple[float, float], colour: str, above: bool, left: bool = False) -> None:
    """A few words next to a point, to its right or left."""
    ax.annotate(
        text, at, xytext=(-8 if left else 8, 4 if above else -4), textcoords="offset points", fontsize=8.5,
        color=colour, va="bottom" if above else "top", ha="right" if left else "left", zorder=6,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )  # fmt: skip


def _parts(ax: Axes, study: Evidence, parts: list[Finding], claim: Reported | None) -> None:
    """A bar for each factor, from where the one above it ended; the last one for all of them."""
    drawn = stretches(parts)
    for row, (one, bar) in enumerate(zip(parts, drawn, strict=True)):
        assert one.estimate is not None
        colour = DARK if one.part == WHOLE else GREY if one.part == STOP else arm_style(study, one.arm)["color"]
        ax.plot([bar.begin, bar.end], [row, row], linewidth=11, solid_capstyle="butt", color=colour)
        if bar.low is not None and bar.high is not None:
            ax.plot([bar.low, bar.high], [row, row], linewidth=1.2, color="black")
        right = max(bar.begin, bar.end, bar.high or 0.0, claim.value if claim and one.part == WHOLE else 0.0)
        text = f"{number(one.estimate.value, 2)} ×"
        ax.annotate(
            text if one.part != WHOLE or claim is None else f"{text}, paper: {number(claim.value, 1)} ×{claim.mark}",
            (right, row), xytext=(7, 0), textcoords="offset points", va="center", fontsize=8.5,
        )  # fmt: skip
    if claim is not None:
        ax.plot(claim.value, len(parts) - 1, "D", markerfacecolor="white", color=PAPER, markersize=6, zorder=4)
    ax.set_yticks(range(len(parts)), [one.note for one in parts])
    ax.set_ylim(len(parts) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    _factors(ax, [drawn[-1].end, claim.value if claim else 1.0])
    ax.set_title(f"The speedup at {_checkpoint(study)}", loc="left", fontweight="bold")


def _factors(ax: Axes, values: list[float]) -> None:
    """A scale on which equal factors are equally long."""
    largest = max(values)
    ticks = [tick for tick in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 10) if tick <= 1.1 * largest]
    ax.set_xscale("log")
    ax.set_xlim(0.97, largest**1.45)
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("times faster than the whole baseline")
