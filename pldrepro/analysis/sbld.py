"""SBLD's numbers: time, accuracy and the cost of its analysis."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons, sampling
from pldrepro.analysis.arms import kept_layers, validation_loss
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import claimed, estimate_of, tidy, tidy_row
from pldrepro.stats import Estimate

IMAGES = ("swinv2", "vit")
CLOCKS = ("reference_time", "measured_time")


IMAGE_ACCURACIES = ("accuracy", "top5")  # names in a run's summary


# ---- comparisons, shared with claims and reviews ----


def time_saved(evidence: Evidence, arm: str, other: str, axis: str) -> Paired | None:
    """Percent less than another arm's whole run, on an axis, paired by seed."""
    cost = comparisons.relative_cost(evidence, arm, other, axis)
    return None if cost is None else replace(cost, estimate=cost.estimate.map(comparisons.percent_less))


def accuracies(evidence: Evidence, arm: str, name: str) -> dict[int, float]:
    """Seed -> final accuracy of every run that has it [%]."""
    found = ((run.seed, evidence.quality(run, name)) for run in evidence.runs(arm))
    return {seed: 100 * value for seed, value in found if value is not None}


def accuracy_pairs(evidence: Evidence, arm: str, other: str, name: str) -> list[tuple[float, float]]:
    """Final accuracies of two arms by common seed [%]."""
    first, second = (accuracies(evidence, one, name) for one in (arm, other))
    return [(first[seed], second[seed]) for seed in first if seed in second]


def accuracy_gain(evidence: Evidence, arm: str, other: str, name: str) -> Paired | None:
    """Final accuracy of an arm minus that of another, paired by seed [points]; with the examples' error."""
    pairs = accuracy_pairs(evidence, arm, other, name)
    return comparisons.difference(pairs, _examples_error(evidence, pairs, name))


def _examples_error(evidence: Evidence, pairs: list[tuple[float, float]], name: str) -> float:
    """Standard error of a difference in accuracy that comes from the examples [points]; 0 where they are not known."""
    passages = [one.summary.passages for one in evidence.lambada]
    images = evidence.runs(evidence.baseline)[0].provenance.images("validation")
    n = (min(passages) if passages else None) if name == "lambada_accuracy" else images
    return sampling.accuracy_error(list(zip(*pairs, strict=True)), n) if pairs else 0.0


def accuracy_change(evidence: Evidence, arm: str, other: str, name: str) -> Paired | None:
    """Final accuracy of an arm above that of another, relative to it, paired by seed [%]; None where one is 0."""
    pairs = accuracy_pairs(evidence, arm, other, name)
    if any(min(pair) <= 0 for pair in pairs):
        return None
    level = sum(base for _, base in pairs) / max(1, len(pairs))
    error = _examples_error(evidence, pairs, name) / level if pairs else 0.0
    return comparisons.ratio(pairs, lambda value: 100 * (value - 1), error)


def random_rankings(evidence: Evidence) -> list[str]:
    """The arms that rank layers at random."""
    controls = [arm for arm in evidence.arms_with_role("control") if arm in evidence.arms]
    return [arm for arm in controls if evidence.runs(arm)[0].settings.drop.ranking == "random"]


def loss_over_random(evidence: Evidence, arm: str) -> Paired | None:
    """Final validation loss minus the mean over the random rankings of the same seed [nats], for an arm by rank.

    One random ranking may by chance be a good or a bad one; the mean over several is what no knowledge of the layers
    gives.
    """
    losses: dict[int, list[float]] = {}
    for run in (run for other in random_rankings(evidence) for run in evidence.runs(other)):
        losses.setdefault(run.seed, []).append(run.summary.validation_loss)
    own = ((run.summary.validation_loss, losses.get(run.seed, [])) for run in evidence.runs(arm))
    return comparisons.difference((loss, sum(others) / len(others)) for loss, others in own if others)


def analysis_share(evidence: Evidence, arm: str, axis: str) -> Estimate | None:
    """Share of a run's time that its analysis of sensitivity took [%]; None where it makes none."""
    shares = []
    for run in evidence.runs(arm):
        passes, whole = run.summary.analysis_passes, evidence.cost(run, axis)
        if axis == "measured_time":
            seconds = run.summary.analysis_seconds
        elif evidence.calibration is None:
            return None
        else:
            seconds = passes * evidence.calibration.shape_of(run).median[-1]
        if not passes or not whole:
            return None
        shares.append(100 * seconds / whole)
    return stats.mean_interval(shares)


# ---- tidy rows ----


