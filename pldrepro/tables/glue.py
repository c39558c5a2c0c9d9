"""Table 2, GLUE: one tidy row per number, then the paper's layout, measured values below the reported ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pldrepro import evidence as ev
from pldrepro import score, stats
from pldrepro.evidence import Evidence
from pldrepro.papers import MARKS, Paper, Reported, mark_notes
from pldrepro.tables.panel import (
    DASH,
    Panel,
    cell,
    cost_estimate,
    number,
    plus_minus,
    reported_text,
    role,
    tidy_row,
    time_unit,
)


def table2(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """GLUE, one row per arm, checkpoint, value and statistic (median, as in the paper, or mean over fine-tuning seeds).

    Values: the 12 of the paper, the three GLUE scores (from the medians), and the time up to the checkpoint [s].
    """
    rows: list[dict[str, Any]] = []
    cells = score.cells(evidence.scores) if evidence.scores is not None else pd.DataFrame()
    for arm, checkpoint in evidence.finetuned:
        part = cells[(cells["arm"] == arm) & (cells["checkpoint"] == checkpoint)]
        rows += _value_rows(evidence, paper, arm, checkpoint, part)
        rows += _glue_rows(evidence, paper, arm, checkpoint)
        rows += [
            tidy_row(
                evidence, arm, checkpoint, "training_time", axis, "s", cost_estimate(evidence, arm, axis, checkpoint)
            )
            for axis in ("reference_time", "measured_time")
        ]
    return pd.DataFrame(rows)


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
    for name in score.VALUES:
        found = cells[cells["value_name"] == name]
        reported = reported_glue(paper, role(evidence, arm), checkpoint, name)
        for statistic in ("median", "mean") if len(found) else ("median",):
            measured = stats.mean_interval(found[statistic].tolist()) if len(found) else None
            rows.append(tidy_row(evidence, arm, checkpoint, name, statistic, "%", measured, reported))
    return rows


def _glue_rows(evidence: Evidence, paper: Paper, arm: str, checkpoint: str) -> list[dict[str, Any]]:
    rows = []
    for convention in score.CONVENTIONS:
        scores = [ev.glue(evidence, arm, run.seed, checkpoint, convention) for run in evidence.runs(arm)]
        scores = [one for one in scores if one.count]
        values = [one.value for one in scores if one.value is not None]
        measured = stats.mean_interval(values) if len(values) == len(scores) else None
        note = "; ".join(sorted({one.note for one in scores}))
        reported = reported_convention(paper, role(evidence, arm), checkpoint, convention)
        rows.append(
            tidy_row(evidence, arm, checkpoint, f"glue_{convention}", "median", "points", measured, reported, note)
        )
    return rows


def reported_convention(paper: Paper, arm: str, checkpoint: str, convention: str) -> Reported | None:
    """The paper's GLUE score; in the other conventions derived from the paper's own cells."""
    cells = {name: reported_glue(paper, arm, checkpoint, name) for name in score.VALUES}
    return derived_score(cells, reported_glue(paper, arm, checkpoint, "glue"), convention)


def derived_score(cells: Mapping[str, Reported | None], glue: Reported | None, convention: str) -> Reported | None:
    """A reported GLUE score, or what the reported cells give in another convention than the paper's."""
    if glue is None or convention == "paper":
        return glue
    value = score.glue_scores({name: cell.value for name, cell in cells.items() if cell})[convention].value
    if value is None:
        return None
    # A score that is derived from values nobody checked is as unverified as they are.
    provenance = "derived" if glue.provenance == "verified" else glue.provenance
    return glue.model_copy(update={"value": value, "provenance": provenance, "note": "from the paper's own cells"})


