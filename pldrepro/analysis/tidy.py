"""Tidy rows, one number each, and looking them up again.

Every table's csv, and nothing else of a table, has the columns of ``COLUMNS``; a row is named by those of ``KEYS``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pldrepro.analysis import comparisons
from pldrepro.analysis.reported import Paper, Reported
from pldrepro.analysis.results import Evidence
from pldrepro.stats import Estimate

COLUMNS: dict[str, str] = {
    "family": "family of models: bert, gpt, swinv2 or vit",
    "arm": "the arm that the number is of",
    "label": "its name for people",
    "checkpoint": "where in the arm's run: a checkpoint's name",
    "quantity": "what was measured",
    "cost_axis": "the cost that it is in: samples, flops, measured_in_turn, reference_time, measured_time; empty: none",
    "statistic": "what was made of it: median, mean, deviation, p ...; empty: the quantity's own estimate",
    "against": "the arm that it is compared with; empty: none, or the quantity names it",
    "condition": "under what: epochs, layers left in, the competitor's schedule, what a step changed; empty: none",
    "unit": "unit of measured, low and high",
    "measured": "the estimate; empty: not measured",
    "low": "lower end of its 95 % interval",
    "high": "upper end of its 95 % interval",
    "n": "how many values the estimate is over",
    "values": "these values, where they are two: no interval is shown of so few; else empty",
    "method": "how estimate and interval were made",
    "reported": "the paper's value",
    "reported_unit": "its unit",
    "reported_where": "where it stands in the paper",
    "provenance": "how sure we are of it: verified, secondary, unverified or derived",
    "note": "what else must be said",
}
KEYS = ("family", "arm", "checkpoint", "quantity", "cost_axis", "statistic", "against", "condition")

# ---- tidy rows ----


def tidy_row(
    evidence: Evidence, arm: str, checkpoint: str, quantity: str, measured: Estimate | None, *, unit: str,
    cost_axis: str = "", statistic: str = "", against: str = "", condition: str = "",
    reported: Reported | None = None, note: str = "", label: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """One tidy row, see ``COLUMNS``; ``label``: of an arm that this study lacks."""
    return {
        "family": evidence.family,
        "arm": arm,
        "label": label or evidence.label(arm),
        "checkpoint": checkpoint,
        "quantity": quantity,
        "cost_axis": cost_axis,
        "statistic": statistic,
        "against": against,
        "condition": condition,
        "unit": unit,
        "measured": measured.value if measured else None,
        "low": measured.low if measured else None,
        "high": measured.high if measured else None,
        "n": measured.n if measured else 0,
        "values": joined(measured),
        "method": measured.method if measured else "",
        "reported": reported.value if reported else None,
        "reported_unit": reported.unit if reported else "",
        "reported_where": reported.where if reported else "",
        "provenance": reported.provenance if reported else "",
        "note": note,
    }


def final_row(
    evidence: Evidence, arm: str, quantity: str, statistic: str, measured: Estimate | None, *, unit: str,
    against: str = "", note: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A tidy row at the final checkpoint of an arm, with the arm that it compares with."""
    final = evidence.final_checkpoint(arm)
    return tidy_row(
        evidence, arm, final, quantity, measured, unit=unit, statistic=statistic, against=against, note=note
    )


def plain(value: float | None, n: int, method: str) -> Estimate | None:
    """A number that has no interval by its nature."""
    return None if value is None else Estimate(value, None, None, n, method)


def joined(estimate: Estimate | None) -> str:
    """The two values behind an estimate, as a csv holds them; empty of more, or of one."""
    return " ".join(map(repr, estimate.values)) if estimate and len(estimate.values) > 1 else ""


def half_interval(row: Mapping[Any, Any]) -> float:
    """Half of the symmetric interval of a tidy row."""
    return float(row["high"] - row["measured"])


def split(text: str) -> tuple[float, ...]:
    """The values that ``joined`` wrote."""
    return tuple(map(float, text.split()))


def tidy(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Tidy rows as a table, with all columns also where there is no row."""
    return pd.DataFrame(list(rows), columns=list(COLUMNS))


def claimed(paper: Paper, claim_id: str) -> Reported | None:
    """The reported value of a claim."""
    for claim in paper.claims:
        if claim.id == claim_id and claim.reported is not None:
            return Reported(
                value=claim.reported, unit=claim.unit, where=claim.where, provenance=claim.provenance, note=claim.note
            )
    return None


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
    return Estimate(float(row["measured"]), low, high, int(row["n"]), str(row["method"]), split(row["values"]))
