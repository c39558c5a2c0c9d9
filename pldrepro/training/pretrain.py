"""Pre-training of one arm with one seed: config in, run folder out.

``setup -> resume -> loop -> finish``. The loop is explicit: gates, batch, loss, backward, clip, step, record.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pldrepro.config.base import validate
from pldrepro.config.run import RunSettings
from pldrepro.costs.flops import parameter_count
from pldrepro.errors import OutOfTimeError, SettingsError
from pldrepro.policy import drop
from pldrepro.runs.manifest import (
    ALWAYS,
    MANIFEST,
    SUMMARY,
    begin,
    check,
    complete,
    differences,
    is_complete,
    read_manifest,
    settings_of,
)
from pldrepro.runs.provenance import provenance
from pldrepro.runs.schema import PretrainJob, PretrainSummary, TrainLine, ValidationLine
from pldrepro.runs.step_times import load_calibration
from pldrepro.training.device import describe, peak_memory_bytes, select_device
from pldrepro.training.distributed import SINGLE, ProcessGroup
from pldrepro.training.memory import saved_bytes_of_run
from pldrepro.training.objectives import Data, Objective, open_objective
from pldrepro.training.optim import learning_rate
from pldrepro.training.run import Run, diverged, spread
from pldrepro.training.sensitivity import check_measure
from pldrepro.training.stop import Stop
from pldrepro.training.warmup import warm_up


def pretrain(
    settings: RunSettings,
    data_folder: Path,
    folder: Path,
    calibration: Path | None = None,
    max_seconds: float | None = None,
    progress: bool = True,
    world: ProcessGroup = SINGLE,
) -> None:
    """Pre-train one arm and write its run folder; an interrupted run goes on from its last checkpoint.

    A run that is complete is left as it is, and gets its summary back where only that was removed. With several ranks
    only the first writes. Raises SettingsError, RecordError (a damaged resume checkpoint, damaged files of a complete
    run), DivergedError or OutOfTimeError.
    """
    stop = Stop(max_seconds)
    with stop.watching():
        check_measure(settings.drop.sensitivity)
        settings = within_budget(settings, calibration, folder)
        objective = open_objective(settings, select_device(settings.impl))
        data = objective.open(data_folder)
        # The first rank looks: it may write what the others would look for.
        if world.on_first(lambda: is_finished(folder, settings, data)):
            return
        run = setup(settings, objective, data, folder, calibration, world)
        run.resume()
        warm_up(run)
        run.compare_ranks()
        fit(run, stop, progress and world.is_first)
        if world.is_first:
            finish(run)


def within_budget(settings: RunSettings, calibration: Path | None, folder: Path) -> RunSettings:
    """Set the number of steps so that the run ends at its budget of reference time, where it has one.

    Both runs are priced with the linear fit of tau(k) at the layers that their policies are expected to keep. A run
    that has begun keeps its steps, whatever a newer calibration says.
    """
    budget = settings.budget
    if budget is None:
        return settings
    if calibration is None:
        raise SettingsError(f"{settings.arm}: a run with a budget of reference time needs a calibration")
    if any((folder / name).exists() for name in ("resume", SUMMARY, MANIFEST)):
        earlier = settings_of(folder)
        if earlier.budget == budget:
            return with_steps(settings, earlier.training.num_steps)
    taus, layers = load_calibration(calibration), settings.model.num_layers
    other = settings.model_copy(update={"arm": budget.arm, "model": budget.model})
    own, others = (taus.shape(run) for run in (settings, other))
    seconds = budget.num_steps * others.expected(budget.kept_layers)
    steps = settings.training.num_steps
    for _ in range(10):  # the depth that a policy keeps hardly depends on the number of steps
        steps = round(seconds / own.expected(drop.mean_expected_depth(settings.drop, steps, layers)))
    return with_steps(settings, steps)


def with_steps(settings: RunSettings, num_steps: int) -> RunSettings:
    """The same run with another number of steps; its checkpoints and its schedules keep their shares."""
    training = settings.training.model_copy(update={"num_steps": num_steps})
    return validate(RunSettings, settings.model_copy(update={"training": training}).model_dump(), settings.arm)


def setup(
    settings: RunSettings,
    objective: Objective,
    data: Data,
    folder: Path,
    calibration: Path | None,
    world: ProcessGroup = SINGLE,
) -> Run:
    """Build the model, and write what the run is before it starts."""
    tau = None if calibration is None else load_calibration(calibration).shape(settings)
    run = Run(settings, objective, data, tau, folder, world)
    if world.is_first:
        about = provenance(describe(run.device, settings.impl), corpus=data.manifest)
        run.begun = begin(folder, PretrainJob.model_validate(settings.model_dump()), about)
    return run


def is_finished(folder: Path, settings: RunSettings, data: Data) -> bool:
    """Whether the folder holds this run, complete.

    One that holds a run with other settings or on other data is refused, complete or not; but where the workflow
    removed the summary of a complete one, to have it made again, this run takes its place.
    """
    kept = [name for name in ("resume", SUMMARY) if (folder / name).exists()]
    if (folder / MANIFEST).exists():
        check(folder, read_manifest(folder), ALWAYS)
    elif not kept:
        return False
    changed = differences(folder, settings, data.hash)
    if changed and kept:
        raise SettingsError(
            f"{folder}: holds a run with other settings ({', '.join(changed)}) by its settings.json and "
            "provenance.json; delete it to start anew"
        )
    if changed or not is_complete(folder):
        return False
    shutil.rmtree(folder / "resume", ignore_errors=True)
    return True


def fit(run: Run, stop: Stop, progress: bool = True) -> None:
    """Train from the current step to the end, with validation, checkpoints and records at fixed steps."""
    training, impl = run.settings.training, run.settings.impl
    log_steps = spread(impl.log_points, training.num_steps)
    checkpoint_steps = {step: name for name, step in training.checkpoint_steps().items()}
    validation_steps = spread(training.validation_points, training.num_steps) | set(checkpoint_steps)
    saved = time.monotonic()
    pending: list[tuple[Tensor, Tensor, Tensor]] = []
    if training.num_steps == 0:
        evaluate(run, training.final_checkpoint)
    with bar(run, progress) as display:
        while run.progress.step < training.num_steps:
            with run.clock.running():
                pending.append(run.train_step())
                run.progress.step += 1
                step = run.progress.step
                # The clocks and signals of the ranks differ: all do what one of them wants.
                wanted = 2 if stop.reason else int(time.monotonic() - saved >= impl.save_every_seconds)
                wanted = run.world.all_reduce_max(wanted)
                due, ended = wanted > 0, wanted == 2
                if due or step in log_steps or step in validation_steps:
                    flush(run, pending)
            display.update()
            if step in log_steps:
                loss = log(run)
                display.set_postfix(loss=f"{loss:.3f}", samples_s=round(samples_per_second(run)), refresh=False)
            if step in validation_steps:
                evaluate(run, checkpoint_steps.get(step))
                due |= step in checkpoint_steps
            if due and step < training.num_steps:  # of a finished run nothing is left to go on with
                run.save()
                saved = time.monotonic()
            if ended and step < training.num_steps:
                raise OutOfTimeError(
                    f"stopped {stop.reason or 'by another rank'} at step {step} of {training.num_steps}"
                )


def evaluate(run: Run, checkpoint: str | None) -> None:
    """Validate and record it; save the checkpoint that is due, if any."""
    run.compare_ranks()
    validation = run.validate()
    run.record(ValidationLine(kind="validation", **vars(validation), **dict(run.costs(run.progress.step))))
    if checkpoint is not None:
        run.save_checkpoint(checkpoint, validation)


def flush(run: Run, pending: list[tuple[Tensor, Tensor, Tensor]]) -> None:
    """Read the losses since the last flush (the only place that waits for the device); stop if one is not finite."""
    values = torch.stack([torch.stack(list(row)).float() for row in pending]).cpu()
    values[:, :2] = run.world.sum(values[:, :2].contiguous())
    finite = torch.isfinite(values).all(dim=1)
    if not bool(finite.all()):
        raise diverged(run, "loss", run.progress.step - len(pending) + int((~finite).nonzero()[0]))
    pending.clear()
    run.progress.losses += values.tolist()


def log(run: Run) -> float:
    """One training line of metrics.jsonl; losses are means since the last line. Returns the mean loss."""
    step, training = run.progress.step, run.settings.training
    loss, main_loss, gradient_norm = np.mean(run.progress.losses, axis=0).tolist()
    run.progress.losses = []
    line = TrainLine(
        kind="train",
        loss=loss,
        main_loss=main_loss,
        gradient_norm=gradient_norm,
        learning_rate=learning_rate(training, step - 1),
        theta=drop.theta(run.settings.drop, step - 1, training.num_steps),
        **dict(run.costs(step)),
    )
    run.record(line)
    return line.loss


def bar(run: Run, visible: bool) -> Any:
    """The progress bar: loss, samples per second, time left; on a log file a line every half minute."""
    return tqdm(
        total=run.settings.training.num_steps,
        initial=run.progress.step,
        desc=f"{run.settings.arm} seed {run.settings.seed}",
        unit="step",
        disable=not visible,
        mininterval=0.5 if sys.stderr.isatty() else 30,
        dynamic_ncols=True,
    )


def samples_per_second(run: Run) -> float:
    """Speed of training, without validation and saving."""
    return run.progress.step * run.settings.training.batch_size / max(run.clock.seconds, 1e-9)


def finish(run: Run) -> None:
    """Write the summary, last and atomically, and remove the resume checkpoint."""
    settings, progress = run.settings, run.progress
    last = progress.checkpoints[settings.training.final_checkpoint]
    passes = sum(progress.passes_by_kept_layers.values())
    summary = PretrainSummary(
        **settings.identity,
        family=settings.model.family,
        norm=settings.model.norm,
        num_layers=settings.model.num_layers,
        parameters=parameter_count(settings.model),
        steps=progress.step,
        samples=last.samples,
        tokens=last.tokens,
        validation_loss=last.validation_loss,
        validation_accuracy=last.validation_accuracy,
        validation_top5=last.validation_top5,
        train_seconds=last.train_seconds,
        warmup_seconds=progress.warmup_seconds,
        reference_seconds=last.reference_seconds,
        flops=progress.flops,
        mean_kept_layers=progress.kept_layers / max(1, passes),
        passes_by_kept_layers=dict(sorted(progress.passes_by_kept_layers.items())),
        passes_by_layer=progress.passes_by_layer,
        analysis_seconds=progress.analysis_seconds,
        analysis_passes=progress.analysis_passes,
        reduced_bytes=progress.reduced_bytes,
        peak_memory_bytes=peak_memory_bytes(run.device),
        saved_bytes=saved_bytes_of_run(run),
        checkpoints=progress.checkpoints,
    )
    complete(run.folder, summary, run.files)
    shutil.rmtree(run.folder / "resume", ignore_errors=True)  # a short run has none
