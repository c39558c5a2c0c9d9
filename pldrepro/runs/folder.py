"""The run folder: the only thing that training and analysis share. No torch here.

A pre-training run, ``<results>/runs/pretrain/<arm>/seed<seed>/``::

    settings.json      the resolved RunSettings
    provenance.json    commit, versions, device, data manifest
    metrics.jsonl      one line per logged training step, per validation and per analysis of sensitivity
    checkpoints/NAME/  a model that plain transformers can load
    resume/            state to continue from; undeclared, removed at the end
    manifest.json      size and SHA-256 of every file of the run, and a copy of the summary
    summary.json       written last and atomically: the run is complete

Every finished run folder has a manifest, and every reader below compares what it reads with it.

A fine-tuning run, ``<results>/runs/finetune/<arm>/seed<seed>/<checkpoint>/<group>/``, has settings, provenance,
``results.jsonl`` (one line per task, learning rate, seed and split), ``predictions.safetensors`` and the summary.

The LAMBADA scores of a run's checkpoints, ``<results>/runs/lambada/<arm>/seed<seed>/``, have settings, provenance,
``predictions.safetensors`` (each passage's log-probability and whether it is right) and the summary.

The contrasts of a run's checkpoints, ``<results>/runs/contrasts/<arm>/seed<seed>/``, have settings, provenance,
``hits.safetensors`` (which of two each item's model preferred) and the summary.

A probe of a run's checkpoints, ``<results>/runs/probe/<arm>/seed<seed>/``, has settings, provenance, ``results.jsonl``
(one line per number) and the summary; of steps measured in turn, ``<results>/runs/interleave/process<k>/``, the summary
holds all numbers. A probe's files has also a run that is probed early in training and ends there,
``<results>/runs/early/<arm>/seed<seed>/``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ValidationError

from pldrepro.errors import RecordError
from pldrepro.records import VersionedKind, read_record, read_record_lines
from pldrepro.runs.manifest import ALWAYS, check, read_manifest, verified, weights_of
from pldrepro.runs.schema import (
    AnyLine,
    FinetuneJob,
    FinetuneResult,
    FinetuneSummary,
    MetricsLine,
    PretrainJob,
    PretrainSummary,
    Provenance,
    SensitivityLine,
    TrainLine,
    ValidationLine,
)
from pldrepro.runs.scored import (
    ContrastsJob,
    ContrastsSummary,
    EarlyJob,
    EarlySummary,
    LambadaJob,
    LambadaSummary,
    LayersSummary,
    ProbeJob,
    ProbeResult,
    ProbeSummary,
)

if TYPE_CHECKING:
    import numpy as np

TAIL_BYTES = 20_000  # of metrics.jsonl, in which its last line is


@dataclass(frozen=True)
class PretrainRun:
    """A finished pre-training run."""

    folder: Path
    settings: PretrainJob
    summary: PretrainSummary
    provenance: Provenance
    metrics: Sequence[AnyLine]
    weights: Mapping[str, str]  # checkpoint -> SHA-256 of its weights; empty in records that never knew

    @property
    def arm(self) -> str:
        """Name of the experiment."""
        return self.summary.arm

    @property
    def label(self) -> str:
        """Name for people."""
        return self.summary.label

    @property
    def seed(self) -> int:
        """Pre-training seed."""
        return self.summary.seed

    @property
    def family(self) -> str:
        """Family of models: bert, gpt, swinv2 or vit."""
        return self.summary.family

    @cached_property
    def training(self) -> list[TrainLine]:
        """The training lines, in order of steps."""
        return [line for line in self.metrics if isinstance(line, TrainLine)]

    @cached_property
    def validation(self) -> list[ValidationLine]:
        """The validation lines, in order of steps."""
        return [line for line in self.metrics if isinstance(line, ValidationLine)]

    @cached_property
    def sensitivity(self) -> list[SensitivityLine]:
        """The lines of the analyses of sensitivity, in order of steps; empty for policies that need none."""
        return [line for line in self.metrics if isinstance(line, SensitivityLine)]

    @cached_property
    def kept_layers(self) -> tuple[list[int], list[float]]:
        """Steps, and the layers kept in all forward passes up to each; from the start to the end of the run."""
        known = [(line.step, line.kept_layers) for line in self.metrics if line.kept_layers is not None]
        total = sum(kept * count for kept, count in self.summary.passes_by_kept_layers.items())
        return [0, *(step for step, _ in known), self.summary.steps], [0, *(kept for _, kept in known), total]


@dataclass(frozen=True)
class FinetuneRun:
    """A finished fine-tuning job; its predictions stay on disk until ``make scores`` reads them."""

    folder: Path
    settings: FinetuneJob
    summary: FinetuneSummary
    results: Sequence[FinetuneResult]

    @property
    def missing(self) -> dict[str, dict[str, str]]:
        """task -> split -> why the data had none."""
        return self.settings.missing


@dataclass(frozen=True)
class ContrastsRun:
    """The contrasts of a finished pre-training run's checkpoints; hits of single items stay on disk until asked for."""

    folder: Path
    settings: ContrastsJob
    summary: ContrastsSummary

    def hits(self, checkpoint: str, task: str) -> np.ndarray:
        """(N,) hits of a task's items at a checkpoint, in the order of its paradigms."""
        from pldrepro.runs.hits import FILE, load_hits

        count = sum(about.items for about in self.summary.tasks[task].values())
        name = f"{checkpoint}/{task}"
        return load_hits(self.folder / FILE, {name: count})[name]


