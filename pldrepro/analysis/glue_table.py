"""Table 2's numbers: GLUE at each checkpoint, reported and measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.reported import Paper, Reported
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import cost_estimate, role, tidy, tidy_row


def table2(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """GLUE, one row per arm, checkpoint, value and statistic (median, as in the paper, or mean over fine-tuning seeds).

    Values: the 12 of the paper, the three GLUE scores (from the medians), and the time up to the checkpoint [s].
    """
    rows: list[dict[str, Any]] = []
    cells = glue_scores.cells(evidence.scores) if evidence.scores is not None else pd.DataFrame()
    for arm, checkpoint in evidence.finetuned:
        part = cells[(cells["arm"] == arm) & (cells["checkpoint"] == checkpoint)]
        rows += _value_rows(evidence, paper, arm, checkpoint, part)
        rows += _glue_rows(evidence, paper, arm, checkpoint)
        rows += [
            tidy_row(evidence, arm, checkpoint, "training_time", cost_estimate(evidence, arm, axis, checkpoint),
                     unit="s", cost_axis=axis)
            for axis in ("reference_time", "measured_time")
        ]  # fmt: skip
    return tidy(rows)


def reported_glue(paper: Paper, arm: str, checkpoint: str, column: str) -> Reported | None:
    """What the paper reports for an arm at a checkpoint: from Table 2, else from the ablation in Table 3."""
    for name in ("table2", "table3"):
        value = paper.tables[name].reported(paper.tables[name].row(arm, checkpoint), column)
        if value is not None:
            return value
    return None


def _value_rows(
    evidence: Evidence, paper: Paper, arm: str, checkpoint: str, cells: pd.DataFrame
) -> list[dict[str, Any]]:
    rows = []
    for name in glue_scores.VALUES:
        found = cells[cells["value_name"] == name]
        reported = reported_glue(paper, role(evidence, arm), checkpoint, name)
        for statistic in ("median", "mean") if len(found) else ("median",):
            measured = stats.mean_interval(found[statistic].tolist()) if len(found) else None
            rows.append(
                tidy_row(evidence, arm, checkpoint, name, measured, unit="%", statistic=statistic, reported=reported)
            )
    return rows


def _glue_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    rows = []
    for convention in glue_scores.CONVENTIONS:
        scores = [comparisons.glue(evidence, arm, run.seed, checkpoint, convention) for run in evidence.runs(arm)]
        scores = [one for one in scores if one.count]
        values = [one.value for one in scores if one.value is not None]
        measured = stats.mean_interval(values) if len(values) == len(scores) else None
        note = "; ".join(sorted({one.note for one in scores}))
        reported = reported_convention(paper, role(evidence, arm), checkpoint, convention)
        rows.append(
            tidy_row(evidence, arm, checkpoint, f"glue_{convention}", measured, unit="points", statistic="median",
                     reported=reported, note=note)
        )  # fmt: skip
    return rows


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
