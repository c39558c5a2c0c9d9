"""Whether fine-tuning trained: its losses against the best constant prediction's, and what was cut or never seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import glue_scores
from pldrepro.analysis.arms import finetuned_methods
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import final_row, plain, tidy
from pldrepro.runs.schema import FinetuneExamples

COLUMNS = (
    "arm", "seed", "checkpoint", "task", "learning_rate", "finetune_seed", "train_loss", "constant_loss", "failed",
)  # fmt: skip


def fits(evidence: Evidence) -> pd.DataFrame:
    """Every fit at the selected learning rate: its training loss, the best constant's, and whether it failed.

    A fit has failed where its training loss, a mean over the last epoch, is not 1 % below that of the best constant
    prediction on the same examples. Empty of fits whose records do not know the constant's loss.
    """
    keys = ["arm", "seed", "checkpoint", "task", "learning_rate"]
    selected = {tuple(row) for row in evidence.selected_scores[keys].itertuples(index=False)}
    rows = [
        (*about, line.learning_rate, line.seed, line.train_loss, line.constant_loss, line.failed)
        for run in evidence.finetune
        for line in run.results
        for about in [(run.summary.arm, run.summary.seed, run.summary.checkpoint, line.task)]
        if line.failed is not None and (*about, line.learning_rate) in selected
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def is_trained(fits_: pd.DataFrame, arm: str, checkpoint: str, task: str) -> bool | None:
    """Whether more than half of an arm's fits of a task beat the best constant; None: not known.

    A median over fits, half of which did not train, is that of a model that did not train.
    """
    part = fits_[(fits_["arm"] == arm) & (fits_["checkpoint"] == checkpoint) & (fits_["task"] == task)]
    return None if part.empty else bool(part["failed"].mean() < 0.5)


def fits_table(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Training of fine-tuning at the final checkpoints, one row per method, task (its primary metric) and statistic.

    Statistics: train_loss and constant_loss (classes: nats; scores: squared), failed [% of fits at the selected rate],
    cut_train and cut_dev [% of examples longer than the sequence length], untrained_train and untrained_dev [% of
    examples with positions that pre-training never saw].
    """
    rows: list[dict[str, Any]] = []
    found = fits(evidence)
    for arm in finetuned_methods(evidence):
        final = evidence.final_checkpoint(arm)
        own = found[(found["arm"] == arm) & (found["checkpoint"] == final)]
        for task, name in glue_scores.PRIMARY.items():
            rows += _training_rows(evidence, arm, name, own[own["task"] == task])
            rows += _example_rows(evidence, arm, name, task)
    return tidy(rows)


def _training_rows(evidence: Evidence, arm: str, name: str, part: pd.DataFrame) -> list[dict[str, Any]]:
    if part.empty:
        return []
    by_seed = [glue_scores.over_finetuning_seeds(group.tolist()) for _, group in part.groupby("seed")["train_loss"]]
    failed = stats.share_interval(int(part["failed"].sum()), len(part)).map(lambda share: 100 * share)
    constant = plain(float(part["constant_loss"].iloc[0]), len(part), "best constant prediction")
    return [
        final_row(evidence, arm, name, "train_loss", stats.mean_interval(by_seed), unit="loss"),
        final_row(evidence, arm, name, "constant_loss", constant, unit="loss"),
        final_row(evidence, arm, name, "failed", failed, unit="%"),
    ]


def _example_rows(evidence: Evidence, arm: str, name: str, task: str) -> list[dict[str, Any]]:
    """The shares of examples, the same for all runs of an arm that count them."""
    final = evidence.final_checkpoint(arm)
    for run in evidence.finetune:
        splits = run.summary.inputs.get(task)
        if splits and (run.summary.arm, run.summary.checkpoint) == (arm, final):
            return [
                final_row(evidence, arm, name, f"{what}_{split}", plain(share, examples.examples, "count"), unit="%")
                for split, examples in splits.items()
                for what, share in _shares(examples)
            ]
    return []


def _shares(examples: FinetuneExamples) -> Iterable[tuple[str, float]]:
    counts = {"cut": examples.cut, "untrained": examples.untrained}
    return [(what, 100 * count / examples.examples) for what, count in counts.items() if count is not None]
