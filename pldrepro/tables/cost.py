"""Table 1, training cost: one tidy row per number, then the paper's layout with the measured values beside it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pldrepro import evidence as ev
from pldrepro import stats
from pldrepro.evidence import Evidence
from pldrepro.papers import Paper, mark_notes
from pldrepro.tables.panel import (
    DASH,
    INTERVAL_NOTE,
    Panel,
    cell,
    claimed,
    cost_estimate,
    estimate_of,
    estimate_text,
    number,
    reported_text,
    role,
    tidy_row,
    time_unit,
)


def table1(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Training cost, one row per arm, checkpoint, quantity and axis; savings are against the baseline's whole run.

    Quantities: cost, saving_per_sample [%], speedup [x], sample_reduction [%] (all paired by seed), validation_loss
    and its difference to the baseline's final one [nats], kept_layers, and the bound on the saving.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            rows += _cost_rows(evidence, paper, arm, checkpoint)
            rows += _loss_rows(evidence, arm, checkpoint)
        rows += _depth_rows(evidence, arm)
    return pd.DataFrame(rows)


def _cost_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    table = paper.tables["table1"]
    reported = table.row(role(evidence, arm), checkpoint)
    final = checkpoint == evidence.final_checkpoint(arm) and arm == evidence.pld
    savings = {"flops": "flops", "reference_time": "time_per_sample", "measured_time": "time_per_sample"}
    rows = []
    for axis, unit in {"samples": "samples", "flops": "FLOPs", "reference_time": "s", "measured_time": "s"}.items():
        hours = table.reported(reported, "hours") if unit == "s" else None
        cost = cost_estimate(evidence, arm, axis, checkpoint)
        rows.append(tidy_row(evidence, arm, checkpoint, "cost", axis, unit, cost, hours))
        if arm == evidence.baseline:
            continue
        if axis == "samples":
            less = ev.ratio(
                (
                    (evidence.cost(run, axis, checkpoint), evidence.cost(base, axis))
                    for run, base in evidence.pairs(arm, evidence.baseline)
                ),
                ev.percent_less,
            )
            value = table.reported(reported, "sample_reduction")
            rows.append(tidy_row(evidence, arm, checkpoint, "sample_reduction", axis, "%", estimate_of(less), value))
            continue
        saving = estimate_of(ev.saving_per_sample(evidence, arm, axis, checkpoint))
        value = claimed(paper, savings[axis]) if final else None
        rows.append(tidy_row(evidence, arm, checkpoint, "saving_per_sample", axis, "%", saving, value))
        speedup = estimate_of(ev.speedup(evidence, arm, axis, checkpoint))
        value = table.reported(reported, "speedup") if unit == "s" else None
        rows.append(tidy_row(evidence, arm, checkpoint, "speedup", axis, "x", speedup, value))
    return rows


def _loss_rows(evidence: Evidence, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    losses = [run.summary["checkpoints"][checkpoint]["validation_loss"] for run in evidence.runs(arm)]
    rows = [tidy_row(evidence, arm, checkpoint, "validation_loss", "", "nats", stats.mean_interval(losses))]
    gap = ev.difference(
        (run.summary["checkpoints"][checkpoint]["validation_loss"], base.summary["validation_loss"])
        for run, base in evidence.pairs(arm, evidence.baseline)
    )
    if (arm, checkpoint) != (evidence.baseline, evidence.final_checkpoint(evidence.baseline)):
        rows.append(
            tidy_row(evidence, arm, checkpoint, "validation_loss_difference", "", "nats", estimate_of(gap),
                 note="minus the baseline's final one")
        )  # fmt: skip
    return rows


def _depth_rows(evidence: Evidence, arm: str) -> list[dict[str, Any]]:
    final = evidence.final_checkpoint(arm)
    kept = stats.mean_interval([run.summary["mean_kept_layers"] for run in evidence.runs(arm)])
    layers = evidence.runs(arm)[0].summary["num_layers"]
    bound = ev.saving_bound(evidence, arm)
    note = "1 - mean kept / L, times the layers' share of a full step"
    return [
        tidy_row(evidence, arm, final, "kept_layers", "", "layers", kept, note=f"of {layers}"),
        tidy_row(evidence, arm, final, "saving_bound", "reference_time", "%", bound, note=note),
    ]


def table1_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Table 1 as the paper prints it, with the measured values beside, and the saving per sample on each axis."""
    frame = table1(evidence, paper)
    return [_training_time(evidence, paper, frame), _savings(evidence, paper, frame)]


