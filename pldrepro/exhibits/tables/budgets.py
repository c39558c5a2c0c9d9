"""What an equal budget buys: fair baselines at PLD's reference time, epochs of a cut corpus, memory."""

from __future__ import annotations

from pldrepro.analysis.budgets import DECAYED, MID, TREATMENTS, epochs_arms, fair_budgets, overfitting, places, rivals
from pldrepro.analysis.memory import memory
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, INTERVAL_NOTE, estimate_text, number, time_unit
from pldrepro.analysis.tidy import cell
from pldrepro.exhibits.layout import Panel


def fair_budgets_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One line per arm, checkpoint and rival."""
    frame = fair_budgets(evidence, paper)
    times = [] if frame.empty else frame[frame["quantity"] == "reference_time"]["measured"].dropna().tolist()
    unit, seconds = time_unit(times)
    rows = []
    for arm, checkpoint in places(evidence):
        time = cell(frame, arm, checkpoint, "reference_time")
        for rival in rivals(evidence, arm, checkpoint):
            found = {name: cell(frame, arm, checkpoint, name, against=rival.arm or "none", condition=rival.schedule)
                     for name in ("time_ratio", "rival_loss", "loss_difference", "glue_difference")}  # fmt: skip
            rows.append(
                (
                    f"{evidence.label(arm)} {checkpoint}",
                    DASH if time is None else number(time.value / seconds, 2 if time.value < 10 * seconds else 1),
                    rival.label,
                    rival.schedule,
                    DASH if found["time_ratio"] is None else number(found["time_ratio"].value, 3),
                    estimate_text(cell(frame, arm, checkpoint, "validation_loss"), 3),
                    estimate_text(found["rival_loss"], 3),
                    estimate_text(found["loss_difference"], 3),
                    estimate_text(found["glue_difference"], 1),
                    str(found["rival_loss"].n if found["rival_loss"] else 0),
                )
            )
    return [
        Panel(
            caption=f"Fair budgets: each arm against what the same reference time buys, at scale {evidence.scale}",
            columns=(
                "run", f"reference time [{unit}]", "against", "its learning rate", "its time / the run's",
                "validation loss [nats]", "its loss [nats]", "loss minus its", "GLUE minus its", "n",
            ),
            rows=tuple(rows),
            notes=(*FAIR_NOTES, INTERVAL_NOTE),
        )
    ]  # fmt: skip


FAIR_NOTES = (
    f"The paper's comparison is with the baseline {MID}: its loss there is not yet what its learning rate, once "
    f"decayed, would give in that time. The fair comparison is with a run that is {DECAYED} at that same reference "
    'time, as in "No Train No Gain": only where a method is better than that does it save time. A difference below 0 '
    "in loss, or above 0 in GLUE, speaks for the method. Against undropped PreLN, decayed, it is what dropping layers "
    "itself does. At a checkpoint before its end the method is in mid-schedule, too: the price of stopping early.",
    "A dash: the rival is not in this study, was not fine-tuned, or the baseline's whole run is shorter than the "
    "budget. The baseline's loss and score in mid-schedule are linear between its validations and between its "
    "fine-tuned checkpoints.",
)


def overfitting_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One line per number of epochs and treatment."""
    frame = overfitting(evidence, paper)
    quantities = ("train_loss", "validation_loss", "gap", "minus_neither", "minus_neither_change")
    rows = []
    for epochs, treatments in epochs_arms(evidence).items():
        for treatment, name in TREATMENTS.items():
            if treatment not in treatments:
                rows.append((f"{epochs:g}", name, *[DASH] * len(quantities), "0"))
                continue
            arm = treatments[treatment]
            found = [
                cell(frame, arm, evidence.final_checkpoint(arm), one, condition=f"{epochs:g} epochs")
                for one in quantities
            ]
            texts = (estimate_text(estimate, 3) for estimate in found)
            rows.append((f"{epochs:g}", name, *texts, str(len(evidence.runs(arm)))))
    return [
        Panel(
            caption=f"Overfitting: as many steps on a part of one corpus that makes N epochs, scale {evidence.scale}",
            columns=(
                "epochs", "regularised by", "train loss", "validation loss", "gap", "validation minus neither's",
                "change of that since the fewest epochs", "n",
            ),
            rows=tuple(rows),
            notes=(*OVERFITTING_NOTES, INTERVAL_NOTE) if rows else ("Not measured here: no arms epochs<N>_*.",),
        )
    ]  # fmt: skip


OVERFITTING_NOTES = (
    '"No Train No Gain" explains the paper\'s result by its many epochs: a model that sees its corpus so often '
    "overfits, and dropping layers regularises. Then PLD's validation loss minus neither's falls with the epochs, "
    "dropout's does so too, and both pass below 0. Losses are in nats.",
    "The train loss is the one that was minimised, with layers or units dropped where they are; the validation loss is "
    "of the whole model. So the gap shows overfitting within a treatment, not between treatments.",
)


def memory_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One line per arm."""
    frame = memory(evidence, paper)
    several = "reduced_bytes" in set(frame["quantity"])
    rows = []
    for arm in evidence.methods:
        final = evidence.final_checkpoint(arm)
        found = {name: cell(frame, arm, final, name)
                 for name in ("parameters", "kept_layers", "peak_memory", "peak_memory_ratio")}  # fmt: skip
        peak = found["peak_memory"]
        sent = cell(frame, arm, final, "reduced_bytes") if several else None
        rows.append(
            (
                evidence.label(arm),
                f"{evidence.runs(arm)[0].summary['parameters']:,}",
                estimate_text(found["kept_layers"], 2),
                estimate_text(peak.map(lambda size: size / 2**20) if peak else None, 0),
                estimate_text(found["peak_memory_ratio"], 3),
                *([estimate_text(sent.map(lambda size: size / 1e6) if sent else None, 2)] if several else []),
                str(peak.n if peak else 0),
            )
        )
    return [
        Panel(
            caption=f"Peak memory of training, at scale {evidence.scale}",
            columns=(
                "arm",
                "parameters",
                "mean kept layers",
                "peak memory [MiB]",
                "ratio to the baseline's",
                *(["gradients sent by a rank in a step [MB]"] if several else []),
                "n",
            ),
            rows=tuple(rows),
            notes=(*_memory_notes(evidence), INTERVAL_NOTE),
        )
    ]


def _memory_notes(evidence: Evidence) -> list[str]:
    notes = [
        "A peak is that of the step with the most layers kept. While a schedule begins with all layers, as PLD's does, "
        "dropping cannot lower it; weights, gradients and optimizer state are those of the whole model at all times.",
    ]
    if any(run.provenance["device"].get("type") == "cpu" for run in evidence.pretrain):
        notes.append(
            "On a CPU it is the process's peak resident memory, with its libraries and what it has read of the corpus."
        )
    return notes
