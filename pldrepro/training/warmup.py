"""What a process does once and no clock of a run must count: compiling, and loading kernels for each size of batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from pldrepro.data.batches.rows import Batch
from pldrepro.policy.drop import Gate, all_kept, is_analysed, warmup_steps
from pldrepro.training.device import synchronizer
from pldrepro.training.optim import MAX_GRADIENT_NORM, adamw, zero_missing_gradients
from pldrepro.training.run import Run
from pldrepro.training.sensitivity import Analysis, layer_sensitivity
from pldrepro.training.stopwatch import Stopwatch


def warm_up(run: Run) -> None:
    """Make every kind of pass of a run once before its clock starts, and add the seconds to ``warmup_seconds``.

    The samples are random; weights, optimizer and costs stay as they are, and dropout is seeded at each step of the
    run. Uncompiled on the CPU there is nothing to warm.
    """
    if run.device.type == "cpu" and not run.settings.impl.compile:
        return
    watch = Stopwatch(run.progress.warmup_seconds)
    with watch.running():
        _train(run, [run.objective.random(size) for size in _training_sizes(run)], all_kept(run.num_layers))
        _evaluate(run)
        _analyse(run)
        _optimizer_step(run.device)
        synchronizer(run.device)()
    run.progress.warmup_seconds = watch.seconds


def _training_sizes(run: Run) -> list[int]:
    """Samples of the micro-batches of a step; the last one may be smaller."""
    batch, micro = run.settings.training.batch_size, run.settings.impl.micro_batch_size
    return sorted({min(micro, batch - start) for start in range(0, batch, micro)})


def _train(run: Run, parts: Sequence[Batch], gates: Sequence[Gate]) -> list[float]:
    """A forward and a backward pass on each micro-batch, whose gradients are thrown away."""
    run.model.train()
    for part in parts:
        loss, _ = run.objective.loss(run.model, run.world.shard(part), part, gates)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), MAX_GRADIENT_NORM)
        run.model.zero_grad(set_to_none=True)
    return [0.0] * len(parts)


@torch.no_grad()
def _evaluate(run: Run) -> None:
    """A forward pass at every size of the validation's micro-batches."""
    run.model.eval()
    for size in sorted({len(part) for part in run.validation_parts()}):
        run.objective.sums(run.model, run.objective.random(size), all_kept(run.num_layers))


def _analyse(run: Run) -> None:
    """The analysis of sensitivity on one micro-batch, where the run will make one."""
    settings, training = run.settings.drop, run.settings.training
    if is_analysed(settings, warmup_steps(settings, training.num_steps), training.num_steps):
        size = min(run.settings.impl.micro_batch_size, training.batch_size)
        batch, trial = run.objective.random(size), partial(_train, run)
        layer_sensitivity(Analysis(run.model, run.objective, batch, run.flops, settings.sensitivity, trial, run.world))


def _optimizer_step(device: torch.device) -> None:
    """A step of AdamW on a model of two weights, which loads its kernel."""
    model = nn.Linear(1, 1).to(device)
    zero_missing_gradients(model.parameters())
    adamw(model, weight_decay=0.0).step()
