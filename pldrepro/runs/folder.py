"""The run folder: the only thing that training and analysis share. No torch here.

A pre-training run, ``<results>/runs/pretrain/<arm>/seed<seed>/``::

    settings.json      the resolved RunSettings
    provenance.json    commit, versions, device, data manifest
    metrics.jsonl      one line per logged training step, per validation and per analysis of sensitivity
    checkpoints/NAME/  a model that plain transformers can load
    resume/            state to continue from; undeclared, removed at the end
    summary.json       written last and atomically: the run is complete

A fine-tuning run, ``<results>/runs/finetune/<arm>/seed<seed>/<checkpoint>/<group>/``, has settings, provenance,
``results.jsonl`` (one line per task, learning rate, seed and split), ``predictions.safetensors`` and the summary.

The LAMBADA scores of a run's checkpoints, ``<results>/runs/lambada/<arm>/seed<seed>/``, have settings, provenance,
``predictions.safetensors`` (each passage's log-probability and whether it is right) and the summary.

A probe of a run's checkpoints, ``<results>/runs/probe/<arm>/seed<seed>/``, has settings, provenance, ``results.jsonl``
(one line per number) and the summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pldrepro.errors import RecordError
from pldrepro.records import AnyRecord, read_checked, read_checked_lines
from pldrepro.runs.schema import (
    FinetuneLine,
    FinetuneSettingsRecord,
    FinetuneSummary,
    LambadaSummary,
    MetricsLine,
    PretrainSummary,
    ProbeLine,
    ProbeSummary,
    ProvenanceRecord,
    SettingsRecord,
)


@dataclass(frozen=True)
class PretrainRun:
    """A finished pre-training run."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    provenance: dict[str, Any]
    metrics: list[dict[str, Any]]

    @property
    def arm(self) -> str:
        """Name of the experiment."""
        return str(self.summary["arm"])

    @property
    def label(self) -> str:
        """Name for people."""
        return str(self.summary["label"])

    @property
    def seed(self) -> int:
        """Pre-training seed."""
        return int(self.summary["seed"])

    @property
    def family(self) -> str:
        """Family of models: bert, gpt, swinv2 or vit."""
        return str(self.summary.get("family", "bert"))  # early records are of BERT and do not say so

    @property
    def validation(self) -> list[dict[str, Any]]:
        """The validation lines, in order of steps."""
        return [line for line in self.metrics if line["kind"] == "validation"]

    @property
    def sensitivity(self) -> list[dict[str, Any]]:
        """The lines of the analyses of sensitivity, in order of steps; empty for policies that need none."""
        return [line for line in self.metrics if line["kind"] == "sensitivity"]


@dataclass(frozen=True)
class FinetuneRun:
    """A finished fine-tuning job; its predictions stay on disk until ``score`` reads them."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    results: list[dict[str, Any]]

    @property
    def missing(self) -> dict[str, dict[str, str]]:
        """task -> split -> why the data had none."""
        return dict(self.settings.get("missing", {}))


@dataclass(frozen=True)
class ProbeRun:
    """The probes of a finished pre-training run's checkpoints."""

    folder: Path
    settings: dict[str, Any]
    summary: dict[str, Any]
    results: list[dict[str, Any]]


@dataclass(frozen=True)
class LambadaRun:
    """The LAMBADA scores of a finished pre-training run's checkpoints."""

    folder: Path
    summary: dict[str, Any]


def log_path(folder: Path) -> Path:
    """Where the workflow keeps the log of a run folder: runs/finetune/A/B/C -> logs/finetune/A/B-C.log."""
    parts = folder.parts
    if "runs" not in parts:
        return folder.with_name(f"{folder.name}.log")
    at = len(parts) - 1 - parts[::-1].index("runs")
    kind, *rest = parts[at + 1 :]
    logs = Path(*parts[:at], "logs")
    return logs / kind / rest[0] / f"{'-'.join(rest[1:])}.log" if len(rest) > 1 else logs / "calibrate.log"


