"""Run folders made on another machine or cluster join a study, each checked before it is copied.

A run is what its manifest lists, has the study's settings and was made from the study's data: the hash of its corpus
or images, and for what is made from a checkpoint the hash of its weights. The processes that measured steps in turn are
of one machine. A run that is not so is refused with the reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pldrepro.config.study import Study
from pldrepro.data.manifests import Prepared, read_prepared
from pldrepro.errors import RecordError, RefusedError, SettingsError
from pldrepro.records import read_record
from pldrepro.runs.lock import locked
from pldrepro.runs.manifest import (
    ALWAYS,
    MANIFEST,
    changed_settings,
    check,
    differences,
    is_complete,
    read_manifest,
    settings_of,
    verified,
    weights_of,
)
from pldrepro.runs.record import LAYOUT
from pldrepro.runs.schema import FinetuneInputs, FinetuneJob
from pldrepro.runs.scored import CheckpointInputs, ContrastInputs, ContrastsJob, EarlyJob, LambadaJob, ProbeJob
from pldrepro.runs.step_times import InterleaveRecord, load_interleave


@dataclass(frozen=True)
class Outcome:
    """What became of one run folder."""

    run: str  # kind/arm/seed..., below the study's runs
    reason: str | None  # why it was refused, or None
    is_new: bool  # it was not here before


def join(study: Study, source: Path) -> list[Outcome]:
    """Copy the run folders below ``source`` (a results folder, or its ``runs``) into a study and its companions."""
    outcomes = []
    for one, folder in _pairs(study, source):
        for kind, pattern in LAYOUT.items():
            for run in sorted(path for path in (folder / kind).glob(pattern) if path.is_dir()):
                outcomes.append(_join_one(one, kind, run, run.relative_to(folder)))
    if not outcomes:
        raise RecordError(f"{source}: no run folder; allowed: a results folder, or its runs, with pretrain/ARM/seedN")
    return outcomes


def _pairs(study: Study, source: Path) -> Iterator[tuple[Study, Path]]:
    """Each study with the folder of its runs in the source."""
    if not (source / "runs").is_dir():
        yield study, source
        return
    for one in study.all:
        yield one, source / Path(one.results).relative_to(study.results) / "runs"


def _join_one(study: Study, kind: str, run: Path, place: Path) -> Outcome:
    target = Path(study.runs) / place
    try:
        with locked(target):
            return Outcome(str(place), None, _check_and_copy(study, kind, run, target))
    except (RecordError, SettingsError) as error:
        return Outcome(str(place), str(error), False)


def _check_and_copy(study: Study, kind: str, run: Path, target: Path) -> bool:
    """Copy a run folder unless it is here already; a reason against it is a RecordError."""
    if not (run / MANIFEST).is_file():
        raise RefusedError(f"{run}: no {MANIFEST}; the run is not complete, or was made by an earlier version")
    verified(run)
    check(run, read_manifest(run), ALWAYS)
    checks = {"pretrain": _check_pretrain, "early": _check_early, "interleave": _check_interleaved}
    if kind in checks:
        checks[kind](study, run)
    else:
        _check_made_from_it(study, kind, run)
    if (target / MANIFEST).is_file():
        ours, theirs = read_manifest(target), read_manifest(run)
        if (ours.files, ours.summary) == (theirs.files, theirs.summary):
            return False
        raise RefusedError(f"{target}: holds another finished run already; delete it to take this one")
    if target.exists() and any(target.iterdir()):  # an empty one was made by Snakemake
        raise RefusedError(f"{target}: holds an unfinished run; delete it to take this one")
    copy = target.with_name(f".{target.name}.copy")
    shutil.rmtree(copy, ignore_errors=True)  # of an import that was killed
    there = [name for name in read_manifest(run).files if (run / name).exists()]  # a record may lack its models
    for name in (*there, MANIFEST):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run / name, copy / name)
    is_complete(copy)  # checks the copy, and writes its summary
    copy.rename(target)
    return True


def _check_pretrain(study: Study, run: Path) -> None:
    """Same arm, seed, settings and data as a run of the study."""
    theirs = settings_of(run)
    if (theirs.arm, theirs.seed) not in study.pretrain_runs():
        raise RefusedError(f"{run}: {theirs.arm}, seed {theirs.seed}, is no run of {study.settings.scale}")
    ours = study.run(theirs.arm, theirs.seed)
    if ours.budget is not None:  # its steps follow from the calibration of where it was trained
        training = ours.training.model_copy(update={"num_steps": theirs.training.num_steps})
        ours = ours.model_copy(update={"training": training})
    changed = differences(run, ours, _prepared(study, study.prepared))
    if changed:
        raise RefusedError(f"{run}: differs from the study in {', '.join(changed)}")


def _check_early(study: Study, run: Path) -> None:
    """Same arm, seed, settings and data as a run of the study that is probed early in training."""
    theirs = read_record(run / "settings.json", EarlyJob, unknown="forbid")
    if (theirs.arm, theirs.seed) not in study.early_runs():
        raise RefusedError(f"{run}: {theirs.arm}, seed {theirs.seed}, is no early job of {study.settings.scale}")
    ours = study.early_run(theirs.arm, theirs.seed)
    changed = changed_settings(theirs, ours)
    changed += ["early"] if theirs.early != ours.early else []
    changed += ["corpus"] if theirs.corpus != _prepared(study, "corpus") else []
    if changed:
        raise RefusedError(f"{run}: differs from the study in {', '.join(changed)}")


def _check_interleaved(study: Study, run: Path) -> None:
    """A process of the study, of the same arms, on the machine of the processes that are here."""
    theirs = read_record(run / "settings.json", InterleaveRecord, unknown="forbid")
    if theirs.process not in study.interleave_processes() or run.name != f"process{theirs.process}":
        raise RefusedError(f"{run}: process {theirs.process} is no interleave job of {study.settings.scale}")
    ours = study.interleave_job()
    changed = ["interleave"] if theirs.interleave != ours.interleave else []
    for their, own in zip(theirs.runs, ours.runs, strict=False):
        changed += [f"{own.arm}: {name}" for name in changed_settings(their, own)]
    if changed:
        raise RefusedError(f"{run}: differs from the study in {', '.join(changed)}")
    device = load_interleave(run).summary.device
    for summary in sorted((Path(study.runs) / "interleave").glob("process*/summary.json")):
        other = load_interleave(summary.parent).summary.device
        if other != device:
            raise RefusedError(f"{run}: of {device.name}, {summary.parent} of {other.name}; allowed: one machine")


def _check_made_from_it(study: Study, kind: str, run: Path) -> None:
    """Same settings as a job of the study, and made from the weights and data that are here."""
    settings = study.settings
    job: FinetuneJob | ProbeJob | LambadaJob | ContrastsJob
    if kind == "finetune":
        job = read_record(run / "settings.json", FinetuneJob, unknown="forbid")
        known = (job.arm, job.seed, job.checkpoint, job.group) in study.finetune_runs()
        changed = [] if job.finetune == study.finetune else ["finetune"]
    elif kind == "probe":
        job = read_record(run / "settings.json", ProbeJob, unknown="forbid")
        known = (job.arm, job.seed) in study.probe_runs()
        changed = [] if job.probe == settings.probe else ["probe"]
    elif kind == "contrasts":
        job = read_record(run / "settings.json", ContrastsJob)
        known = (job.arm, job.seed) in study.contrast_runs()
        changed = [] if job.contrasts == settings.contrasts else ["contrasts"]
    else:
        job = read_record(run / "settings.json", LambadaJob, unknown="forbid")
        known, changed = (job.arm, job.seed) in study.lambada_runs(), []
    if not known:
        raise RefusedError(f"{run}: {job.arm}, seed {job.seed}, is no {kind} job of {settings.scale}")
    weights = _weights(study, job.arm, job.seed)
    inputs: FinetuneInputs | CheckpointInputs
    if isinstance(job, FinetuneJob):
        inputs = FinetuneInputs(weights=weights.get(job.checkpoint), glue=_prepared(study, "glue"))
    elif isinstance(job, ContrastsJob):
        picked = {name: weights[name] for name in job.inputs.weights if name in weights}
        prepared = {"corpus": _prepared(study, "corpus"), "items": _prepared(study, "contrasts")}
        inputs = ContrastInputs(weights=picked, **prepared)
    else:
        chosen = settings.probe.checkpoints if kind == "probe" else None
        picked = {name: digest for name, digest in weights.items() if chosen is None or name in chosen}
        inputs = CheckpointInputs(weights=picked, corpus=_prepared(study, "corpus"))
    changed += [name for name in type(inputs).model_fields if getattr(job.inputs, name) != getattr(inputs, name)]
    if changed:
        raise RefusedError(f"{run}: differs from the study in {', '.join(changed)}")


def _prepared(study: Study, name: str) -> str:
    """Hash of the study's prepared data; RecordError where they are not prepared here."""
    path = Path(study.results) / "data" / name / "manifest.json"
    if not path.is_file():
        raise RecordError(f"{path}: no such file; prepare the data here first, with this file as Snakemake's target")
    return read_prepared(path.parent, Prepared, "prepare").hash


def _weights(study: Study, arm: str, seed: int) -> dict[str, str]:
    """Checkpoint -> SHA-256 of its weights, of a pre-training run that is here."""
    folder = Path(study.runs) / "pretrain" / arm / f"seed{seed}"
    if not (folder / MANIFEST).is_file():
        raise RefusedError(
            f"{folder / MANIFEST}: no such file; the pre-training run that this was made from is not here"
        )
    return weights_of(folder)
