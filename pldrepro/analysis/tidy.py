"""Tidy rows, one number each, and looking them up again."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons
from pldrepro.analysis.reported import Paper, Reported
from pldrepro.analysis.results import Evidence
from pldrepro.stats import Estimate

# ---- tidy rows ----


def tidy_row(
    evidence: Evidence, arm: str, checkpoint: str, quantity: str, axis: str, unit: str,
    measured: Estimate | None, reported: Reported | None = None, note: str = "", label: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One tidy row; ``label``: of an arm that this study lacks."""
    return {
        "arm": arm,
        "label": label or evidence.label(arm),
        "checkpoint": checkpoint,
        "quantity": quantity,
        "axis": axis,
        "unit": unit,
        "measured": measured.value if measured else None,
        "low": measured.low if measured else None,
        "high": measured.high if measured else None,
        "n": measured.n if measured else 0,
        "method": measured.method if measured else "",
        "reported": reported.value if reported else None,
        "reported_unit": reported.unit if reported else "",
        "reported_where": reported.where if reported else "",
        "provenance": reported.provenance if reported else "",
        "note": note,
    }


def role(evidence: Evidence, arm: str) -> str:
    """The arm's name in the papers' tables: this study's baseline and PLD arm stand for theirs."""
    return {evidence.baseline: "baseline", evidence.pld: "pld"}.get(arm, arm)


def claimed(paper: Paper, claim_id: str) -> Reported | None:
    """The reported value of a claim."""
    for claim in paper.claims:
        if claim.id == claim_id and claim.reported is not None:
            return Reported(
                value=claim.reported, unit=claim.unit, where=claim.where, provenance=claim.provenance, note=claim.note
            )
    return None


def cost_estimate(evidence: Evidence, arm: str, axis: str, checkpoint: str) -> Estimate | None:
    """Cost of an arm up to a checkpoint on an axis: geometric mean over its seeds."""
    costs = [evidence.cost(run, axis, checkpoint) for run in evidence.runs(arm)]
    known = [cost for cost in costs if cost is not None]
    return stats.geometric_interval(known) if known else None


def estimate_of(paired: comparisons.Paired | None) -> Estimate | None:
    """The estimate of a comparison, where there is one."""
    return None if paired is None else paired.estimate


def find(frame: pd.DataFrame, **keys: str) -> Estimate | None:
    """The estimate of the row with these keys."""
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    if frame.empty or pd.isna(frame["measured"].iloc[0]):
        return None
    row = frame.iloc[0]
    low, high = (None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high"))
    return Estimate(float(row["measured"]), low, high, int(row["n"]), str(row["method"]))


def cell(frame: pd.DataFrame, arm: str, checkpoint: str, quantity: str, axis: str = "") -> Estimate | None:
    """The estimate in a tidy table."""
    return find(frame, arm=arm, checkpoint=checkpoint, quantity=quantity, axis=axis)
