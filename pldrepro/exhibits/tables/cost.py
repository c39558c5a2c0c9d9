"""Table 1, training cost: as the paper prints it with the measured values, then the saving per sample."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, reported, select, value
from pldrepro.exhibits.text import INTERVAL_NOTE, marked_number, time_unit


def table1_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """Table 1 as the paper prints it, with the measured values, and the saving per sample on each cost axis."""
    return [_training_time(evidence, paper, frame), _savings(evidence, frame)]


def _training_time(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> TableLayout:
    table = paper.tables["table1"]
    times = frame[(frame["quantity"] == "cost") & (frame["unit"] == "s")]["measured"].dropna()
    unit, seconds = time_unit(times.tolist())

    def in_unit(time: float) -> float:
        """A time [s] in the unit of the table."""
        return time / seconds

    digits = 2 if times.max() < 10 * seconds else 1
    lines = []
    for arm in evidence.arms:
        for checkpoint in evidence.checkpoints(arm):
            row = table.row(evidence.paper_arm(arm), checkpoint)
            if row is None and checkpoint != evidence.final_checkpoint(arm):
                continue
            words = {"run": f"{evidence.label(arm)} {checkpoint}"}
            if arm == evidence.baseline:  # it is not compared with itself: no tidy row holds what the paper says
                words["reported sample reduction [%]"] = marked_number(table.reported(row, "sample_reduction"), 0)
                words["reported speedup [x]"] = marked_number(table.reported(row, "speedup"), 1)
            lines.append(Line(words, select(frame, arm=arm, checkpoint=checkpoint)))
    return TableLayout(
        title=f"Table 1: training time ({paper.label} paper, {table.where}) at scale {evidence.scale}",
        columns=(
            ColumnLayout("run"),
            ColumnLayout("reported time [h]", "cost", 2, reported, "reference_time"),
            ColumnLayout(f"reference time [{unit}]", "cost", digits, cost_axis="reference_time", of=in_unit),
            ColumnLayout(f"measured time [{unit}]", "cost", digits, cost_axis="measured_time", of=in_unit),
            ColumnLayout("reported sample reduction [%]", "sample_reduction", 0, reported),
            ColumnLayout("sample reduction [%]", "sample_reduction", 0, value),
            ColumnLayout("reported speedup [x]", "speedup", 1, reported, "reference_time"),
            ColumnLayout("speedup, reference time [x]", "speedup", 2, cost_axis="reference_time"),
            ColumnLayout("speedup, measured time [x]", "speedup", 2, cost_axis="measured_time"),
            ColumnLayout("validation loss [nats]", "validation_loss", 3),
            ColumnLayout("loss minus baseline's final", "validation_loss_difference", 3),
            ColumnLayout("n", "validation_loss", show=count),
        ),
        lines=tuple(lines),
        notes=(
            "Speedup: the baseline's whole run over the run up to the checkpoint; it is a speedup to equal quality "
            "only where the validation loss (or Table 2) is no worse. Sample reduction is set by the checkpoint.",
            INTERVAL_NOTE,
        ),
    )


def _savings(evidence: Evidence, frame: pd.DataFrame) -> TableLayout:
    lines = [
        Line(
            {"arm": evidence.label(arm), "of L": str(evidence.runs(arm)[0].summary.num_layers)},
            select(frame, arm=arm, checkpoint=evidence.final_checkpoint(arm)),
        )
        for arm in evidence.arms
        if arm != evidence.baseline
    ]
    return TableLayout(
        title="Table 1, continued: saving per sample against the baseline, on each axis [%]",
        columns=(
            ColumnLayout("arm"),
            ColumnLayout("mean kept layers", "kept_layers", 2),
            ColumnLayout("of L"),
            ColumnLayout("reported time", "saving_per_sample", 0, reported, "reference_time"),
            ColumnLayout("measured in turn", "saving_per_sample", 1, cost_axis="measured_in_turn"),
            ColumnLayout("reference time", "saving_per_sample", 1, cost_axis="reference_time"),
            ColumnLayout("measured time", "saving_per_sample", 1, cost_axis="measured_time"),
            ColumnLayout("linear prediction from the kept depth", "linear_saving", 1),
            ColumnLayout("reported FLOPs", "saving_per_sample", 0, reported, "flops"),
            ColumnLayout("FLOPs", "saving_per_sample", 1, cost_axis="flops"),
            ColumnLayout("n", "saving_per_sample", show=count, cost_axis="flops", absent="0"),
        ),
        lines=tuple(lines),
        notes=(
            "Linear prediction: (1 - mean kept layers / L) times the share of the layers in a full step of the same "
            "model, by the linear fit of the step times; where the first layers dropped save more than the fit says, "
            "the measured saving exceeds it.",
            "Measured in turn: optimizer steps of the arms one after another in one process, with the gates of their "
            "own policies; interval over processes. Reference time rests on a calibration and on the kept layers of "
            "every run. Measured time is that of the runs themselves, noisy where the machine did other work.",
        ),
    )