def sbld_table1(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """GPT, one row per arm, quantity and cost axis, at the end of the run; empty without a study of GPT.

    Quantities: validation_loss [nats], perplexity, lambada_accuracy [%], lambada_perplexity, lambada_rank [% of a
    passage's other words that are less probable than the right one], kept_layers; differences
    to the baseline and to PLD, paired by seed (``_minus_baseline``, ``_minus_pld``; accuracies in points) and relative
    (``lambada_accuracy_change`` [%]); saved_over_baseline and saved_over_pld [% of the whole run], on each axis, the
    analysis of sensitivity charged; analysis_share [% of the run's time].
    """
    study = evidence.of("gpt")
    if study is None:
        return tidy([])
    rows: list[dict[str, Any]] = []
    for arm in study.methods:
        runs, final = study.runs(arm), study.final_checkpoint(arm)
        rows += [*_loss_rows(study, arm), *_accuracy_rows(study, paper, arm, "lambada_accuracy")]
        perplexities = {
            "perplexity": [math.exp(run.summary.validation_loss) for run in runs],
            "lambada_perplexity": [
                value for run in runs if (value := study.quality(run, "lambada_perplexity")) is not None
            ],
        }
        rows += [
            tidy_row(study, arm, final, name, stats.geometric_interval(values) if values else None, unit="1")
            for name, values in perplexities.items()
        ]
        ranks = [100 * value for run in runs if (value := study.quality(run, "lambada_rank")) is not None]
        rows.append(
            tidy_row(study, arm, final, "lambada_rank", stats.mean_interval(ranks) if ranks else None, unit="%")
        )
        rows += _cost_rows(study, paper, arm)
    return tidy(rows)


def sbld_table2(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Images, one row per family, arm, quantity and cost axis, at the end of the run; empty without a study of images.

    Quantities: accuracy (top-1) and top5 [%], validation_loss [nats], and the others of ``sbld_table1``.
    """
    studies = evidence.all_of(*IMAGES)
    return tidy(row for study in studies for row in _image_rows(study, paper))


def _image_rows(study: Evidence, paper: Paper) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for arm in study.methods:
        for name in IMAGE_ACCURACIES:
            rows += _accuracy_rows(study, paper, arm, name)
        rows += [*_loss_rows(study, arm), *_cost_rows(study, paper, arm)]
    return rows


def references(study: Evidence, arm: str) -> dict[str, str]:
    """Key -> arm of what an arm is compared with: the baseline, and PLD where this study has it."""
    found = {"baseline": study.baseline, "pld": study.pld}
    return {key: other for key, other in found.items() if other in study.arms and other != arm}


def _loss_rows(study: Evidence, arm: str) -> list[dict[str, Any]]:
    final = study.final_checkpoint(arm)
    rows = [tidy_row(study, arm, final, "validation_loss", validation_loss(study, arm), unit="nats")]
    for key, other in references(study, arm).items():
        gap = estimate_of(comparisons.loss_difference(study, arm, other))
        rows.append(tidy_row(study, arm, final, f"validation_loss_minus_{key}", gap, unit="nats"))
    if arm == study.sbld:
        gap = estimate_of(loss_over_random(study, arm))
        rows.append(tidy_row(study, arm, final, "validation_loss_minus_random", gap, unit="nats"))
    return rows


def _accuracy_rows(study: Evidence, paper: Paper, arm: str, name: str) -> list[dict[str, Any]]:
    final, values = study.final_checkpoint(arm), list(accuracies(study, arm, name).values())
    rows = [tidy_row(study, arm, final, name, stats.mean_interval(values) if values else None, unit="%")]
    for key, other in references(study, arm).items():
        gain = estimate_of(accuracy_gain(study, arm, other, name))
        rows.append(tidy_row(study, arm, final, f"{name}_minus_{key}", gain, unit="points"))
    if arm != study.baseline:
        reported = claimed(paper, "accuracy") if (arm, name) == (study.sbld, "lambada_accuracy") else None
        change = estimate_of(accuracy_change(study, arm, study.baseline, name))
        note = "over the baseline's"
        rows.append(tidy_row(study, arm, final, f"{name}_change", change, unit="%", reported=reported, note=note))
    return rows


def _cost_rows(study: Evidence, paper: Paper, arm: str) -> list[dict[str, Any]]:
    final, note = study.final_checkpoint(arm), f"of {study.runs(arm)[0].summary.num_layers}"
    rows = [tidy_row(study, arm, final, "kept_layers", kept_layers(study, arm), unit="layers", note=note)]
    for key, other in references(study, arm).items():
        for axis in (*CLOCKS, "flops"):
            own = arm == study.sbld and key == "baseline" and axis in CLOCKS and study.family == "gpt"
            reported = claimed(paper, "time") if own else None
            saved = estimate_of(time_saved(study, arm, other, axis))
            rows.append(
                tidy_row(study, arm, final, f"saved_over_{key}", saved, unit="%", cost_axis=axis, reported=reported)
            )
    for axis in CLOCKS:
        share = analysis_share(study, arm, axis)
        rows.append(tidy_row(study, arm, final, "analysis_share", share, unit="%", cost_axis=axis))
    return rows