def table2_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Table 2 as the paper prints it: per run a line of reported and a line of measured values."""
    frame = table2(evidence, paper)
    times = [] if frame.empty else frame[frame["quantity"] == "training_time"]["measured"].dropna().tolist()
    unit, seconds = time_unit(times)
    labels = {name: paper.tables["table2"].columns[name].label for name in score.VALUES}
    rows: list[tuple[str, ...]] = [_original_row(paper)]
    provenances = ["derived"]
    for arm, checkpoint in evidence.finetuned:
        name = f"{evidence.label(arm)} {checkpoint}"
        if reported_glue(paper, role(evidence, arm), checkpoint, "glue"):
            cells = _reported_cells(paper, role(evidence, arm), checkpoint)
            provenances += [cell.provenance for cell in cells.values() if cell]
            hours = paper.tables["table1"].reported(
                paper.tables["table1"].row(role(evidence, arm), checkpoint), "hours"
            )
            time = DASH if hours is None else f"{reported_text(hours, 2)} h"
            rows.append((name, "reported", time, *(reported_text(cell, 1) for cell in cells.values()), ""))
        rows.append(_measured_row(evidence, frame, arm, checkpoint, name, unit, seconds))
    return [
        Panel(
            caption=f"Table 2: GLUE ({paper.label} paper, {paper.tables['table2'].where}) at scale {evidence.scale}",
            columns=("run", "", "training time", *labels.values(), *score.CONVENTIONS.values(), "n"),
            rows=tuple(rows),
            notes=(
                "BERT-base original is on the test sets. Training time: reference time up to the checkpoint.",
                *glue_notes(evidence, frame, labels),
                *mark_notes(provenances),
            ),
        )
    ]


def _reported_cells(paper: Paper, arm: str, checkpoint: str) -> dict[str, Reported | None]:
    values = {name: reported_glue(paper, arm, checkpoint, name) for name in score.VALUES}
    scores = {name: reported_convention(paper, arm, checkpoint, name) for name in score.CONVENTIONS}
    return {**values, **scores}


def _original_row(paper: Paper) -> tuple[str, ...]:
    """BERT as published, on the test sets."""
    table = paper.tables["table2"]
    row = next(row for row in table.rows if row.key == "original")
    values = {name: row.values[name] for name in score.VALUES}
    scores = {name: one.value for name, one in score.glue_scores(values).items()}
    derived = [number(scores[name] or 0.0, 1) + MARKS["derived"] for name in score.CONVENTIONS if name != "paper"]
    cells = [reported_text(table.reported(row, name), 1) for name in (*score.VALUES, "glue")]
    return (row.label, "reported", DASH, *cells, *derived, "")


def _measured_row(
    evidence: Evidence, frame: pd.DataFrame, arm: str, checkpoint: str, name: str, unit: str, seconds: float
) -> tuple[str, ...]:
    time = cell(frame, arm, checkpoint, "training_time", "reference_time") or cell(
        frame, arm, checkpoint, "training_time", "measured_time"
    )
    values = [cell(frame, arm, checkpoint, value, "median") for value in score.VALUES]
    scores = [cell(frame, arm, checkpoint, f"glue_{convention}", "median") for convention in score.CONVENTIONS]
    n = max((cell.n for cell in values if cell), default=0)
    return (
        name,
        "measured",
        DASH if time is None else f"{number(time.value / seconds, 1)} {unit}",
        *(plus_minus(cell, 1) for cell in values),
        *("undefined" if cell is None else plus_minus(cell, 1) for cell in scores),
        str(n),
    )


def glue_notes(evidence: Evidence, frame: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """What a table of GLUE values (the rows of ``table2``) holds and lacks, in words."""
    notes = [
        "Measured: per pre-training seed the median over fine-tuning seeds at the learning rate with the best median "
        "on the development set (selected on the set that is reported, the same way for every arm); then the mean "
        "over n pre-training seeds, ± half of the 95 % t interval. One seed has no interval. Reported rows are the "
        "paper's.",
        f"{score.CONVENTIONS['paper']}: geometric mean of the 12 values. {score.CONVENTIONS['nine']}: RTE, SST-2, "
        "QNLI, MNLI-m, MNLI-mm accuracy, MRPC and QQP F1, STS-B Spearman, CoLA Matthews. "
        f"{score.CONVENTIONS['official']}: mean over tasks of the mean over a task's values, without WNLI and AX.",
    ]
    if frame.empty:
        return notes
    measured = set(frame[frame["measured"].notna()]["quantity"])
    absent = [name for name in score.VALUES if name not in measured]
    if absent:
        reasons: dict[str, list[str]] = {}
        for name in absent:
            reasons.setdefault(_why_missing(evidence, name), []).append(labels[name])
        texts = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
        left = len(score.VALUES) - len(absent)
        notes.append(
            f"Not measured here: {'; '.join(texts)}. The measured GLUE scores are over {left} of 12 values, the "
            "reported ones over all: compare measured with measured."
        )
    undefined = frame[frame["quantity"].str.startswith("glue_") & frame["measured"].isna()]
    for convention, part in undefined.groupby("quantity", sort=False):
        where = ", ".join(f"{row['label']} {row['checkpoint']}" for row in part.to_dict("records"))
        guilty = [labels[name] for name in score.VALUES if any(name in note for note in part["note"])]
        notes.append(
            f"{score.CONVENTIONS[str(convention)[5:]]} is undefined where a value is not positive "
            f"({', '.join(guilty)}): {where}."
        )
    return notes


def _why_missing(evidence: Evidence, name: str) -> str:
    task, split, _ = score.VALUES[name]
    for run in evidence.finetune:
        reason = run.missing.get(task, {}).get(split)
        if reason:
            return reason
    if any(task in run.summary["tasks"] for run in evidence.finetune):
        return "not in the data"
    return "task not fine-tuned at this scale"
