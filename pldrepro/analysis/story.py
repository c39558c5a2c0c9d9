"""What a reader should take away of a set: its findings, judged, and story.csv.

The rules that find them are in ``pldrepro.analysis.findings``, the words in ``pldrepro.exhibits.story_text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from pldrepro.analysis.family import family_of
from pldrepro.analysis.finding import ABOVE, BELOW, NOTHING, SHOWN, SIDES, UNDECIDED, Finding
from pldrepro.analysis.findings import Told, findings
from pldrepro.analysis.reported import MARKS, Paper, Provenance
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.table_files import read_table
from pldrepro.analysis.tidy import joined, split
from pldrepro.analysis.verdicts import ERROR_RATE, MIN_SEEDS, VERDICTS, Family
from pldrepro.errors import RecordError
from pldrepro.files import atomic_path
from pldrepro.stats import Estimate

STORY = "story.csv"  # next to claims.csv
COLUMNS: dict[str, type] = {
    "topic": str, "part": str, "outcome": str, "arm": str, "against": str, "measured": float, "low": float,
    "high": float, "n": int, "values": str, "counts": str, "unit": str, "null": float, "bound": str, "reported": float,
    "provenance": str, "exhibit": str, "basis": str, "open": str, "sees": float, "agree": float, "claimed": str,
    "note": str,
}  # fmt: skip
OPTIONAL = (
    "arm", "against", "measured", "low", "high", "values", "counts", "unit", "bound", "reported", "provenance",
    "exhibit", "basis", "open", "sees", "agree", "claimed", "note",
)  # fmt: skip


def story(evidence: Evidence, papers: Mapping[str, Paper], claims: pd.DataFrame) -> list[Finding]:
    """All findings of a set, topic by topic; ``claims``: its rows of claims.csv."""
    told = Told(evidence, papers, {row["claim"]: row for row in claims.to_dict("records")})
    family = family_of(evidence, papers)
    return [judged(one, family) for one in findings(told)]


def judged(finding: Finding, family: Family) -> Finding:
    """A finding with the side of its comparison, or why it has none; of a claim as it is."""
    paired, estimate = finding.paired, finding.estimate
    if paired is None or estimate is None:
        return finding
    if family.decided(paired):
        return replace(finding, outcome=ABOVE if estimate.value > finding.null else BELOW)
    own = paired.p
    if estimate.n < MIN_SEEDS or own is None:
        return replace(finding, outcome=UNDECIDED, open="seeds")
    return replace(finding, outcome=UNDECIDED, open="adjustment" if own <= ERROR_RATE else "interval")


# ---- story.csv ----


def story_frame(findings: Iterable[Finding]) -> pd.DataFrame:
    """Findings as the rows of story.csv."""
    return pd.DataFrame([_row(finding) for finding in findings], columns=list(COLUMNS))


def _row(finding: Finding) -> dict[str, Any]:
    estimate = finding.estimate
    limits = (estimate.value, estimate.low, estimate.high, estimate.n) if estimate else (None, None, None, 0)
    numbers = {**dict(zip(("measured", "low", "high", "n"), limits, strict=True)), "values": joined(estimate)}
    return {name: numbers[name] if name in numbers else getattr(finding, name) for name in COLUMNS}


def write_story(evidence: Evidence, papers: Mapping[str, Paper], claims: pd.DataFrame, out: Path) -> None:
    """Write story.csv of a set and its claims."""
    with atomic_path(out) as temporary:
        story_frame(story(evidence, papers, claims)).to_csv(temporary, index=False)


def read_story(path: Path) -> list[Finding]:
    """story.csv; a missing or damaged file is a RecordError that names it."""
    frame = read_table(path, COLUMNS, "make claims", optional=OPTIONAL)
    texts = [name for name, kind in COLUMNS.items() if kind is str]
    frame = frame.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, ""))
    return [_finding(path, row) for row in frame.to_dict("records")]


def _finding(path: Path, row: Mapping[Any, Any]) -> Finding:
    allowed = (*VERDICTS, *SIDES, SHOWN, NOTHING)
    if row["outcome"] not in allowed or row["provenance"] not in get_args(Provenance):
        raise RecordError(f"{path}: outcome {row['outcome']!r}, provenance {row['provenance']!r}; allowed: "
                          f"{', '.join(allowed)}; {', '.join(MARKS)}")  # fmt: skip
    numbers = {name: None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high", "reported", "sees")}
    estimate = None
    if not pd.isna(row["measured"]):
        estimate = Estimate(
            float(row["measured"]), numbers["low"], numbers["high"], int(row["n"]), "", split(row["values"])
        )
    texts = {name: row[name] for name in ("topic", "part", "outcome", "unit", "exhibit", "arm", "against", "counts",
                                          "bound", "provenance", "basis", "open", "claimed", "note")}  # fmt: skip
    agree = None if pd.isna(row["agree"]) else int(row["agree"])
    return Finding(
        agree=agree,
        estimate=estimate,
        reported=numbers["reported"],
        sees=numbers["sees"],
        null=float(row["null"]),
        **texts,
    )
