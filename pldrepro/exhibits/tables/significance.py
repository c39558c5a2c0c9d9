"""Tests on predictions: PLD's GLUE differences, with the sampling error of the development examples."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.arms import compared_arms, finetuned_methods
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.significance import RESAMPLES
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, select
from pldrepro.exhibits.tables.seed_spread import TASK_NAMES, task_names

COLUMNS = (
    ColumnLayout("task"),
    ColumnLayout("metric"),
    ColumnLayout("difference", None, 2, statistic="examples"),
    ColumnLayout("p", None, 4, statistic="p"),
    ColumnLayout("p (Holm)", None, 4, statistic="p_holm"),
    ColumnLayout("examples", None, show=count, statistic="examples"),
    ColumnLayout("difference over seeds", None, 2, statistic="seeds"),
    ColumnLayout("seeds", None, show=count, statistic="seeds"),
)


def glue_tests_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """One table per arm that PLD is compared with."""
    if frame.empty:
        title = f"PLD's GLUE differences, tested on the development examples, study {evidence.scale}"
        return [TableLayout(title, COLUMNS, notes=(_why_no_tests(evidence),))]
    return [
        _against(evidence, frame[frame["against"] == other], other)
        for other in compared_arms(evidence, evidence.pld)
        if other in set(frame["against"])
    ]


def _why_no_tests(evidence: Evidence) -> str:
    if evidence.pld not in evidence.arms:
        return "No arm of role pld in this study."
    if evidence.pld not in finetuned_methods(evidence):
        return f"The final checkpoint of {evidence.label(evidence.pld)} was not fine-tuned in this study."
    if not evidence.finetune:
        return "Only scores were given, without the fine-tuning runs that hold the predictions."
    names = ", ".join(evidence.label(other) for other in compared_arms(evidence, evidence.pld))
    return f"{evidence.label(evidence.pld)} shares no fine-tuned task and seed with {names or 'any other arm'}."


def _against(evidence: Evidence, part: pd.DataFrame, other: str) -> TableLayout:
    tested = {task: rows for task, name in glue_scores.PRIMARY.items() if (rows := select(part, quantity=name))}
    notes = [
        "Difference in percent at the final checkpoints, the metric averaged over the runs (common pre-training seeds "
        "× fine-tuning seeds, at the selected learning rates). Interval and p (two-sided): paired percentile bootstrap "
        f"over development examples ({RESAMPLES:,} resamples: no p is below {2 / (RESAMPLES + 1):.4f}), for these very "
        "runs; p (Holm) is adjusted over the tasks that are tested. The difference over seeds is the same number with "
        "its 95 % t interval over pre-training seeds, which holds what another seed would change: a difference that "
        "only the examples support may be of these runs only. The learning rates were selected on the same examples.",
    ]
    notes += [f"{note[:1].upper()}{note[1:]}." for note in dict.fromkeys(part["note"]) if note]
    absent = [task for task in glue_scores.PRIMARY if task not in tested]
    if absent:
        notes.append(f"Without predictions of both arms: {task_names(absent)}.")
    return TableLayout(
        f"{evidence.label(evidence.pld)} minus {evidence.label(other)}, tested on the development examples, "
        f"study {evidence.scale}",
        COLUMNS,
        tuple(
            Line({"task": TASK_NAMES[task], "metric": glue_scores.VALUES[glue_scores.PRIMARY[task]][2]}, rows)
            for task, rows in tested.items()
        ),
        tuple(notes),
    )
