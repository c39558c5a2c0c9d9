"""GLUE, described once: what each task is, how it is stored, how large it is, how it is scored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """How GLUE's own download stores one task: a folder of tables."""

    folder: str
    columns: tuple[str, ...]  # sentence 1, sentence 2 where the task has pairs, label
    classes: tuple[str, ...] = ("0", "1")  # as written in the file, in the order of the class ids; none: a score
    header: tuple[str, ...] | None = None  # of files without a header row
    skipped_label: str | None = None
    may_break_rows: bool = False

    @property
    def has_header(self) -> bool:
        """The first row of a file names its columns."""
        return self.header is None


@dataclass(frozen=True)
class Split:
    """A development set: its size, and how GLUE's download and nyu-mll/glue on the hub name it."""

    examples: int
    file: str = "dev.tsv"
    hub: str = "validation"


@dataclass(frozen=True)
class Task:
    """One GLUE task: classes in the order of nyu-mll/glue's ids, metrics in the order of PLD's Table 2.

    primary: the metric by which the learning rate is selected, as in the BERT paper's Table 1.
    """

    name: str
    title: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    primary: str
    train_examples: int
    dev: dict[str, Split]
    hub_columns: tuple[str, ...]  # sentence 1 and, where the task has pairs, sentence 2
    files: Layout

    @property
    def pair(self) -> bool:
        """An example has two sentences."""
        return len(self.hub_columns) == 2

    @property
    def eval_splits(self) -> tuple[str, ...]:
        """The development sets."""
        return tuple(self.dev)

    @property
    def dev_examples(self) -> int:
        """Examples of all development sets."""
        return sum(split.examples for split in self.dev.values())

    @property
    def num_labels(self) -> int:
        """Outputs of the classifier; 1 where the label is a score."""
        return len(self.labels) or 1

    @property
    def is_regression(self) -> bool:
        """The label is a score."""
        return not self.labels

    def hub_split(self, split: str) -> str:
        """Name of a split on the hub."""
        return "train" if split == "train" else self.dev[split].hub

    def value_name(self, split: str, metric: str) -> str:
        """Name of a metric of a development set in tables and records: mnli_accuracy, mnli_mismatched_accuracy."""
        return f"{self.name}{split.removeprefix('dev')}_{metric}"


_ENTAILMENT = ("entailment", "not_entailment")
_SAME = ("different", "equivalent")
_MNLI = ("entailment", "neutral", "contradiction")
_SENTENCES = ("sentence1", "sentence2")
# Sizes: Wang et al. 2019, GLUE.
TASKS = {
    task.name: task
    for task in (
        Task(
            "rte", "RTE", _ENTAILMENT, ("accuracy",), "accuracy", 2_490, {"dev": Split(277)}, _SENTENCES,
            Layout("RTE", (*_SENTENCES, "label"), _ENTAILMENT),
        ),
        Task(
            "mrpc", "MRPC", _SAME, ("f1", "accuracy"), "f1", 3_668, {"dev": Split(408)}, _SENTENCES,
            Layout("MRPC", ("#1 String", "#2 String", "Quality")),
        ),
        Task(
            "stsb", "STS-B", (), ("pearson", "spearman"), "spearman", 5_749, {"dev": Split(1_500)}, _SENTENCES,
            Layout("STS-B", (*_SENTENCES, "score"), classes=()),
        ),
        Task(
            "cola", "CoLA", ("unacceptable", "acceptable"), ("matthews",), "matthews", 8_551, {"dev": Split(1_043)},
            ("sentence",),
            Layout("CoLA", ("sentence", "label"), header=("source", "label", "mark", "sentence")),
        ),
        Task(
            "sst2", "SST-2", ("negative", "positive"), ("accuracy",), "accuracy", 67_349, {"dev": Split(872)},
            ("sentence",),
            Layout("SST-2", ("sentence", "label")),
        ),
        Task(
            "qnli", "QNLI", _ENTAILMENT, ("accuracy",), "accuracy", 104_743, {"dev": Split(5_463)},
            ("question", "sentence"),
            Layout("QNLI", ("question", "sentence", "label"), _ENTAILMENT),
        ),
        Task(
            "qqp", "QQP", _SAME, ("f1", "accuracy"), "f1", 363_846, {"dev": Split(40_430)},
            ("question1", "question2"),
            # Three rows of the official QQP have a line break inside a question; every reader of GLUE leaves them out.
            Layout("QQP", ("question1", "question2", "is_duplicate"), may_break_rows=True),
        ),
        Task(
            "mnli", "MNLI", _MNLI, ("accuracy",), "accuracy", 392_702,
            {
                "dev": Split(9_815, "dev_matched.tsv", "validation_matched"),
                "dev_mismatched": Split(9_832, "dev_mismatched.tsv", "validation_mismatched"),
            },
            ("premise", "hypothesis"),
            Layout("MNLI", (*_SENTENCES, "gold_label"), _MNLI, skipped_label="-"),
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One example: a sentence or a pair, and a class id or a score from 0 to 5."""

    sentence1: str
    sentence2: str | None
    label: int | float
