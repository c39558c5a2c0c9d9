"""Comparisons at equal budget: fair baselines at PLD's reference time, epochs of a cut corpus, memory."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.budgets import DECAYED, MID, Rival, epochs_arms, places, rivals, treatments
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import number
from pldrepro.exhibits.layout import Cell, ColumnLayout, Line, TableLayout, TidyRow, count, select, value
from pldrepro.exhibits.text import INTERVAL_NOTE, time_unit


def fair_budgets_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """One line per arm, checkpoint and rival."""
    unit, seconds = time_unit(frame[frame["quantity"] == "reference_time"]["measured"].dropna().tolist())

    def time(row: TidyRow, column: ColumnLayout) -> Cell | None:
        """Few units of time are shown with a digit more."""
        digits = 2 if row["measured"] < 10 * seconds else 1
        return None if pd.isna(row["measured"]) else Cell(number(row["measured"] / seconds, digits))

    return [
        TableLayout(
            title=f"Fair budgets: each arm against others at the same reference time, study {evidence.scale}",
            columns=(
                ColumnLayout("run"),
                ColumnLayout(f"reference time [{unit}]", "reference_time", show=time),
                ColumnLayout("against"),
                ColumnLayout("its learning rate"),
                ColumnLayout("its time / the run's", "time_ratio", 3, value),
                ColumnLayout("validation loss [nats]", "validation_loss", 3),
                ColumnLayout("its loss [nats]", "rival_loss", 3),
                ColumnLayout("loss minus its", "loss_difference", 3),
                ColumnLayout("GLUE minus its", "glue_difference", 1),
                ColumnLayout("n", "rival_loss", show=count, absent="0"),
            ),
            lines=tuple(
                _fair_line(evidence, frame, arm, checkpoint, rival)
                for arm, checkpoint in places(evidence)
                for rival in rivals(evidence, arm, checkpoint)
            ),
            notes=(*FAIR_NOTES, INTERVAL_NOTE),
        )
    ]


def _fair_line(evidence: Evidence, frame: pd.DataFrame, arm: str, checkpoint: str, rival: Rival) -> Line:
    """The arm's own numbers, and those against a rival."""
    words = {
        "run": f"{evidence.label(arm)} {checkpoint}", "against": rival.label, "its learning rate": rival.schedule,
    }  # fmt: skip
    own, at = select(frame, arm=arm, checkpoint=checkpoint, against=""), {"arm": arm, "checkpoint": checkpoint}
    other = select(frame, **at, against=rival.arm, condition=rival.schedule) if rival.arm else []
    return Line(words, [*own, *other])


FAIR_NOTES = (
    f"The paper's comparison is with the baseline {MID}: its loss there is not yet what its learning rate, once "
    f"decayed, would give in that time. The fair comparison is with a run that is {DECAYED} at that same reference "
    'time, as in "No Train No Gain": only where a method is better than that does it save time. A difference below 0 '
    "in loss, or above 0 in GLUE, favours the method. Against decayed PreLN without dropping, it is the effect of "
    "dropping itself. At a checkpoint before its end the method is in mid-schedule, too: the price of stopping early.",
    "A dash: the rival is not in this study, was not fine-tuned, or the baseline's whole run is shorter than the "
    "budget. The baseline's loss and score in mid-schedule are linear between its validations and between its "
    "fine-tuned checkpoints.",
)


def overfitting_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """One line per number of epochs and treatment."""
    lines = tuple(
        Line({"epochs": f"{epochs:g}", "regularised by": name}, select(frame, arm=arms.get(treatment, "")))
        for epochs, arms in epochs_arms(evidence).items()
        for treatment, name in treatments(evidence).items()
    )
    return [
        TableLayout(
            title=f"Overfitting: equal steps, N epochs of a part of the corpus, study {evidence.scale}",
            columns=(
                ColumnLayout("epochs"),
                ColumnLayout("regularised by"),
                ColumnLayout("train loss", "train_loss", 3),
                ColumnLayout("validation loss", "validation_loss", 3),
                ColumnLayout("gap", "gap", 3),
                ColumnLayout("validation minus neither's", "minus_neither", 3),
                ColumnLayout("change of that since the fewest epochs", "minus_neither_change", 3),
                ColumnLayout("n", "validation_loss", show=count, absent="0"),
            ),
            lines=lines,
            notes=(*OVERFITTING_NOTES, INTERVAL_NOTE)
            if lines
            else ("Not measured here: no arms on a cut corpus that name a treatment.",),
        )
    ]


OVERFITTING_NOTES = (
    '"No Train No Gain" explains the paper\'s result by its many epochs: a model that sees its corpus so often '
    "overfits, and dropping layers regularises. Then PLD's validation loss minus neither's falls with the epochs, "
    "dropout's does so too, and both pass below 0. Losses are in nats.",
    "The train loss is the one that was minimised, with layers or units dropped where they are; the validation loss is "
    "of the whole model. So the gap shows overfitting within a treatment, not between treatments.",
)


def memory_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """One line per arm."""
    several = "reduced_bytes" in set(frame["quantity"])
    peak = ColumnLayout("peak memory of the GPU [MiB]", "peak_memory", 0, of=_mebibytes)
    sent = ColumnLayout("gradients sent by a rank in a step [MB]", "reduced_bytes", 2, of=lambda size: size / 1e6)
    return [
        TableLayout(
            title=f"Memory: activations that a step saves for its backward pass, study {evidence.scale}",
            columns=(
                ColumnLayout("arm"),
                ColumnLayout("parameters", "parameters", show=thousands),
                ColumnLayout("mean kept layers", "kept_layers", 2),
                ColumnLayout("all layers kept [MiB]", "saved_all_layers", 2, of=_mebibytes),
                ColumnLayout("ratio to the baseline's", "saved_all_layers_ratio", 3),
                ColumnLayout("at the mean depth [MiB]", "saved_mean_depth", 2, of=_mebibytes),
                ColumnLayout("its ratio to the baseline's", "saved_mean_depth_ratio", 3),
                *([peak] if "peak_memory" in set(frame["quantity"]) else []),
                *([sent] if several else []),
                ColumnLayout("n", "saved_all_layers", show=count, absent="0"),
            ),
            lines=tuple(Line({"arm": evidence.label(arm)}, select(frame, arm=arm)) for arm in evidence.methods),
            notes=(*MEMORY_NOTES, INTERVAL_NOTE),
        )
    ]


def thousands(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """A count with commas."""
    return Cell(f"{row['measured']:,.0f}")


def _mebibytes(size: float) -> float:
    return size / 2**20


MEMORY_NOTES = (
    "Activations: what autograd keeps between the forward and the backward pass of a micro-batch, each storage once, "
    "without parameters; the same on every device.",
    "What must fit is a step with all layers kept. While a schedule begins with all layers, as PLD's does, dropping "
    "cannot lower it; the mean depth says what an average step saves. Weights, gradients and optimizer state are "
    "those of the whole model at all times.",
)
