"""What models score without fine-tuning: minimal pairs and cloze contrasts, with chance at 50 %.

The score of a task is the mean over its judging paradigms of the share of items in which the model prefers the
acceptable sentence, or the attested word; a tie counts one half. All values are percent. The other paradigms are shown,
never counted: word frequencies alone answer them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons
from pldrepro.analysis.arms import compared_arms
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reach import Reach, reach_score
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import estimate_of, tidy, tidy_row
from pldrepro.runs.folder import ContrastsRun
from pldrepro.runs.scored import ContrastItems
from pldrepro.stats import Estimate

CHANCE = 50.0
CLOZE = "cloze"
FAMILIES = ("bert", "gpt")  # that are asked
TITLES = {"zorro": "Zorro", "blimp": "BLiMP", CLOZE: "cloze contrasts", "": "minimal pairs"}
COLUMNS = ("arm", "seed", "checkpoint", "share", "score", "value", "items", "chance")


def title(score: str) -> str:
    """A score as people write it."""
    return TITLES.get(score, score)


def judging(run: ContrastsRun, score: str) -> dict[str, ContrastItems]:
    """The paradigms that count in a score: those that judge and of which some items were short enough."""
    items = run.summary.tasks.get(score, {})
    return {name: about for name, about in items.items() if about.judges and about.scored}


def scores(evidence: Evidence) -> list[str]:
    """The scores that a study has, in the order of its records."""
    return list(dict.fromkeys(task for run in evidence.contrasts for task in run.summary.tasks if judging(run, task)))


def minimal_pairs(evidence: Evidence) -> str:
    """The score that speaks for minimal pairs: the first set of pairs that a study asks; empty where it asks none."""
    return next((score for score in scores(evidence) if score != CLOZE), "")


def values(evidence: Evidence, score: str) -> dict[tuple[str, int, str], float]:
    """(arm, seed, checkpoint) -> score [%]."""
    found = {}
    for run in evidence.contrasts:
        names = judging(run, score)
        for checkpoint, tasks in run.summary.checkpoints.items():
            if names:
                shares = [tasks[score][name] for name in names]
                found[run.summary.arm, run.summary.seed, checkpoint] = 100 * sum(shares) / len(shares)
    return found


def frame(evidence: Evidence) -> pd.DataFrame:
    """One row per arm, seed, checkpoint and score, with the items behind it and what chance gives."""
    runs = {(run.summary.arm, run.summary.seed): run for run in evidence.contrasts}
    shares = {(run.arm, run.seed): run.summary.checkpoints for run in evidence.pretrain}
    rows = [
        (*key, shares[key[:2]][key[2]].share, score, value,
         sum(about.scored for about in judging(runs[key[:2]], score).values()), CHANCE)
        for score in scores(evidence)
        for key, value in values(evidence, score).items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


# ---- estimates ----


def at(evidence: Evidence, arm: str, score: str, checkpoint: str | None = None) -> Estimate | None:
    """Score of an arm at a checkpoint (none: its last): mean over pre-training seeds."""
    name = checkpoint or evidence.final_checkpoint(arm)
    found = values(evidence, score)
    own = [found[arm, run.seed, name] for run in evidence.runs(arm) if (arm, run.seed, name) in found]
    return stats.mean_interval(own) if own else None


def finals(evidence: Evidence, score: str, arm: str) -> dict[int, float]:
    """Seed -> score of an arm at its end [%], of an arm without training, too; what a floor rule compares."""
    found = values(evidence, score)
    return {
        run.seed: found[key]
        for run in evidence.runs(arm)
        if (key := (arm, run.seed, evidence.final_checkpoint(arm))) in found
    }


def gain(
    evidence: Evidence, score: str, arm: str, other: str, checkpoint: str | None = None,
    other_checkpoint: str | None = None,
) -> Paired | None:  # fmt: skip
    """Points by which an arm scores above another, paired by seed; at checkpoints, none: their last ones.

    The items are the same for all seeds: what their choice adds (``item_error``) is an error that the seeds share.
    """
    found = values(evidence, score)
    names = checkpoint or evidence.final_checkpoint(arm), other_checkpoint or evidence.final_checkpoint(other)
    keys = [((arm, run.seed, names[0]), (other, base.seed, names[1])) for run, base in evidence.pairs(arm, other)]
    error = item_error(evidence, score, arm, other, checkpoint, other_checkpoint)
    pairs = ((found[one], found[two]) for one, two in keys if one in found and two in found)
    return comparisons.difference(pairs, error or 0.0)


def item_error(
    evidence: Evidence, score: str, arm: str, other: str, checkpoint: str | None = None,
    other_checkpoint: str | None = None,
) -> float | None:  # fmt: skip
    """Standard error [points] of ``gain`` from the choice of items, for these very runs; None without common runs.

    Hits are paired item by item, averaged over the common seeds; the variances of the paradigms' means add up.
    """
    runs = {(run.summary.arm, run.summary.seed): run for run in evidence.contrasts}
    common = [run.seed for run, _ in evidence.pairs(arm, other)]
    if not common:
        return None
    first, second = checkpoint or evidence.final_checkpoint(arm), other_checkpoint or evidence.final_checkpoint(other)
    pairs = [
        (runs[arm, seed], runs[other, seed])
        for seed in common
        if first in _scored(runs.get((arm, seed))) and second in _scored(runs.get((other, seed)))
    ]
    names = judging(pairs[0][0], score) if pairs else {}
    if not names:
        return None
    differences = np.mean([one.hits(first, score) - two.hits(second, score) for one, two in pairs], axis=0)
    variances = [_variance_of_mean(part) for part in _parts(pairs[0][0], score, differences, names)]
    return 100 * math.sqrt(sum(variances)) / len(variances)


def _scored(run: ContrastsRun | None) -> Collection[str]:
    """The checkpoints of a run that were scored."""
    return run.summary.checkpoints if run else ()


def _parts(run: ContrastsRun, score: str, hits: np.ndarray, names: Iterable[str]) -> list[np.ndarray]:
    """The scored items of each of the named paradigms."""
    items = run.summary.tasks[score]
    ends = np.cumsum([about.items for about in items.values()])
    parts = dict(zip(items, np.split(hits, ends[:-1]), strict=True))
    return [parts[name][~np.isnan(parts[name])] for name in names]


def _variance_of_mean(part: np.ndarray) -> float:
    return float(part.var(ddof=1) / len(part)) if len(part) > 1 else 0.0


def reach(evidence: Evidence, score: str, arm: str, axis: str) -> Reach:
    """How soon an arm reaches the baseline's final score of the same seed, linear between scored checkpoints."""
    return reach_score(evidence, values(evidence, score), arm, axis)


