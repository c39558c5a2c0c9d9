"""Loss with layers removed after training."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import tidy, tidy_row


def depth_robustness(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Loss with fewer layers, one row per probed arm, way of leaving out layers, and quantity; last checkpoint.

    Quantities: loss, and loss_increase over the intact model on the same text [nats]. Conditions: all, lesion (mean
    over draws), "first k", "last k", odd, even, "without_one l" and "least_important_removed k", k the number of kept
    layers and l that of the removed one. The lesion is on all sequences, the others on the half that did not choose.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.probed:
        for condition, part in last_losses(evidence, arm).groupby("condition", sort=False):
            checkpoint = str(part["checkpoint"].iloc[0])
            note = "" if condition == "lesion" else f"kept: {_kept(part)}"
            for quantity in ("loss", "loss_increase"):
                measured = stats.mean_interval(part.groupby("seed")[quantity].mean().tolist())
                rows.append(
                    tidy_row(evidence, arm, checkpoint, quantity, measured, unit="nats", condition=str(condition),
                             note=note)
                )  # fmt: skip
    return tidy(rows)


def last_losses(evidence: Evidence, arm: str) -> pd.DataFrame:
    """The losses of an arm's last probed checkpoint by seed and condition, with the increase over the intact model."""
    frame = evidence.probe_results
    frame = frame[(frame["arm"] == arm) & (frame["quantity"] == "loss") & (frame["text"] != "order")]
    frame = frame[frame["share"] == frame["share"].max()]
    intact = frame[frame["selection"] == "all"].set_index(["seed", "text"])["value"]
    keys = list(zip(frame["seed"], frame["text"], strict=True))
    frame = frame.assign(loss=frame["value"], loss_increase=frame["value"] - intact.loc[keys].to_numpy())
    frame = frame[(frame["selection"] != "all") | (frame["text"] == "all")]
    return frame.assign(condition=[_condition(row) for row in frame.to_dict("records")])


def _condition(row: dict[Any, Any]) -> str:
    selection = str(row["selection"])
    if selection == "without_one":
        (removed,) = set(range(1, row["num_layers"] + 1)) - set(row["kept"])
        return f"{selection} {removed}"
    return f"{selection} {len(row['kept'])}" if selection in ("first", "last", "least_important_removed") else selection


def _kept(part: pd.DataFrame) -> str:
    """The layers that were kept; which are the least important may differ between seeds."""
    return " or ".join(dict.fromkeys(",".join(map(str, kept)) or "none" for kept in part["kept"]))
