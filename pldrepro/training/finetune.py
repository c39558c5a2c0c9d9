"""Fine-tuning of one checkpoint on GLUE tasks, over learning rates and seeds: predictions out, no scores.

Scores are computed later from the predictions (``make scores``), so this stage needs only torch. There is no
evaluation during training and no choice among epochs: a run's predictions are those of its last step.

A fit whose training loss over the last epoch is not 1 % below that of the best constant prediction has failed, and the
summary names it. The summary also counts the examples that were cut, and those with positions that pre-training never
saw.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from pldrepro.config.data import DataSettings
from pldrepro.config.model import ModelSettings
from pldrepro.config.run import FinetuneSettings, RunSettings
from pldrepro.data.glue import PreparedSplit, PreparedTask, load_prepared
from pldrepro.data.manifests import GlueManifest, read_prepared
from pldrepro.data.tasks import TASKS
from pldrepro.errors import DivergedError, RecordError, SettingsError
from pldrepro.files import atomic_path, write_text
from pldrepro.models.bert import BertForSequenceClassification
from pldrepro.models.checkpoints.bert import load_for_finetuning, save_bert
from pldrepro.records import FileEntry
from pldrepro.runs.finished import open_finished
from pldrepro.runs.manifest import (
    WRITTEN,
    begin,
    complete,
    entries,
    is_complete,
    is_same_job,
    is_weights,
    note,
    noted,
)
from pldrepro.runs.provenance import provenance
from pldrepro.runs.schema import (
    FinetuneExamples,
    FinetuneInputs,
    FinetuneJob,
    FinetuneResult,
    FinetuneSummary,
)
from pldrepro.training.device import autocast, describe, on_device, select_device
from pldrepro.training.optim import MAX_GRADIENT_NORM, adamw, set_learning_rate
from pldrepro.training.seeding import seed_dropout

PARTS = "parts"  # folder of finished combinations, until the job is complete
PAD = 0  # what fills the end of a shorter example; the attention mask hides it
WIDTH_STEP = 16  # tokens, of the padded batches on a GPU
SORTED_BATCHES = 16  # batches whose examples are sorted by length together, which saves padding


@dataclass(frozen=True)
class Job:
    """What one fine-tuning job works on."""

    settings: RunSettings  # of the pre-training run
    finetune: FinetuneSettings
    group: str
    checkpoint: str
    checkpoint_folder: Path
    glue_folder: Path
    folder: Path


def finetune(
    pretrain_folder: Path,
    checkpoint: str,
    settings: FinetuneSettings,
    group: str,
    glue_folder: Path,
    folder: Path,
    progress: bool = True,
) -> None:
    """Fine-tune a checkpoint on all tasks of a group and write the run folder.

    Each finished combination of task, learning rate and seed is kept in ``parts/``: an interrupted job repeats only the
    one that it was in, and those whose files are not what they were. A complete job with the same settings, weights and
    data is left as it is.
    """
    if group not in settings.groups:
        raise SettingsError(f"finetune: no group {group}; allowed: {', '.join(settings.groups)}")
    finished = open_finished(pretrain_folder)
    run, points = finished.settings, finished.checkpoints
    if checkpoint not in points:
        raise RecordError(f"{pretrain_folder}: no checkpoint {checkpoint}; there are {', '.join(points)}")
    place = pretrain_folder / points[checkpoint].folder
    weights = finished.weights([checkpoint])[checkpoint]
    job = Job(run, settings, group, checkpoint, place, glue_folder, folder)
    device = select_device(run.impl)
    tasks = settings.groups[group]
    glue = read_prepared(glue_folder, GlueManifest, "prepare glue")
    about = FinetuneJob(
        **run.identity,
        checkpoint=checkpoint,
        group=group,
        finetune=settings,
        missing={task: load_prepared(glue_folder, task).missing for task in tasks},
        inputs=FinetuneInputs(weights=weights, glue=glue.hash),
    )
    same = is_same_job(folder, about)
    complete_already = same and is_complete(folder)
    if complete_already or not same:
        forget_parts(folder)  # of this job, or of one with other settings, weights or data
    if complete_already:
        return
    begun = begin(folder, about, provenance(describe(device, run.impl), glue=glue, seeds=settings.seeds))
    combinations = [(t, r, s) for t in tasks for r in settings.learning_rates for s in settings.seeds]
    files = noted(folder)
    for task, rate, seed in tqdm(combinations, desc=f"fine-tune {run.arm} seed {run.seed}", disable=not progress):
        name = part_name(task, rate, seed)
        if not is_done(folder, name, files):
            finetune_once(job, task, rate, seed, device)
            files |= entries(folder, [f"{PARTS}/{name}.safetensors", f"models/{name}/*"])
            note(folder, files)
    finish(job, combinations, begun, files)


def forget_parts(folder: Path) -> None:
    """Remove what an interrupted job kept for the next start."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    (folder / WRITTEN).unlink(missing_ok=True)