# ---- the table ----


def contrasts_table(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Scores [%] of the arms of all text models at their scored checkpoints, and of every paradigm at the last one.

    Rows of a score have it as their quantity: mean over seeds; at the last checkpoint also difference against the
    baseline and the undropped twin, and item_error of the same. Rows of a paradigm have it as their condition: mean,
    and once, under the baseline, judges (1 or 0), items, left_out, longer (tokens), unigram, trigram.
    """
    return tidy(row for study in evidence.all_of(*FAMILIES) for row in _study_rows(study))


def _study_rows(evidence: Evidence) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    arms = [arm for arm in (*evidence.untrained, *evidence.methods) if _runs(evidence, arm)]
    for score in scores(evidence):
        for arm in arms:
            rows += [*_score_rows(evidence, score, arm), *_paradigm_rows(evidence, score, arm)]
        rows += _item_rows(evidence, score)
    return rows


def _runs(evidence: Evidence, arm: str) -> list[ContrastsRun]:
    return [run for run in evidence.contrasts if run.summary.arm == arm]


def _score_rows(evidence: Evidence, score: str, arm: str) -> list[dict[str, Any]]:
    final = evidence.final_checkpoint(arm)
    found = {name: at(evidence, arm, score, name) for name in evidence.checkpoints(arm)}
    rows = [
        tidy_row(evidence, arm, name, score, value, unit="%", statistic="mean")
        for name, value in found.items()
        if value
    ]
    for other in compared_arms(evidence, arm) if arm in evidence.arms else []:
        error = item_error(evidence, score, arm, other)
        items = None if error is None else Estimate(error, None, None, len(_runs(evidence, arm)), "over items, paired")
        difference = estimate_of(gain(evidence, score, arm, other))
        rows += [
            tidy_row(evidence, arm, final, score, difference, unit="points", statistic="difference", against=other),
            tidy_row(evidence, arm, final, score, items, unit="points", statistic="item_error", against=other),
        ]
    return rows


def _paradigm_rows(evidence: Evidence, score: str, arm: str) -> list[dict[str, Any]]:
    final, runs = evidence.final_checkpoint(arm), _runs(evidence, arm)
    shares = [run.summary.checkpoints[final][score] for run in runs if score in run.summary.tasks]
    return [
        tidy_row(evidence, arm, final, score, stats.mean_interval([100 * one[name] for one in shares]), unit="%",
                 statistic="mean", condition=name)
        for name in (shares[0] if shares else {})
    ]  # fmt: skip


def _item_rows(evidence: Evidence, score: str) -> list[dict[str, Any]]:
    """What the items of each paradigm are, and what word counts make of them."""
    arm = evidence.baseline
    runs = [run for run in _runs(evidence, arm) if score in run.summary.tasks]
    rows = []
    for name, about in (runs[0].summary.tasks[score] if runs else {}).items():
        numbers = {
            "judges": (float(about.judges), ""),
            "items": (float(about.items), "items"),
            "left_out": (float(about.left_out), "items"),
            "longer": (about.longer, "tokens"),
            "unigram": (None if about.unigram is None else 100 * about.unigram, "%"),
            "trigram": (None if about.trigram is None else 100 * about.trigram, "%"),
        }
        rows += [
            tidy_row(evidence, arm, evidence.final_checkpoint(arm), score,
                     Estimate(number, None, None, about.items, "count"), unit=unit, statistic=statistic,
                     condition=name, note=about.reason)
            for statistic, (number, unit) in numbers.items()
            if number is not None
        ]  # fmt: skip
    return rows
