"""Table 3, the ablation: the paper's rows, then every other arm of the study, with cost and kept depth.

Only rows of equal cost can be compared by what they do; each measured row says what it cost.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.ablation import Configuration, configurations
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, number
from pldrepro.analysis.tidy import find
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, TidyRow, count, select
from pldrepro.exhibits.tables.glue import glue_columns, glue_notes, num_runs
from pldrepro.exhibits.text import INTERVAL_NOTE


def table3_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """Cost and loss of every configuration, then GLUE as the paper prints it, measured below reported."""
    found = configurations(evidence, paper)
    return [_cost(evidence, paper, frame, found), _glue(evidence, paper, frame, found)]


def _cost(evidence: Evidence, paper: Paper, frame: pd.DataFrame, found: list[Configuration]) -> TableLayout:
    lines = (Line({"configuration": one.label, **_depth_words(evidence, one)}, _rows(frame, one)) for one in found)
    return TableLayout(
        title=f"Table 3 of the {paper.label} paper: cost and loss, study {evidence.scale}",
        columns=(
            ColumnLayout("configuration"),
            ColumnLayout("mean kept layers", "kept_layers", 2),
            ColumnLayout("of L"),
            ColumnLayout("depth matched to"),
            ColumnLayout("reference time / PLD's", "relative_time", 3),
            ColumnLayout("validation loss [nats]", "validation_loss", 3),
            ColumnLayout("loss minus PLD's", "loss_minus_pld", 3),
            ColumnLayout("loss minus baseline's", "loss_minus_baseline", 3),
            ColumnLayout("n", "validation_loss", show=count, absent="0"),
        ),
        lines=tuple(lines),
        notes=(*_cost_notes(evidence, frame, found), INTERVAL_NOTE),
    )


def _rows(frame: pd.DataFrame, one: Configuration) -> Sequence[TidyRow]:
    return select(frame, arm=one.arm, checkpoint=one.checkpoint)


def _depth_words(evidence: Evidence, one: Configuration) -> dict[str, str]:
    """Layers of the model, and the arm that the depth was matched to."""
    if not one.checkpoint:
        return {"of L": DASH, "depth matched to": DASH}
    matched = evidence.matched_depth(one.arm) or DASH
    return {
        "of L": str(evidence.runs(one.arm)[0].summary.num_layers),
        "depth matched to": evidence.label(matched) if matched in evidence.arms else matched,
    }


def _cost_notes(evidence: Evidence, frame: pd.DataFrame, found: list[Configuration]) -> list[str]:
    """Which rows cost the same, in words, with the depth that each keeps."""
    there = [one for one in found if one.checkpoint]
    absent = [one.label for one in found if not one.checkpoint]
    notes = []
    if evidence.pld in evidence.arms:
        equal = [one for one in there if evidence.matched_depth(one.arm) == evidence.pld]
        unequal = [one for one in there if one not in equal and one.arm != evidence.pld]
        notes.append(
            f"PLD keeps {_depth(frame, evidence.pld)} layers on average. Compared with it at equal cost (mean kept "
            f"depth matched, a model with fewer layers as nearly as whole layers allow): {_depths(frame, equal)}. "
            f"Not at equal cost: {_depths(frame, unequal)}; of two such rows the one that keeps more layers has "
            "spent more, and a lower loss of it does not show that its method is better."
        )
    if absent:
        notes.append(f"Not in this study: {'; '.join(absent)}.")
    return notes


def _depth(frame: pd.DataFrame, arm: str) -> str:
    kept = find(frame, arm=arm, quantity="kept_layers")
    return DASH if kept is None else number(kept.value, 2)


def _depths(frame: pd.DataFrame, found: list[Configuration]) -> str:
    return "; ".join(f"{one.label} ({_depth(frame, one.arm)})" for one in found) or "none"


def _glue(evidence: Evidence, paper: Paper, frame: pd.DataFrame, found: list[Configuration]) -> TableLayout:
    table = paper.tables["table3"]
    labels = {name: table.columns[name].label for name in glue_scores.VALUES}
    tuned = [one for one in found if (one.arm, one.checkpoint) in evidence.finetuned]
    nothing = dict.fromkeys(glue_scores.CONVENTIONS.values(), DASH)
    lines = []
    for one in found:
        rows, words = _rows(frame, one), {"configuration": one.label, "n": ""}
        if one.row is not None:
            lines.append(Line({**words, "": "reported"}, rows, "reported"))
        if one in tuned:
            lines.append(Line({**words, "": "measured", "n": num_runs(rows)}, rows, "measured"))
        elif one.row is not None:
            lines.append(Line({**words, **nothing, "": "measured", "n": "0"}, rows, "measured"))
    bare = [one.label for one in found if one.checkpoint and one not in tuned]
    ends = frame["statistic"].eq("median") & frame["arm"].isin([one.arm for one in tuned])
    return TableLayout(
        title=f"Table 3 of the {paper.label} paper: GLUE, study {evidence.scale}",
        columns=(ColumnLayout("configuration"), ColumnLayout(""), *glue_columns(labels), ColumnLayout("n")),
        lines=tuple(lines),
        notes=(
            *([f"Trained, but not fine-tuned: {'; '.join(bare)}."] if bare else []),
            *glue_notes(evidence, frame[ends], labels),
        ),
    )
