"""The eight GLUE tasks of the paper, and their examples as token arrays."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pldrepro.config.data import DataSettings
from pldrepro.data.arrays import check_hash, read_arrays
from pldrepro.data.corpus import check_tokenizer
from pldrepro.data.manifests import CorpusManifest, ExamplesEntry, GlueManifest, read_prepared, write_prepared
from pldrepro.data.sources.source import Source, open_source
from pldrepro.data.tasks import TASKS, Example, Task
from pldrepro.errors import DataError
from pldrepro.files import atomic_path

PARTS = ("input_ids", "token_types", "offsets", "labels")
BATCH_EXAMPLES = 10_000  # tokenized at a time; bounds the memory


@dataclass(frozen=True)
class PreparedSplit:
    """N examples as token arrays: example i is input_ids[offsets[i]:offsets[i + 1]]."""

    input_ids: np.ndarray  # (T,) int32: [CLS] a [SEP], for pairs followed by b [SEP]
    token_types: np.ndarray  # (T,) int8: 1 in the second sentence
    offsets: np.ndarray  # (N + 1,) int64
    labels: np.ndarray  # (N,) int64 class ids; float32 for scores

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class PreparedTask:
    """A task ready for fine-tuning."""

    task: Task
    splits: dict[str, PreparedSplit]  # train, dev and, where the data have it, dev_mismatched
    missing: dict[str, str]  # split -> reason
    cut: dict[str, int | None]  # split -> examples that were longer than the sequence length; None: not counted


def prepare_glue(
    settings: DataSettings,
    tasks: Sequence[str],
    sequence_length: int,
    corpus_folder: Path,
    out: Path,
    progress: bool = True,
) -> GlueManifest:
    """Write the token arrays of the tasks to ``out`` with the corpus's tokenizer; returns the manifest.

    Sequences longer than ``sequence_length`` tokens, special tokens included, are cut longest sentence first, and
    counted.
    """
    from safetensors.numpy import save
    from tqdm import tqdm

    from pldrepro.data.tokenizers.wordpiece import load_tokenizer

    unknown = [name for name in tasks if name not in TASKS]
    if unknown:
        raise DataError(f"finetune.groups: no such task: {', '.join(unknown)}; allowed: {', '.join(TASKS)}")
    source = open_source(settings)
    corpus = read_prepared(corpus_folder, CorpusManifest, "prepare corpus")
    check_tokenizer(corpus_folder, corpus)
    tokenizer = load_tokenizer(corpus_folder / "tokenizer")
    tokenizer.encode_special_tokens = True  # "[SEP]" in a sentence is text
    tokenizer.enable_truncation(sequence_length, strategy="longest_first")
    counts: dict[str, dict[str, ExamplesEntry]] = {}
    missing: dict[str, dict[str, str]] = {}
    with ExitStack() as files:  # all are put in place together, when the last one is written
        for name in tqdm(tasks, desc="prepare GLUE", unit="task", file=sys.stderr, disable=not progress):
            splits, cut, reasons = _prepare_task(source, TASKS[name], tokenizer)
            arrays = {f"{split}/{part}": getattr(splits[split], part) for split in splits for part in PARTS}
            files.enter_context(atomic_path(out / f"{name}.safetensors")).write_bytes(save(arrays))
            counts[name] = {
                split: ExamplesEntry(examples=len(splits[split]), cut=cut[split], sha256=_digest(splits[split]))
                for split in splits
            }
            if reasons:
                missing[name] = reasons
        (out / "manifest.json").unlink(missing_ok=True)  # until the new one is written, nothing is prepared here
    manifest = GlueManifest(
        source=settings.source,
        tasks=counts,
        missing=missing,
        sequence_length=sequence_length,
        corpus=corpus.hash,
        hash=_hash(counts),
    )
    check_hash(manifest.hash, settings.glue_hash, "glue_hash", out)
    return write_prepared(out, manifest)


def _prepare_task(
    source: Source, task: Task, tokenizer: Any
) -> tuple[dict[str, PreparedSplit], dict[str, int], dict[str, str]]:
    """The splits of a task, how many of their examples were cut, and why the source does not have the others."""
    splits: dict[str, PreparedSplit] = {}
    cut: dict[str, int] = {}
    reasons: dict[str, str] = {}
    for split in ("train", *task.eval_splits):
        examples = source.glue(task.name, split)
        if not isinstance(examples, str):
            splits[split], cut[split] = _encode(task, examples, tokenizer)
        elif split in ("train", "dev"):
            raise DataError(f"{task.title}: {split}: {examples}")
        else:
            reasons[split] = examples
    return splits, cut, reasons


def _encode(task: Task, examples: Sequence[Example], tokenizer: Any) -> tuple[PreparedSplit, int]:
    """The examples as token arrays, and how many of them were cut."""
    cut = 0
    ids: list[np.ndarray] = []
    kinds: list[np.ndarray] = []
    for start in range(0, len(examples), BATCH_EXAMPLES):
        batch = examples[start : start + BATCH_EXAMPLES]
        texts = [(example.sentence1, example.sentence2) if task.pair else example.sentence1 for example in batch]
        for encoding in tokenizer.encode_batch_fast(texts):
            ids.append(np.array(encoding.ids, dtype=np.int32))
            kinds.append(np.array(encoding.type_ids, dtype=np.int8))
            cut += bool(encoding.overflowing)
    split = PreparedSplit(
        np.concatenate(ids),
        np.concatenate(kinds),
        np.cumsum([0, *map(len, ids)], dtype=np.int64),
        np.array([example.label for example in examples], dtype=np.float32 if task.is_regression else np.int64),
    )
    return split, cut


def _digest(split: PreparedSplit) -> str:
    digest = hashlib.sha256()
    for part in PARTS:
        digest.update(getattr(split, part).tobytes())
    return digest.hexdigest()


def _hash(counts: dict[str, dict[str, ExamplesEntry]]) -> str:
    lines = [f"{task} {split} {entry.sha256}\n" for task in counts for split, entry in counts[task].items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def load_prepared(folder: Path, task: str) -> PreparedTask:
    """Read one prepared task and check it against the manifest."""
    manifest = read_prepared(folder, GlueManifest, "prepare glue")
    if task not in manifest.tasks:
        raise DataError(f"{folder}: {task} is not prepared; there: {', '.join(manifest.tasks)}")
    path = folder / f"{task}.safetensors"
    arrays = read_arrays(path, "prepare glue")
    splits = {}
    for split, entry in manifest.tasks[task].items():
        parts = [arrays.get(f"{split}/{part}") for part in PARTS]
        if any(part is None for part in parts) or _digest(PreparedSplit(*parts)) != entry.sha256:  # type: ignore[arg-type]
            raise DataError(f"{path}: {split} is not what the manifest says; run `prepare glue` again")
        splits[split] = PreparedSplit(*parts)  # type: ignore[arg-type]
    cut = {split: entry.cut for split, entry in manifest.tasks[task].items()}
    return PreparedTask(TASKS[task], splits, manifest.missing.get(task, {}), cut)
