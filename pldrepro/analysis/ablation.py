"""Table 3's numbers: the ablation, with cost and kept depth beside each configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.glue_table import derived_score, table2
from pldrepro.analysis.reported import Paper, Reported, Row
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import estimate_of, find, tidy, tidy_row

SCORES = tuple(f"glue_{convention}" for convention in glue_scores.CONVENTIONS)


@dataclass(frozen=True)
class Line:
    """A configuration: the arm, what it is called, its final checkpoint ("": not in this study), the paper's row."""

    arm: str
    label: str
    checkpoint: str
    row: Row | None


def lines(evidence: Evidence, paper: Paper) -> list[Line]:
    """The paper's configurations in its order, whether or not this study has them; then the study's other methods."""
    own = {"baseline": evidence.baseline, "pld": evidence.pld}
    found = []
    for row in paper.tables["table3"].rows:
        name = row.arm or row.key
        arm = own.get(name, name)
        there = arm in evidence.arms
        label, checkpoint = (evidence.label(arm), evidence.final_checkpoint(arm)) if there else (row.label, "")
        found.append(Line(arm, label, checkpoint, row))
    named = {line.arm for line in found}
    others = [arm for arm in evidence.methods if arm not in named]
    return found + [Line(arm, evidence.label(arm), evidence.final_checkpoint(arm), None) for arm in others]


def table3(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """The ablation, one row per configuration and quantity, all at the end of the run.

    Quantities: kept_layers (mean over the run; the note names the arm that it was matched to), relative_time (reference
    time over that of PLD's run [x]), validation_loss [nats] and what it is above PLD's and above the baseline's
    (paired by seed), the 12 GLUE values [%] and the three GLUE scores.
    """
    values = table2(evidence, paper)
    rows: list[dict[str, Any]] = []
    for line in lines(evidence, paper):
        if line.checkpoint:
            rows += _cost_rows(evidence, line)
        rows += _glue_rows(evidence, paper, line, values)
    return tidy(rows)


def _cost_rows(evidence: Evidence, line: Line) -> list[dict[str, Any]]:
    runs, arm = evidence.runs(line.arm), line.arm
    matched = evidence.matched_depth(arm)
    note = f"of {runs[0].summary['num_layers']}" + (f"; matched to {matched}" if matched else "")
    kept = stats.mean_interval([run.summary["mean_kept_layers"] for run in runs])
    loss = stats.mean_interval([run.summary["validation_loss"] for run in runs])
    time = comparisons.relative_cost(evidence, arm, evidence.pld, "reference_time")
    rows = [
        tidy_row(evidence, arm, line.checkpoint, "kept_layers", kept, unit="layers", note=note),
        tidy_row(evidence, arm, line.checkpoint, "relative_time", estimate_of(time), unit="x",
                 cost_axis="reference_time", note="over PLD's whole run"),
        tidy_row(evidence, arm, line.checkpoint, "validation_loss", loss, unit="nats"),
    ]  # fmt: skip
    for name, other in (("pld", evidence.pld), ("baseline", evidence.baseline)):
        gap = None if arm == other else comparisons.loss_difference(evidence, arm, other)
        rows.append(tidy_row(evidence, arm, line.checkpoint, f"loss_minus_{name}", estimate_of(gap), unit="nats"))
    return rows


def _glue_rows(evidence: Evidence, paper: Paper, line: Line, values: pd.DataFrame) -> list[dict[str, Any]]:
    """GLUE at the end of the run: measured as in Table 2, reported as in Table 3."""
    reported = reported_cells(paper, line.row)
    rows = []
    for quantity in (*glue_scores.VALUES, *SCORES):
        measured = find(values, arm=line.arm, checkpoint=line.checkpoint, quantity=quantity, statistic="median")
        unit = "points" if quantity in SCORES else "%"
        rows.append(
            tidy_row(evidence, line.arm, line.checkpoint, quantity, measured, unit=unit, statistic="median",
                     reported=reported[quantity], label=line.label)
        )  # fmt: skip
    return rows


def reported_cells(paper: Paper, row: Row | None) -> dict[str, Reported | None]:
    """The paper's 12 values of a configuration and its GLUE score, and the scores that its values give otherwise."""
    table = paper.tables["table3"]
    cells = {name: table.reported(row, name) for name in glue_scores.VALUES}
    glue = table.reported(row, "glue")
    return {**cells, **{f"glue_{name}": derived_score(cells, glue, name) for name in glue_scores.CONVENTIONS}}
