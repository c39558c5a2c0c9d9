"""Predictions -> scores.csv -> one value per arm, pre-training seed, checkpoint and metric -> GLUE scores.

All values are percent, 0..100 (correlations -100..100).

Selection, the same for all arms, as in the PLD paper: for each arm, pre-training seed, checkpoint and task the
learning rate with the best median over the fine-tuning seeds, of the task's primary metric on the development set
(ties: the smaller rate). The same rate gives all metrics of the task, MNLI-mm included. It is a selection on the
set that is reported; no maximum over epochs is taken.
"""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis.table_files import read_table
from pldrepro.data.tasks import TASKS
from pldrepro.errors import RecordError
from pldrepro.files import atomic_path
from pldrepro.runs.folder import FinetuneRun, load_finetune, log_path

# Columns of scores.csv and their types; value in percent, n: examples.
COLUMNS: dict[str, type] = {
    "arm": str, "label": str, "seed": int, "checkpoint": str, "task": str, "split": str, "metric": str,
    "learning_rate": float, "finetune_seed": int, "value": float, "n": int,
}  # fmt: skip

# The 12 values of the PLD paper's Table 2: name -> (task, split, metric).
VALUES: dict[str, tuple[str, str, str]] = {
    task.value_name(split, metric): (task.name, split, metric)
    for task in TASKS.values()
    for split in task.eval_splits
    for metric in task.metrics
}
# One metric per task; the learning rate is selected by it.
PRIMARY: dict[str, str] = {task.name: task.value_name("dev", task.primary) for task in TASKS.values()}
NINE = (*PRIMARY.values(), "mnli_mismatched_accuracy")
CONVENTIONS: dict[str, str] = {
    "paper": "GLUE (paper)",
    "nine": "GLUE (nine-metric mean)",
    "official": "GLUE (official)",
}
# Predictions in one call of evaluate: each call has a fixed cost, and holds its predictions as lists.
BATCH = 100


def score(folders: Sequence[Path]) -> pd.DataFrame:
    """Every metric of every prediction in fine-tuning run folders; the columns of scores.csv."""
    from pldrepro.analysis.evaluate_glue import Glue

    rows: list[dict[str, Any]] = []
    waiting: dict[str, list[tuple[dict[str, Any], Any, Any]]] = {}

    def compute(task: str) -> None:
        batch = waiting.pop(task)
        metric = Glue(config_name=task, keep_in_memory=True, cache_dir=cache)
        found = metric.compute(predictions=[one[1] for one in batch], references=[one[2] for one in batch])
        rows.extend(
            {**row, "metric": name, "value": 100 * value}
            for name, values in found.items()
            for (row, _, _), value in zip(batch, values, strict=True)
        )

    position = itertools.count()
    with tempfile.TemporaryDirectory() as cache:
        for run in map(load_finetune, folders):
            model = {key: getattr(run.summary, key) for key in ("arm", "label", "seed", "checkpoint")}
            for task, split, rate, seed, predictions, labels in read_predictions(run):
                row = {
                    "position": next(position), **model, "task": task, "split": split, "learning_rate": rate,
                    "finetune_seed": seed, "n": len(labels),
                }  # fmt: skip
                waiting.setdefault(task, []).append((row, predictions, labels))
                if len(waiting[task]) == BATCH:
                    compute(task)
        for task in list(waiting):
            compute(task)
    frame = pd.DataFrame(rows, columns=["position", *COLUMNS])
    return frame.sort_values("position", kind="stable", ignore_index=True).drop(columns="position")


def read_predictions(run: FinetuneRun) -> Iterable[tuple[str, str, float, int, Any, Any]]:
    """(task, split, learning rate, fine-tuning seed, predictions, labels) of everything in a run folder."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = run.folder / "predictions.safetensors"
    try:
        arrays = load_file(path)
    except SafetensorError as error:
        raise RecordError(f"{path}: damaged: {error}; see its log, {log_path(run.folder)}") from None
    names = sorted(name for name in arrays if name.startswith("predictions/"))
    if not names:
        raise RecordError(f"{path}: no predictions; see its log, {log_path(run.folder)}")
    for key in names:
        match = re.fullmatch(r"predictions/(\w+)/(\w+)/([0-9.e-]+)/([0-9]{1,18})", key)
        if match is None or not any((match[1], match[2]) == value[:2] for value in VALUES.values()):
            raise RecordError(f"{path}: {key}; allowed: predictions/TASK/SPLIT/RATE/SEED")
        task, split, rate, seed = match.groups()
        labels = arrays.get(f"labels/{task}/{split}")
        if labels is None or len(labels) != len(arrays[key]):
            raise RecordError(f"{path}: {key} does not match labels/{task}/{split}")
        if not np.isfinite(arrays[key]).all():
            raise RecordError(f"{path}: {key}: a prediction is not finite")
        yield task, split, float(rate), int(seed), widened(arrays[key]), widened(labels)


def widened(values: Any) -> Any:
    """Class ids as int64, whose sums and products do not overflow as those of the recorded bytes would."""
    return values.astype("int64") if values.dtype.kind == "i" else values


def read_labels(run: FinetuneRun) -> dict[tuple[str, str], Any]:
    """(task, split) -> the labels that a run's predictions are scored on."""
    return {(task, split): labels for task, split, _, _, _, labels in read_predictions(run)}


