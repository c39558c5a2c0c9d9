"""What seeds do to the numbers: spread over pre-training seeds, its parts, and how stable fine-tuning is.

Three tables, at the final checkpoints of the methods: ``seeds``, ``variance`` and ``stability``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from pldrepro.analysis import contrasts, glue_scores, power
from pldrepro.analysis.arms import compared_arms, finetuned_methods
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.seed_spread import (
    AT_FLOOR,
    SMALL_TASKS,
    TOO_MANY,
    quantities,
    standard_deviation,
    undropped_reference,
)
from pldrepro.analysis.text import DASH, estimate_text
from pldrepro.analysis.tidy import find
from pldrepro.data.tasks import TASKS
from pldrepro.exhibits.layout import Cell, ColumnLayout, Line, TableLayout, TidyRow, count, select, value

TASK_NAMES = {name: task.title for name, task in TASKS.items()}
# A quantity's name for people, and the digits that it is shown with.
TITLES = {"validation_loss": ("final validation loss", 3), "glue_nine": (glue_scores.CONVENTIONS["nine"], 2)}
NOT_FINETUNED = "Nothing was fine-tuned in this study: no GLUE values to compare."


def seeds_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """One table per quantity: spread and paired differences of every method, then what that says of stability."""
    return [_seeds(evidence, frame[frame["quantity"] == quantity], quantity) for quantity in quantities(evidence)]


def pairs_needed(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """A number of seeds; in words where it is beyond what was counted."""
    return Cell("> 1,000") if row["note"] == TOO_MANY else value(row, column)


def _seeds(evidence: Evidence, part: pd.DataFrame, quantity: str) -> TableLayout:
    name, digits = TITLES.get(quantity) or (f"final score on {contrasts.title(quantity)}", 2)
    lines = tuple(line for arm in dict.fromkeys(part["arm"]) for line in _seeds_lines(evidence, part, arm))
    return TableLayout(
        title=f"Over seeds: {name} [{quantities(evidence)[quantity]}], study {evidence.scale}",
        columns=(
            ColumnLayout("arm"),
            ColumnLayout("n", quantity, show=count, statistic="mean"),
            ColumnLayout("mean", quantity, digits, statistic="mean"),
            ColumnLayout("standard deviation", quantity, digits, statistic="deviation"),
            ColumnLayout("against"),
            ColumnLayout("difference", quantity, digits, statistic="difference"),
            ColumnLayout(f"seeds for {power.POWER:.0%}", quantity, 0, pairs_needed, statistic="pairs_for_power"),
            ColumnLayout("ratio of SDs", quantity, 2, statistic="deviation_ratio"),
        ),
        lines=lines,
        notes=(
            "Mean [95 % t interval] and standard deviation [95 % chi-square interval] over n pre-training seeds; "
            "differences and ratios of standard deviations (Pitman–Morgan interval, from 3 seeds) are paired by seed. "
            f"Seeds for {power.POWER:.0%}: with which a paired t test by itself finds the observed difference with "
            "that probability, its mean and spread taken as true: of few seeds a rough guide.",
            *(_spread_notes(evidence, part, name) if lines else [NOT_FINETUNED]),
        ),
    )


def _seeds_lines(evidence: Evidence, part: pd.DataFrame, arm: str) -> list[Line]:
    """A line per arm that this one is compared with; its own spread is shown in the first."""
    others = compared_arms(evidence, arm)
    own = Line(
        {"arm": evidence.label(arm), "against": evidence.label(others[0]) if others else DASH},
        [row for row in select(part, arm=arm) if row["against"] in ("", *others[:1])],
    )
    blank = dict.fromkeys(("arm", "n", "mean", "standard deviation"), "")
    more = [
        Line({**blank, "against": evidence.label(other)}, select(part, arm=arm, against=other)) for other in others[1:]
    ]
    return [own, *more]


def _spread_notes(evidence: Evidence, part: pd.DataFrame, name: str) -> list[str]:
    """PLD's ratios of standard deviations; why nothing is said of them where the scores are at the floor."""
    floors = [note for note in dict.fromkeys(part["note"]) if note.startswith(AT_FLOOR)]
    return [_sentence([note]) for note in floors] or _ratios(evidence, part, name)


def _ratios(evidence: Evidence, part: pd.DataFrame, name: str) -> list[str]:
    """PLD's spread over seeds against that of what it is compared with; which is larger is no test of the set."""
    if evidence.pld not in evidence.arms:
        return ["No arm of role pld in this study: whether PLD destabilises was not measured."]
    ratios = {
        evidence.label(other): find(part, arm=evidence.pld, statistic="deviation_ratio", against=other)
        for other in compared_arms(evidence, evidence.pld)
    }
    said = [f"{estimate_text(ratio, 2)} of {other}'s" for other, ratio in ratios.items()]
    if not said:
        return []
    return [
        f"PLD's standard deviation over seeds, by {name}: {'; '.join(said)} (a ratio). Each interval is by itself, not "
        "adjusted for the tests of this set: no side is judged."
    ]


