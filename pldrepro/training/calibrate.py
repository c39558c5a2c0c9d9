"""Calibration: tau(k), the seconds of a training step with k active layers, for each model shape of a study.

Reference time (as in "No Train No Gain", arXiv 2307.06440): a run costs the sum of tau over its recorded numbers
of kept layers, so that results do not depend on what else the machine was doing, and can be priced for another.
All k of all shapes are measured in turn, round after round, so that a slow moment of the machine hits all alike.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from pldrepro.config.data import DataSettings
from pldrepro.config.run import CalibrationJob, CalibrationSettings, RunSettings
from pldrepro.errors import RecordError
from pldrepro.policy.drop import Gate
from pldrepro.records import read_record
from pldrepro.runs.manifest import begin, complete, entries
from pldrepro.runs.provenance import provenance
from pldrepro.runs.schema import Provenance
from pldrepro.runs.step_times import CalibrationRecord, CalibrationSummary, Fit, StepTime, StepTimes, load_calibration
from pldrepro.stats import NORMAL, bootstrap_interval, group_interval
from pldrepro.training.device import describe, select_device, synchronizer
from pldrepro.training.distributed import SINGLE, ProcessGroup
from pldrepro.training.gradient_sum import GradientSum
from pldrepro.training.objectives import open_objective
from pldrepro.training.optim import MAX_GRADIENT_NORM, adamw, set_learning_rate


class Shape:
    """One model shape under measurement: a training step on random samples with the first k layers kept."""

    def __init__(self, run: RunSettings, device: torch.device, world: ProcessGroup = SINGLE) -> None:
        self.run, self.objective = run.model_copy(update={"seed": 0}), open_objective(run, device)
        self.world = world
        self.model = self.objective.build().to(device).train()
        if run.impl.compile:
            self.objective.compile(self.model)
        self.gradients = GradientSum(world, self.model)
        self.optimizer = adamw(self.model, weight_decay=run.training.weight_decay)
        set_learning_rate(self.optimizer, 1e-6)
        self.size = min(run.impl.micro_batch_size, run.training.batch_size)
        self.batch = self.objective.random(self.size)

    def step(self, kept_layers: int) -> int:
        """One optimizer step of one micro-batch; returns the bytes of gradients that this rank sent."""
        return self.update([tuple(Gate(layer < kept_layers) for layer in range(self.run.model.num_layers))])

    def update(self, gates: Sequence[Sequence[Gate]]) -> int:
        """One optimizer step of a micro-batch for each of the gates; returns the bytes of gradients sent."""
        for number, part in enumerate(gates, 1):
            loss, _ = self.objective.loss(self.model, self.world.shard(self.batch), self.batch, part)
            if number == len(gates):
                self.gradients.start(part)
            loss.backward()
        sent = self.gradients.finish()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return sent


def calibrate(job: CalibrationJob, folder: Path, progress: bool = True, world: ProcessGroup = SINGLE) -> None:
    """Measure tau(k), k = 0..L, for every distinct model among the job's runs and write the calibration folder.

    With several ranks a step is one of all of them together, its all-reduce included; the first rank writes.
    """
    settings = job.calibration
    models = {run.model: run for run in job.runs}
    impl = job.runs[0].impl.model_copy(update={"threads": settings.threads})
    device = select_device(impl)
    if impl.compile:
        torch.compiler.reset()  # what was compiled before in this process does not count
    shapes = [Shape(run, device, world) for run in models.values()]
    seconds = time_steps(shapes, settings, progress and world.is_first)
    if not world.is_first:
        return
    about = provenance(describe(device, impl))
    times = [step_times(shape, rounds) for shape, rounds in zip(shapes, seconds, strict=True)]
    files = begin(folder, CalibrationRecord(**job.model_dump()), about)
    complete(folder, CalibrationSummary(threads=settings.threads, device=about.device, shapes=times), files)


def calibrate_in_processes(job: CalibrationJob, folder: Path) -> None:
    """Calibrate in several processes one after another, each in a folder of its own; write what they say together."""
    alone = job.model_copy(update={"calibration": job.calibration.model_copy(update={"processes": 1})})
    parts = [folder / f"process{number}" for number in range(1, job.calibration.processes + 1)]
    with tempfile.TemporaryDirectory() as temporary:
        settings = Path(temporary, "settings.json")
        settings.write_text(alone.model_dump_json(), encoding="utf-8")
        for part in parts:
            command = [sys.executable, "-m", "pldrepro", "run", "calibrate"]
            command += ["--settings", str(settings), "--out", str(part)]
            if subprocess.run(command, check=False).returncode:
                raise RecordError(f"{part}: this process failed; its own message says why")
    summaries = [load_calibration(part).summary for part in parts]
    about = read_record(parts[0] / "provenance.json", Provenance)
    files = begin(folder, CalibrationRecord(**job.model_dump()), about)
    files |= entries(folder, [f"{part.name}/*.json" for part in parts])
    complete(folder, together(summaries), files)


def together(summaries: Sequence[CalibrationSummary]) -> CalibrationSummary:
    """One calibration of several: of each shape the rounds of all processes, and tau(k) over them."""
    first = summaries[0]
    shapes = [
        over_processes(shape, np.array([summary.shapes[at].seconds for summary in summaries]))
        for at, shape in enumerate(first.shapes)
    ]
    return CalibrationSummary(threads=first.threads, device=first.device, shapes=shapes)


def over_processes(shape: StepTimes, times: np.ndarray) -> StepTimes:
    """The entry of a shape that several processes measured; times: (processes, rounds, L + 1) [s]."""
    processes, rounds, _ = times.shape
    tau = {}
    for kept, columns in enumerate(np.moveaxis(times, 2, 0)):
        known = [step_time(column) for column in columns]
        errors = [(one.high - one.low) / (2 * NORMAL * one.median) for one in known]
        logs = group_interval([math.log(one.median) for one in known], errors)
        assert logs.low is not None
        assert logs.high is not None
        tau[kept] = StepTime(
            median=math.exp(logs.value), low=math.exp(logs.low), high=math.exp(logs.high), n=processes * rounds
        )
    changes = {
        "tau": tau,
        "fit": linear_fit(tau),
        "processes": processes,
        "seconds": times.reshape(-1, len(tau)).tolist(),
    }
    return StepTimes.model_validate(shape.model_copy(update=changes).model_dump())


def time_steps(shapes: list[Shape], settings: CalibrationSettings, progress: bool) -> list[np.ndarray]:
    """Seconds per step; one array (rounds, L + 1) per shape, k = 0..L along the second axis."""
    seconds = [np.empty((settings.rounds, shape.run.model.num_layers + 1)) for shape in shapes]
    wait = synchronizer(shapes[0].objective.device)
    total = settings.warmup_rounds + settings.rounds
    for round_ in tqdm(range(total), desc="calibrate", unit="round", disable=not progress):
        for shape, times in zip(shapes, seconds, strict=True):
            for kept in range(shape.run.model.num_layers + 1):
                wait()
                start = time.perf_counter()
                shape.step(kept)
                wait()
                if round_ >= settings.warmup_rounds:
                    times[round_ - settings.warmup_rounds, kept] = time.perf_counter() - start
    return seconds


def step_time(seconds: np.ndarray) -> StepTime:
    """tau(k) of one k, from the seconds of every round."""
    estimate = bootstrap_interval(seconds.tolist(), np.median, resamples=1000)
    assert estimate.low is not None  # there are three rounds or more
    assert estimate.high is not None
    return StepTime(median=estimate.value, low=estimate.low, high=estimate.high, n=estimate.n)


def step_times(shape: Shape, times: np.ndarray) -> StepTimes:
    """The entry of one shape in summary.json: tau(k) with median and interval, every round, the linear fit over k."""
    tau = {kept: step_time(column) for kept, column in enumerate(times.T)}
    run = shape.run
    return StepTimes(
        norm=run.model.norm,
        num_layers=run.model.num_layers,
        model=run.model,
        micro_batch_size=shape.size,
        sequence_length=run.data.sequence_length if isinstance(run.data, DataSettings) else None,
        precision=run.impl.precision,
        compile=run.impl.compile,
        residual=run.impl.residual,
        attention=run.impl.attention,
        ranks=run.impl.ranks,
        tau=tau,
        seconds=times.round(7).tolist(),
        fit=linear_fit(tau),
    )


def linear_fit(tau: Mapping[int, StepTime]) -> Fit:
    """The linear fit of tau over k = 0..L."""
    medians = np.array([time.median for time in tau.values()])
    slope, intercept = np.polyfit(np.arange(len(medians)), medians, 1)
    r2 = np.corrcoef(np.arange(len(medians)), medians)[0, 1] ** 2
    return Fit(intercept=float(intercept), slope=float(slope), r2=float(r2))
