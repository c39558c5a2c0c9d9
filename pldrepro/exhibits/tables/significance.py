"""Tests on predictions: PLD's GLUE differences, held against the chance of the development examples."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.seed_spread import compared_arms, finetuned_methods
from pldrepro.analysis.significance import RESAMPLES, glue_tests
from pldrepro.analysis.text import estimate_text, number
from pldrepro.analysis.tidy import find
from pldrepro.exhibits.layout import Panel
from pldrepro.exhibits.tables.seed_spread import TASK_NAMES, task_names

TEST_COLUMNS = ("task", "metric", "difference", "p", "p (Holm)", "examples", "difference over seeds", "seeds")


def glue_tests_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """One panel per arm that PLD is compared with."""
    frame = glue_tests(evidence, paper)
    if frame.empty:
        caption = f"PLD's GLUE differences, tested on the development examples, at scale {evidence.scale}"
        return [Panel(caption, TEST_COLUMNS, (), (_why_no_tests(evidence),))]
    return [
        _tests_panel(evidence, frame[frame["against"] == other], other)
        for other in compared_arms(evidence, evidence.pld)
        if other in set(frame["against"])
    ]


def _why_no_tests(evidence: Evidence) -> str:
    if evidence.pld not in evidence.arms:
        return f"No arm {evidence.pld!r} in this study."
    if evidence.pld not in finetuned_methods(evidence):
        return f"The final checkpoint of {evidence.label(evidence.pld)} was not fine-tuned in this study."
    if not evidence.finetune:
        return "Scores alone were given, without the fine-tuning runs that hold the predictions."
    names = ", ".join(evidence.label(other) for other in compared_arms(evidence, evidence.pld))
    return f"{evidence.label(evidence.pld)} shares no fine-tuned task and seed with {names or 'any other arm'}."


def _tests_panel(evidence: Evidence, part: pd.DataFrame, other: str) -> Panel:
    rows = []
    for task, name in glue_scores.PRIMARY.items():
        cells = {axis: find(part, quantity=name, statistic=axis) for axis in ("examples", "seeds", "p", "p_holm")}
        over_examples, over_seeds, p, p_holm = cells.values()
        if over_examples is None or over_seeds is None or p is None or p_holm is None:
            continue
        rows.append(
            (
                TASK_NAMES[task], glue_scores.VALUES[name][2], estimate_text(over_examples, 2), number(p.value, 4),
                number(p_holm.value, 4), str(over_examples.n), estimate_text(over_seeds, 2), str(over_seeds.n),
            )
        )  # fmt: skip
    absent = [task for task, name in glue_scores.PRIMARY.items() if name not in set(part["quantity"])]
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
