"""How tables are set: numbers as text, a Panel of cells as Markdown and LaTeX, and the tidy rows behind it.

Reported values carry the mark of their provenance wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pldrepro import evidence as ev
from pldrepro import stats
from pldrepro.evidence import Evidence
from pldrepro.papers import Paper, Reported
from pldrepro.stats import Estimate

DASH = "–"
FAMILIES = {"bert": "BERT", "gpt": "GPT", "swinv2": "SwinV2", "vit": "ViT"}
INTERVAL_NOTE = (
    "Measured: mean over n pre-training seeds, [95 % t interval]; times and ratios: geometric mean, interval on the "
    "log scale; ratios are paired by seed and, in reference time, hold the calibration's own error. One seed has no "
    "interval."
)


@dataclass(frozen=True)
class Panel:
    """A table as text: caption, header, rows and notes."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown_table(self) -> str:
        """The cells as a GitHub-flavoured Markdown table."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def markdown(self) -> str:
        """The panel in Markdown: caption, table and notes."""
        return "\n\n".join([f"**{self.caption}**", self.markdown_table(), *self.notes]) + "\n"

    def latex(self) -> str:
        """The panel as a LaTeX table (booktabs, graphicx)."""
        lines = ["\\toprule", _latex_row(self.columns), "\\midrule", *map(_latex_row, self.rows), "\\bottomrule"]
        return "\n".join(
            [
                "\\begin{table*}",
                "\\centering",
                f"\\caption{{{_latex(self.caption)}}}",
                "\\resizebox{\\textwidth}{!}{%",
                f"\\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                *lines,
                "\\end{tabular}}",
                *(f"\\par\\footnotesize {_latex(note)}" for note in self.notes),
                "\\end{table*}",
            ]
        )


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$", "±": r"$\pm$", "×": r"$\times$", "−": "$-$",
    "≥": r"$\ge$", "≤": r"$\le$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


# ---- text of numbers ----


def number(value: float, digits: int) -> str:
    """A number with a true minus sign and without a negative zero."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("-")
    return text.replace("-", "−")


def estimate_text(estimate: Estimate | None, digits: int) -> str:
    """1.18 [1.14, 1.22]; without an interval the number alone; a dash for nothing."""
    if estimate is None:
        return DASH
    if estimate.low is None or estimate.high is None:
        return number(estimate.value, digits)
    return f"{number(estimate.value, digits)} [{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def plus_minus(estimate: Estimate | None, digits: int) -> str:
    """87.1 ±0.4, for symmetric intervals; without an interval the number alone; a dash for nothing."""
    if estimate is None:
        return DASH
    half = "" if estimate.high is None else f" ±{number(estimate.high - estimate.value, digits)}"
    return number(estimate.value, digits) + half


def reported_text(reported: Reported | None, digits: int) -> str:
    """A reported value with the mark of its provenance; a dash for nothing."""
    return DASH if reported is None else number(reported.value, digits) + reported.mark


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """Unit and seconds per unit in which these times read well."""
    longest = max(seconds, default=0.0)
    return ("h", 3600.0) if longest >= 2 * 3600 else ("min", 60.0) if longest >= 300 else ("s", 1.0)


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


def estimate_of(paired: ev.Paired | None) -> Estimate | None:
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