def part_path(folder: Path, task: str, rate: float, seed: int) -> Path:
    """Where the predictions of one combination are kept until the job is complete."""
    return folder / PARTS / f"{part_name(task, rate, seed)}.safetensors"


def part_name(task: str, rate: float, seed: int) -> str:
    """One combination, as its files are named."""
    return f"{task}-{rate!r}-{seed}"


def is_done(folder: Path, name: str, files: Mapping[str, FileEntry]) -> bool:
    """Whether an earlier start finished a combination, and all its files are what it noted."""
    own = {file: entry for file, entry in files.items() if name in (Path(file).stem, Path(file).parent.name)}
    return f"{PARTS}/{name}.safetensors" in own and all(entry.describes(folder / file) for file, entry in own.items())


def finetune_once(job: Job, task: str, rate: float, seed: int, device: torch.device) -> None:
    """One task, one learning rate, one seed: train, predict, keep the predictions."""
    settings, data = job.finetune, load_prepared(job.glue_folder, task)
    started = time.perf_counter()
    num_labels = TASKS[task].num_labels
    model = load_for_finetuning(job.checkpoint_folder, num_labels, seed, settings.dropout, settings.pooling)
    model.to(device)
    steps, loss = train(model, data, job, rate, seed, device)
    arrays = {
        f"predictions/{task}/{split}/{rate!r}/{seed}": predict(model, data.splits[split], job, device)
        for split in evaluated(data)
    }
    if settings.save_models:
        place = job.folder / "models" / part_name(task, rate, seed)
        assert isinstance(job.settings.model, ModelSettings)  # no other was loaded
        save_bert(model, job.settings.model, place, tokenizer_folder=job.checkpoint_folder)
    result = FinetuneResult(
        task=task,
        learning_rate=rate,
        seed=seed,
        steps=steps,
        train_loss=loss,
        constant_loss=constant_loss(data.splits["train"].labels[: num_train_examples(data, settings)]),
        seconds=time.perf_counter() - started,
    )
    with atomic_path(part_path(job.folder, task, rate, seed)) as temporary:
        save_file(arrays, temporary, {"result": result.model_dump_json()})


def evaluated(data: PreparedTask) -> list[str]:
    """The evaluation splits that the data have."""
    return [split for split in data.task.eval_splits if split in data.splits]


def num_train_examples(data: PreparedTask, settings: FinetuneSettings) -> int:
    """Training examples that are used: the first so many."""
    return min(len(data.splits["train"]), settings.max_train_examples or len(data.splits["train"]))


def constant_loss(labels: np.ndarray) -> float:
    """Loss of the best constant prediction: the entropy of the classes [nats], or the variance of the scores."""
    if labels.dtype.kind == "f":
        return float(np.var(labels, dtype=np.float64))
    shares = np.unique(labels, return_counts=True)[1] / len(labels)
    return float(-(shares * np.log(shares)).sum())


