"""Measured in turn: optimizer steps of several arms one after another in one process, round after round.

What a slow moment of the machine does, it does to all arms alike. Nothing is assumed of how the time of a step depends
on its layers: every arm draws the gates of its own policy, at steps that are spread over its whole schedule. What
differs from one process to the next (where its memory is, which cores it runs on) needs several processes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

from tqdm import tqdm

from pldrepro.config.run import InterleaveJob
from pldrepro.policy import drop
from pldrepro.runs.manifest import begin_unless_complete, complete
from pldrepro.runs.provenance import provenance
from pldrepro.runs.step_times import InterleaveRecord, InterleaveSummary, MeasuredArm
from pldrepro.training.calibrate import Shape
from pldrepro.training.device import describe, select_device, synchronizer


def interleave(job: InterleaveJob, process: int, folder: Path, progress: bool = True) -> None:
    """Measure the steps of the job's runs in turn and write the run folder; ``process`` draws other gates, from 1."""
    settings = job.interleave
    record = InterleaveRecord(**job.model_dump(), process=process)
    impl = job.runs[0].impl.model_copy(update={"threads": settings.threads})
    device = select_device(impl)
    about = provenance(describe(device, impl))
    files = begin_unless_complete(folder, record, about)
    if files is None:
        return
    arms = [Shape(run, device) for run in job.runs]
    orders = list(permutations(range(len(arms))))
    seconds: list[list[float]] = [[] for _ in arms]
    kept: list[list[float]] = [[] for _ in arms]
    wait = synchronizer(device)
    for round_ in tqdm(range(-settings.warmup_rounds, settings.rounds), desc="interleave", unit="round",
                       disable=not progress):  # fmt: skip
        for place in orders[round_ % len(orders)]:
            gates = step_gates(arms[place], process, max(0, round_), settings.rounds)
            wait()
            start = time.perf_counter()
            arms[place].update(gates)
            wait()
            if round_ >= 0:
                seconds[place].append(time.perf_counter() - start)
                kept[place].append(sum(gate.keep for part in gates for gate in part) / len(gates))
    measured = [
        MeasuredArm(arm=run.arm, label=run.label, seconds=times, kept_layers=layers)
        for run, times, layers in zip(job.runs, seconds, kept, strict=True)
    ]
    scale = job.runs[0].scale
    complete(folder, InterleaveSummary(scale=scale, process=process, device=about.device, arms=measured), files)


def step_gates(arm: Shape, seed: int, round_: int, rounds: int) -> list[Sequence[drop.Gate]]:
    """Gates of each micro-batch of the optimizer step that a round represents: the middle of its part of the run."""
    training, layers = arm.run.training, arm.run.model.num_layers
    ranks = drop.rank_layers(arm.run.drop, layers, None, seed)
    step = int((round_ + 0.5) * training.num_steps / rounds)
    return [
        drop.draw_gates(
            arm.run.drop, seed=seed, step=step, micro_step=micro_step, num_steps=training.num_steps, num_layers=layers,
            ranks=ranks,
        )
        for micro_step in range(-(-training.batch_size // arm.size))
    ]  # fmt: skip
