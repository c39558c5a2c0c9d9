"""What seeds do to the numbers: spread, its parts, and how stable fine-tuning is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons, contrasts, floors, glue_scores, power
from pldrepro.analysis.arms import compared_arms, finetuned_methods, validation_losses
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import final_row, plain, tidy
from pldrepro.data.tasks import TASKS
from pldrepro.stats import Estimate, VarianceParts

SMALL_TASKS = ("rte", "mrpc", "cola", "stsb")

TOO_MANY = "more than 1,000 seeds"
AT_FLOOR = "the differences are observations: "
# Percent by which a score must exceed that of a constant prediction; what is below is rounding.
ROUNDING = 1e-9


# ---- seeds ----


def quantities(evidence: Evidence) -> dict[str, str]:
    """What is compared over seeds, and its unit: loss, GLUE, and the scores without fine-tuning that there are."""
    return {"validation_loss": "nats", "glue_nine": "points", **dict.fromkeys(contrasts.scores(evidence), "points")}


def seeds(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Spread over pre-training seeds, one row per method, quantity and statistic.

    Quantities: final validation loss [nats], nine-metric GLUE score and scores without fine-tuning [points].
    Statistics: mean (t interval), deviation (chi-square interval), and against the baseline and the undropped twin,
    paired by seed: difference (t interval), difference_bootstrap (where there are enough seeds for one),
    pairs_for_power (with which a paired t test finds the observed difference at 80 % power), deviation_ratio
    (Pitman-Morgan interval). Where a score is at the floor (see ``floors``) the difference is an observation, and the
    others are left out.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.methods:
        for quantity, unit in quantities(evidence).items():
            values = _values(evidence, arm, quantity)
            if not values:
                continue
            deviation = stats.deviation_interval(values)
            rows += [
                final_row(evidence, arm, quantity, "mean", stats.mean_interval(values), unit=unit),
                final_row(evidence, arm, quantity, "deviation", deviation, unit=unit,
                          note="" if deviation else "one seed"),
            ]  # fmt: skip
            for other in compared_arms(evidence, arm):
                rows += _comparison_rows(evidence, arm, other, quantity, unit)
    return tidy(rows)


def _values(evidence: Evidence, arm: str, quantity: str) -> list[float]:
    """A quantity at the end of every run of an arm that has it."""
    if quantity == "validation_loss":
        return validation_losses(evidence, arm)
    if quantity != "glue_nine":
        return list(contrasts.finals(evidence, quantity, arm).values())
    checkpoint = evidence.final_checkpoint(arm)
    scores = [comparisons.glue(evidence, arm, run.seed, checkpoint, "nine").value for run in evidence.runs(arm)]
    return [value for value in scores if value is not None]


def _pairs(evidence: Evidence, arm: str, other: str, quantity: str) -> list[tuple[float, float]]:
    """A quantity of two arms, paired by seed; GLUE scores over the values that both have."""
    if quantity == "validation_loss":
        return [(run.summary.validation_loss, base.summary.validation_loss) for run, base in evidence.pairs(arm, other)]
    if quantity != "glue_nine":
        first, second = (contrasts.finals(evidence, quantity, one) for one in (arm, other))
        return [(first[seed], second[seed]) for seed in first if seed in second]
    ends = evidence.final_checkpoint(arm), evidence.final_checkpoint(other)
    return comparisons.glue_pairs(evidence, arm, ends[0], other, ends[1], "nine")


def _difference(evidence: Evidence, arm: str, other: str, quantity: str) -> Paired | None:
    """A quantity of an arm minus that of another; of scores with the error of the examples."""
    if quantity == "validation_loss":
        return comparisons.loss_difference(evidence, arm, other)
    if quantity != "glue_nine":
        return contrasts.gain(evidence, quantity, arm, other)
    ends = evidence.final_checkpoint(arm), evidence.final_checkpoint(other)
    return comparisons.glue_gain(evidence, arm, ends[0], other, ends[1], "nine")


def _comparison_rows(evidence: Evidence, arm: str, other: str, quantity: str, unit: str) -> list[dict[str, Any]]:
    pairs = _pairs(evidence, arm, other, quantity)
    paired = _difference(evidence, arm, other, quantity)
    if paired is None:
        note = "no seed in common"
        return [final_row(evidence, arm, quantity, "difference", None, unit=unit, against=other, note=note)]
    floor = _floor(evidence, quantity)
    if floor:
        note = f"{AT_FLOOR}{floor}"
        return [final_row(evidence, arm, quantity, "difference", paired.estimate, unit=unit, against=other, note=note)]
    first, second = zip(*pairs, strict=True)
    needed = paired.pairs_for_power()
    method = f"paired t test at {power.POWER:.0%} power"
    rows = [
        ("difference", unit, paired.estimate, ""),
        ("pairs_for_power", "seeds", plain(needed, len(pairs), method), "" if needed else _no_number(len(pairs))),
        ("deviation_ratio", "x", stats.paired_deviation_ratio(first, second), ""),
    ]
    if len(pairs) >= stats.BOOTSTRAP_SEEDS:
        rows.insert(1, ("difference_bootstrap", unit, stats.bootstrap_difference(first, second), ""))
    return [
        final_row(evidence, arm, quantity, statistic, measured, unit=unit, against=other, note=note)
        for statistic, unit, measured, note in rows
    ]


def _floor(evidence: Evidence, quantity: str) -> str:
    """Why a quantity judges nothing; empty where it judges."""
    if quantity == "validation_loss":
        return ""
    return floors.glue_floor(evidence) if quantity == "glue_nine" else floors.contrast_floor(evidence, quantity)


def _no_number(n: int) -> str:
    return "one seed" if n < 2 else TOO_MANY


# ---- nested variance ----


def variance(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Variance [%^2] of every GLUE value between pre-training seeds and between fine-tuning seeds, per method.

    Statistics: between_pretraining (truncated at 0, without an interval; n: pre-training seeds) and between_finetuning
    (chi-square interval; n: runs), from the runs at the selected learning rate; see stats.variance_parts.
    """
    rows: list[dict[str, Any]] = []
    for arm, name, parts in _parts(evidence):
        within = parts.within_deviation()
        note = _variance_note(parts)
        squared = within.map(lambda deviation: deviation**2) if within else None
        between = plain(parts.between, parts.num_groups, "one-way random effects")
        rows += [
            final_row(evidence, arm, name, "between_pretraining", between, unit="%²", note=note),
            final_row(evidence, arm, name, "between_finetuning", squared, unit="%²", note=note),
        ]
    return tidy(rows)