def _folder(path: Path, kind: type[BaseModel]) -> tuple[Path, dict[str, Any], str]:
    """A finished run folder (its summary.json is accepted too), its summary, and where its log is, for messages."""
    folder = path.parent if path.name == "summary.json" else path
    log = log_path(folder)
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such run; its log would be {log}")
    if not (folder / "summary.json").exists():
        raise RecordError(f"{folder}: the run is not complete (no summary.json); see its log, {log}")
    hint = f"; see its log, {log}"
    return folder, read_checked(folder / "summary.json", kind, hint), hint


def load_pretrain(folder: Path) -> PretrainRun:
    """A finished pre-training run; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = _folder(folder, PretrainSummary)
    run = PretrainRun(
        folder=folder,
        settings=read_checked(folder / "settings.json", SettingsRecord, hint),
        summary=summary,
        provenance=read_checked(folder / "provenance.json", ProvenanceRecord, hint),
        metrics=read_checked_lines(folder / "metrics.jsonl", MetricsLine, hint),
    )
    _check_one_run(run, hint)
    return run


def _check_one_run(run: PretrainRun, hint: str) -> None:
    """The files of a folder are of one run, and its metrics reach its end."""
    model, summary = run.settings["model"], run.summary
    said = {key: run.settings[key] for key in ("scale", "arm", "label", "seed")}
    said |= {"num_layers": model.get("num_layers") or sum(model["stages"]), "family": model.get("family", "bert")}
    found = {key: summary[key] for key in said if key != "family"} | {"family": run.family}
    differing = [key for key in said if said[key] != found[key]]
    if differing:
        raise RecordError(f"{run.folder}: summary.json and settings.json differ in {', '.join(differing)}{hint}")
    metrics = run.folder / "metrics.jsonl"
    if not run.validation or run.validation[-1]["step"] != summary["steps"]:
        raise RecordError(f"{metrics}: no validation line at the end of the run, step {summary['steps']}{hint}")
    for kind in ("train", "validation", "sensitivity"):
        steps = [line["step"] for line in run.metrics if line["kind"] == kind]
        if steps != sorted(set(steps)) or (steps and steps[-1] > summary["steps"]):
            raise RecordError(f"{metrics}: {kind}: allowed: steps that rise to at most {summary['steps']}{hint}")
    if any(len(line["ranks"]) != summary["num_layers"] for line in run.sensitivity):
        raise RecordError(f"{metrics}: sensitivity: allowed: a rank for each of {summary['num_layers']} layers{hint}")


def load_finetune(folder: Path) -> FinetuneRun:
    """A finished fine-tuning job; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = _folder(folder, FinetuneSummary)
    if not (folder / "predictions.safetensors").is_file():
        raise RecordError(f"{folder}: no predictions.safetensors{hint}")
    return FinetuneRun(
        folder=folder,
        settings=read_checked(folder / "settings.json", FinetuneSettingsRecord, hint),
        summary=summary,
        results=read_checked_lines(folder / "results.jsonl", FinetuneLine, hint),
    )


def load_probe(folder: Path) -> ProbeRun:
    """A finished probe; a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, hint = _folder(folder, ProbeSummary)
    run = ProbeRun(
        folder=folder,
        settings=read_checked(folder / "settings.json", AnyRecord, hint),
        summary=summary,
        results=read_checked_lines(folder / "results.jsonl", ProbeLine, hint),
    )
    checkpoints, layers = summary["checkpoints"], summary["num_layers"]
    for number, line in enumerate(run.results, start=1):
        if line["checkpoint"] not in checkpoints or max([line.get("layer", 1), *line.get("kept", ())]) > layers:
            raise RecordError(
                f"{folder / 'results.jsonl'}: line {number}: allowed: checkpoints {', '.join(checkpoints)} and layers "
                f"1 to {layers}{hint}"
            )
    return run


def load_lambada(folder: Path) -> LambadaRun:
    """Finished LAMBADA scores; missing, incomplete or damaged ones are a RecordError naming file and log."""
    folder, summary, _ = _folder(folder, LambadaSummary)
    return LambadaRun(folder, summary)
