"""Arms whose learning rate is fully decayed at an equal cost, and epochs on a small corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons
from pldrepro.analysis.arms import cost_estimate, validation_loss, validation_losses
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.interpolation import value_at
from pldrepro.analysis.reach import glue_curve
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import estimate_of, tidy, tidy_row
from pldrepro.config.arm import ROLES
from pldrepro.errors import RecordError
from pldrepro.runs.folder import PretrainRun
from pldrepro.stats import Estimate

# ---- fair budgets ----


@dataclass(frozen=True)
class Rival:
    """What an arm is compared with at a budget; ``arm`` None: planned, but not in this study."""

    label: str
    schedule: str
    arm: str | None


MID = "in mid-schedule"
DECAYED = "fully decayed"


def original(evidence: Evidence, arm: str) -> str | None:
    """The method that an arm cut to a budget is a copy of: same model, dropping and learning rate."""

    def identity(name: str) -> tuple[Any, ...]:
        settings = evidence.runs(name)[0].settings
        return settings.model, settings.drop, settings.training.peak_learning_rate

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
    found = [Rival(evidence.label(evidence.baseline), MID, evidence.baseline)]
    cut = [other for other in evidence.arms if evidence.budget(other) == (arm, checkpoint)]
    found += [Rival(evidence.label(other), DECAYED, other) for other in cut]
    if arm == evidence.pld:
        there = {original(evidence, other) for other in cut}
        planned = [evidence.baseline, evidence.undropped_twin(arm)]
        missing = [name for name in planned if name is not None and name not in there]
        found += [Rival(evidence.label(name), DECAYED, None) for name in missing]
    return found


def fair_budgets(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Every arm at its reference time against the baseline there in mid-schedule, and against what was decayed there.

    Quantities: reference_time [s], validation_loss [nats]; and per rival (``against``; ``condition``: its schedule)
    time_ratio [x], rival_loss, loss_difference [nats] and glue_difference [points], the arm minus the rival, paired by
    seed.
    """
    rows: list[dict[str, Any]] = []
    for arm, checkpoint in places(evidence):
        time = cost_estimate(evidence, arm, "reference_time", checkpoint)
        loss = validation_loss(evidence, arm, checkpoint)
        rows.append(tidy_row(evidence, arm, checkpoint, "reference_time", time, unit="s"))
        rows.append(tidy_row(evidence, arm, checkpoint, "validation_loss", loss, unit="nats"))
        for rival in rivals(evidence, arm, checkpoint):
            if rival.arm is not None:
                rows += _rival_rows(evidence, arm, checkpoint, rival, rival.arm)
    return tidy(rows)


def _loss(run: PretrainRun, checkpoint: str) -> float:
    return run.summary.checkpoints[checkpoint].validation_loss


def _decayed_losses(evidence: Evidence, arm: str, checkpoint: str, other: str) -> list[tuple[float, float]]:
    """Losses of an arm at a checkpoint and of a run whose schedule ends at that budget, paired by seed."""
    return [(_loss(run, checkpoint), base.summary.validation_loss) for run, base in evidence.pairs(arm, other)]


def early_gaps(evidence: Evidence) -> dict[str, Paired]:
    """Checkpoint of PLD before its last -> its loss there minus that of the baseline decayed at its budget [nats]."""
    pld = evidence.pld
    stopped = {evidence.budget(arm): arm for arm in evidence.arms if original(evidence, arm) == evidence.baseline}
    gaps = {
        name: comparisons.difference(_decayed_losses(evidence, pld, name, stopped[pld, name]))
        for name in evidence.checkpoints(pld)
        if (pld, name) in stopped and name != evidence.final_checkpoint(pld)
    }
    return {name: gap for name, gap in gaps.items() if gap is not None}