def write_scores(folders: Sequence[Path], out: Path) -> None:
    """Score fine-tuning run folders into scores.csv."""
    frame = score(folders)
    with atomic_path(out) as temporary:
        frame.to_csv(temporary, index=False)


def read_scores(path: Path) -> pd.DataFrame:
    """scores.csv; a missing or damaged file is a RecordError that names it, and the row."""
    frame = read_table(path, COLUMNS, "make scores")
    for number, row in enumerate(zip(frame["task"], frame["split"], frame["metric"], strict=True), start=2):
        if row not in VALUES.values():
            raise RecordError(f"{path}: row {number}: no such value: {' '.join(map(str, row))}")
    for keys, group in frame.groupby(["arm", "label", "seed", "checkpoint", "task"]):
        _, split, metric = VALUES[PRIMARY[str(keys[-1])]]
        if not ((group["split"] == split) & (group["metric"] == metric)).any():
            raise RecordError(f"{path}: {' '.join(map(str, keys))}: no {metric} on {split}")
    return frame


def selected(scores: pd.DataFrame) -> pd.DataFrame:
    """Only the scores at the selected learning rate, with the name of the value (a key of VALUES) as value_name.

    Selected is, for each model and task, the rate with the best median of the primary metric over fine-tuning seeds;
    ties: the smaller.
    """
    names = {parts: name for name, parts in VALUES.items()}
    parts = zip(scores["task"], scores["split"], scores["metric"], strict=True)
    named = scores.assign(value_name=[names[key] for key in parts])
    primary = named[named["value_name"] == named["task"].map(PRIMARY)]
    model = ["arm", "label", "seed", "checkpoint", "task"]
    found = primary.groupby([*model, "learning_rate"])["value"].agg(over_finetuning_seeds).reset_index()
    ranked = found.sort_values(["value", "learning_rate"], ascending=[False, True])
    return named.merge(ranked.drop_duplicates(model)[[*model, "learning_rate"]])


def over_finetuning_seeds(values: Sequence[float]) -> float:
    """What one pre-trained model scores: the median over its fine-tuning seeds, as in the PLD paper.

    Everywhere the same, because fine-tuning can fail: CoLA's scores have two modes over seeds, and a mean would be
    what no run scores.
    """
    return stats.median(values)


def cells(chosen: pd.DataFrame) -> pd.DataFrame:
    """One row per arm, pre-training seed, checkpoint and value of Table 2, of scores that ``selected`` chose.

    Columns: arm, label, seed, checkpoint, value_name, task, learning_rate, value (over fine-tuning seeds), n (of them).
    """
    rows = []
    for keys, part in chosen.groupby(
        ["arm", "label", "seed", "checkpoint", "task", "value_name", "learning_rate"], sort=False
    ):
        arm, label, seed, checkpoint, task, value_name, rate = keys
        rows.append(
            {
                "arm": arm, "label": label, "seed": seed, "checkpoint": checkpoint, "value_name": value_name,
                "task": task, "learning_rate": rate, "value": over_finetuning_seeds(part["value"].tolist()),
                "n": len(part),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class GlueScore:
    """A GLUE score in one convention: None with a reason when it is undefined; how many values went in."""

    value: float | None
    count: int
    possible: int
    note: str


def glue_scores(values: Mapping[str, float]) -> dict[str, GlueScore]:
    """The GLUE score of one run in three conventions, over those of the 12 values that there are.

    paper: geometric mean of the 12 values (both metrics of MRPC, STS-B, QQP, both MNLI sets), which reproduces the
    GLUE column of the PLD paper; undefined when a value is not positive (CoLA's Matthews correlation can be).
    nine: arithmetic mean of RTE, SST-2, QNLI, MNLI-m and MNLI-mm accuracy, MRPC and QQP F1, STS-B Spearman and CoLA
    Matthews correlation, as averaged in the BERT paper. official: mean over tasks of the mean over a task's values
    (MNLI-m and MNLI-mm are one task), as on the leaderboard, without WNLI and the diagnostic set.
    """
    unknown = set(values) - set(VALUES)
    if unknown:
        raise ValueError(f"unknown value {', '.join(sorted(unknown))}; allowed: {', '.join(VALUES)}")
    nine = [values[name] for name in NINE if name in values]
    tasks: dict[str, list[float]] = {}
    for name, value in values.items():
        tasks.setdefault(VALUES[name][0], []).append(value)
    per_task = [sum(task) / len(task) for task in tasks.values()]
    return {
        "paper": _geometric(values),
        "nine": _mean(nine, len(NINE), "values"),
        "official": _mean(per_task, len(PRIMARY), "tasks"),
    }


def _geometric(values: Mapping[str, float]) -> GlueScore:
    count, possible = len(values), len(VALUES)
    if not values:
        return GlueScore(None, 0, possible, "no values")
    low = sorted(name for name, value in values.items() if value <= 0)
    if low:
        return GlueScore(None, count, possible, f"undefined: {', '.join(low)} is not positive")
    return GlueScore(stats.geometric_mean(list(values.values())), count, possible, f"{count} of {possible} values")


def _mean(values: Sequence[float], possible: int, what: str) -> GlueScore:
    if not values:
        return GlueScore(None, 0, possible, f"no {what}")
    return GlueScore(sum(values) / len(values), len(values), possible, f"{len(values)} of {possible} {what}")
