"""Tests on predictions: PLD's GLUE differences, held against the chance of the development examples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import examples, score, stats
from pldrepro.evidence import Evidence
from pldrepro.papers import Paper
from pldrepro.records import RecordError
from pldrepro.stats import Estimate
from pldrepro.tables.panel import Panel, estimate_text, find, number
from pldrepro.tables.seeds import (
    TASK_NAMES,
    comparisons,
    final_row,
    finetuned_methods,
    plain,
    selected_scores,
    task_names,
)

# Enough for p values that are adjusted over eight tasks: eight times the smallest, 2 / (R + 1), is below 0.01.
RESAMPLES = 2000


def glue_tests(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """PLD's final checkpoint against the baseline's and the undropped twin's, per task by its primary metric [%].

    Axes: examples (difference with its interval over resampled development examples; n: examples), seeds (the same
    difference with its t interval over common pre-training seeds), p (of the former, two-sided) and p_holm (adjusted
    over the tasks of a comparison). The metric is averaged over the runs of an arm, pre-training seeds that both arms
    have x fine-tuning seeds, at the selected learning rates.
    """
    rows: list[dict[str, Any]] = []
    if evidence.pld not in evidence.arms or evidence.pld not in finetuned_methods(evidence):
        return pd.DataFrame(rows)
    predictions = _predictions(evidence, [evidence.pld, *comparisons(evidence, evidence.pld)])
    for other in comparisons(evidence, evidence.pld):
        tests = {}
        for task in score.PRIMARY:
            pair = _common_runs(evidence, predictions, other, task)
            if pair:
                tests[task] = _test(task, *pair)
        adjusted = stats.holm([test.p for test, _ in tests.values()])
        for (task, (test, over_seeds)), p_holm in zip(tests.items(), adjusted, strict=True):
            name, n = score.PRIMARY[task], test.estimate.n
            rows += [
                final_row(evidence, evidence.pld, name, axis, unit, measured, other)
                for axis, unit, measured in (
                    ("examples", "%", test.estimate.map(lambda value: 100 * value)),
                    ("seeds", "%", over_seeds),
                    ("p", "", plain(test.p, n, "paired bootstrap over examples, two-sided")),
                    ("p_holm", "", plain(p_holm, n, f"adjusted over {len(tests)} tasks (Holm)")),
                )
            ]
    return pd.DataFrame(rows)


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
        arm, seed = run.summary["arm"], run.summary["seed"]
        if arm not in arms or run.summary["checkpoint"] != evidence.final_checkpoint(arm):
            continue
        for task, split, rate, _, predictions, labels in score.read_predictions(run):
            if split != score.VALUES[score.PRIMARY[task]][1] or rate != rates.get((arm, seed, task)):
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
) -> tuple[examples.BootstrapTest, Estimate]:
    """The test over examples, and the difference in percent over pre-training seeds."""
    metric = score.VALUES[score.PRIMARY[task]][2]
    test = examples.paired_bootstrap(
        metric, np.concatenate(list(first.values())), np.concatenate(list(second.values())), labels,
        resamples=RESAMPLES,
    )  # fmt: skip
    own, base = (
        [100 * float(examples.metric_values(metric, runs, labels).mean()) for runs in arm.values()]
        for arm in (first, second)
    )
    return test, stats.paired_difference(own, base)


TEST_COLUMNS = ("task", "metric", "difference", "p", "p (Holm)", "examples", "difference over seeds", "seeds")


def glue_tests_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One panel per arm that PLD is compared with."""
    frame = glue_tests(evidence, paper)
    if frame.empty:
        caption = f"PLD's GLUE differences, tested on the development examples, at scale {evidence.scale}"
        return [Panel(caption, TEST_COLUMNS, (), (_why_no_tests(evidence),))]
    return [
        _tests_panel(evidence, frame[frame["against"] == other], other)
        for other in comparisons(evidence, evidence.pld)
        if other in set(frame["against"])
    ]


def _why_no_tests(evidence: Evidence) -> str:
    if evidence.pld not in evidence.arms:
        return f"No arm {evidence.pld!r} in this study."
    if evidence.pld not in finetuned_methods(evidence):
        return f"The final checkpoint of {evidence.label(evidence.pld)} was not fine-tuned in this study."
    if not evidence.finetune:
        return "Scores alone were given, without the fine-tuning runs that hold the predictions."
    names = ", ".join(evidence.label(other) for other in comparisons(evidence, evidence.pld))
    return f"{evidence.label(evidence.pld)} shares no fine-tuned task and seed with {names or 'any other arm'}."


def _tests_panel(evidence: Evidence, part: pd.DataFrame, other: str) -> Panel:
    rows = []
    for task, name in score.PRIMARY.items():
        cells = {axis: find(part, quantity=name, axis=axis) for axis in ("examples", "seeds", "p", "p_holm")}
        over_examples, over_seeds, p, p_holm = cells.values()
        if over_examples is None or over_seeds is None or p is None or p_holm is None:
            continue
        rows.append(
            (
                TASK_NAMES[task], score.VALUES[name][2], estimate_text(over_examples, 2), number(p.value, 4),
                number(p_holm.value, 4), str(over_examples.n), estimate_text(over_seeds, 2), str(over_seeds.n),
            )
        )  # fmt: skip
    absent = [task for task, name in score.PRIMARY.items() if name not in set(part["quantity"])]
    notes = [
        "Difference in percent at the final checkpoints, the metric averaged over the runs (common pre-training seeds "
        "× fine-tuning seeds, at the selected learning rates). Interval and p (two-sided): paired percentile bootstrap "
        f"over development examples ({RESAMPLES:,} resamples: no p is below {2 / (RESAMPLES + 1):.4f}), for these very "
        "runs; p (Holm) is adjusted over the tasks of this table. The difference over seeds is the same number with "
        "its 95 % t interval over pre-training seeds, which holds what another seed would change: a difference that "
        "only the examples support may be these runs' alone. The learning rates were selected on the same examples.",
    ]
    if absent:
        notes.append(f"Without predictions of both arms: {task_names(absent)}.")
    caption = (
        f"{evidence.label(evidence.pld)} minus {evidence.label(other)}, tested on the development examples, "
        f"at scale {evidence.scale}"
    )
    return Panel(caption, TEST_COLUMNS, tuple(rows), tuple(notes))
