"""GLUE values along the checkpoints of pre-training, and over the grid of fine-tuning learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.results import Evidence


def _row(evidence: Evidence, arm: str, quantity: str, values: Sequence[float], **where: Any) -> dict[str, Any]:
    """A row of a figure's data: the mean over seeds with its interval, and the single runs."""
    found = stats.mean_interval(values)
    return {
        "arm": arm, "label": evidence.label(arm), "quantity": quantity, **where, "mean": found.value, "low": found.low,
        "high": found.high, "n": found.n, "method": found.method, "lowest": min(values), "highest": max(values),
    }  # fmt: skip


def checkpoint_data(evidence: Evidence) -> pd.DataFrame:
    """One row per arm, checkpoint and quantity (a task's primary metric, or the GLUE score): mean over seeds [%]."""
    convention = comparisons.glue_convention(evidence)[0]
    present = {name for values in evidence.glue_values.values() for name in values}
    quantities = [name for name in glue_scores.PRIMARY.values() if name in present]
    rows = []
    for name in [*quantities, "glue"] if quantities else []:
        for arm, checkpoint in evidence.finetuned:
            if arm not in evidence.methods:
                continue
            values = _seed_values(evidence, arm, checkpoint, name, convention)
            share = evidence.runs(arm)[0].summary.checkpoints[checkpoint].share
            if values:
                rows.append(_row(evidence, arm, name, values, checkpoint=checkpoint, share=share))
    return pd.DataFrame(rows)


def _seed_values(evidence: Evidence, arm: str, checkpoint: str, name: str, convention: str) -> list[float]:
    """One number per pre-training seed."""
    if name == "glue":
        scores = [comparisons.glue(evidence, arm, run.seed, checkpoint, convention).value for run in evidence.runs(arm)]
        return [value for value in scores if value is not None]
    found = (evidence.glue_values.get((arm, run.seed, checkpoint), {}) for run in evidence.runs(arm))
    return [values[name] for values in found if name in values]


def rate_data(evidence: Evidence) -> pd.DataFrame:
    """One row per arm, learning rate and quantity (a task's primary metric, or the mean of the tasks) [%]."""
    if evidence.scores is None or evidence.scores.empty:
        return pd.DataFrame()
    medians = comparisons.rate_medians(evidence, evidence.scores)
    rows = []
    for quantity in [*glue_scores.PRIMARY.values(), "mean"]:
        for arm in evidence.methods:
            own = medians[(medians["quantity"] == quantity) & (medians["arm"] == arm)]
            for rate, part in own.groupby("learning_rate"):
                rows.append(_row(evidence, arm, quantity, part["value"].tolist(), learning_rate=rate))
    return pd.DataFrame(rows)
