"""The GLUE tasks: columns, labels, splits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """One GLUE task: classes in the order of nyu-mll/glue's ids, metrics in the order of the paper's Table 2."""

    name: str
    title: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    pair: bool = True
    eval_splits: tuple[str, ...] = ("dev",)

    @property
    def num_labels(self) -> int:
        """Outputs of the classifier; 1 where the label is a score."""
        return len(self.labels) or 1

    @property
    def is_regression(self) -> bool:
        """The label is a score."""
        return not self.labels


_ENTAILMENT = ("entailment", "not_entailment")
_SAME = ("different", "equivalent")
TASKS = {
    task.name: task
    for task in (
        Task("rte", "RTE", _ENTAILMENT, ("accuracy",)),
        Task("mrpc", "MRPC", _SAME, ("f1", "accuracy")),
        Task("stsb", "STS-B", (), ("pearson", "spearman")),
        Task("cola", "CoLA", ("unacceptable", "acceptable"), ("matthews",), pair=False),
        Task("sst2", "SST-2", ("negative", "positive"), ("accuracy",), pair=False),
        Task("qnli", "QNLI", _ENTAILMENT, ("accuracy",)),
        Task("qqp", "QQP", _SAME, ("f1", "accuracy")),
        Task(
            "mnli",
            "MNLI",
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            eval_splits=("dev", "dev_mismatched"),
        ),
    )
}


@dataclass(frozen=True)
class Example:
    """One example: a sentence or a pair, and a class id or a score from 0 to 5."""

    sentence1: str
    sentence2: str | None
    label: int | float
