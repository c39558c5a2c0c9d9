"""What seeds do to the numbers: spread over pre-training seeds, its parts, and how stable fine-tuning is.

Three tables, at the final checkpoints of the methods: ``seeds``, ``variance`` and ``stability``. Their tidy rows, like
those of ``glue_tests``, have one more key than others: ``against``, the arm that a row compares with (empty: none).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import evidence as ev
from pldrepro import examples, score, stats
from pldrepro.evidence import Evidence
from pldrepro.papers import Paper
from pldrepro.stats import Estimate, VarianceParts
from pldrepro.tables.panel import DASH, Panel, estimate_text, find, number, tidy_row

POWER = 0.8
SMALL_TASKS = ("rte", "mrpc", "cola", "stsb")
# Percent by which a score must exceed that of a constant prediction; what is below is rounding.
ROUNDING = 1e-9
QUANTITIES: dict[str, tuple[str, str, int]] = {
    "validation_loss": ("final validation loss", "nats", 3),
    "glue_nine": (score.CONVENTIONS["nine"], "points", 2),
}
TASK_NAMES = {
    "rte": "RTE", "mrpc": "MRPC", "stsb": "STS-B", "cola": "CoLA", "sst2": "SST-2", "qnli": "QNLI", "qqp": "QQP",
    "mnli": "MNLI",
}  # fmt: skip
NOT_FINETUNED = "Nothing was fine-tuned in this study: no GLUE values to compare."


def final_row(
    evidence: Evidence, arm: str, quantity: str, axis: str, unit: str, measured: Estimate | None, against: str = "",
    note: str = "",
) -> dict[str, Any]:  # fmt: skip
    """A tidy row at the final checkpoint of an arm, with the arm that it compares with."""
    row = tidy_row(evidence, arm, evidence.final_checkpoint(arm), quantity, axis, unit, measured, note=note)
    return {**row, "against": against}


def plain(value: float | None, n: int, method: str) -> Estimate | None:
    """A number that has no interval by its nature."""
    return None if value is None else Estimate(value, None, None, n, method)


def comparisons(evidence: Evidence, arm: str) -> list[str]:
    """What an arm is compared with: the baseline, and the same model without dropping."""
    candidates = (evidence.baseline, evidence.undropped_twin(arm))
    return list(dict.fromkeys(other for other in candidates if other is not None and other != arm))


def finetuned_methods(evidence: Evidence) -> list[str]:
    """Methods whose final checkpoint was fine-tuned."""
    return [arm for arm in evidence.methods if (arm, evidence.final_checkpoint(arm)) in evidence.finetuned]


# ---- seeds ----


def seeds(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Spread over pre-training seeds, one row per method, quantity and statistic (axis).

    Quantities: final validation loss [nats] and nine-metric GLUE score [points]. Axes: mean (t interval), deviation
    (chi-square interval), and against the baseline and the undropped twin, paired by seed: difference (t interval),
    difference_bootstrap (where there are enough seeds for one), pairs_for_power (with which a paired t test finds the
    observed difference at 80 % power), deviation_ratio (Pitman-Morgan interval).
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.methods:
        for quantity, (_, unit, _) in QUANTITIES.items():
            values = _values(evidence, arm, quantity)
            if not values:
                continue
            deviation = stats.deviation_interval(values)
            rows += [
                final_row(evidence, arm, quantity, "mean", unit, stats.mean_interval(values)),
                final_row(evidence, arm, quantity, "deviation", unit, deviation, note="" if deviation else "one seed"),
            ]
            for other in comparisons(evidence, arm):
                rows += _comparison_rows(evidence, arm, other, quantity, unit)
    return pd.DataFrame(rows)


def _values(evidence: Evidence, arm: str, quantity: str) -> list[float]:
    """A quantity at the end of every run of an arm that has it."""
    if quantity == "validation_loss":
        return [float(run.summary["validation_loss"]) for run in evidence.runs(arm)]
    checkpoint = evidence.final_checkpoint(arm)
    scores = [ev.glue(evidence, arm, run.seed, checkpoint, "nine").value for run in evidence.runs(arm)]
    return [value for value in scores if value is not None]


def _pairs(evidence: Evidence, arm: str, other: str, quantity: str) -> list[tuple[float, float]]:
    """A quantity of two arms, paired by seed; GLUE scores over the values that both have."""
    pairs = evidence.pairs(arm, other)
    if quantity == "validation_loss":
        return [(run.summary["validation_loss"], base.summary["validation_loss"]) for run, base in pairs]
    scores = []
    for run, base in pairs:
        first, second = (
            evidence.glue_values.get((one.arm, one.seed, evidence.final_checkpoint(one.arm)), {}) for one in (run, base)
        )
        common = [name for name in score.NINE if name in first and name in second]
        values = [score.glue_scores({name: v[name] for name in common})["nine"].value for v in (first, second)]
        if values[0] is not None and values[1] is not None:
            scores.append((values[0], values[1]))
    return scores


def _comparison_rows(evidence: Evidence, arm: str, other: str, quantity: str, unit: str) -> list[dict[str, Any]]:
    pairs = _pairs(evidence, arm, other, quantity)
    paired = ev.difference(pairs)
    if paired is None:
        return [final_row(evidence, arm, quantity, "difference", unit, None, other, "no seed in common")]
    first, second = zip(*pairs, strict=True)
    needed = stats.pairs_for_power(paired.effects, POWER)
    method = f"paired t test at {POWER:.0%} power"
    rows = [
        ("difference", unit, paired.estimate, ""),
        ("pairs_for_power", "seeds", plain(needed, len(pairs), method), "" if needed else _no_number(len(pairs))),
        ("deviation_ratio", "x", stats.paired_deviation_ratio(first, second), ""),
    ]
    if len(pairs) >= stats.BOOTSTRAP_SEEDS:
        rows.insert(1, ("difference_bootstrap", unit, stats.bootstrap_difference(first, second), ""))
    return [
        final_row(evidence, arm, quantity, axis, unit, measured, other, note) for axis, unit, measured, note in rows
    ]


def _no_number(n: int) -> str:
    return "one seed" if n < 2 else "more than 1,000 seeds"


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
        mean, deviation = (find(own, axis=axis, against="") for axis in ("mean", "deviation"))
        head: tuple[str, ...] = (
            evidence.label(arm), str(mean.n) if mean else DASH,
            estimate_text(mean, digits), estimate_text(deviation, digits),
        )  # fmt: skip
        for other in comparisons(evidence, arm) or [""]:
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
        find(part, axis=axis, against=other) for axis in ("difference", "pairs_for_power", "deviation_ratio")
    )
    pairs = difference.n if difference else 0
    count = number(needed.value, 0) if needed else "> 1,000" if pairs > 1 else DASH
    return (evidence.label(other), estimate_text(difference, digits), count, estimate_text(ratio, 2))


def _destabilises(evidence: Evidence, part: pd.DataFrame, name: str) -> list[str]:
    """Whether PLD's results spread more over seeds than those of what it is compared with."""
    if evidence.pld not in evidence.arms:
        return [f"No arm {evidence.pld!r} in this study: whether PLD destabilises was not measured."]
    answers = []
    for other in comparisons(evidence, evidence.pld):
        ratio = find(part, arm=evidence.pld, axis="deviation_ratio", against=other)
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


