"""Table 3's numbers: the ablation, with what each configuration costs and the depth that it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.arms import kept_layers, validation_loss
from pldrepro.analysis.glue_table import SCORES, measured_glue, reported_cells
from pldrepro.analysis.reported import Paper, Row
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import estimate_of, tidy, tidy_row


@dataclass(frozen=True)
class Configuration:
    """A configuration: the arm, what it is called, its final checkpoint ("": not in this study), the paper's row."""

    arm: str
    label: str
    checkpoint: str
    row: Row | None


def configurations(evidence: Evidence, paper: Paper) -> list[Configuration]:
    """The paper's configurations in its order, whether or not this study has them; then the study's other methods."""
    own = {"baseline": evidence.baseline, "pld": evidence.pld}
    found = []
    for row in paper.tables["table3"].rows:
        name = row.arm or row.key
        arm = own.get(name, name)
        there = arm in evidence.arms
        label, checkpoint = (evidence.label(arm), evidence.final_checkpoint(arm)) if there else (row.label, "")
        found.append(Configuration(arm, label, checkpoint, row))
    named = {one.arm for one in found}
    others = [arm for arm in evidence.methods if arm not in named]
    return found + [Configuration(arm, evidence.label(arm), evidence.final_checkpoint(arm), None) for arm in others]


def table3(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """The ablation, one row per configuration and quantity, all at the end of the run.

    Quantities: kept_layers (mean over the run; the note names the arm that it was matched to), relative_time (reference
    time over that of PLD's run [x]), validation_loss [nats] and what it is above PLD's and above the baseline's
    (paired by seed), the 12 GLUE values [%] and the three GLUE scores.
    """
    rows: list[dict[str, Any]] = []
    for one in configurations(evidence, paper):
        if one.checkpoint:
            rows += _cost_rows(evidence, one)
        rows += _glue_rows(evidence, paper, one)
    return tidy(rows)


def _cost_rows(evidence: Evidence, one: Configuration) -> list[dict[str, Any]]:
    arm = one.arm
    matched = evidence.matched_depth(arm)
    note = f"of {evidence.runs(arm)[0].summary.num_layers}" + (f"; matched to {matched}" if matched else "")
    kept, loss = kept_layers(evidence, arm), validation_loss(evidence, arm)
    time = comparisons.relative_cost(evidence, arm, evidence.pld, "reference_time")
    rows = [
        tidy_row(evidence, arm, one.checkpoint, "kept_layers", kept, unit="layers", note=note),
        tidy_row(evidence, arm, one.checkpoint, "relative_time", estimate_of(time), unit="x",
                 cost_axis="reference_time", note="over PLD's whole run"),
        tidy_row(evidence, arm, one.checkpoint, "validation_loss", loss, unit="nats"),
    ]  # fmt: skip
    for name, other in (("pld", evidence.pld), ("baseline", evidence.baseline)):
        gap = None if arm == other else comparisons.loss_difference(evidence, arm, other)
        rows.append(tidy_row(evidence, arm, one.checkpoint, f"loss_minus_{name}", estimate_of(gap), unit="nats"))
    return rows


def _glue_rows(evidence: Evidence, paper: Paper, one: Configuration) -> list[dict[str, Any]]:
    """GLUE at the end of the run: measured as in Table 2, reported as in Table 3."""
    reported = reported_cells(paper.tables["table3"], one.row)
    measured = measured_glue(evidence, one.arm, one.checkpoint)
    return [
        tidy_row(evidence, one.arm, one.checkpoint, quantity, measured[quantity][0], statistic="median",
                 unit="points" if quantity in SCORES else "%", reported=reported[quantity],
                 note=measured[quantity][1], label=one.label)
        for quantity in (*glue_scores.VALUES, *SCORES)
    ]  # fmt: skip
