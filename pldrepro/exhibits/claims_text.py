"""The rows of claims.csv as text: for a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from textwrap import fill, wrap
from typing import Any

import pandas as pd

from pldrepro.analysis.reported import MARKS, mark_notes
from pldrepro.analysis.text import DASH, quantity_text
from pldrepro.analysis.tidy import split
from pldrepro.analysis.verdicts import ERROR_RATE, MIN_SEEDS
from pldrepro.stats import Estimate

N_NOTE = (
    "Each number is a mean over n pre-training seeds, or over n processes where steps were measured in turn; the note "
    "of such a claim in claims.csv says so."
)


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
    limits = [None if pd.isna(row[name]) else float(row[name]) for name in ("low", "high")]
    estimate = Estimate(row["measured"], limits[0], limits[1], int(row["n"]), "", split(row["values"]))
    return f"{row['bound']} {quantity_text(estimate, str(row['unit']))}".strip()


def format_claims(frame: pd.DataFrame) -> str:
    """The claims as a plain text table, 118 columns wide: first those that were measured."""
    lines = [f"{'claim':<42} {'reported':>13} {'measured':>27} {'n':>2}  verdict", "-" * 118]
    for row in _measured_first(frame):
        first, *more = wrap(named(row), 42)
        numbers = f"{reported_text(row):>13} {measured_text(row):>27} {row['n'] or '':>2}"
        lines += [f"{first:<42} {numbers}  {row['verdict']}", *(f"  {line}" for line in more)]
    lines += ["-" * 118, *mark_notes(frame["provenance"])]
    lines.append("Measured [95 % interval]; ≤: a bound, which has none. claims.csv and the report say more on each.")
    lines += [fill(note, 118) for note in (N_NOTE, control_note(frame))]
    return "\n".join(lines)


def markdown_claims(frame: pd.DataFrame) -> str:
    """The measured claims as a Markdown table; what they lack is said once each, in numbered notes."""
    notes: list[str] = []
    rows = ["| claim | reported | measured [95 % interval] | n | verdict |", "|---|---|---|---|---|"]
    for row in _measured_first(frame):
        if not pd.isna(row["measured"]):
            numbers = f"{reported_text(row)} | {measured_text(row)} | {row['n']}"
            about = ""
            if row["lacks"] or (row["verdict"] == "by construction" and row["note"]):
                text = f"needs {row['lacks']}" if row["lacks"] else str(row["note"])
                notes += [text] if text not in notes else []
                about = f" (note {notes.index(text) + 1})"
            rows.append(f"| {named(row)} | {numbers} | {row['verdict']}{about} |")
    marks = mark_notes(frame.loc[frame["measured"].notna(), "provenance"])
    numbered = [f"{place}. {text[:1].upper()}{text[1:]}." for place, text in enumerate(notes, start=1)]
    parts = ["\n".join(rows), *(["Notes:", "\n".join(numbered)] if numbered else [])]
    return "\n\n".join([*parts, N_NOTE, control_note(frame), *(["\n".join(marks)] if marks else [])])


def control_note(frame: pd.DataFrame) -> str:
    """How the verdicts of a set control that several claims are judged, in words."""
    judged = int(frame["p_holm"].notna().sum())
    if not judged:
        return f"No claim has the {MIN_SEEDS} seeds and the scale that a verdict on its direction needs."
    return (
        "A verdict on a direction counts all claims of this set: family-wise error "
        f"{100 * ERROR_RATE:g} % over {judged} test{'s' if judged > 1 else ''} by Holm; claims that rest on one "
        "estimate are one test. The intervals are of each claim by itself."
    )


def named(row: Mapping[Any, Any]) -> str:
    """The statement of a row of claims.csv; a paper other than PLD's is named before it."""
    return str(row["statement"]) if row["paper"] == "PLD" else f"{row['paper']}: {row['statement']}"


def _measured_first(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.sort_values("measured", key=lambda column: column.isna(), kind="stable").to_dict("records")
