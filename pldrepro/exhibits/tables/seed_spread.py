"""What seeds do to the numbers: spread over pre-training seeds, its parts, and how stable fine-tuning is.

Three tables, at the final checkpoints of the methods: ``seeds``, ``variance`` and ``stability``. Their tidy rows, like
those of ``glue_tests``, have one more key than others: ``against``, the arm that a row compares with (empty: none).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.seed_spread import (
    POWER,
    QUANTITIES,
    SMALL_TASKS,
    compared_arms,
    finetuned_methods,
    seeds,
    stability,
    undropped_reference,
    variance,
)
from pldrepro.analysis.text import DASH, estimate_text, number
from pldrepro.analysis.tidy import find
from pldrepro.exhibits.layout import Panel

TASK_NAMES = {
    "rte": "RTE", "mrpc": "MRPC", "stsb": "STS-B", "cola": "CoLA", "sst2": "SST-2", "qnli": "QNLI", "qqp": "QQP",
    "mnli": "MNLI",
}  # fmt: skip
NOT_FINETUNED = "Nothing was fine-tuned in this study: no GLUE values to compare."


def seeds_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One panel per quantity: spread and paired differences of every method, then what that says of stability."""
    frame = seeds(evidence, paper)
    return [_seeds_panel(evidence, frame, quantity) for quantity in QUANTITIES]


def _seeds_panel(evidence: Evidence, frame: pd.DataFrame, quantity: str) -> Panel:
    name, unit, digits = QUANTITIES[quantity]
    part = frame[frame["quantity"] == quantity]
    rows: list[tuple[str, ...]] = []
    for arm in dict.fromkeys(part["arm"]):
        own = part[part["arm"] == arm]
        mean, deviation = (find(own, statistic=axis, against="") for axis in ("mean", "deviation"))
        head: tuple[str, ...] = (
            evidence.label(arm), str(mean.n) if mean else DASH,
            estimate_text(mean, digits), estimate_text(deviation, digits),
        )  # fmt: skip
        for other in compared_arms(evidence, arm) or [""]:
            rows.append((*head, *_comparison_cells(evidence, own, other, digits)))
            head = ("",) * len(head)
    notes = [
        "Mean [95 % t interval] and standard deviation [95 % chi-square interval] over n pre-training seeds; "
        "differences and ratios of standard deviations (Pitman–Morgan interval, from 3 seeds) are paired by seed. "
        f"Seeds for {POWER:.0%}: with which a paired t test finds the observed difference with that probability, its "
        "mean and spread taken as true: of few seeds a rough guide.",
        *(_destabilises(evidence, part, name) if rows else [NOT_FINETUNED]),
    ]
    columns = (
        "arm", "n", "mean", "standard deviation", "against", "difference", f"seeds for {POWER:.0%}", "ratio of SDs",
    )  # fmt: skip
    return Panel(f"Over seeds: {name} [{unit}] at scale {evidence.scale}", columns, tuple(rows), tuple(notes))


def _comparison_cells(evidence: Evidence, part: pd.DataFrame, other: str, digits: int) -> tuple[str, ...]:
    if not other:
        return (DASH, DASH, DASH, DASH)
    difference, needed, ratio = (
        find(part, statistic=axis, against=other) for axis in ("difference", "pairs_for_power", "deviation_ratio")
    )
    pairs = difference.n if difference else 0
    count = number(needed.value, 0) if needed else "> 1,000" if pairs > 1 else DASH
    return (evidence.label(other), estimate_text(difference, digits), count, estimate_text(ratio, 2))


def _destabilises(evidence: Evidence, part: pd.DataFrame, name: str) -> list[str]:
    """Whether PLD's results spread more over seeds than those of what it is compared with."""
    if evidence.pld not in evidence.arms:
        return [f"No arm {evidence.pld!r} in this study: whether PLD destabilises was not measured."]
    answers = []
    for other in compared_arms(evidence, evidence.pld):
        ratio = find(part, arm=evidence.pld, statistic="deviation_ratio", against=other)
        if ratio is None or ratio.low is None or ratio.high is None:
            answer = "fewer than 3 common seeds, or no spread, give no interval"
        elif ratio.low > 1:
            answer = "PLD spreads more"
        elif ratio.high < 1:
            answer = "PLD spreads less"
        else:
            answer = "no difference is shown: the interval includes 1"
        answers.append(f"against {evidence.label(other)} the ratio of standard deviations is {estimate_text(ratio, 2)}"
                       f" ({answer})")  # fmt: skip
    return [f"Does PLD destabilise, by {name} over seeds? {_sentence(answers)}"] if answers else []


