"""Table 1, training cost: as the paper prints it with the measured values, then the saving per sample."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.arms import repriced
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import number
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, reported, select, value
from pldrepro.exhibits.text import INTERVAL_NOTE, marked_number, measured_time_note, time_unit


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
        title=f"Table 1 of the {paper.label} paper: training time, study {evidence.scale}",
        columns=(
            ColumnLayout("run"),
            ColumnLayout("reported time [h]", "cost", 2, reported, "reference_time"),
            ColumnLayout(f"reference time [{unit}]", "cost", digits, cost_axis="reference_time", of=in_unit),
            ColumnLayout(f"measured time [{unit}]", "cost", digits, cost_axis="measured_time", of=in_unit),
            ColumnLayout("reported sample reduction [%]", "sample_reduction", 0, reported),
            ColumnLayout("sample reduction [%]", "sample_reduction", 0, value, note=REDUCTION_NOTE),
            ColumnLayout("reported speedup [x]", "speedup", 1, reported, "reference_time"),
            ColumnLayout("speedup, reference time [x]", "speedup", 2, cost_axis="reference_time", note=SPEEDUP_NOTE),
            ColumnLayout("speedup, measured time [x]", "speedup", 2, cost_axis="measured_time", note=SPEEDUP_NOTE),
            ColumnLayout("validation loss [nats]", "validation_loss", 3),
            ColumnLayout("loss minus baseline's final", "validation_loss_difference", 3),
            ColumnLayout("n", "validation_loss", show=count),
        ),
        lines=tuple(lines),
        notes=(measured_time_note(evidence), INTERVAL_NOTE),
    )


SPEEDUP_NOTE = (
    "Speedup: the baseline's whole run over the run up to the checkpoint. It is a speedup to equal quality only where "
    "the validation loss, or the GLUE score, is no worse."
)
REDUCTION_NOTE = "Sample reduction is set by the checkpoint."
IN_TURN_NOTE = (
    "Measured in turn: optimizer steps of the arms, one after another in one process, with the gates of their own "
    "policies; interval over processes, not over the n seeds."
)
REFERENCE_NOTE = "Reference time: from the measured time of a step with k layers and the layers that every run kept."
LINEAR_NOTE = (
    "Linear prediction: (1 - mean kept layers / L) times the share of the layers in a full step of the same model, by "
    "the linear fit of the step times. Where the first dropped layers save more than the fit says, the measured saving "
    "is larger."
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
    in_turn = frame[(frame["quantity"] == "saving_per_sample") & (frame["cost_axis"] == "measured_in_turn")]
    judged = "measured_in_turn" if in_turn["measured"].notna().any() else "reference_time"  # as the claim is
    return TableLayout(
        title="Table 1, continued: saving per sample against the baseline, on each axis [%]",
        columns=(
            ColumnLayout("arm"),
            ColumnLayout("mean kept layers", "kept_layers", 2),
            ColumnLayout("of L"),
            ColumnLayout("reported time", "saving_per_sample", 0, reported, judged),
            ColumnLayout("measured in turn", "saving_per_sample", 1, cost_axis="measured_in_turn", note=IN_TURN_NOTE),
            ColumnLayout("reference time", "saving_per_sample", 1, cost_axis="reference_time", note=REFERENCE_NOTE),
            ColumnLayout("measured time", "saving_per_sample", 1, cost_axis="measured_time"),
            ColumnLayout("linear prediction from the kept depth", "linear_saving", 1, note=LINEAR_NOTE),
            ColumnLayout("reported FLOPs", "saving_per_sample", 0, reported, "flops"),
            ColumnLayout("FLOPs", "saving_per_sample", 1, cost_axis="flops"),
            ColumnLayout("n", "saving_per_sample", show=count, cost_axis="flops", absent="0"),
        ),
        lines=tuple(lines),
        notes=(*_repriced_note(evidence), measured_time_note(evidence)),
    )


def _repriced_note(evidence: Evidence) -> list[str]:
    """That what runs noted of their reference time is not what is shown."""
    count, factor = repriced(evidence)
    if not count:
        return []
    return [
        f"Reference time is priced with this set's calibration. The summaries of {count} of {len(evidence.pretrain)} "
        f"runs hold the price of another one, from when they ran (up to {number(factor, 1)} times as much or as "
        "little): no exhibit here reads it."
    ]
