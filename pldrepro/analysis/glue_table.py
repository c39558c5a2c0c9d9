"""Table 2's numbers: GLUE at each checkpoint, reported and measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import floors, glue_scores
from pldrepro.analysis.arms import cost_estimate
from pldrepro.analysis.reported import Paper, Reported, Row, Table
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import tidy, tidy_row
from pldrepro.stats import Estimate

SCORES = tuple(f"glue_{convention}" for convention in glue_scores.CONVENTIONS)


def table2(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """GLUE, one row per arm, checkpoint and value: the median over fine-tuning seeds, as in the paper.

    Values: the 12 of the paper, the mean over the tasks above their floor (whose values the note names), the three GLUE
    scores (from the medians), and the time up to the checkpoint [s].
    """
    rows: list[dict[str, Any]] = []
    judging = list(judging_tasks(evidence).values())
    for arm, checkpoint in evidence.finetuned:
        rows += _value_rows(evidence, paper, arm, checkpoint)
        above = mean_above_floor(evidence, arm, checkpoint, judging)
        rows.append(
            tidy_row(evidence, arm, checkpoint, ABOVE_FLOOR, above, unit="points", statistic="median",
                     note=" ".join(judging))
        )  # fmt: skip
        rows += [
            tidy_row(evidence, arm, checkpoint, "training_time", cost_estimate(evidence, arm, axis, checkpoint),
                     unit="s", cost_axis=axis)
            for axis in ("reference_time", "measured_time")
            if arm in evidence.arms
        ]  # fmt: skip
    return tidy(rows)


def reported_glue(paper: Paper, arm: str, checkpoint: str, column: str) -> Reported | None:
    """What the paper reports for an arm at a checkpoint: from Table 2, else from the ablation in Table 3."""
    for name in ("table2", "table3"):
        value = paper.tables[name].reported(paper.tables[name].row(arm, checkpoint), column)
        if value is not None:
            return value
    return None


def _value_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    medians, rows = measured_glue(evidence, arm, checkpoint), []
    for name in glue_scores.VALUES:
        reported = reported_glue(paper, evidence.paper_arm(arm), checkpoint, name)
        measured, _ = medians[name]
        rows.append(
            tidy_row(evidence, arm, checkpoint, name, measured, unit="%", statistic="median", reported=reported)
        )
    for convention, quantity in zip(glue_scores.CONVENTIONS, SCORES, strict=True):
        measured, note = medians[quantity]
        reported = reported_convention(paper, evidence.paper_arm(arm), checkpoint, convention)
        rows.append(
            tidy_row(evidence, arm, checkpoint, quantity, measured, unit="points", statistic="median",
                     reported=reported, note=note)
        )  # fmt: skip
    return rows


ABOVE_FLOOR = "tasks_above_floor"


def judging_tasks(evidence: Evidence) -> dict[str, str]:
    """Task above its floor -> its primary value."""
    tuned = {name for values in evidence.glue_values.values() for name in values}
    found = {task: name for task, name in glue_scores.PRIMARY.items() if name in tuned}
    return {task: name for task, name in found.items() if not floors.task_floor(evidence, task)}


def mean_above_floor(evidence: Evidence, arm: str, checkpoint: str, names: Sequence[str]) -> Estimate | None:
    """Mean of the named values, of tasks above their floor: mean over pre-training seeds; None without one."""
    runs = [values for (of, _, at), values in evidence.glue_values.items() if (of, at) == (arm, checkpoint)]
    means = [sum(values[name] for name in names) / len(names) for values in runs if names and set(names) <= set(values)]
    return stats.mean_interval(means) if means else None


def measured_glue(evidence: Evidence, arm: str, checkpoint: str) -> dict[str, tuple[Estimate | None, str]]:
    """The 12 values and the three scores at a checkpoint, each with a note: mean over pre-training seeds of medians.

    A score is None where it is undefined for one of the seeds.
    """
    runs = [values for (of, _, at), values in evidence.glue_values.items() if (of, at) == (arm, checkpoint)]
    found: dict[str, tuple[Estimate | None, str]] = {}
    for name in glue_scores.VALUES:
        medians = [values[name] for values in runs if name in values]
        found[name] = (stats.mean_interval(medians) if medians else None, "")
    for convention, quantity in zip(glue_scores.CONVENTIONS, SCORES, strict=True):
        scores = [glue_scores.glue_scores(values)[convention] for values in runs]
        scores = [one for one in scores if one.count]
        defined = [one.value for one in scores if one.value is not None]
        measured = stats.mean_interval(defined) if defined and len(defined) == len(scores) else None
        found[quantity] = (measured, "; ".join(sorted({one.note for one in scores})))
    return found


def original_bert(paper: Paper) -> tuple[str, list[dict[str, Any]]]:
    """BERT as published, on the test sets: its name, and what Table 2 reports of it, as rows without a measurement."""
    table = paper.tables["table2"]
    row = next(row for row in table.rows if row.key == "original")
    return row.label, [
        {"quantity": name, "statistic": "median", "reported": cell.value, "provenance": cell.provenance}
        for name, cell in reported_cells(table, row).items()
        if cell is not None
    ]


def reported_cells(table: Table, row: Row | None) -> dict[str, Reported | None]:
    """The 12 values and the GLUE score of a row of a paper's table, and the scores that its values give otherwise."""
    cells = {name: table.reported(row, name) for name in glue_scores.VALUES}
    glue = table.reported(row, "glue")
    return {**cells, **{f"glue_{name}": derived_score(cells, glue, name) for name in glue_scores.CONVENTIONS}}


def reported_convention(paper: Paper, arm: str, checkpoint: str, convention: str) -> Reported | None:
    """The paper's GLUE score; in the other conventions derived from the paper's own cells."""
    cells = {name: reported_glue(paper, arm, checkpoint, name) for name in glue_scores.VALUES}
    return derived_score(cells, reported_glue(paper, arm, checkpoint, "glue"), convention)


def derived_score(cells: Mapping[str, Reported | None], glue: Reported | None, convention: str) -> Reported | None:
    """A reported GLUE score, or what the reported cells give in another convention than the paper's."""
    if glue is None or convention == "paper":
        return glue
    value = glue_scores.glue_scores({name: cell.value for name, cell in cells.items() if cell})[convention].value
    if value is None:
        return None
    # A score that is derived from values nobody checked is as unverified as they are.
    provenance = "derived" if glue.provenance == "verified" else glue.provenance
    return glue.model_copy(update={"value": value, "provenance": provenance, "note": "from the paper's own cells"})