def _sentence(parts: Iterable[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."


PARTS = ("between_pretraining", "between_finetuning")
VARIANCE_COLUMNS = (
    ColumnLayout("value"),
    ColumnLayout("arm"),
    ColumnLayout("between pre-training seeds", None, 2, statistic=PARTS[0], of=standard_deviation),
    ColumnLayout("between fine-tuning seeds", None, 2, statistic=PARTS[1], of=standard_deviation),
    ColumnLayout("pre-training seeds", show=count, statistic=PARTS[0]),
    ColumnLayout("runs", show=count, statistic=PARTS[1]),
)


def variance_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """Standard deviations of both kinds, a line per value and method."""
    title = f"Where the spread of GLUE values comes from, study {evidence.scale}"
    if frame.empty:
        return [TableLayout(title, VARIANCE_COLUMNS, notes=(NOT_FINETUNED,))]
    labels = {name: paper.tables["table2"].columns[name].label for name in glue_scores.VALUES}
    lines = tuple(
        Line({"value": label, "arm": evidence.label(arm)}, select(frame, quantity=name, arm=arm))
        for name, label in labels.items()
        for arm in dict.fromkeys(frame[frame["quantity"] == name]["arm"])
    )
    notes = (
        "Standard deviations (the square roots of the variance parts; one-way random effects) in percent, between "
        "pre-training seeds (truncated at 0) and between fine-tuning seeds [95 % chi-square interval], at the learning "
        "rate selected for each pre-training seed; where that differs, the difference counts as pre-training's.",
        *(_sentence([f"{note} ({_where(frame, note, labels)})"]) for note in sorted(set(frame["note"]) - {""})),
    )
    return [TableLayout(title, VARIANCE_COLUMNS, lines, notes)]


def _where(frame: pd.DataFrame, note: str, labels: Mapping[str, str]) -> str:
    """Values that a note is about; "all values" where it is all of them."""
    about = set(frame[frame["note"] == note]["quantity"])
    if about == set(frame["quantity"]):
        return "all values"
    return ", ".join(label for name, label in labels.items() if name in about)


STABILITY_COLUMNS = (
    ColumnLayout("task"),
    ColumnLayout("arm"),
    ColumnLayout("runs"),
    ColumnLayout("standard deviation", None, 2, statistic="deviation"),
    ColumnLayout("range", None, 2, statistic="range"),
    ColumnLayout("ratio of SDs", None, 2, statistic="deviation_ratio"),
    ColumnLayout("failed at the selected rate", None, 0, statistic="failed"),
    ColumnLayout("failed at any rate", None, 0, statistic="failed_all"),
    ColumnLayout("a run fails up to", None, 1, statistic="constant"),
)


def stability_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """A line per small task and method."""
    title = f"Stability of fine-tuning on the small tasks, study {evidence.scale}"
    if frame.empty:
        missing = NOT_FINETUNED
        if finetuned_methods(evidence):
            missing = f"None of the small tasks ({task_names(SMALL_TASKS)}) was fine-tuned in this study."
        return [TableLayout(title, STABILITY_COLUMNS, notes=(missing,))]
    parts = {task: frame[frame["quantity"] == glue_scores.PRIMARY[task]] for task in SMALL_TASKS}
    lines = tuple(
        _stability_line(evidence, part, task, arm) for task, part in parts.items() for arm in dict.fromkeys(part["arm"])
    )
    reference = undropped_reference(evidence)
    notes = [
        "Percent of the primary metric (RTE accuracy, MRPC F1, CoLA Matthews, STS-B Spearman). Standard deviation over "
        "fine-tuning seeds, pooled within pre-training seeds [95 % chi-square interval]; range: largest minus smallest "
        "over fine-tuning seeds, mean over pre-training seeds. A run fails when its metric is not above "
        "the best that one and the same prediction for all examples gets (last column: the majority class, for F1 "
        "class 1 always, 0 for a correlation); share in percent [Clopper–Pearson interval, runs taken as independent].",
        f"Ratio of SDs: against {evidence.label(reference)} [95 % F interval]."
        if reference
        else "No arm without dropping that is otherwise PLD's: no ratio of standard deviations.",
        *sorted(_sentence([note]) for note in set(frame["note"]) - {""}),
    ]
    absent = [task for task, part in parts.items() if part.empty]
    if absent:
        notes.append(f"Not fine-tuned in this study: {task_names(absent)}.")
    return [TableLayout(title, STABILITY_COLUMNS, lines, tuple(notes))]


def _stability_line(evidence: Evidence, part: pd.DataFrame, task: str, arm: str) -> Line:
    """The runs are counted where they fail or, without labels, where they spread."""
    rows = select(part, arm=arm)
    runs = {row["statistic"]: row["n"] for row in rows}
    n = runs.get("failed") or runs.get("deviation")
    return Line({"task": TASK_NAMES[task], "arm": evidence.label(arm), "runs": str(n) if n else DASH}, rows)


def task_names(tasks: Iterable[str]) -> str:
    """Tasks as people write them."""
    return ", ".join(TASK_NAMES[task] for task in tasks)
