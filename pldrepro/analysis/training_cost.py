"""Table 1's numbers: training cost on four axes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pldrepro.analysis import comparisons, in_turn
from pldrepro.analysis.arms import cost_estimate, kept_layers, validation_loss
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import claimed, estimate_of, tidy, tidy_row


def table1(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Training cost, one row per arm, checkpoint, quantity and cost axis; savings are against the baseline's whole run.

    Quantities: cost, saving_per_sample [%], speedup [x], sample_reduction [%] (all paired by seed), validation_loss
    and its difference to the baseline's final one [nats], kept_layers, and linear_saving [%], which
    is predicted from them.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            rows += _cost_rows(evidence, paper, arm, checkpoint)
            rows += _loss_rows(evidence, arm, checkpoint)
        rows += _step_rows(evidence, paper, arm)
    return tidy(rows)


def _cost_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    table = paper.tables["table1"]
    reported = table.row(evidence.paper_arm(arm), checkpoint)
    final = checkpoint == evidence.final_checkpoint(arm) and arm == evidence.pld
    savings = {"flops": "flops", "reference_time": "time_per_sample", "measured_time": "time_per_sample"}
    rows = []
    for axis, unit in {"samples": "samples", "flops": "FLOPs", "reference_time": "s", "measured_time": "s"}.items():
        hours = table.reported(reported, "hours") if unit == "s" else None
        cost = cost_estimate(evidence, arm, axis, checkpoint)
        rows.append(tidy_row(evidence, arm, checkpoint, "cost", cost, unit=unit, cost_axis=axis, reported=hours))
        if arm == evidence.baseline:
            continue
        if axis == "samples":
            less = comparisons.ratio(
                (
                    (evidence.cost(run, axis, checkpoint), evidence.cost(base, axis))
                    for run, base in evidence.pairs(arm, evidence.baseline)
                ),
                comparisons.percent_less,
            )
            value = table.reported(reported, "sample_reduction")
            rows.append(
                tidy_row(evidence, arm, checkpoint, "sample_reduction", estimate_of(less), unit="%", cost_axis=axis,
                         reported=value)
            )  # fmt: skip
            continue
        saving = estimate_of(comparisons.saving_per_sample(evidence, arm, axis, checkpoint))
        value = claimed(paper, savings[axis]) if final else None
        speedup = estimate_of(comparisons.speedup(evidence, arm, axis, checkpoint))
        factor = table.reported(reported, "speedup") if unit == "s" else None
        rows += [
            tidy_row(evidence, arm, checkpoint, "saving_per_sample", saving, unit="%", cost_axis=axis, reported=value),
            tidy_row(evidence, arm, checkpoint, "speedup", speedup, unit="x", cost_axis=axis, reported=factor),
        ]
    return rows


def _loss_rows(evidence: Evidence, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    loss = validation_loss(evidence, arm, checkpoint)
    rows = [tidy_row(evidence, arm, checkpoint, "validation_loss", loss, unit="nats")]
    gap = comparisons.difference(
        (run.summary.checkpoints[checkpoint].validation_loss, base.summary.validation_loss)
        for run, base in evidence.pairs(arm, evidence.baseline)
    )
    if (arm, checkpoint) != (evidence.baseline, evidence.final_checkpoint(evidence.baseline)):
        rows.append(
            tidy_row(evidence, arm, checkpoint, "validation_loss_difference", estimate_of(gap), unit="nats",
                     note="minus the baseline's final one")
        )  # fmt: skip
    return rows


def _step_rows(evidence: Evidence, paper: Paper, arm: str) -> list[dict[str, Any]]:
    final = evidence.final_checkpoint(arm)
    layers = evidence.runs(arm)[0].summary.num_layers
    predicted = comparisons.linear_saving(evidence, arm)
    rows = []
    if arm != evidence.baseline:
        saving = estimate_of(in_turn.saving(evidence, arm, evidence.baseline))
        reported = claimed(paper, "time_per_sample") if arm == evidence.pld else None
        rows = [
            tidy_row(evidence, arm, final, "saving_per_sample", saving, unit="%", cost_axis="measured_in_turn",
                     reported=reported)
        ]  # fmt: skip
    note = "1 - mean kept / L, times the layers' share of a full step"
    return [
        *rows,
        tidy_row(evidence, arm, final, "kept_layers", kept_layers(evidence, arm), unit="layers", note=f"of {layers}"),
        tidy_row(evidence, arm, final, "linear_saving", predicted, unit="%", cost_axis="reference_time", note=note),
    ]
