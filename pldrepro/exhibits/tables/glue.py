"""Table 2, GLUE: one tidy row per number, then the paper's layout, measured values below the reported ones."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.glue_table import reported_convention, reported_glue, table2
from pldrepro.analysis.reported import MARKS, Paper, Reported, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, number, plus_minus, reported_text, time_unit
from pldrepro.analysis.tidy import cell, role
from pldrepro.exhibits.layout import Panel


def table2_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """Table 2 as the paper prints it: per run a line of reported and a line of measured values."""
    frame = table2(evidence, paper)
    times = [] if frame.empty else frame[frame["quantity"] == "training_time"]["measured"].dropna().tolist()
    unit, seconds = time_unit(times)
    labels = {name: paper.tables["table2"].columns[name].label for name in glue_scores.VALUES}
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
            columns=("run", "", "training time", *labels.values(), *glue_scores.CONVENTIONS.values(), "n"),
            rows=tuple(rows),
            notes=(
                "BERT-base original is on the test sets. Training time: reference time up to the checkpoint.",
                *glue_notes(evidence, frame, labels),
                *mark_notes(provenances),
            ),
        )
    ]


def _reported_cells(paper: Paper, arm: str, checkpoint: str) -> dict[str, Reported | None]:
    values = {name: reported_glue(paper, arm, checkpoint, name) for name in glue_scores.VALUES}
    scores = {name: reported_convention(paper, arm, checkpoint, name) for name in glue_scores.CONVENTIONS}
    return {**values, **scores}


def _original_row(paper: Paper) -> tuple[str, ...]:
    """BERT as published, on the test sets."""
    table = paper.tables["table2"]
    row = next(row for row in table.rows if row.key == "original")
    values = {name: row.values[name] for name in glue_scores.VALUES}
    scores = {name: one.value for name, one in glue_scores.glue_scores(values).items()}
    derived = [number(scores[name] or 0.0, 1) + MARKS["derived"] for name in glue_scores.CONVENTIONS if name != "paper"]
    cells = [reported_text(table.reported(row, name), 1) for name in (*glue_scores.VALUES, "glue")]
    return (row.label, "reported", DASH, *cells, *derived, "")


def _measured_row(
    evidence: Evidence, frame: pd.DataFrame, arm: str, checkpoint: str, name: str, unit: str, seconds: float
) -> tuple[str, ...]:
    time = cell(frame, arm, checkpoint, "training_time", "reference_time") or cell(
        frame, arm, checkpoint, "training_time", "measured_time"
    )
    values = [cell(frame, arm, checkpoint, value, statistic="median") for value in glue_scores.VALUES]
    scores = [
        cell(frame, arm, checkpoint, f"glue_{convention}", statistic="median") for convention in glue_scores.CONVENTIONS
    ]
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
    titles = glue_scores.CONVENTIONS
    notes = [
        "Measured: per pre-training seed the median over fine-tuning seeds at the learning rate with the best median "
        "on the development set (selected on the set that is reported, the same way for every arm); then the mean "
        "over n pre-training seeds, ± half of the 95 % t interval. One seed has no interval. Reported rows are the "
        "paper's.",
        f"{titles['paper']}: geometric mean of the 12 values. {titles['nine']}: RTE, SST-2, "
        "QNLI, MNLI-m, MNLI-mm accuracy, MRPC and QQP F1, STS-B Spearman, CoLA Matthews. "
        f"{titles['official']}: mean over tasks of the mean over a task's values, without WNLI and AX.",
    ]
    if frame.empty:
        return notes
    measured = set(frame[frame["measured"].notna()]["quantity"])
    absent = [name for name in glue_scores.VALUES if name not in measured]
    if absent:
        reasons: dict[str, list[str]] = {}
        for name in absent:
            reasons.setdefault(_why_missing(evidence, name), []).append(labels[name])
        texts = [f"{', '.join(names)} ({reason})" for reason, names in reasons.items()]
        left = len(glue_scores.VALUES) - len(absent)
        notes.append(
            f"Not measured here: {'; '.join(texts)}. The measured GLUE scores are over {left} of 12 values, the "
            "reported ones over all: compare measured with measured."
        )
    undefined = frame[frame["quantity"].str.startswith("glue_") & frame["measured"].isna()]
    for convention, part in undefined.groupby("quantity", sort=False):
        where = ", ".join(f"{row['label']} {row['checkpoint']}" for row in part.to_dict("records"))
        guilty = [labels[name] for name in glue_scores.VALUES if any(name in note for note in part["note"])]
        notes.append(
            f"{titles[str(convention)[5:]]} is undefined where a value is not positive ({', '.join(guilty)}): {where}."
        )
    return notes


def _why_missing(evidence: Evidence, name: str) -> str:
    task, split, _ = glue_scores.VALUES[name]
    for run in evidence.finetune:
        reason = run.missing.get(task, {}).get(split)
        if reason:
            return reason
    if any(task in run.summary["tasks"] for run in evidence.finetune):
        return "not in the data"
    return "task not fine-tuned at this scale"