def standard_deviation(variance: float) -> float:
    """The standard deviation [%] of a variance part [%^2]."""
    return math.sqrt(variance)


def _variance_note(parts: VarianceParts) -> str:
    if parts.within is None:
        return "one fine-tuning seed: the parts cannot be told apart"
    return "one pre-training seed" if parts.between is None else ""


def _parts(evidence: Evidence) -> Iterable[tuple[str, str, VarianceParts]]:
    """(arm, value name, parts) for every GLUE value at the final checkpoints."""
    for arm in finetuned_methods(evidence):
        part = selected_scores(evidence, arm)
        for name in glue_scores.VALUES:
            runs = part[part["value_name"] == name]
            if len(runs):
                yield arm, name, stats.variance_parts(_by_seed(runs))


def selected_scores(evidence: Evidence, arm: str) -> pd.DataFrame:
    """Scores of an arm at its final checkpoint and the selected learning rates."""
    scores = evidence.selected_scores
    return scores[(scores["arm"] == arm) & (scores["checkpoint"] == evidence.final_checkpoint(arm))]


def _by_seed(runs: pd.DataFrame) -> list[list[float]]:
    """Values by pre-training seed."""
    return [group["value"].tolist() for _, group in runs.groupby("seed")]


# ---- stability of fine-tuning ----


