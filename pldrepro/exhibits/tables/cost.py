"""Table 1, training cost: one tidy row per number, then the paper's layout with the measured values beside it."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.reported import Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, INTERVAL_NOTE, estimate_text, number, reported_text, time_unit
from pldrepro.analysis.tidy import cell, claimed, role
from pldrepro.analysis.training_cost import table1
from pldrepro.exhibits.layout import Panel


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
