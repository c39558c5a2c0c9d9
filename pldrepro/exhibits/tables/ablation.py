"""Table 3, the ablation: the paper's rows, then every other arm of the study, with cost and kept depth beside.

Two rows can be told apart by what they do only where they cost the same; each measured row says what it cost.
"""

from __future__ import annotations

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import glue_scores
from pldrepro.analysis.ablation import SCORES, Line, lines, reported_cells, table3
from pldrepro.analysis.glue_table import table2
from pldrepro.analysis.reported import Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, INTERVAL_NOTE, estimate_text, number, plus_minus, reported_text
from pldrepro.analysis.tidy import cell
from pldrepro.exhibits.layout import Panel
from pldrepro.exhibits.tables.glue import glue_notes

# ---- the panels ----


def table3_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Cost and loss of every configuration, then GLUE as the paper prints it, measured below reported."""
    frame = table3(evidence, paper)
    return [_cost_panel(evidence, paper, frame), _glue_panel(evidence, paper, frame)]


def _cost_panel(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Panel:
    columns = {
        "mean kept layers": ("kept_layers", "", 2),
        "reference time / PLD's": ("relative_time", "reference_time", 3),
        "validation loss [nats]": ("validation_loss", "", 3),
        "loss minus PLD's": ("loss_minus_pld", "", 3),
        "loss minus baseline's": ("loss_minus_baseline", "", 3),
    }
    rows = []
    for line in lines(evidence, paper):
        found = [(cell(frame, line.arm, line.checkpoint, *key), digits) for *key, digits in columns.values()]
        kept, *others = (estimate_text(estimate, digits) for estimate, digits in found)
        rows.append((line.label, kept, *_depth_cells(evidence, line), *others, str(_runs(evidence, line))))
    where = f"{paper.label} paper, {paper.tables['table3'].where}"
    return Panel(
        caption=f"Table 3, cost and loss ({where}) at scale {evidence.scale}",
        columns=("configuration", "mean kept layers", "of L", "depth matched to", *list(columns)[1:], "n"),
        rows=tuple(rows),
        notes=(*cost_notes(evidence, paper), INTERVAL_NOTE),
    )


def _runs(evidence: Evidence, line: Line) -> int:
    return len(evidence.runs(line.arm))


def _depth_cells(evidence: Evidence, line: Line) -> tuple[str, str]:
    """Layers of the model, and the arm that the depth was matched to."""
    if not line.checkpoint:
        return DASH, DASH
    matched = evidence.matched_depth(line.arm) or DASH
    layers = str(evidence.runs(line.arm)[0].summary["num_layers"])
    return layers, evidence.label(matched) if matched in evidence.arms else matched


def cost_notes(evidence: Evidence, paper: Paper) -> list[str]:
    """Which rows cost the same, in words, with the depth that each keeps."""
    there = [line for line in lines(evidence, paper) if line.checkpoint]
    absent = [line.label for line in lines(evidence, paper) if not line.checkpoint]
    notes = []
    if evidence.pld in evidence.arms:
        equal = [line for line in there if evidence.matched_depth(line.arm) == evidence.pld]
        unequal = [line for line in there if line not in equal and line.arm != evidence.pld]
        notes.append(
            f"PLD keeps {_depth(evidence, evidence.pld)} layers on average. Compared with it at equal cost (mean kept "
            f"depth matched, a model with fewer layers as nearly as whole layers allow): {_depths(evidence, equal)}. "
            f"Not at equal cost: {_depths(evidence, unequal)}; of two such rows the one that keeps more layers has "
            "spent more, and a lower loss of it does not show that its method is better."
        )
    if absent:
        notes.append(f"Not in this study: {'; '.join(absent)}.")
    return notes


def _depth(evidence: Evidence, arm: str) -> str:
    return number(stats.mean_interval([run.summary["mean_kept_layers"] for run in evidence.runs(arm)]).value, 2)


def _depths(evidence: Evidence, found: list[Line]) -> str:
    return "; ".join(f"{line.label} ({_depth(evidence, line.arm)})" for line in found) or "none"


def _glue_panel(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Panel:
    table = paper.tables["table3"]
    labels = {name: table.columns[name].label for name in glue_scores.VALUES}
    tuned = [line for line in lines(evidence, paper) if (line.arm, line.checkpoint) in evidence.finetuned]
    rows, provenances = [], []
    for line in lines(evidence, paper):
        if line.row is not None:
            reported = reported_cells(paper, line.row)
            provenances += [value.provenance for value in reported.values() if value]
            rows.append((line.label, "reported", *(reported_text(value, 1) for value in reported.values()), ""))
        if line.row is not None or line in tuned:
            rows.append(_measured_line(frame, line))
    bare = [line.label for line in lines(evidence, paper) if line.checkpoint and line not in tuned]
    values = table2(evidence, paper)
    ends = [values[(values["arm"] == line.arm) & (values["checkpoint"] == line.checkpoint)] for line in tuned]
    return Panel(
        caption=f"Table 3, GLUE ({paper.label} paper, {table.where}) at scale {evidence.scale}",
        columns=("configuration", "", *labels.values(), *glue_scores.CONVENTIONS.values(), "n"),
        rows=tuple(rows),
        notes=(
            *([f"Trained, but not fine-tuned: {'; '.join(bare)}."] if bare else []),
            *glue_notes(evidence, pd.concat(ends) if ends else pd.DataFrame(), labels),
            *mark_notes(provenances),
        ),
    )


def _measured_line(frame: pd.DataFrame, line: Line) -> tuple[str, ...]:
    values = [cell(frame, line.arm, line.checkpoint, name, statistic="median") for name in glue_scores.VALUES]
    scores = [cell(frame, line.arm, line.checkpoint, name, statistic="median") for name in SCORES]
    n = max((value.n for value in values if value), default=0)
    missing = "undefined" if n else DASH
    return (
        line.label,
        "measured",
        *(plus_minus(value, 1) for value in values),
        *(plus_minus(value, 1) if value else missing for value in scores),
        str(n),
    )
