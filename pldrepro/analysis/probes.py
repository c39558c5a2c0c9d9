"""What was measured on checkpoints, over seeds: gradients and angles by layer, losses with layers left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from pldrepro import stats
from pldrepro.analysis.reported import Paper, Series
from pldrepro.analysis.results import Evidence
from pldrepro.stats import Estimate

Interval = Callable[[Sequence[float]], Estimate]
# How the seeds' values of a layer are put together: norms and distances are positive and spread by factors.
OVER_SEEDS: dict[str, Interval] = {
    **dict.fromkeys(("gradient_norm", "gradient_ratio", "distance", "relative_distance"), stats.geometric_interval),
    **dict.fromkeys(("cosine", "angle"), stats.mean_interval),
}


def shown(evidence: Evidence) -> list[str]:
    """The baseline, PLD's twin without dropping (else a PreLN arm without dropping) and PLD, where they were probed."""
    twin = evidence.undropped_twin(evidence.pld) if evidence.pld in evidence.arms else None
    undropped = [
        arm
        for arm in evidence.probed
        if evidence.runs(arm)[0].settings.model.norm == "pre" and evidence.runs(arm)[0].settings.drop.schedule == "none"
    ]
    middle = [twin] if twin in undropped else undropped[:1]
    wanted = dict.fromkeys([evidence.baseline, *middle, evidence.pld])
    return [arm for arm in wanted if arm in evidence.probed]


def summarised(frame: pd.DataFrame, by: Sequence[str], interval: Interval) -> pd.DataFrame:
    """One row per group with the estimate over its seeds, and the range of the seeds' own values."""
    rows = []
    for key, group in frame.groupby(list(by), sort=False, dropna=False):
        values = group["value"].tolist()
        one = interval(values)
        estimate = {"value": one.value, "low": one.low, "high": one.high, "n": one.n, "method": one.method}
        rows.append({**dict(zip(by, key, strict=True)), **estimate, "least": min(values), "most": max(values)})
    return pd.DataFrame(rows).astype({"low": float, "high": float})


def gradient_frame(evidence: Evidence) -> tuple[pd.DataFrame, list[str]]:
    """The probes that Figures 1 and 2 are drawn from, and their arms: early in training, else of finished checkpoints.

    The paper's figures are of training; what a finished model's gradients are like is another question.
    """
    if evidence.early:
        return evidence.early_results, list(dict.fromkeys(run.summary.arm for run in evidence.early))
    return evidence.probe_results, shown(evidence)


def layer_data(frame: pd.DataFrame, arms: Sequence[str], quantity: str) -> pd.DataFrame:
    """A quantity of the probes by arm, checkpoint and layer (1..L), and by part of the block if it has any."""
    frame = frame[frame["arm"].isin(arms) & (frame["quantity"] == quantity)]
    by = ["quantity", "arm", "label", "num_layers", "checkpoint", "share", "part", "layer"]
    data = summarised(frame.assign(part=frame["part"].fillna("")), by, OVER_SEEDS[quantity])
    data["depth"] = data["layer"] / data["num_layers"]
    return data


def paper_angles(evidence: Evidence, paper: Paper, arm: str) -> Series | None:
    """The angles [degrees] by layer that the paper shows for a model of an arm's norm; None for an arm that drops."""
    settings = evidence.runs(arm)[0].settings
    return None if settings.drop.schedule != "none" else paper.series[f"figure3_angle_{settings.model.norm}ln"]


def paper_angle_data(paper: Paper, series: Series, arm: str) -> pd.DataFrame:
    """A series of ``paper_angles`` as rows next to those of ``layer_data``."""
    layer = pd.Series(series.x)
    return pd.DataFrame(
        {
            "quantity": "angle", "arm": arm, "label": f"{paper.label} paper", "num_layers": len(layer), "layer": layer,
            "depth": layer / layer.max(), "value": series.y, "method": f"reported: {series.where}; {series.note}",
        }
    )  # fmt: skip


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

    Which layers are the least important may differ between seeds: their rows are told apart only by number.
    """
    frame = losses(evidence, arms, "report")
    # The sum of 1..L less that of the kept layers is the one that is missing.
    missing = frame["num_layers"] * (frame["num_layers"] + 1) // 2 - frame["kept"].map(sum)
    frame["removed"] = missing.where(frame["selection"] == "without_one", 0)
    by = ["arm", "label", "checkpoint", "selection", "num_kept", "removed"]
    return summarised(frame, by, stats.mean_interval)