def _training_time(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Panel:
    table = paper.tables["table1"]
    times = frame[(frame["quantity"] == "cost") & (frame["unit"] == "s")]["measured"].dropna()
    unit, seconds = time_unit(times.tolist())
    digits = 2 if times.max() < 10 * seconds else 1
    rows, provenances = [], []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            row = table.row(role(evidence, arm), checkpoint)
            if row is None and checkpoint != evidence.final_checkpoint(arm):
                continue
            provenances.append(row.provenance if row else "")
            cost = {axis: cell(frame, arm, checkpoint, "cost", axis) for axis in ("reference_time", "measured_time")}
            time = {axis: c.map(lambda value: value / seconds) if c else None for axis, c in cost.items()}
            speedup = {axis: cell(frame, arm, checkpoint, "speedup", axis) for axis in cost}
            reduction = cell(frame, arm, checkpoint, "sample_reduction", "samples")
            rows.append(
                (
                    f"{evidence.label(arm)} {checkpoint}",
                    reported_text(table.reported(row, "hours"), 2),
                    estimate_text(time["reference_time"], digits),
                    estimate_text(time["measured_time"], digits),
                    reported_text(table.reported(row, "sample_reduction"), 0),
                    DASH if reduction is None else number(reduction.value, 0),
                    reported_text(table.reported(row, "speedup"), 1),
                    estimate_text(speedup["reference_time"], 2),
                    estimate_text(speedup["measured_time"], 2),
                    estimate_text(cell(frame, arm, checkpoint, "validation_loss"), 3),
                    estimate_text(cell(frame, arm, checkpoint, "validation_loss_difference"), 3),
                    str(len(evidence.runs(arm))),
                )
            )
    return Panel(
        caption=f"Table 1: training time ({paper.label} paper, {table.where}) at scale {evidence.scale}",
        columns=(
            "run", "reported time [h]", f"reference time [{unit}]", f"measured time [{unit}]",
            "reported sample reduction [%]", "sample reduction [%]", "reported speedup [x]",
            "speedup, reference time [x]", "speedup, measured time [x]", "validation loss [nats]",
            "loss minus baseline's final", "n",
        ),
        rows=tuple(rows),
        notes=(
            "Speedup: the baseline's whole run over the run up to the checkpoint; it is a speedup to equal quality "
            "only where the validation loss (or Table 2) is no worse. Sample reduction is set by the checkpoint.",
            INTERVAL_NOTE,
            *mark_notes(provenances),
        ),
    )  # fmt: skip


def _savings(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Panel:
    rows, provenances = [], []
    for arm in evidence.arms:
        if arm == evidence.baseline:
            continue
        final = evidence.final_checkpoint(arm)
        time, flops = (claimed(paper, claim) if arm == evidence.pld else None for claim in ("time_per_sample", "flops"))
        provenances += [reported.provenance for reported in (time, flops) if reported]
        rows.append(
            (
                evidence.label(arm),
                estimate_text(cell(frame, arm, final, "kept_layers"), 2),
                str(evidence.runs(arm)[0].summary["num_layers"]),
                reported_text(time, 0),
                estimate_text(cell(frame, arm, final, "saving_per_sample", "reference_time"), 1),
                estimate_text(cell(frame, arm, final, "saving_per_sample", "measured_time"), 1),
                estimate_text(cell(frame, arm, final, "saving_bound", "reference_time"), 1),
                reported_text(flops, 0),
                estimate_text(cell(frame, arm, final, "saving_per_sample", "flops"), 1),
                str(len(evidence.pairs(arm, evidence.baseline))),
            )
        )
    return Panel(
        caption="Table 1, continued: saving per sample against the baseline, on each axis [%]",
        columns=(
            "arm", "mean kept layers", "of L", "reported time", "reference time", "measured time",
            "bound (kept depth)", "reported FLOPs", "FLOPs", "n",
        ),
        rows=tuple(rows),
        notes=(
            "Bound: (1 - mean kept layers / L) times the share of the layers in a full step of the same model; the "
            "rest of a step (embeddings, head, optimizer) cannot be dropped. Measured time is noisy where the machine "
            "did other work; reference time is not.",
            *mark_notes(provenances),
        ),
    )  # fmt: skip
