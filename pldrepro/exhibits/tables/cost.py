"""Table 1, training cost: as the paper prints it with the measured values, then the saving per sample."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import INTERVAL_NOTE, reported_text, time_unit
from pldrepro.analysis.tidy import role
from pldrepro.exhibits.layout import Column, Line, Table, count, reported, select, value


def table1_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[Table]:
    """Table 1 as the paper prints it, with the measured values, and the saving per sample on each cost axis."""
    return [_training_time(evidence, paper, frame), _savings(evidence, frame)]


def _training_time(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> Table:
    table = paper.tables["table1"]
    times = frame[(frame["quantity"] == "cost") & (frame["unit"] == "s")]["measured"].dropna()
    unit, seconds = time_unit(times.tolist())
    digits = 2 if times.max() < 10 * seconds else 1
    lines = []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            row = table.row(role(evidence, arm), checkpoint)
            if row is None and checkpoint != evidence.final_checkpoint(arm):
                continue
            words = {"run": f"{evidence.label(arm)} {checkpoint}"}
            if arm == evidence.baseline:  # it is not compared with itself: no tidy row holds what the paper says
                words["reported sample reduction [%]"] = reported_text(table.reported(row, "sample_reduction"), 0)
                words["reported speedup [x]"] = reported_text(table.reported(row, "speedup"), 1)
            lines.append(Line(words, select(frame, arm=arm, checkpoint=checkpoint)))
    return Table(
        title=f"Table 1: training time ({paper.label} paper, {table.where}) at scale {evidence.scale}",
        columns=(
            Column("run"),
            Column("reported time [h]", "cost", 2, reported, "reference_time"),
            Column(f"reference time [{unit}]", "cost", digits, cost_axis="reference_time", of=lambda s: s / seconds),
            Column(f"measured time [{unit}]", "cost", digits, cost_axis="measured_time", of=lambda s: s / seconds),
            Column("reported sample reduction [%]", "sample_reduction", 0, reported),
            Column("sample reduction [%]", "sample_reduction", 0, value),
            Column("reported speedup [x]", "speedup", 1, reported, "reference_time"),
            Column("speedup, reference time [x]", "speedup", 2, cost_axis="reference_time"),
            Column("speedup, measured time [x]", "speedup", 2, cost_axis="measured_time"),
            Column("validation loss [nats]", "validation_loss", 3),
            Column("loss minus baseline's final", "validation_loss_difference", 3),
            Column("n", "validation_loss", show=count),
        ),
        lines=tuple(lines),
        notes=(
            "Speedup: the baseline's whole run over the run up to the checkpoint; it is a speedup to equal quality "
            "only where the validation loss (or Table 2) is no worse. Sample reduction is set by the checkpoint.",
            INTERVAL_NOTE,
        ),
    )


def _savings(evidence: Evidence, frame: pd.DataFrame) -> Table:
    lines = [
        Line(
            {"arm": evidence.label(arm), "of L": str(evidence.runs(arm)[0].summary.num_layers)},
            select(frame, arm=arm, checkpoint=evidence.final_checkpoint(arm)),
        )
        for arm in evidence.arms
        if arm != evidence.baseline
    ]
    return Table(
        title="Table 1, continued: saving per sample against the baseline, on each axis [%]",
        columns=(
            Column("arm"),
            Column("mean kept layers", "kept_layers", 2),
            Column("of L"),
            Column("reported time", "saving_per_sample", 0, reported, "reference_time"),
            Column("reference time", "saving_per_sample", 1, cost_axis="reference_time"),
            Column("measured time", "saving_per_sample", 1, cost_axis="measured_time"),
            Column("bound (kept depth)", "saving_bound", 1),
            Column("reported FLOPs", "saving_per_sample", 0, reported, "flops"),
            Column("FLOPs", "saving_per_sample", 1, cost_axis="flops"),
            Column("n", "saving_per_sample", show=count, cost_axis="flops", absent="0"),
        ),
        lines=tuple(lines),
        notes=(
            "Bound: (1 - mean kept layers / L) times the share of the layers in a full step of the same model; the "
            "rest of a step (embeddings, head, optimizer) cannot be dropped. Measured time is noisy where the machine "
            "did other work; reference time is not.",
        ),
    )
