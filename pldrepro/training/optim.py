"""Optimizer and learning-rate schedule of pre-training and fine-tuning."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from pldrepro.config.run import TrainingSettings

EPSILON = 1e-8  # of Adam, torch's default
MAX_GRADIENT_NORM = 1.0  # gradients are clipped to this norm (docs/deviations.md)
# PLD's staircase: x 0.99 every 1,000 of 200,000 steps.
DECAY_FACTOR, DECAY_INTERVALS = 0.99, 200
# Adam's correction factors 1 - beta^t are 1 to the last bit at this many steps; a float32 counts on exactly from it.
_STEPS_WITHOUT_CORRECTION = 1e6


def learning_rate(settings: TrainingSettings, step: int) -> float:
    """Learning rate of optimizer step ``step`` (0-based).

    Linear warm-up over ``warmup`` of the run, then either a staircase (PLD: x 0.99 every 1,000 of
    200,000 steps, counted from the end of the warm-up) or a linear fall to zero at the end.
    """
    warmup_steps = max(1, round(settings.warmup * settings.num_steps))
    if step < warmup_steps:
        return settings.peak_learning_rate * (step + 1) / warmup_steps
    if settings.decay == "linear":
        return settings.peak_learning_rate * (settings.num_steps - step) / max(1, settings.num_steps - warmup_steps)
    intervals = math.floor((step - warmup_steps) * DECAY_INTERVALS / settings.num_steps)
    return settings.peak_learning_rate * DECAY_FACTOR**intervals


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices and embeddings with weight decay; biases and LayerNorm, which are vectors, without."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def adamw(
    model: nn.Module,
    *,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    bias_correction: bool = True,
) -> torch.optim.AdamW:
    """AdamW over the two parameter groups; the learning rate is set before each step by ``set_learning_rate``.

    Without bias correction (PLD's released settings) the step counters start so high that the correction is 1.
    """
    optimizer = torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0, betas=betas, eps=EPSILON, fused=True)
    if not bias_correction:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                optimizer.state[parameter] = {
                    "step": torch.tensor(_STEPS_WITHOUT_CORRECTION, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def zero_missing_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give parameters without a gradient a gradient of zeros, so that momentum and weight decay move them."""
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
