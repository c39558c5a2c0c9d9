"""How soon each arm reaches what the baseline reaches at its end, and what each change adds to PLD's speedup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from pldrepro.analysis import comparisons
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.time_to_target import (
    AT_LEAST,
    AT_MOST,
    CHANGES,
    PER_SAMPLE,
    UNKNOWN,
    chain,
    not_judged,
    studies,
    targets,
)
from pldrepro.exhibits.layout import Cell, ColumnLayout, Line, TableLayout, TidyRow, count, interval, reported, select
from pldrepro.exhibits.text import INTERVAL_NOTE, measured_time_note

BOUNDS = {AT_MOST: "≤ ", AT_LEAST: "≥ "}


def time_to_target_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """One table per target, and PLD's speedup step by step; then the targets of the studies of GPT."""
    judging, (_, *others) = targets(evidence), studies(evidence)
    tables = [_target(evidence, frame, target, name) for target, name in judging.items()]
    steps = _steps(evidence, paper, frame[frame["family"] == evidence.family], judging)
    return [*tables, steps, *(table for study in others for table in _of_gpt(study, frame))]


def _of_gpt(study: Evidence, frame: pd.DataFrame) -> list[TableLayout]:
    """The targets of a study of GPT, and what sets none."""
    tables = [_target(study, frame, *target) for target in targets(study).items()]
    floors = tuple(f"Not judged, and no target: {name}; {reason}." for name, reason in not_judged(study).items())
    return [replace(tables[0], notes=(*tables[0].notes, *floors)), *tables[1:]]


def reached(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """How many runs reach the target."""
    return Cell(f"{row['measured']:.0f} of {row['n']}") if row["n"] else None


def with_bound(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """The estimate, marked where it is a bound; nothing where it is not known."""
    shown = interval(row, column)
    if row["note"] == UNKNOWN or shown is None:
        return None
    return Cell(f"{BOUNDS.get(row['note'], '')}{shown.text}", shown.interval)


def _target(evidence: Evidence, frame: pd.DataFrame, target: str, name: str) -> TableLayout:
    speedup, reach = f"speedup_to_{target}", f"reached_{target}"
    frame = frame[frame["family"] == evidence.family]
    arms = [arm for arm in evidence.methods if select(frame, arm=arm, quantity=reach)]
    return TableLayout(
        title=f"How soon {name} is reached: the baseline's run up to there over the arm's [x], study {evidence.scale}",
        columns=(
            ColumnLayout("arm"),
            ColumnLayout("runs that reach it", reach, show=reached),
            ColumnLayout("reported, samples", speedup, 2, reported, "samples"),
            ColumnLayout("reported, time", speedup, 1, reported, "reference_time"),
            *(ColumnLayout(header, speedup, 2, with_bound, axis) for axis, header in AXES.items()),
            ColumnLayout("n", reach, show=count),
        ),
        lines=tuple(Line({"arm": evidence.label(arm)}, select(frame, arm=arm)) for arm in arms),
        notes=(*_target_notes(evidence, target), INTERVAL_NOTE),
    )


def _target_notes(evidence: Evidence, target: str) -> list[str]:
    decayed = any(evidence.budget(arm) for arm in evidence.arms)
    where = "is in the table of fair budgets" if decayed else "was not measured in this study"
    notes = [
        "A run that never gets there counts with its whole run, so that the true speedup is at most the one shown (≤, "
        "without an interval); above 1 it says only that the run was cheaper, not that it was as good. The baseline is "
        "in mid-schedule when another arm passes what it has at its end: what it reaches in the same time with its "
        f"learning rate decayed {where}.",
        "The first time counts, which may come early by chance: the baseline's own first time is what an arm's is "
        "compared with.",
        measured_time_note(evidence),
    ]
    if target == "loss":
        return [*notes, "The loss is linear between validations."]
    tested = "fine-tuned" if target == "glue" else "scored"
    notes.append(
        f"The score is linear between the checkpoints that were {tested}; a run whose first one is already there "
        "counts with that checkpoint."
    )
    if target != "glue":
        return notes
    convention = comparisons.glue_convention(evidence)[1]
    return [*notes, *_tuned_once(evidence, evidence.methods), *([f"GLUE {convention}."] if convention else [])]


def _tuned_once(evidence: Evidence, arms: Iterable[str]) -> list[str]:
    """A note on the arms whose GLUE score is known at one checkpoint only."""
    tuned = [arm for arm, _ in evidence.finetuned]
    once = [evidence.label(arm) for arm in arms if tuned.count(arm) == 1]
    if not once:
        return []
    return [f"Fine-tuned at one checkpoint, the only one where its GLUE score can be reached: {'; '.join(once)}."]


def _steps(evidence: Evidence, paper: Paper, frame: pd.DataFrame, judging: Mapping[str, str]) -> TableLayout:
    return TableLayout(
        title=f"PLD's speedup, step by step from the baseline, study {evidence.scale}",
        columns=(
            ColumnLayout("target"),
            ColumnLayout("what changes"),
            ColumnLayout("arm"),
            ColumnLayout("fewer samples [x]", None, 2, with_bound, cost_axis="samples"),
            ColumnLayout("cheaper samples [x]", None, 2, cost_axis=PER_SAMPLE),
            ColumnLayout("both [x]", None, 2, with_bound, cost_axis="reference_time"),
            ColumnLayout("reached", "reached", show=reached),
        ),
        lines=tuple(line for target, name in judging.items() for line in _step_lines(paper, frame, target, name)),
        notes=tuple(_steps_notes(evidence, judging)),
    )


def _step_lines(paper: Paper, frame: pd.DataFrame, target: str, name: str) -> list[Line]:
    """A line per step, one for all of them, and what the paper reports of that."""
    steps = frame[frame["quantity"].isin([f"step_to_{target}", f"total_to_{target}"])]
    lines = []
    for (_, arm, change), part in steps.groupby(["quantity", "arm", "condition"], sort=False):
        rows = select(part)
        runs = [{**row, "quantity": "reached"} for row in select(frame, arm=str(arm), quantity=f"reached_{target}")]
        lines.append(Line({"target": name, "what changes": str(change), "arm": rows[0]["label"]}, [*rows, *runs]))
    total = select(steps, quantity=f"total_to_{target}")
    if any(row["reported"] is not None and not pd.isna(row["reported"]) for row in total):
        words = {"target": name, "what changes": "all of it, reported", "arm": paper.label}
        lines.append(Line(words, total, "reported"))
    return lines


def _steps_notes(evidence: Evidence, judging: Mapping[str, str]) -> list[str]:
    if evidence.pld not in evidence.arms:
        return ["Not measured here: no arm of role pld in this study."]
    floors = [f"Not judged, and no step: {name}; {reason}." for name, reason in not_judged(evidence).items()]
    notes = [
        *floors,
        "Fewer samples: samples until the target, the arm before over this arm. Cheaper samples: reference time per "
        "sample up to there, in the same way. Both is their product, and the steps multiply to the last line of each "
        "target. PLD's own part is its last step. Where an arm reaches the target in some runs only, the others count "
        "with their whole run: such an arm's step is at most as large as shown (≤), the step after it at least (≥), "
        "and a step between two such arms is not known (–).",
    ]
    missing = [arm for arm in map(evidence.arm_with_role, CHANGES) if arm and arm not in evidence.arms]
    if missing:
        notes.append(
            f"Not in this study: {', '.join(missing)}; what it would have separated is one step together with the next."
        )
    return [*notes, *(_tuned_once(evidence, chain(evidence)) if "glue" in judging else [])]