# ---- nested variance ----


def variance(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Variance [%^2] of every GLUE value between pre-training seeds and between fine-tuning seeds, per method.

    Axes: between_pretraining (truncated at 0, without an interval; n: pre-training seeds) and between_finetuning
    (chi-square interval; n: runs), from the runs at the selected learning rate; see stats.variance_parts.
    """
    rows: list[dict[str, Any]] = []
    for arm, name, parts in _parts(evidence):
        within = parts.within_deviation()
        note = _variance_note(parts)
        between = plain(parts.between, parts.num_groups, "one-way random effects")
        rows += [
            final_row(evidence, arm, name, "between_pretraining", "%²", between, note=note),
            final_row(
                evidence, arm, name, "between_finetuning", "%²",
                within.map(lambda deviation: deviation**2) if within else None, note=note,
            ),
        ]  # fmt: skip
    return pd.DataFrame(rows)


def _variance_note(parts: VarianceParts) -> str:
    if parts.within is None:
        return "one fine-tuning seed: the parts cannot be told apart"
    return "one pre-training seed" if parts.between is None else ""


def _parts(evidence: Evidence) -> Iterable[tuple[str, str, VarianceParts]]:
    """(arm, value name, parts) for every GLUE value at the final checkpoints."""
    for arm in finetuned_methods(evidence):
        part = selected_scores(evidence, arm)
        for name in score.VALUES:
            runs = part[part["value_name"] == name]
            if len(runs):
                yield arm, name, stats.variance_parts(_by_seed(runs))


def selected_scores(evidence: Evidence, arm: str) -> pd.DataFrame:
    """Scores of an arm at its final checkpoint and the selected learning rates."""
    assert evidence.scores is not None
    scores = evidence.scores
    return score.selected(scores[(scores["arm"] == arm) & (scores["checkpoint"] == evidence.final_checkpoint(arm))])


def _by_seed(runs: pd.DataFrame) -> list[list[float]]:
    """Values by pre-training seed."""
    return [group["value"].tolist() for _, group in runs.groupby("seed")]


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
    labels = {name: paper.tables["table2"].columns[name].label for name in score.VALUES}
    for name in (name for name in score.VALUES if name in set(frame["quantity"])):
        for arm in dict.fromkeys(frame[frame["quantity"] == name]["arm"]):
            part = frame[(frame["quantity"] == name) & (frame["arm"] == arm)]
            parts = [find(part, axis=axis) for axis in ("between_pretraining", "between_finetuning")]
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
    return "all values" if about == set(frame["quantity"]) else ", ".join(labels[n] for n in score.VALUES if n in about)


# ---- stability of fine-tuning ----


def stability(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Fine-tuning stability on the four small tasks, by the primary metric [%], per method.

    Axes: deviation (over fine-tuning seeds, pooled within pre-training seeds; chi-square interval), range (largest
    minus smallest, mean over pre-training seeds), failed (percent of runs at the selected learning rate), failed_all
    (of runs at any learning rate), constant (what a run must exceed), and deviation_ratio against PLD's model without
    dropping (F interval). A run fails when its metric is not above the best that one and the same prediction for all
    examples gets: the majority class, for F1 class 1 always, 0 for a correlation.
    """
    rows: list[dict[str, Any]] = []
    selected = {arm: selected_scores(evidence, arm) for arm in finetuned_methods(evidence)}
    reference = _reference(evidence)
    constants = _constants(evidence)
    for task in SMALL_TASKS:
        parts: dict[str, VarianceParts] = {}
        for arm, scores in selected.items():
            runs = _primary(scores, task)
            if len(runs):
                parts[arm] = stats.variance_parts(_by_seed(runs))
                rows += _stability_rows(evidence, arm, task, runs, parts[arm], constants.get(task))
        for arm in parts:
            if reference in parts and arm != reference:
                ratio = stats.deviation_ratio(parts[arm], parts[reference])
                rows.append(final_row(evidence, arm, score.PRIMARY[task], "deviation_ratio", "x", ratio, reference))
    return pd.DataFrame(rows)


def _reference(evidence: Evidence) -> str:
    """PLD's model without dropping, which stability is compared with; empty where there is none."""
    return (evidence.undropped_twin(evidence.pld) or "") if evidence.pld in evidence.arms else ""


def _primary(scores: pd.DataFrame, task: str) -> pd.DataFrame:
    _, split, metric = score.VALUES[score.PRIMARY[task]]
    return scores[(scores["task"] == task) & (scores["split"] == split) & (scores["metric"] == metric)]


def _constants(evidence: Evidence) -> dict[str, float]:
    """Task -> percent that the best constant prediction gets in the primary metric, from the labels of the runs."""
    constants: dict[str, float] = {}
    for run in evidence.finetune:
        if not set(run.summary["tasks"]) & set(SMALL_TASKS) - set(constants):
            continue
        for task, split, _, _, _, labels in score.read_predictions(run):
            _, primary_split, metric = score.VALUES[score.PRIMARY[task]]
            if task in SMALL_TASKS and split == primary_split and task not in constants:
                constants[task] = 100 * examples.constant_value(metric, labels)
    return constants


def _stability_rows(
    evidence: Evidence, arm: str, task: str, runs: pd.DataFrame, parts: VarianceParts, constant: float | None
) -> list[dict[str, Any]]:
    name = score.PRIMARY[task]
    spans = [max(group) - min(group) for group in _by_seed(runs) if len(group) > 1]
    one_seed = "" if spans else "one fine-tuning seed"
    rows = [
        final_row(evidence, arm, name, "deviation", "%", parts.within_deviation(), note=one_seed),
        final_row(evidence, arm, name, "range", "%", _mean_range(spans), note=one_seed),
    ]
    if constant is None:
        return [
            *rows,
            final_row(evidence, arm, name, "failed", "%", None, note="no labels: no fine-tuning runs were given"),
        ]
    assert evidence.scores is not None
    scores = evidence.scores
    all_rates = scores[(scores["arm"] == arm) & (scores["checkpoint"] == evidence.final_checkpoint(arm))]
    for axis, values in (("failed", runs["value"]), ("failed_all", _primary(all_rates, task)["value"])):
        failed = stats.share_interval(int((values <= constant + ROUNDING).sum()), len(values))
        rows.append(final_row(evidence, arm, name, axis, "%", failed.map(lambda share: 100 * share)))
    rows.append(final_row(evidence, arm, name, "constant", "%", plain(constant, len(runs), "best constant prediction")))
    return rows


def _mean_range(spans: Sequence[float]) -> Estimate | None:
    return plain(float(np.mean(spans)), len(spans), "mean over pre-training seeds") if spans else None


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
    reference = _reference(evidence)
    rows: list[tuple[str, ...]] = []
    absent = []
    for task in SMALL_TASKS:
        part = frame[frame["quantity"] == score.PRIMARY[task]]
        if part.empty:
            absent.append(task)
        for arm in dict.fromkeys(part["arm"]):
            cells = {axis: find(part, arm=arm, axis=axis) for axis in set(part["axis"])}
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
