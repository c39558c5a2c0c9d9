"""From index.json to the evidence: the run folders are read and checked to be of one study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pldrepro.analysis import glue_scores
from pldrepro.analysis.results import Evidence
from pldrepro.config.arm import ArmTags
from pldrepro.config.recorded import Index, StudyRuns
from pldrepro.errors import RecordError
from pldrepro.records import read_record
from pldrepro.runs.folder import (
    ContrastsRun,
    FinetuneRun,
    LambadaRun,
    ProbeRun,
    load_contrasts,
    load_early,
    load_finetune,
    load_lambada,
    load_pretrain,
    load_probe,
)
from pldrepro.runs.schema import FinetuneJob
from pldrepro.runs.step_times import load_calibration, load_interleave


def load_evidence(
    pretrain: Sequence[Path],
    finetune: Sequence[Path] = (),
    calibration: Path | None = None,
    scores: Path | None = None,
    *,
    probes: Sequence[Path] = (),
    lambada: Sequence[Path] = (),
    contrasts: Sequence[Path] = (),
    early: Sequence[Path] = (),
    interleaved: Sequence[Path] = (),
    tags: Mapping[str, ArmTags],
) -> Evidence:
    """Read run folders (or their summary.json); an unfinished run, or none of the baseline, is a RecordError."""
    if not pretrain:
        raise RecordError("no pre-training runs were given")
    evidence = Evidence(
        pretrain=tuple(map(load_pretrain, pretrain)),
        finetune=tuple(map(load_finetune, finetune)),
        calibration=load_calibration(calibration) if calibration else None,
        scores=glue_scores.read_scores(scores) if scores else None,
        tags=tags,
        probes=tuple(map(load_probe, probes)),
        lambada=tuple(map(load_lambada, lambada)),
        contrasts=tuple(map(load_contrasts, contrasts)),
        early=tuple(map(load_early, early)),
        interleaved=tuple(map(load_interleave, interleaved)),
    )
    scales = {run.summary.scale for run in evidence.pretrain}
    families = {run.family for run in evidence.pretrain}
    if len(scales) > 1 or len(families) > 1:
        several = sorted(scales) if len(scales) > 1 else sorted(families)
        raise RecordError(f"runs of several scales or families cannot be compared: {', '.join(several)}")
    for run in evidence.pretrain:
        if evidence.calibration:
            evidence.calibration.shape_of(run)
        twins = [other for other in evidence.pretrain if (other.arm, other.seed) == (run.arm, run.seed)]
        if len(twins) > 1:
            raise RecordError(f"{run.folder} and {twins[1].folder} are both {run.arm}, seed {run.seed}")
    for arm in (*evidence.arms, *evidence.untrained):
        for run in evidence.runs(arm):
            if set(run.summary.checkpoints) != set(evidence.checkpoints(arm)):
                raise RecordError(f"{run.folder}: not the checkpoints of {evidence.runs(arm)[0].folder}")
    _check_finetuned(evidence)
    for found in (evidence.probes, evidence.lambada, evidence.contrasts):
        _check_belongs(evidence, found)
    _check_weights(evidence)
    if evidence.baseline not in evidence.arms:
        raise RecordError(
            f"{pretrain[0]}, ...: no run of an arm of role baseline; arms here: {', '.join(evidence.arms)}"
        )
    return evidence


def _check_belongs(evidence: Evidence, found: Sequence[ProbeRun | LambadaRun | ContrastsRun]) -> None:
    """What is made from a run's checkpoints belongs to one of the runs, and a run has it at most once."""
    known = {(run.arm, run.seed): run.summary for run in evidence.pretrain}
    seen: dict[tuple[str, int], Path] = {}
    for probe in found:
        key = (probe.summary.arm, probe.summary.seed)
        run, points = known.get(key), probe.summary.checkpoints
        if run is None or run.scale != probe.summary.scale:
            raise RecordError(f"{probe.folder}: of none of these runs: {key[0]}, seed {key[1]}")
        if isinstance(probe, ProbeRun) and probe.summary.num_layers != run.num_layers:
            raise RecordError(f"{probe.folder}: of {probe.summary.num_layers} layers, its run of {run.num_layers}")
        if not set(points) <= set(run.checkpoints) or (
            not isinstance(probe, ProbeRun) and evidence.final_checkpoint(key[0]) not in points
        ):
            raise RecordError(
                f"{probe.folder}: checkpoints {', '.join(points)}; of its run: {', '.join(run.checkpoints)}"
            )
        if key in seen:
            raise RecordError(f"{seen[key]} and {probe.folder} are both {key[0]}, seed {key[1]}")
        seen[key] = probe.folder


