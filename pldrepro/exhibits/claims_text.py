"""The rows of claims.csv as text: for a terminal, and in Markdown."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from textwrap import fill, wrap
from typing import Any

import pandas as pd

from pldrepro.analysis.reported import MARKS, mark_notes
from pldrepro.analysis.text import DASH, number, quantity_text
from pldrepro.analysis.tidy import split
from pldrepro.analysis.verdicts import ERROR_RATE, MIN_SEEDS
from pldrepro.stats import Estimate

N_NOTE = (
    "Each number is a mean over n pre-training seeds, or over n processes where steps were measured in turn; a note "
    "says where."
)
# Why a claim is inconclusive, where its interval does not show it.
OPEN = {
    "adjustment": "p < 0.05 before the adjustment for the set's tests, not after it",
    "condition": "it is open whether a condition of the claim is met",
    "bound": "a bound: it is open whether what is to be reached is reached",
}
OURS = "our measure"
OURS_NOTE = (
    f"{OURS[:1].upper()}{OURS[1:]}: the claim is the paper's, the score that it is judged on is not, nor is the margin "
    "of what counts as similar."
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


def premise_text(row: Mapping[Any, Any]) -> str:
    """What was measured of the condition of a row of claims.csv, where the verdict may rest on it; else empty."""
    return str(row["premise"]) if row["verdict"] in ("premise fails", "inconclusive") else ""


def format_claims(frame: pd.DataFrame) -> str:
    """The claims that were measured as a plain text table, 118 columns wide, and how many were not."""
    lines = [f"{'claim':<42} {'reported':>13} {'measured':>27} {'n':>2}  verdict", "-" * 118]
    measured = frame[frame["measured"].notna()]
    for row in measured.to_dict("records"):
        first, *more = wrap(named(row), 42)
        numbers = f"{reported_text(row):>13} {measured_text(row):>27} {row['n'] or '':>2}"
        lines += [f"{first:<42} {numbers}  {verdict_text(row)}", *(f"  {line}" for line in more)]
    lines += ["-" * 118, *mark_notes(measured["provenance"])]
    if absent := len(frame) - len(measured):
        lines.append(f"{absent} more claim{'s are' if absent > 1 else ' is'} not measured here; the report says why.")
    lines.append("Measured [95 % interval]; ≤: a bound, which has none. claims.csv and the report say more on each.")
    lines += [fill(note, 118) for note in (N_NOTE, *_ours_note(measured), control_note(frame))]
    return "\n".join(lines)


def markdown_claims(frame: pd.DataFrame) -> str:
    """The measured claims as a Markdown table; what must be known with a number is said once each, in notes."""
    notes: list[str] = []
    by_claim = {row["claim"]: row for row in frame.to_dict("records")}
    rows = ["| claim | reported | measured [95 % interval] | n | verdict |", "|---|---|---|---|---|"]
    for row in _measured_first(frame):
        if not pd.isna(row["measured"]):
            numbers = f"{reported_text(row)} | {measured_text(row)} | {row['n']}"
            own = _notes(row, by_claim)
            notes += [text for text in own if text not in notes]
            places = ", ".join(str(notes.index(text) + 1) for text in own)
            about = f" (note{'s' if len(own) > 1 else ''} {places})" if own else ""
            rows.append(f"| {named(row)} | {numbers} | {verdict_text(row)}{about} |")
    measured = frame[frame["measured"].notna()]
    marks = mark_notes(measured["provenance"])
    numbered = [f"{place}. {text[:1].upper()}{text[1:]}." for place, text in enumerate(notes, start=1)]
    parts = ["\n".join(rows), *(["Notes:", "\n".join(numbered)] if numbered else [])]
    parts += [N_NOTE, *_ours_note(measured), control_note(frame)]
    return "\n\n".join([*parts, *(["\n".join(marks)] if marks else [])])


def _notes(row: Mapping[Any, Any], by_claim: Mapping[str, Mapping[Any, Any]]) -> list[str]:
    """What a reader must know with the number of a row: what its study lacks, what it is of, what it repeats."""
    if row["verdict"] == "by construction" and row["note"]:
        return [str(row["note"])]
    return [
        *([f"needs {row['lacks']}"] if row["lacks"] else []),
        *([OPEN[row["open"]]] if row["open"] in OPEN else []),
        *([f"its condition: {row['premise']}"] if premise_text(row) else []),
        *([str(row["basis"])] if row["basis"] else []),
        *([_same(row, by_claim[row["same"]])] if row["same"] else []),
    ]


def _same(row: Mapping[Any, Any], twin: Mapping[Any, Any]) -> str:
    """That a row has the estimate of another one, and what is tested of it where that is another test."""
    other = ""
    if row["unit"] == twin["unit"] and row["null"] != twin["null"]:
        other = f", tested against {number(row['null'], 0)} instead of {number(twin['null'], 0)}"
    elif row["verdict"] != twin["verdict"] or (not pd.isna(row["p_holm"]) and row["p_holm"] != twin["p_holm"]):
        other = ", with a condition or needs of its own"
    return f"the same estimate as “{twin['statement']}”{other}"


def _ours_note(frame: pd.DataFrame) -> list[str]:
    return [OURS_NOTE] if frame["ours"].any() else []


def control_note(frame: pd.DataFrame) -> str:
    """How the verdicts of a set control that several claims are judged, in words."""
    tests = int(frame["tests"].max())
    if not tests:
        return f"No comparison has the {MIN_SEEDS} seeds and the scale that a verdict on its direction needs."
    return (
        "A verdict on a direction is adjusted for all tests that this set's claims and findings make: family-wise "
        f"error {100 * ERROR_RATE:g} % over {tests} test{'s' if tests > 1 else ''} by Holm; "
        "one estimate against one value of no effect is one test. The intervals are of each claim by itself."
    )


def named(row: Mapping[Any, Any]) -> str:
    """The statement of a row of claims.csv; a paper other than PLD's is named before it."""
    return statement(row) if row["paper"] == "PLD" else f"{row['paper']}: {statement(row)}"


def statement(row: Mapping[Any, Any]) -> str:
    """The statement of a row of claims.csv; a measure of ours is named after it."""
    return f"{row['statement']} ({OURS})" if row["ours"] else str(row["statement"])


def verdict_text(row: Mapping[Any, Any]) -> str:
    """The verdict of a row of claims.csv as a reader should take it: what contradicts a claim does so at this scale."""
    return f"{row['verdict']} at this scale" if row["verdict"] == "contradicted" else str(row["verdict"])


def _measured_first(frame: pd.DataFrame) -> list[dict[Hashable, Any]]:
    return frame.sort_values("measured", key=lambda column: column.isna(), kind="stable").to_dict("records")
