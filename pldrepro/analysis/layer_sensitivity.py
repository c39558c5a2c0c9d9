"""Sensitivity of the layers as the runs measured it, and the list that each layer is in."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.results import Evidence
from pldrepro.policy import drop


def sensitivity_data(study: Evidence) -> pd.DataFrame:
    """One row per arm, seed, analysis and layer (1..L): score, rank, and list (block, neutral, allow)."""
    rows = []
    for run in study.pretrain:
        settings = run.settings.drop
        for refresh, line in enumerate(run.sensitivity):
            layers = drop.layer_numbers(len(line.scores))
            for layer, score, rank in zip(layers, line.scores, line.ranks, strict=True):
                rows.append(
                    {"family": study.family, "arm": run.arm, "label": run.label, "seed": run.seed, "refresh": refresh,
                     "step": line.step, "measure": line.measure, "layer": layer, "score": score, "rank": rank,
                     "list": list_of(settings, rank, len(layers))}
                )  # fmt: skip
    return pd.DataFrame(rows)


def mean_scores(data: pd.DataFrame) -> pd.DataFrame:
    """Score of each analysis (refresh) and layer of an arm: mean over its seeds; one column per analysis."""
    return data.pivot_table(index="layer", columns="refresh", values="score", aggfunc="mean")


def typical_score(data: pd.DataFrame) -> float:
    """Median of the sizes of all scores of an arm."""
    return float(data["score"].abs().median())


def list_of(settings: drop.DropSettings, rank: int, num_layers: int) -> str:
    """The list that a rank (1: most sensitive) puts a layer in."""
    blocked, allowed = drop.list_sizes(settings, num_layers)
    if rank <= blocked:
        return "block"
    return "allow" if rank > num_layers - allowed else "neutral"