def train(
    model: BertForSequenceClassification, data: PreparedTask, job: Job, rate: float, seed: int, device: torch.device
) -> tuple[int, float]:
    """Fine-tune in place with linear warm-up and linear decay to zero; returns the steps and the final loss.

    The final loss is the mean over the examples of the last epoch's steps, of all steps where there is no whole epoch.
    """
    settings, split = job.finetune, data.splits["train"]
    count = num_train_examples(data, settings)
    steps_per_epoch = -(-count // settings.batch_size)
    num_steps = max(1, round(settings.epochs * steps_per_epoch))
    warmup_steps = max(1, round(settings.warmup * num_steps))
    optimizer = adamw(model, weight_decay=settings.weight_decay)
    losses, sizes = [], []
    for step, rows in zip(range(num_steps), training_order(split, count, settings.batch_size, seed), strict=False):
        model.train()
        seed_dropout(seed, step, 0)
        inputs, labels = collate(split, rows, device)
        with autocast(job.settings.impl, device):
            loss = task_loss(model(**inputs), labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        rising, falling = (step + 1) / warmup_steps, (num_steps - step) / max(1, num_steps - warmup_steps)
        set_learning_rate(optimizer, rate * min(1.0, rising, falling))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        sizes.append(len(rows))
    values: list[float] = torch.stack(losses).float().tolist()
    if not np.isfinite(values).all():
        bad = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DivergedError(
            f"{job.folder}: {data.task.name}: the loss is not finite at step {bad}, learning rate {rate:g}"
        )
    return num_steps, float(np.average(values[-steps_per_epoch:], weights=sizes[-steps_per_epoch:]))


def training_order(split: PreparedSplit, count: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Rows of each batch, epoch after epoch without end; examples of like length share a batch."""
    lengths, epoch = np.diff(split.offsets), 0
    while True:
        generator = np.random.default_rng([seed, epoch])
        order = generator.permutation(count)
        batches = []
        for start in range(0, count, batch_size * SORTED_BATCHES):
            pool = order[start : start + batch_size * SORTED_BATCHES]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            batches += [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
        for index in generator.permutation(len(batches)):
            yield batches[index]
        epoch += 1


def collate(split: PreparedSplit, rows: np.ndarray, device: torch.device) -> tuple[dict[str, Tensor | None], Tensor]:
    """Pad the examples of a batch to its longest; token ids, token types and mask (B, S), labels (B,).

    On a GPU S is a multiple of WIDTH_STEP, or the longest of the split, and there is always a mask: for each shape its
    libraries plan attention anew, which takes longer than a step.
    """
    lengths = split.offsets[rows + 1] - split.offsets[rows]
    width, gpu = int(lengths.max()), device.type == "cuda"
    if gpu:
        width = min(-(-width // WIDTH_STEP) * WIDTH_STEP, int(np.diff(split.offsets).max()))
    ids = np.full((len(rows), width), PAD, dtype=np.int64)
    types = np.zeros((len(rows), width), dtype=np.int64)
    mask = np.arange(width)[None, :] < lengths[:, None]
    source = np.concatenate([np.arange(split.offsets[r], split.offsets[r + 1]) for r in rows])
    ids[mask], types[mask] = split.input_ids[source], split.token_types[source]
    inputs: dict[str, Tensor | None] = {
        "input_ids": on_device(ids, device),
        "token_types": on_device(types, device),
        "attention_mask": on_device(mask, device) if gpu or not mask.all() else None,
    }
    return inputs, on_device(split.labels[rows], device)


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, or mean squared error for a regression; logits (B, num_labels), labels (B,)."""
    if labels.is_floating_point():
        return functional.mse_loss(logits.squeeze(-1).float(), labels)
    return functional.cross_entropy(logits, labels)


@torch.no_grad()
def predict(model: BertForSequenceClassification, split: PreparedSplit, job: Job, device: torch.device) -> np.ndarray:
    """Predicted class ids (n,) int64, or scores (n,) float32 of a regression, in the order of the split."""
    model.eval()
    order = np.argsort(np.diff(split.offsets), kind="stable")
    results = np.empty(len(split), dtype=split.labels.dtype)
    size = 4 * job.finetune.batch_size
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        inputs, labels = collate(split, rows, device)
        with autocast(job.settings.impl, device):
            logits = model(**inputs).float()
        chosen = logits.squeeze(-1) if labels.is_floating_point() else logits.argmax(-1)
        results[rows] = chosen.cpu().numpy()
    return results


def finish(
    job: Job,
    combinations: list[tuple[str, float, int]],
    begun: Mapping[str, FileEntry],
    files: Mapping[str, FileEntry],
) -> None:
    """Gather the parts into results.jsonl and predictions.safetensors, write the summary last, remove the parts."""
    arrays: dict[str, np.ndarray] = {}
    results, inputs = [], {}
    assert isinstance(job.settings.data, DataSettings)  # no other was loaded
    trained = job.settings.data.sequence_length
    for task in job.finetune.groups[job.group]:
        data = load_prepared(job.glue_folder, task)
        arrays.update({f"labels/{task}/{split}": data.splits[split].labels for split in evaluated(data)})
        inputs[task] = {split: examples_of(data, split, trained) for split in ("train", *evaluated(data))}
    for task, rate, seed in combinations:
        path = part_path(job.folder, task, rate, seed)
        if not files[f"{PARTS}/{path.name}"].describes(path):
            raise RecordError(f"{path}: not the file that this run wrote; the same command repeats this combination")
        arrays.update(load_file(path))
        results.append(_result_of(path))
    with atomic_path(job.folder / "predictions.safetensors") as temporary:
        # Class ids in one byte each: they are most of what a run leaves behind.
        save_file(
            {name: ids.astype(np.int8) if ids.dtype.kind == "i" else ids for name, ids in arrays.items()}, temporary
        )
    write_text(job.folder / "results.jsonl", "".join(result.model_dump_json() + "\n" for result in results))
    run = job.settings
    summary = FinetuneSummary(
        **run.identity,
        checkpoint=job.checkpoint,
        group=job.group,
        tasks=list(job.finetune.groups[job.group]),
        runs=len(results),
        failed=[result.name for result in results if result.failed],
        trained_positions=trained,
        inputs=inputs,
        seconds=sum(result.seconds for result in results),
    )
    models = {name: entry for name, entry in files.items() if is_weights(name)}
    own = entries(job.folder, ["results.jsonl", "predictions.safetensors"])
    complete(job.folder, summary, {**begun, **models, **own})
    shutil.rmtree(job.folder / PARTS)


def examples_of(data: PreparedTask, split: str, trained_positions: int) -> FinetuneExamples:
    """How many examples a split has, how many were cut, and how many use positions that pre-training never saw."""
    lengths = np.diff(data.splits[split].offsets)
    untrained = int((lengths > trained_positions).sum())
    return FinetuneExamples(examples=len(lengths), cut=data.cut[split], untrained=untrained)


def _result_of(path: Path) -> FinetuneResult:
    with safe_open(path, "np") as file:
        return FinetuneResult.model_validate_json(file.metadata()["result"])
