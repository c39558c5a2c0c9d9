"""Tests over development examples, corrected for their number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import stats
from pldrepro.analysis import bootstrap, floors, glue_metrics, glue_scores
from pldrepro.analysis.arms import compared_arms, finetuned_methods
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.seed_spread import selected_scores
from pldrepro.analysis.tidy import final_row, plain, tidy
from pldrepro.data.tasks import TASKS
from pldrepro.errors import RecordError
from pldrepro.stats import Estimate

# Enough for p values that are adjusted over eight tasks: eight times the smallest, 2 / (R + 1), is below 0.01.
RESAMPLES = 2000


def glue_tests(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """PLD's final checkpoint against the baseline's and the undropped twin's, per task by its primary metric [%].

    Statistics: examples (difference with its interval over resampled development examples; n: examples), seeds (the
    same difference with its t interval over common pre-training seeds), p (of the former, two-sided) and p_holm
    (adjusted over the tasks of a comparison). An arm's metric is the median over fine-tuning seeds, averaged over the
    pre-training seeds that both arms have, at the selected learning rates. A task at the floor (see ``floors``) has
    no p and does not count among the tests.
    """
    rows: list[dict[str, Any]] = []
    if evidence.pld not in evidence.arms or evidence.pld not in finetuned_methods(evidence):
        return tidy(rows)
    predictions = _predictions(evidence, [evidence.pld, *compared_arms(evidence, evidence.pld)])
    at_floor = {task: floors.task_floor(evidence, task) for task in glue_scores.PRIMARY}
    for other in compared_arms(evidence, evidence.pld):
        tests = {}
        for task in glue_scores.PRIMARY:
            pair = _common_runs(evidence, predictions, other, task)
            if pair:
                tests[task] = _test(task, *pair)
        above = [task for task in tests if not at_floor[task]]
        adjusted = dict(zip(above, stats.holm([tests[task][0].p for task in above]), strict=True))
        for task, (test, over_seeds) in tests.items():
            name, n, p_holm = glue_scores.PRIMARY[task], test.estimate.n, adjusted.get(task)
            p = None if p_holm is None else test.p
            rows += [
                final_row(evidence, evidence.pld, name, statistic, measured, unit=unit, against=other,
                          note=at_floor[task] and f"no test of {TASKS[task].title}: {at_floor[task]}")
                for statistic, unit, measured in (
                    ("examples", "%", test.estimate.map(lambda value: 100 * value)),
                    ("seeds", "%", over_seeds),
                    ("p", "", plain(p, n, "paired bootstrap over examples, two-sided")),
                    ("p_holm", "", plain(p_holm, n, f"adjusted over {len(above)} tasks (Holm)")),
                )
            ]  # fmt: skip
    return tidy(rows)


# Pre-training seed -> predictions of the runs with it, (runs, N), of an arm on a task; and the labels, (N,).
Runs = tuple[dict[int, np.ndarray], np.ndarray]


def _predictions(evidence: Evidence, arms: Iterable[str]) -> dict[tuple[str, str], Runs]:
    """(arm, task) -> predictions at the final checkpoint and selected learning rate, on the primary metric's split."""
    runs: dict[tuple[str, str], tuple[dict[int, list[np.ndarray]], np.ndarray]] = {}
    rates = {
        (arm, row["seed"], row["task"]): row["learning_rate"]
        for arm in arms
        if (arm, evidence.final_checkpoint(arm)) in evidence.finetuned
        for row in selected_scores(evidence, arm).to_dict("records")
    }
    for run in evidence.finetune:
        arm, seed = run.summary.arm, run.summary.seed
        if arm not in arms or run.summary.checkpoint != evidence.final_checkpoint(arm):
            continue
        for task, split, rate, _, predictions, labels in glue_scores.read_predictions(run):
            if split != glue_scores.VALUES[glue_scores.PRIMARY[task]][1] or rate != rates.get((arm, seed, task)):
                continue
            by_seed, first_labels = runs.setdefault((arm, task), ({}, labels))
            if not np.array_equal(labels, first_labels):
                raise RecordError(f"{run.folder}: {task}: not the development set of {arm}'s other runs")
            by_seed.setdefault(seed, []).append(predictions)
    return {
        key: ({seed: np.stack(arrays) for seed, arrays in by_seed.items()}, labels)
        for key, (by_seed, labels) in runs.items()
    }


def _common_runs(
    evidence: Evidence, predictions: Mapping[tuple[str, str], Runs], other: str, task: str
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray], np.ndarray] | None:
    """Predictions of PLD and of another arm for the seeds that both have, and the labels; None where there are none."""
    if (evidence.pld, task) not in predictions or (other, task) not in predictions:
        return None
    (first, labels), (second, other_labels) = predictions[evidence.pld, task], predictions[other, task]
    if not np.array_equal(labels, other_labels):
        raise RecordError(f"{task}: {evidence.pld} and {other} were not fine-tuned with the same development set")
    common = sorted(set(first) & set(second))
    if not common:
        return None
    return {seed: first[seed] for seed in common}, {seed: second[seed] for seed in common}, labels


def _test(
    task: str, first: Mapping[int, np.ndarray], second: Mapping[int, np.ndarray], labels: np.ndarray
) -> tuple[bootstrap.BootstrapTest, Estimate]:
    """The test over examples, and the difference in percent over pre-training seeds."""
    metric = glue_scores.VALUES[glue_scores.PRIMARY[task]][2]
    test = bootstrap.paired_bootstrap(
        metric, np.concatenate(list(first.values())), np.concatenate(list(second.values())), labels,
        groups=([len(runs) for runs in first.values()], [len(runs) for runs in second.values()]), resamples=RESAMPLES,
    )  # fmt: skip
    own, base = (
        [
            100 * glue_scores.over_finetuning_seeds(glue_metrics.metric_values(metric, runs, labels).tolist())
            for runs in arm.values()
        ]
        for arm in (first, second)
    )
    return test, stats.paired_difference(own, base)