@dataclass(frozen=True)
class ProbeRun:
    """The probes of a finished pre-training run's checkpoints."""

    folder: Path
    settings: ProbeJob
    summary: ProbeSummary
    results: Sequence[ProbeResult]


@dataclass(frozen=True)
class EarlyRun:
    """The probes of a run early in training."""

    folder: Path
    settings: EarlyJob
    summary: EarlySummary
    results: Sequence[ProbeResult]


@dataclass(frozen=True)
class LambadaRun:
    """The LAMBADA scores of a finished pre-training run's checkpoints; numbers of passages stay on disk until asked."""

    folder: Path
    settings: LambadaJob
    summary: LambadaSummary

    def ranks(self, checkpoint: str) -> np.ndarray:
        """(N,) float32 rank of the right word in each ranked passage; damaged or without them is a RecordError."""
        from pldrepro.runs.hits import load_ranks

        return load_ranks(self.folder / "predictions.safetensors", checkpoint)


def log_path(folder: Path) -> Path:
    """Where the workflow keeps the log of a run folder: runs/finetune/A/B/C -> logs/finetune/A/B-C.log."""
    parts = folder.parts
    if "runs" not in parts:
        return folder.with_name(f"{folder.name}.log")
    at = len(parts) - 1 - parts[::-1].index("runs")
    kind, *rest = parts[at + 1 :]
    logs = Path(*parts[:at], "logs")
    return logs / kind / rest[0] / f"{'-'.join(rest[1:])}.log" if len(rest) > 1 else logs / "calibrate.log"


def read_finished(
    path: Path, kind: type[VersionedKind], files: Collection[str] = ()
) -> tuple[Path, VersionedKind, str]:
    """A finished run folder (its summary.json is accepted too), its summary, and where its log is, for messages.

    Its records are what its manifest says, and ``files``, which the caller reads, are among them; else RecordError.
    """
    folder = path.parent if path.name == "summary.json" else path
    log = log_path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such run; its log would be {log}")
    if not (folder / "summary.json").exists():
        raise RecordError(f"{folder}: the run is not complete (no summary.json); see its log, {log}")
    hint = f"; see its log, {log}"
    summary = read_record(folder / "summary.json", kind, hint)
    try:
        verified(folder, weights=False)
        check(folder, read_manifest(folder), files)
    except RecordError as error:
        raise RecordError(f"{error}{hint}") from None
    return folder, summary, hint


