"""Depth robustness: the validation loss of the last checkpoint of every probed arm with fewer layers than it has."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.evidence import Evidence
from pldrepro.papers import Paper
from pldrepro.tables.panel import INTERVAL_NOTE, Panel, cell, estimate_text, tidy_row

# What the panel shows: name of the tidy rows ("k": half of the layers) -> header.
SHOWN = {
    "first k": "first half",
    "odd": "every other (1st, 3rd, ...)",
    "even": "every other (2nd, 4th, ...)",
    "least_important_removed k": "least important half removed",
    "lesion": "lesion, mean of draws",
}
COLUMNS = ("run", "L", "loss, all layers", *(f"+ {header}" for header in SHOWN.values()), "n")


def depth_robustness(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Loss with fewer layers, one row per probed arm, way of leaving out layers, and quantity; last checkpoint.

    Quantities: loss, and loss_increase over the intact model on the same text [nats]. axis: all, lesion (mean over
    draws), "first k", "last k", odd, even, "without_one l" and "least_important_removed k", k the number of kept
    layers and l that of the removed one. The lesion is on all sequences, the others on the half that did not choose.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.probed:
        for axis, part in last_losses(evidence, arm).groupby("axis", sort=False):
            checkpoint = str(part["checkpoint"].iloc[0])
            note = "" if axis == "lesion" else f"kept: {_kept(part)}"
            for quantity in ("loss", "loss_increase"):
                measured = stats.mean_interval(part.groupby("seed")[quantity].mean().tolist())
                rows.append(tidy_row(evidence, arm, checkpoint, quantity, str(axis), "nats", measured, note=note))
    return pd.DataFrame(rows)


def last_losses(evidence: Evidence, arm: str) -> pd.DataFrame:
    """The losses of an arm's last probed checkpoint by seed and axis, with the increase over the intact model."""
    frame = evidence.probe_results
    frame = frame[(frame["arm"] == arm) & (frame["quantity"] == "loss") & (frame["text"] != "order")]
    frame = frame[frame["share"] == frame["share"].max()]
    intact = frame[frame["selection"] == "all"].set_index(["seed", "text"])["value"]
    keys = list(zip(frame["seed"], frame["text"], strict=True))
    frame = frame.assign(loss=frame["value"], loss_increase=frame["value"] - intact.loc[keys].to_numpy())
    frame = frame[(frame["selection"] != "all") | (frame["text"] == "all")]
    return frame.assign(axis=[_axis(row) for row in frame.to_dict("records")])


def _axis(row: dict[Any, Any]) -> str:
    selection = str(row["selection"])
    if selection == "without_one":
        (removed,) = set(range(1, row["num_layers"] + 1)) - set(row["kept"])
        return f"{selection} {removed}"
    return f"{selection} {len(row['kept'])}" if selection in ("first", "last", "least_important_removed") else selection


def _kept(part: pd.DataFrame) -> str:
    """The layers that were kept; which are the least important may differ between seeds."""
    return " or ".join(dict.fromkeys(",".join(map(str, kept)) or "none" for kept in part["kept"]))


def depth_robustness_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """The last checkpoint of every probed arm: loss intact, and by how much it rises with half of the layers."""
    caption = f"Depth robustness: validation loss [nats] with fewer layers, at scale {evidence.scale}"
    if not evidence.probed:
        return [Panel(caption, COLUMNS, (), ("No checkpoint was probed in this study.",))]
    frame = depth_robustness(evidence, paper)
    rows = []
    for arm in evidence.probed:
        checkpoint = str(frame[frame["arm"] == arm]["checkpoint"].iloc[0])
        layers = evidence.runs(arm)[0].summary["num_layers"]
        intact = cell(frame, arm, checkpoint, "loss", "all")
        axes = [axis.replace(" k", f" {layers // 2}") for axis in SHOWN]
        increases = [cell(frame, arm, checkpoint, "loss_increase", axis) for axis in axes]
        rows.append(
            (
                f"{evidence.label(arm)} {checkpoint}",
                str(layers),
                estimate_text(intact, 3),
                *(estimate_text(increase, 3) for increase in increases),
                str(intact.n if intact else 0),
            )
        )
    keep = evidence.probes[0].summary["lesion_keep"]
    return [
        Panel(
            caption=caption,
            columns=COLUMNS,
            rows=tuple(rows),
            notes=(
                "+: what the loss rises by over all layers on the same held-out sequences; kept layers are not "
                "rescaled, and half of L is rounded down. Importance of a layer: the rise without it alone, measured "
                f"on sequences that are not reported. Lesion: each layer kept with probability {keep:g}, the same "
                "draws for all.",
                INTERVAL_NOTE,
            ),
        )
    ]
