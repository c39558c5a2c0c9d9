"""Claims of the papers, measured: one row each in claims.csv, with a verdict that is computed, never typed.

A claim names its estimator (``measure``), a function of ``pldrepro.analysis.claim_estimators.ESTIMATORS``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import pandas as pd

from pldrepro import stats
from pldrepro.analysis.claim_estimators import ESTIMATORS, missing_arm
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.measurement import Measurement, join_notes
from pldrepro.analysis.reported import MARKS, Claim, Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.table_files import read_table
from pldrepro.analysis.text import DASH, FAMILIES, estimate_text
from pldrepro.errors import RecordError, SettingsError
from pldrepro.files import atomic_path
from pldrepro.stats import Estimate

Verdict = Literal[
    "reproduced", "same direction", "inconclusive", "contradicted", "not measured at this scale"
]  # fmt: skip
VERDICTS: dict[str, str] = {
    "reproduced": "the interval lies on the claimed side of no effect, and the reported value is inside or surpassed",
    "same direction": "the interval lies on the claimed side of no effect, but the reported size is not reached",
    "inconclusive": "the interval includes no effect, or there is none (one seed)",
    "contradicted": "the interval lies on the other side of no effect",
    "not measured at this scale": "this study has nothing that measures it",
}
COLUMNS: dict[str, type] = {
    "claim": str, "paper": str, "statement": str, "reported": float, "provenance": str, "measured": float,
    "low": float, "high": float, "n": int, "unit": str, "verdict": str, "exhibit": str, "note": str,
}  # fmt: skip


def verdict(
    measured: float | None,
    low: float | None,
    high: float | None,
    reported: float | None,
    null: float,
    direction: Literal["higher", "lower"],
    n: int,
) -> Verdict:
    """The verdict on a claim that an effect lies on one side of ``null``; see VERDICTS.

    ``reported`` None means that the claim is the direction alone, which is reproduced when it is established.
    """
    if measured is None:
        return "not measured at this scale"
    if n < 2 or low is None or high is None:
        return "inconclusive"
    if direction == "lower":
        low, high, null = -high, -low, -null
        reported = None if reported is None else -reported
    if high < null:
        return "contradicted"
    if low <= null:
        return "inconclusive"
    return "reproduced" if reported is None or high >= reported else "same direction"


def judge(claim: Claim, measurement: Measurement) -> tuple[Verdict, str]:
    """Verdict and note: a premise that fails contradicts the claim, an open one leaves it inconclusive."""
    paired, notes = measurement.paired, [measurement.note, claim.note]
    estimate = paired.estimate if paired else None
    if estimate is None:
        found = verdict(None, None, None, claim.reported, claim.null_value, claim.direction, 0)
    else:
        found = verdict(
            estimate.value, estimate.low, estimate.high, claim.reported, claim.null_value, claim.direction, estimate.n
        )
    if found == "inconclusive" and paired:
        notes.insert(0, seeds_note(paired))
    if measurement.premise == "fails":
        found = "contradicted"
    elif measurement.premise == "open" and found in ("reproduced", "same direction"):
        found = "inconclusive"
    return found, join_notes(*notes)


def seeds_note(paired: Paired) -> str:
    """How many seeds would settle an inconclusive claim, if mean and spread stayed as they are."""
    if paired.estimate.n < 2:
        return "one seed has no interval: at least two are needed"
    needed = stats.seeds_needed(paired.effects, 0.0)
    if needed is None:
        return "more than 1,000 seeds would be needed to settle it"
    if needed > paired.estimate.n:
        return f"about {needed} seeds would settle the direction"
    return "the seeds agree; the error of the calibration leaves it open"


# ---- claims.csv ----


def claims(evidence: Evidence, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """One row per claim of every paper: reported, measured with interval, verdict and why."""
    rows = []
    for paper in papers.values():
        for claim in paper.claims:
            measurement = measure_claim(evidence, claim)
            found, note = judge(claim, measurement)
            estimate = measurement.paired.estimate if measurement.paired else None
            rows.append(
                {
                    "claim": f"{paper.key}.{claim.id}", "paper": paper.label, "statement": claim.statement,
                    "reported": claim.reported, "provenance": claim.provenance, **_limits(estimate),
                    "unit": claim.unit, "verdict": found, "exhibit": claim.exhibit, "note": note,
                }
            )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def measure_claim(evidence: Evidence, claim: Claim) -> Measurement:
    """Measure a claim; without a measure, or without the arm, a Measurement of nothing that says why."""
    if claim.measure is None:
        return Measurement()
    if claim.measure not in ESTIMATORS:
        raise SettingsError(f"claim {claim.id}: unknown measure {claim.measure!r}; allowed: {', '.join(ESTIMATORS)}")
    study = evidence.of(*claim.families) if claim.families else evidence
    if study is None:
        names = " or ".join(FAMILIES[family] for family in claim.families)
        return Measurement(note=f"no study of {names} is in this set")
    missing = missing_arm(study, claim.measure)
    return Measurement(note=missing) if missing else ESTIMATORS[claim.measure](study)


def _limits(estimate: Estimate | None) -> dict[str, float | int | None]:
    if estimate is None:
        return {"measured": None, "low": None, "high": None, "n": 0}
    return {"measured": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def write_claims(evidence: Evidence, papers: Mapping[str, Paper], out: Path) -> pd.DataFrame:
    """Write claims.csv and return what was written."""
    frame = claims(evidence, papers)
    with atomic_path(out) as temporary:
        frame.to_csv(temporary, index=False)
    return frame


def read_claims(path: Path) -> pd.DataFrame:
    """claims.csv; a missing or damaged file is a RecordError that names it, and the row."""
    frame = read_table(path, COLUMNS, "make claims", optional=("reported", "measured", "low", "high", "note"))
    for number, row in enumerate(frame.to_dict("records"), start=2):
        for column, allowed in (("verdict", VERDICTS), ("provenance", MARKS)):
            if row[column] not in allowed:
                raise RecordError(f"{path}: row {number}: {column} {row[column]!r}; allowed: {', '.join(allowed)}")
    return frame.astype({"note": object}).fillna({"note": ""})


def reported_text(row: Mapping[Any, Any]) -> str:
    """The reported value of a row of claims.csv with unit and mark; in words where there is no number."""
    value, unit = row["reported"], str(row["unit"])
    mark = MARKS[str(row["provenance"])]
    if pd.isna(value):
        return f"direction{mark}"
    return f"{value:g} {unit}{mark}"


def measured_text(row: Mapping[Any, Any]) -> str:
    """The measured value of a row of claims.csv with its interval; a dash where nothing was measured."""
    if pd.isna(row["measured"]):
        return DASH
    digits = {"x": 2, "nats": 3}.get(row["unit"], 1)
    limits = [None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high")]
    estimate = Estimate(row["measured"], limits[0], limits[1], int(row["n"]), "")
    return estimate_text(estimate, digits)


def format_claims(frame: pd.DataFrame) -> str:
    """The claims as a plain text table, 118 columns wide: first those that were measured."""
    lines = [f"{'claim':<48} {'reported':>12} {'measured':>21} {'n':>2}  verdict", "-" * 118]
    for row in _measured_first(frame):
        first, *more = wrap(named(row), 48)
        numbers = f"{reported_text(row):>12} {measured_text(row):>21} {row['n'] or '':>2}"
        lines += [f"{first:<48} {numbers}  {row['verdict']}", *(f"  {line}" for line in more)]
    lines += ["-" * 118, *mark_notes(frame["provenance"])]
    lines.append(
        "Measured: mean over n pre-training seeds [95 % interval]. claims.csv and the report say more on each."
    )
    return "\n".join(lines)


def markdown_claims(frame: pd.DataFrame) -> str:
    """The measured claims as a Markdown table."""
    rows = ["| claim | reported | measured [95 % interval] | n | verdict |", "|---|---|---|---|---|"]
    for row in _measured_first(frame):
        if not pd.isna(row["measured"]):
            numbers = f"{reported_text(row)} | {measured_text(row)} | {row['n']}"
            rows.append(f"| {named(row)} | {numbers} | {row['verdict']} |")
    return "\n".join([*rows, "", *mark_notes(frame.loc[frame["measured"].notna(), "provenance"])])


def named(row: Mapping[Any, Any]) -> str:
    """The statement of a row of claims.csv; a paper other than PLD's is named before it."""
    return str(row["statement"]) if row["paper"] == "PLD" else f"{row['paper']}: {row['statement']}"


def _measured_first(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.sort_values("measured", key=lambda column: column.isna(), kind="stable").to_dict("records")