def stability(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Fine-tuning stability on the four small tasks, by the primary metric [%], per method.

    Statistics: deviation (over fine-tuning seeds, pooled within pre-training seeds; chi-square interval), range
    (largest minus smallest, mean over pre-training seeds), failed (percent of runs at the selected learning rate),
    failed_all (of runs at any learning rate), constant (what a run must exceed), and deviation_ratio against PLD's
    model without dropping (F interval). A run fails when its metric is not above the best that one and the same
    prediction for all examples gets: the majority class, for F1 class 1 always, 0 for a correlation. A task at the
    floor (see ``floors``) has no ratio: the deviations would be those of chance.
    """
    rows: list[dict[str, Any]] = []
    selected = {arm: selected_scores(evidence, arm) for arm in finetuned_methods(evidence)}
    reference = undropped_reference(evidence)
    constants = floors.constant_scores(evidence)
    for task in SMALL_TASKS:
        parts: dict[str, VarianceParts] = {}
        floor = floors.task_floor(evidence, task) if selected else ""
        for arm, scores in selected.items():
            runs = _primary(scores, task)
            if len(runs):
                parts[arm] = stats.variance_parts(_by_seed(runs))
                rows += _stability_rows(evidence, arm, task, runs, parts[arm], constants.get(glue_scores.PRIMARY[task]))
        for arm in parts:
            if reference in parts and arm != reference:
                ratio = None if floor else stats.deviation_ratio(parts[arm], parts[reference])
                rows.append(
                    final_row(evidence, arm, glue_scores.PRIMARY[task], "deviation_ratio", ratio, unit="x",
                              against=reference, note=floor and f"no ratio for {TASKS[task].title}: {floor}")
                )  # fmt: skip
    return tidy(rows)


def _primary(scores: pd.DataFrame, task: str) -> pd.DataFrame:
    _, split, metric = glue_scores.VALUES[glue_scores.PRIMARY[task]]
    return scores[(scores["task"] == task) & (scores["split"] == split) & (scores["metric"] == metric)]


def _stability_rows(
    evidence: Evidence, arm: str, task: str, runs: pd.DataFrame, parts: VarianceParts, constant: float | None
) -> list[dict[str, Any]]:
    name = glue_scores.PRIMARY[task]
    spans = [max(group) - min(group) for group in _by_seed(runs) if len(group) > 1]
    one_seed = "" if spans else "one fine-tuning seed"
    rows = [
        final_row(evidence, arm, name, "deviation", parts.within_deviation(), unit="%", note=one_seed),
        final_row(evidence, arm, name, "range", _mean_range(spans), unit="%", note=one_seed),
    ]
    if constant is None:
        return [
            *rows,
            final_row(evidence, arm, name, "failed", None, unit="%", note="no labels: no fine-tuning runs were given"),
        ]
    assert evidence.scores is not None
    scores = evidence.scores
    all_rates = scores[(scores["arm"] == arm) & (scores["checkpoint"] == evidence.final_checkpoint(arm))]
    for statistic, values in (("failed", runs["value"]), ("failed_all", _primary(all_rates, task)["value"])):
        failed = stats.share_interval(int((values <= constant + ROUNDING).sum()), len(values))
        rows.append(final_row(evidence, arm, name, statistic, failed.map(lambda share: 100 * share), unit="%"))
    best = plain(constant, len(runs), "best constant prediction")
    return [*rows, final_row(evidence, arm, name, "constant", best, unit="%")]


def _mean_range(spans: Sequence[float]) -> Estimate | None:
    return plain(float(np.mean(spans)), len(spans), "mean over pre-training seeds") if spans else None


def undropped_reference(evidence: Evidence) -> str:
    """PLD's model without dropping, which stability is compared with; empty where there is none."""
    return (evidence.undropped_twin(evidence.pld) or "") if evidence.pld in evidence.arms else ""
