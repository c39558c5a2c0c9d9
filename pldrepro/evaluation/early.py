"""Gradients early in training: a run that is probed at its first steps and ends there (PLD, Figures 1 and 2).

The paper shows its gradients while a model of 12 layers trains. A probe of finished checkpoints says nothing of that: a
baseline that has learned its task has balanced gradients again. So a run with the paper's depth and initial weights
trains for the first steps of its schedule, and the model is measured in place at steps that are fixed beforehand.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from tqdm import tqdm

from pldrepro.config.run import EarlyRunSettings
from pldrepro.errors import DivergedError, SettingsError
from pldrepro.evaluation.probe import Subject, complete_probe, held_out, layers, results_at
from pldrepro.runs.manifest import begin_unless_complete
from pldrepro.runs.provenance import provenance
from pldrepro.runs.scored import EarlyJob, EarlySummary, ProbedPoint, ProbeResult
from pldrepro.training.device import describe, select_device
from pldrepro.training.distributed import SINGLE
from pldrepro.training.objectives import MaskedLanguage, open_objective
from pldrepro.training.run import Run


def probe_early(settings: EarlyRunSettings, corpus_folder: Path, folder: Path, progress: bool = True) -> None:
    """Train for the first steps of a run, probe it there, and write the run folder.

    Raises SettingsError (a model that is not BERT) and DivergedError.
    """
    started = time.perf_counter()
    objective = open_objective(settings, select_device(settings.impl))
    if not isinstance(objective, MaskedLanguage):
        raise SettingsError(f"{folder}: a model of family {settings.model.family}; allowed: bert")
    corpus = objective.open(corpus_folder)
    job = EarlyJob(**settings.model_dump(), corpus=corpus.hash)
    about = provenance(describe(objective.device, settings.impl), corpus=corpus.manifest)
    files = begin_unless_complete(folder, job, about)
    if files is None:
        return
    run = Run(settings, objective, corpus, None, folder, SINGLE)
    text = held_out(objective, corpus, settings.early.sequences)
    results: list[ProbeResult] = []
    points: dict[str, ProbedPoint] = {}
    for step in tqdm(range(1, settings.steps[-1] + 1), desc=f"early {settings.arm} seed {settings.seed}",
                     disable=not progress):  # fmt: skip
        loss = run.train_step()[0]
        run.progress.step = step
        if step in settings.steps:
            if not torch.isfinite(loss):
                raise DivergedError(f"{folder}: the loss is not finite at step {step}")
            subject, name = Subject(run.model.eval(), objective), f"step{step}"
            points[name] = ProbedPoint(
                step=step,
                share=step / settings.training.num_steps,
                validation_loss=subject.loss(text, range(subject.num_layers)),
            )
            results += results_at(folder, name, step, layers(subject, text, settings.early.gradient_batches))
    summary = EarlySummary(
        **settings.identity,
        norm=settings.model.norm,
        num_layers=settings.model.num_layers,
        checkpoints=points,
        sequences=len(text),
        num_steps=settings.training.num_steps,
        seconds=time.perf_counter() - started,
    )
    complete_probe(folder, results, summary, files)