def load_pretrain(folder: Path) -> PretrainRun:
    """A finished pre-training run; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = read_finished(folder, PretrainSummary, (*ALWAYS, "metrics.jsonl"))
    run = PretrainRun(
        folder=folder,
        settings=read_record(folder / "settings.json", PretrainJob, hint),
        summary=summary,
        provenance=read_record(folder / "provenance.json", Provenance, hint),
        metrics=[line.root for line in read_record_lines(folder / "metrics.jsonl", MetricsLine, hint)],
        weights=weights_of(folder),
    )
    _check_one_run(run, hint)
    return run


def begun_pretrain(folder: Path) -> tuple[PretrainJob, AnyLine] | None:
    """Settings of a pre-training run that goes on, and the last line of its metrics so far; None where it has none."""
    try:
        lines = (folder / "metrics.jsonl").read_bytes()[-TAIL_BYTES:].splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]  # another may be being written
        last = MetricsLine.model_validate_json(whole[-1]).root if whole else None
        return None if last is None else (read_record(folder / "settings.json", PretrainJob), last)
    except (OSError, ValidationError, RecordError):
        return None


def _check_one_run(run: PretrainRun, hint: str) -> None:
    """The files of a folder are of one run, and its metrics reach its end."""
    settings, summary = run.settings, run.summary
    _check_job(run.folder, settings, summary, hint)
    differing = [key for key in ("num_layers", "family") if getattr(settings.model, key) != getattr(summary, key)]
    if differing:
        raise RecordError(f"{run.folder}: summary.json and settings.json differ in {', '.join(differing)}{hint}")
    metrics, steps = run.folder / "metrics.jsonl", summary.steps
    if not run.validation or run.validation[-1].step != steps:
        raise RecordError(f"{metrics}: no validation line at the end of the run, step {steps}{hint}")
    lines: Sequence[AnyLine]
    for kind, lines in (("train", run.training), ("validation", run.validation), ("sensitivity", run.sensitivity)):
        found = [line.step for line in lines]
        if found != sorted(set(found)) or (found and found[-1] > steps):
            raise RecordError(f"{metrics}: {kind}: expected steps that rise to at most {steps}{hint}")
    if any(len(line.ranks) != summary.num_layers for line in run.sensitivity):
        raise RecordError(f"{metrics}: sensitivity: expected a rank for each of {summary.num_layers} layers{hint}")


def load_finetune(folder: Path) -> FinetuneRun:
    """A finished fine-tuning job; a missing, incomplete or damaged one is a RecordError naming file and log."""
    names = ("settings.json", "results.jsonl", "predictions.safetensors")
    folder, summary, hint = read_finished(folder, FinetuneSummary, names)
    run = FinetuneRun(
        folder=folder,
        settings=read_record(folder / "settings.json", FinetuneJob, hint),
        summary=summary,
        results=read_record_lines(folder / "results.jsonl", FinetuneResult, hint),
    )
    _check_job(folder, run.settings, summary, hint, ("checkpoint", "group"))
    return run


def load_probe(folder: Path) -> ProbeRun:
    """A finished probe; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = read_finished(folder, ProbeSummary, ("settings.json", "results.jsonl"))
    run = ProbeRun(
        folder=folder,
        settings=read_record(folder / "settings.json", ProbeJob, hint),
        summary=summary,
        results=read_record_lines(folder / "results.jsonl", ProbeResult, hint),
    )
    _check_job(folder, run.settings, summary, hint)
    _check_lines(folder, summary, run.results, hint)
    return run


def _check_job(folder: Path, settings: BaseModel, summary: BaseModel, hint: str, keys: Collection[str] = ()) -> None:
    """Settings and summary of a folder are of one job; early summaries have no scale."""
    keys = ("scale", "arm", "label", "seed", *keys)
    differing = [key for key in keys if getattr(summary, key) not in (None, getattr(settings, key))]
    if differing:
        raise RecordError(f"{folder}: summary.json and settings.json differ in {', '.join(differing)}{hint}")


def _check_lines(folder: Path, summary: LayersSummary, lines: Sequence[ProbeResult], hint: str) -> None:
    """Every number is of a probed checkpoint and of a layer that the model has."""
    checkpoints, layers = summary.checkpoints, summary.num_layers
    for number, line in enumerate(lines, start=1):
        if line.checkpoint not in checkpoints or max([line.layer or 1, *(line.kept or ())]) > layers:
            raise RecordError(
                f"{folder / 'results.jsonl'}: line {number}: expected checkpoints {', '.join(checkpoints)} and layers "
                f"1 to {layers}{hint}"
            )


def load_early(folder: Path) -> EarlyRun:
    """The probes of a run early in training; missing, incomplete or damaged ones are a RecordError."""
    folder, summary, hint = read_finished(folder, EarlySummary, ("settings.json", "results.jsonl"))
    settings = read_record(folder / "settings.json", EarlyJob, hint)
    _check_job(folder, settings, summary, hint)
    lines = read_record_lines(folder / "results.jsonl", ProbeResult, hint)
    _check_lines(folder, summary, lines, hint)
    return EarlyRun(folder, settings, summary, lines)


def load_lambada(folder: Path) -> LambadaRun:
    """Finished LAMBADA scores; missing, incomplete or damaged ones are a RecordError naming file and log."""
    folder, summary, hint = read_finished(folder, LambadaSummary, ("settings.json",))
    settings = read_record(folder / "settings.json", LambadaJob, hint)
    _check_job(folder, settings, summary, hint)
    return LambadaRun(folder, settings, summary)


def load_contrasts(folder: Path) -> ContrastsRun:
    """Finished contrasts; missing, incomplete or damaged ones are a RecordError naming file and log."""
    from pldrepro.runs.hits import FILE

    folder, summary, hint = read_finished(folder, ContrastsSummary, ("settings.json", FILE))
    settings = read_record(folder / "settings.json", ContrastsJob, hint)
    _check_job(folder, settings, summary, hint)
    return ContrastsRun(folder, settings, summary)
