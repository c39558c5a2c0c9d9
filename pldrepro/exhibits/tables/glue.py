"""Table 2, GLUE: as the paper prints it, measured values below the reported ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.glue_table import ABOVE_FLOOR, original_bert
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, number
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, TidyRow, plus_minus, select
from pldrepro.exhibits.text import marked_number, time_unit


def table2_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """Table 2 as the paper prints it: per run a line of reported and a line of measured values."""
    labels = {name: paper.tables["table2"].columns[name].label for name in glue_scores.VALUES}
    label, original = original_bert(paper)
    lines = [Line({"run": label, "": "reported", "training time": DASH, "n": ""}, original, "reported")]
    for arm, checkpoint in evidence.finetuned:
        lines += _lines(evidence, paper, frame, arm, checkpoint)
    return [
        TableLayout(
            title=f"Table 2 of the {paper.label} paper: GLUE, study {evidence.scale}",
            columns=(
                *map(ColumnLayout, ("run", "", "training time")),
                *glue_columns(labels),
                ColumnLayout("n"),
            ),
            lines=tuple(lines),
            notes=(
                "BERT-base original is on the test sets. Training time: reference time up to the checkpoint.",
                *glue_notes(evidence, frame, labels),
            ),
        )
    ]


def _lines(evidence: Evidence, paper: Paper, frame: pd.DataFrame, arm: str, checkpoint: str) -> list[Line]:
    """What is reported of a run, if anything, and what was measured."""
    name, rows = f"{evidence.label(arm)} {checkpoint}", select(frame, arm=arm, checkpoint=checkpoint)
    unit, seconds = time_unit(frame[frame["quantity"] == "training_time"]["measured"].dropna().tolist())
    # Reference time comes before measured time.
    times = [row["measured"] for row in rows if row["quantity"] == "training_time" and pd.notna(row["measured"])]
    time = f"{number(times[0] / seconds, 1)} {unit}" if times else DASH
    lines = [Line({"run": name, "": "measured", "training time": time, "n": num_runs(rows)}, rows, "measured")]
    if any(row["quantity"] == "glue_paper" and pd.notna(row["reported"]) for row in rows):
        table = paper.tables["table1"]
        hours = table.reported(table.row(evidence.paper_arm(arm), checkpoint), "hours")
        time = DASH if hours is None else f"{marked_number(hours, 2)} h"
        lines.insert(0, Line({"run": name, "": "reported", "training time": time, "n": ""}, rows, "reported"))
    return lines


def glue_columns(labels: Mapping[str, str]) -> list[ColumnLayout]:
    """The 12 values, then the three scores, which a value that is not positive leaves undefined."""
    scores = glue_scores.CONVENTIONS.items()
    return [
        *(ColumnLayout(header, name, 1, plus_minus, statistic="median") for name, header in labels.items()),
        *(
            ColumnLayout(title, f"glue_{name}", 1, plus_minus, statistic="median", absent="undefined")
            for name, title in scores
        ),
        ColumnLayout("mean of the tasks above their floor", ABOVE_FLOOR, 1, plus_minus, statistic="median"),
    ]


def num_runs(rows: Sequence[TidyRow]) -> str:
    """Pre-training seeds behind the measured values of a line."""
    return str(max((row["n"] for row in rows if row["quantity"] in glue_scores.VALUES), default=0))


def glue_notes(evidence: Evidence, frame: pd.DataFrame, labels: Mapping[str, str]) -> list[str]:
    """What tidy rows of GLUE values hold and lack, in words."""
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
    notes.append(_floor_note(frame, labels))
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


def _floor_note(frame: pd.DataFrame, labels: Mapping[str, str]) -> str:
    """Which tasks judge, and that the GLUE scores hold the others, too."""
    named = frame.loc[frame["quantity"] == ABOVE_FLOOR, "note"]
    if named.empty:
        return "The GLUE scores hold the tasks below their floor, too; Table 2 says which are above it."
    judging = [labels[name] for name in named.iloc[0].split()]
    which = f"Above their floor here: {', '.join(judging)}" if judging else "No task is above its floor here"
    return (
        f"{which}: there the baseline beats a constant prediction and the model from scratch. The GLUE scores hold the "
        "other tasks, too, which tell nothing of a method; the last mean is without them."
    )


def _why_missing(evidence: Evidence, name: str) -> str:
    task, split, _ = glue_scores.VALUES[name]
    for run in evidence.finetune:
        reason = run.missing.get(task, {}).get(split)
        if reason:
            return reason
    if any(task in run.summary.tasks for run in evidence.finetune):
        return "not in the data"
    return "task not fine-tuned at this scale"