def _rival_rows(evidence: Evidence, arm: str, checkpoint: str, rival: Rival, other: str) -> list[dict[str, Any]]:
    convention = comparisons.glue_convention(evidence)[0]
    if rival.schedule == MID:
        found = _mid_losses(evidence, arm, checkpoint, other)
        glue = comparisons.difference(_mid_glue(evidence, arm, checkpoint, other, convention))
        time = None
    else:
        found = _decayed_losses(evidence, arm, checkpoint, other)
        glue = comparisons.glue_gain(evidence, arm, checkpoint, other, evidence.final_checkpoint(other), convention)
        time = comparisons.ratio(
            (evidence.cost(base, "reference_time"), evidence.cost(run, "reference_time", checkpoint))
            for run, base in evidence.pairs(arm, other)
        )
    rival_loss = stats.mean_interval([loss for _, loss in found]) if found else None
    return [
        tidy_row(evidence, arm, checkpoint, quantity, estimate, unit=unit, against=other, condition=rival.schedule)
        for quantity, unit, estimate in (
            ("time_ratio", "x", estimate_of(time)),
            ("rival_loss", "nats", rival_loss),
            ("loss_difference", "nats", estimate_of(comparisons.difference(found))),
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
        curve, own = glue_curve(evidence, base, "reference_time", convention, values)
        there = value_at(curve, evidence.cost(run, "reference_time", checkpoint))
        if own is not None and there is not None:
            pairs.append((own, there))
    return pairs


# ---- overfitting ----

UNTREATED = "neither"  # the treatment that the others are compared with


def epochs_arms(evidence: Evidence) -> dict[float, dict[str, str]]:
    """Epochs -> treatment -> arm, of the arms on a cut corpus that name their treatment, fewest epochs first.

    Two arms of one treatment and as many epochs are a RecordError.
    """
    found: dict[float, dict[str, str]] = {}
    for arm in evidence.arms:
        epochs, treatment = evidence.epochs(arm), evidence.treatment(arm)
        if epochs is None or treatment is None:
            continue
        first = found.setdefault(epochs, {}).setdefault(treatment, arm)
        if first != arm:
            raise RecordError(
                f"{first} and {arm}: both of treatment {treatment} and {epochs:g} epochs; expected one arm"
            )
    return dict(sorted(found.items()))


def treatments(evidence: Evidence) -> dict[str, str]:
    """Treatment -> its name for people, of arms without runs here, too; PLD first, the untreated last.

    A treatment that is named as a role is a method, written in capitals.
    """
    named = {tags.treatment for tags in evidence.tags.values() if tags.treatment}
    ordered = sorted(named, key=lambda name: (name == UNTREATED, name not in ROLES, name))
    return {name: name.upper() if name in ROLES else name for name in ordered}


def overfitting(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Whether dropping layers helps because it regularises: as many steps on ever smaller parts of one corpus.

    Quantities [nats]: train_loss (mean over the last tenth of the steps), validation_loss, gap (validation - train),
    minus_neither (validation loss, paired by seed), and minus_neither_change, how that differs from what it is at the
    fewest epochs.
    """
    rows: list[dict[str, Any]] = []
    arms = epochs_arms(evidence)
    for epochs, by_treatment in arms.items():
        for treatment, arm in by_treatment.items():
            rows += _overfitting_rows(evidence, arms, epochs, treatment, arm)
    return tidy(rows)


def _overfitting_rows(
    evidence: Evidence, arms: dict[float, dict[str, str]], epochs: float, treatment: str, arm: str
) -> list[dict[str, Any]]:
    runs = evidence.runs(arm)
    train = [final_train_loss(run) for run in runs]
    validation = validation_losses(evidence, arm)
    found: dict[str, Estimate | None] = {
        "train_loss": stats.mean_interval(train),
        "validation_loss": stats.mean_interval(validation),
        "gap": stats.mean_interval([after - before for after, before in zip(validation, train, strict=True)]),
    }
    if treatment != UNTREATED:
        effects = _effects(evidence, arms[epochs], treatment)
        fewest = _effects(evidence, next(iter(arms.values())), treatment)
        change = [(effects[seed], fewest[seed]) for seed in effects if seed in fewest and epochs != min(arms)]
        found["minus_neither"] = estimate_of(comparisons.difference((effect, 0.0) for effect in effects.values()))
        found["minus_neither_change"] = estimate_of(comparisons.difference(change))
    final, condition = evidence.final_checkpoint(arm), f"{epochs:g} epochs"
    return [
        tidy_row(evidence, arm, final, quantity, estimate, unit="nats", condition=condition)
        for quantity, estimate in found.items()
    ]


def final_train_loss(run: PretrainRun) -> float:
    """Training loss at the end of a run, without an auxiliary one [nats]; mean over the last tenth of it."""
    last = [line for line in run.training if line.step > 0.9 * run.summary.steps] or run.training[-1:]
    return sum(line.main_loss for line in last) / len(last)


def _effects(evidence: Evidence, arms: dict[str, str], treatment: str) -> dict[int, float]:
    """Seed -> final validation loss minus that of the untreated arm of as many epochs; ``arms``: by treatment."""
    if not {treatment, UNTREATED} <= set(arms):
        return {}
    return {
        run.seed: run.summary.validation_loss - bare.summary.validation_loss
        for run, bare in evidence.pairs(arms[treatment], arms[UNTREATED])
    }
