"""What an equal budget buys: fair baselines at PLD's reference time, epochs of a cut corpus, memory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pldrepro import evidence as ev
from pldrepro import stats
from pldrepro.evidence import Evidence
from pldrepro.papers import Paper
from pldrepro.records import PretrainRun
from pldrepro.stats import Estimate
from pldrepro.tables.panel import (
    DASH,
    INTERVAL_NOTE,
    Panel,
    cell,
    cost_estimate,
    estimate_of,
    estimate_text,
    number,
    tidy_row,
    time_unit,
)

# ---- fair budgets ----


@dataclass(frozen=True)
class Rival:
    """What an arm is compared with at a budget; ``arm`` None: planned, but not in this study."""

    key: str
    label: str
    schedule: str
    arm: str | None


MID = "in mid-schedule"
DECAYED = "fully decayed"


def original(evidence: Evidence, arm: str) -> str | None:
    """The method that an arm cut to a budget is a copy of: same model, dropping and learning rate."""

    def identity(name: str) -> tuple[Any, ...]:
        settings = evidence.runs(name)[0].settings
        rate = settings["training"]["learning_rates"][settings["training"]["learning_rate"]]
        return settings["model"], settings["drop"], rate

    return next((name for name in evidence.methods if identity(name) == identity(arm)), None)


def places(evidence: Evidence) -> list[tuple[str, str]]:
    """(arm, checkpoint) compared at their budget: PLD's checkpoints, what runs were cut to, the ends of the others."""
    pld = evidence.pld
    own = [(pld, name) for name in evidence.checkpoints(pld)] if pld in evidence.arms else []
    ends = [(arm, evidence.final_checkpoint(arm)) for arm in evidence.methods if arm != evidence.baseline]
    matched = [budget for arm in evidence.arms if (budget := evidence.budget(arm)) and budget[0] in evidence.arms]
    return list(dict.fromkeys([*own, *matched, *ends]))


def rivals(evidence: Evidence, arm: str, checkpoint: str) -> list[Rival]:
    """The baseline in mid-schedule, then what was decayed at this budget; for PLD also what is planned and missing."""
    found = [Rival(f"{evidence.baseline}_mid_schedule", evidence.label(evidence.baseline), MID, evidence.baseline)]
    cut = [other for other in evidence.arms if evidence.budget(other) == (arm, checkpoint)]
    found += [Rival(other, evidence.label(other), DECAYED, other) for other in cut]
    if arm == evidence.pld:
        there = {original(evidence, other) for other in cut}
        planned = [evidence.baseline, evidence.undropped_twin(arm)]
        missing = [name for name in planned if name is not None and name not in there]
        found += [Rival(f"{name}_decayed", evidence.label(name), DECAYED, None) for name in missing]
    return found