def _check_finetuned(evidence: Evidence) -> None:
    """A fine-tuning is of a checkpoint of one of the runs, and a checkpoint has each group of tasks at most once.

    All of a group are made alike, from the same examples: else a difference between arms could be one of fine-tuning.
    """
    known = {(run.arm, run.seed): run.summary for run in evidence.pretrain}
    seen: dict[tuple[str, int, str, str], Path] = {}
    firsts: dict[str, FinetuneRun] = {}
    with_examples: dict[str, FinetuneRun] = {}
    for run in evidence.finetune:
        about = run.summary
        trained = known.get((about.arm, about.seed))
        if trained is None or about.scale not in (None, trained.scale):
            raise RecordError(f"{run.folder}: of none of these runs: {about.arm}, seed {about.seed}")
        if about.checkpoint not in trained.checkpoints:
            raise RecordError(
                f"{run.folder}: checkpoint {about.checkpoint}; of its run: {', '.join(trained.checkpoints)}"
            )
        key = (about.arm, about.seed, about.checkpoint, about.group)
        if key in seen:
            raise RecordError(f"{seen[key]} and {run.folder} are both {', '.join(map(str, key))}")
        seen[key] = run.folder
        first = firsts.setdefault(about.group, run)
        differing = _differing(first.settings, run.settings)
        if differing:
            raise RecordError(f"{run.folder}: not fine-tuned as {first.folder}: {', '.join(differing)}")
        examples = run.settings.inputs.glue  # earlier records do not know
        counted = run if examples is None else with_examples.setdefault(about.group, run)
        if examples != counted.settings.inputs.glue:
            raise RecordError(f"{run.folder}: not fine-tuned as {counted.folder}: examples")


def _differing(first: FinetuneJob, other: FinetuneJob) -> list[str]:
    """The settings of two fine-tunings of a group that can change a score, where they differ."""
    settings, others = first.finetune, other.finetune
    names = [name for name in type(settings).model_fields if name not in ("groups", "save_models")]
    found = [name for name in names if getattr(settings, name) != getattr(others, name)]
    return found + ["tasks"] * (settings.groups.get(first.group) != others.groups.get(other.group))


def _check_weights(evidence: Evidence) -> None:
    """What is made from a checkpoint was made from the weights that its run saved, as far as the records say."""
    known = {
        (run.arm, run.seed, name): (weights, run.folder)
        for run in evidence.pretrain
        for name, weights in run.weights.items()
    }
    used: list[tuple[FinetuneRun | ProbeRun | LambadaRun | ContrastsRun, Mapping[str, str | None]]] = [
        (run, {run.summary.checkpoint: run.settings.inputs.weights}) for run in evidence.finetune
    ]
    scored: tuple[ProbeRun | LambadaRun | ContrastsRun, ...] = (
        *evidence.probes, *evidence.lambada, *evidence.contrasts
    )  # fmt: skip
    used += [(run, run.settings.inputs.weights) for run in scored]
    for run, weights in used:
        for name, found in weights.items():
            if found is None:
                continue
            expected, origin = known.setdefault((run.summary.arm, run.summary.seed, name), (found, run.folder))
            if found != expected:
                raise RecordError(f"{run.folder}: made from other weights of {name} than those of {origin}")


def read_evidence(path: Path) -> Evidence:
    """The runs that an index.json names, the first study with the others; RecordError if it is damaged."""
    listing = read_record(path, Index)
    first, *others = (_read_study(study, Path(listing.scores)) for study in listing.studies)
    families = [study.family for study in (first, *others)]
    if len(set(families)) < len(families):
        raise RecordError(f"{path}: two studies of one family: {', '.join(families)}")
    return replace(first, others=tuple(others))


def _read_study(study: StudyRuns, scores: Path) -> Evidence:
    return load_evidence(
        list(map(Path, study.pretrain)),
        list(map(Path, study.finetune)),
        Path(study.calibration),
        scores if study.finetune else None,
        probes=list(map(Path, study.probes)),
        lambada=list(map(Path, study.lambada)),
        contrasts=list(map(Path, study.contrasts)),
        early=list(map(Path, study.early)),
        interleaved=list(map(Path, study.interleaved)),
        tags=study.arms,
    )