def _sentence(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


def variance_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Standard deviations of both kinds, a line per value and method."""
    frame = variance(evidence, paper)
    rows: list[tuple[str, ...]] = []
    notes = [
        "Standard deviations (the square roots of the variance parts; one-way random effects) in percent, between "
        "pre-training seeds (truncated at 0) and between fine-tuning seeds [95 % chi-square interval], at the learning "
        "rate selected for each pre-training seed; where that differs, the difference counts as pre-training's.",
    ]
    if frame.empty:
        return [Panel(_variance_caption(evidence), VARIANCE_COLUMNS, (), (NOT_FINETUNED,))]
    labels = {name: paper.tables["table2"].columns[name].label for name in glue_scores.VALUES}
    for name in (name for name in glue_scores.VALUES if name in set(frame["quantity"])):
        for arm in dict.fromkeys(frame[frame["quantity"] == name]["arm"]):
            part = frame[(frame["quantity"] == name) & (frame["arm"] == arm)]
            parts = [find(part, statistic=axis) for axis in ("between_pretraining", "between_finetuning")]
            deviations = [None if one is None else one.map(np.sqrt) for one in parts]
            counts = [str(one.n) if one else DASH for one in parts]
            rows.append((labels[name], evidence.label(arm), *(estimate_text(one, 2) for one in deviations), *counts))
    said = {note for note in frame["note"] if note}
    notes += [_sentence([f"{note} ({_where(frame, note, labels)})"]) for note in sorted(said)]
    return [Panel(_variance_caption(evidence), VARIANCE_COLUMNS, tuple(rows), tuple(notes))]


VARIANCE_COLUMNS = (
    "value", "arm", "between pre-training seeds", "between fine-tuning seeds", "pre-training seeds", "runs",
)  # fmt: skip


def _variance_caption(evidence: Evidence) -> str:
    return f"Where the spread of GLUE values comes from, at scale {evidence.scale}"


def _where(frame: pd.DataFrame, note: str, labels: Mapping[str, str]) -> str:
    """Values that a note is about; "all values" where it is all of them."""
    about = set(frame[frame["note"] == note]["quantity"])
    return (
        "all values"
        if about == set(frame["quantity"])
        else ", ".join(labels[n] for n in glue_scores.VALUES if n in about)
    )


STABILITY_COLUMNS = (
    "task", "arm", "runs", "standard deviation", "range", "ratio of SDs", "failed at the selected rate",
    "failed at any rate", "a run fails up to",
)  # fmt: skip


def stability_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """A line per small task and method."""
    frame = stability(evidence, paper)
    caption = f"Stability of fine-tuning on the small tasks, at scale {evidence.scale}"
    if frame.empty:
        missing = NOT_FINETUNED
        if finetuned_methods(evidence):
            missing = f"None of the small tasks ({task_names(SMALL_TASKS)}) was fine-tuned in this study."
        return [Panel(caption, STABILITY_COLUMNS, (), (missing,))]
    reference = undropped_reference(evidence)
    rows: list[tuple[str, ...]] = []
    absent = []
    for task in SMALL_TASKS:
        part = frame[frame["quantity"] == glue_scores.PRIMARY[task]]
        if part.empty:
            absent.append(task)
        for arm in dict.fromkeys(part["arm"]):
            cells = {axis: find(part, arm=arm, statistic=axis) for axis in set(part["statistic"])}
            runs = next((cells[axis] for axis in ("failed", "deviation") if cells.get(axis)), None)
            rows.append(
                (
                    TASK_NAMES[task], evidence.label(arm), str(runs.n) if runs else DASH,
                    *(estimate_text(cells.get(axis), 2) for axis in ("deviation", "range", "deviation_ratio")),
                    *(estimate_text(cells.get(axis), 0) for axis in ("failed", "failed_all")),
                    estimate_text(cells.get("constant"), 1),
                )
            )  # fmt: skip
    notes = [
        "Percent of the primary metric (RTE accuracy, MRPC F1, CoLA Matthews, STS-B Spearman). Standard deviation over "
        "fine-tuning seeds, pooled within pre-training seeds [95 % chi-square interval]; range: largest minus smallest "
        "over fine-tuning seeds, mean over pre-training seeds. A run fails when its metric is not above "
        "the best that one and the same prediction for all examples gets (last column: the majority class, for F1 "
        "class 1 always, 0 for a correlation); share in percent [Clopper–Pearson interval, runs taken as independent].",
        f"Ratio of SDs: against {evidence.label(reference)} [95 % F interval]."
        if reference
        else "No arm without dropping that is otherwise PLD's: no ratio of standard deviations.",
        *sorted({f"{_sentence([note])}" for note in frame["note"] if note}),
    ]
    if absent:
        notes.append(f"Not fine-tuned in this study: {task_names(absent)}.")
    return [Panel(caption, STABILITY_COLUMNS, tuple(rows), tuple(notes))]


def task_names(tasks: Iterable[str]) -> str:
    """Tasks as people write them."""
    return ", ".join(TASK_NAMES[task] for task in tasks)