def fair_budgets(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Every arm at its reference time against the baseline there in mid-schedule, and against what was decayed there.

    Quantities: reference_time [s], validation_loss [nats]; and per rival (axis: its name) time_ratio [x], rival_loss,
    loss_difference [nats] and glue_difference [points], the arm minus the rival, paired by seed.
    """
    rows: list[dict[str, Any]] = []
    for arm, checkpoint in places(evidence):
        losses = [_loss(run, checkpoint) for run in evidence.runs(arm)]
        time = cost_estimate(evidence, arm, "reference_time", checkpoint)
        rows.append(tidy_row(evidence, arm, checkpoint, "reference_time", "", "s", time))
        rows.append(tidy_row(evidence, arm, checkpoint, "validation_loss", "", "nats", stats.mean_interval(losses)))
        for rival in rivals(evidence, arm, checkpoint):
            if rival.arm is not None:
                rows += _rival_rows(evidence, arm, checkpoint, rival, rival.arm)
    return pd.DataFrame(rows)


def _loss(run: PretrainRun, checkpoint: str) -> float:
    return float(run.summary["checkpoints"][checkpoint]["validation_loss"])


def _rival_rows(evidence: Evidence, arm: str, checkpoint: str, rival: Rival, other: str) -> list[dict[str, Any]]:
    convention = ev.glue_convention(evidence)[0]
    if rival.schedule == MID:
        found = _mid_losses(evidence, arm, checkpoint, other)
        glue = ev.difference(_mid_glue(evidence, arm, checkpoint, other, convention))
        time = None
    else:
        found = [(_loss(run, checkpoint), base.summary["validation_loss"]) for run, base in evidence.pairs(arm, other)]
        glue = ev.glue_gain(evidence, arm, checkpoint, other, evidence.final_checkpoint(other), convention)
        time = ev.ratio(
            (evidence.cost(base, "reference_time"), evidence.cost(run, "reference_time", checkpoint))
            for run, base in evidence.pairs(arm, other)
        )
    rival_loss = stats.mean_interval([loss for _, loss in found]) if found else None
    note = f"{rival.label}, {rival.schedule}"
    return [
        tidy_row(evidence, arm, checkpoint, quantity, rival.key, unit, estimate, None, note)
        for quantity, unit, estimate in (
            ("time_ratio", "x", estimate_of(time)),
            ("rival_loss", "nats", rival_loss),
            ("loss_difference", "nats", estimate_of(ev.difference(found))),
            ("glue_difference", "points", estimate_of(glue)),
        )
    ]


def _mid_losses(evidence: Evidence, arm: str, checkpoint: str, other: str) -> list[tuple[float, float]]:
    """Losses of an arm and of the baseline at the same reference time, where the baseline was validated around it."""
    axis = "reference_time"
    pairs = [
        (_loss(run, checkpoint), evidence.loss_at(base, evidence.cost(run, axis, checkpoint), axis))
        for run, base in evidence.pairs(arm, other)
    ]
    return [(own, there) for own, there in pairs if there is not None]


def _mid_glue(evidence: Evidence, arm: str, checkpoint: str, other: str, convention: str) -> list[tuple[float, float]]:
    """GLUE scores of an arm and of the baseline at the same reference time, between its fine-tuned checkpoints."""
    pairs = []
    for run, base in evidence.pairs(arm, other):
        values = evidence.glue_values.get((arm, run.seed, checkpoint), {})
        curve, own = ev.glue_curve(evidence, base, "reference_time", convention, values)
        there = ev.value_at(curve, evidence.cost(run, "reference_time", checkpoint))
        if own is not None and there is not None:
            pairs.append((own, there))
    return pairs


def fair_budgets_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One line per arm, checkpoint and rival."""
    frame = fair_budgets(evidence, paper)
    times = [] if frame.empty else frame[frame["quantity"] == "reference_time"]["measured"].dropna().tolist()
    unit, seconds = time_unit(times)
    rows = []
    for arm, checkpoint in places(evidence):
        time = cell(frame, arm, checkpoint, "reference_time")
        for rival in rivals(evidence, arm, checkpoint):
            found = {name: cell(frame, arm, checkpoint, name, rival.key)
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


# ---- overfitting ----

TREATMENTS = {"pld": "PLD", "dropout": "dropout", "neither": "neither"}
_EPOCHS_ARM = re.compile(rf"epochs\d+_({'|'.join(TREATMENTS)})")


def epochs_arms(evidence: Evidence) -> dict[float, dict[str, str]]:
    """Epochs -> treatment -> arm, of the arms on a cut corpus (``epochs<N>_<treatment>``), fewest epochs first."""
    found: dict[float, dict[str, str]] = {}
    for arm in evidence.arms:
        epochs, match = evidence.epochs(arm), _EPOCHS_ARM.fullmatch(arm)
        if epochs is not None and match:
            found.setdefault(epochs, {})[match[1]] = arm
    return dict(sorted(found.items()))


def overfitting(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Whether dropping layers helps because it regularises: as many steps on ever smaller parts of one corpus.

    Quantities [nats]: train_loss (mean over the last tenth of the steps), validation_loss, gap (validation - train),
    minus_neither (validation loss, paired by seed), and minus_neither_change, how that differs from what it is at the
    fewest epochs.
    """
    rows: list[dict[str, Any]] = []
    arms = epochs_arms(evidence)
    for epochs, treatments in arms.items():
        for treatment, arm in treatments.items():
            rows += _overfitting_rows(evidence, arms, epochs, treatment, arm)
    return pd.DataFrame(rows)


def _overfitting_rows(
    evidence: Evidence, arms: dict[float, dict[str, str]], epochs: float, treatment: str, arm: str
) -> list[dict[str, Any]]:
    runs = evidence.runs(arm)
    train = [final_train_loss(run) for run in runs]
    validation = [run.summary["validation_loss"] for run in runs]
    found: dict[str, Estimate | None] = {
        "train_loss": stats.mean_interval(train),
        "validation_loss": stats.mean_interval(validation),
        "gap": stats.mean_interval([after - before for after, before in zip(validation, train, strict=True)]),
    }
    if treatment != "neither":
        effects = _effects(evidence, arms[epochs], treatment)
        fewest = _effects(evidence, next(iter(arms.values())), treatment)
        change = [(effects[seed], fewest[seed]) for seed in effects if seed in fewest and epochs != min(arms)]
        found["minus_neither"] = estimate_of(ev.difference((effect, 0.0) for effect in effects.values()))
        found["minus_neither_change"] = estimate_of(ev.difference(change))
    final, note = evidence.final_checkpoint(arm), f"{epochs:g} epochs, {TREATMENTS[treatment]}"
    return [
        tidy_row(evidence, arm, final, quantity, f"{epochs:g}", "nats", estimate, note=note)
        for quantity, estimate in found.items()
    ]


def final_train_loss(run: PretrainRun) -> float:
    """Training loss at the end of a run, without an auxiliary one [nats]; mean over the last tenth of it."""
    lines = [line for line in run.metrics if line["kind"] == "train"]
    last = [line for line in lines if line["step"] > 0.9 * run.summary["steps"]] or lines[-1:]
    return float(sum(line["main_loss"] for line in last) / len(last))


def _effects(evidence: Evidence, treatments: dict[str, str], treatment: str) -> dict[int, float]:
    """Seed -> final validation loss minus that without PLD and dropout, of as many epochs."""
    if not {treatment, "neither"} <= set(treatments):
        return {}
    return {
        run.seed: run.summary["validation_loss"] - bare.summary["validation_loss"]
        for run, bare in evidence.pairs(treatments[treatment], treatments["neither"])
    }


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
            found = [cell(frame, arm, evidence.final_checkpoint(arm), one, f"{epochs:g}") for one in quantities]
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


# ---- memory ----


def memory(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Peak memory of training: peak_memory [bytes], its ratio to the baseline's, parameters, kept_layers.

    Of runs on several ranks, reduced_bytes too: the bytes that each rank gives to the all-reduce in a step, mean.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.methods:
        runs, final = evidence.runs(arm), evidence.final_checkpoint(arm)
        peaks = [peak for run in runs if (peak := run.summary.get("peak_memory_bytes")) is not None]
        ratio = ev.ratio(
            (run.summary.get("peak_memory_bytes"), base.summary.get("peak_memory_bytes"))
            for run, base in evidence.pairs(arm, evidence.baseline)
        )
        parameters = Estimate(runs[0].summary["parameters"], None, None, len(runs), "count")
        kept = stats.mean_interval([run.summary["mean_kept_layers"] for run in runs])
        sent = [run.summary["reduced_bytes"] / run.summary["steps"] for run in runs if run.summary.get("reduced_bytes")]
        found: Sequence[tuple[str, str, Estimate | None]] = (
            *([("reduced_bytes", "bytes", stats.mean_interval(sent))] if sent else []),
            ("peak_memory", "bytes", stats.mean_interval(peaks) if peaks else None),
            ("peak_memory_ratio", "x", estimate_of(ratio)),
            ("parameters", "parameters", parameters),
            ("kept_layers", "layers", kept),
        )
        rows += [tidy_row(evidence, arm, final, quantity, "", unit, estimate) for quantity, unit, estimate in found]
    return pd.DataFrame(rows)


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
