"""Layer dropping: when, where and how a Transformer block is skipped.

A *policy* is a pure function of (step, num_steps, num_layers, settings) that gives one keep probability per
layer. It is composed of

* a schedule over time, theta(t), the keep probability of the most dropped layer (theta(0) = 1 where it decays),
* an allocation over depth, which turns theta(t) into one keep probability per layer,
* a residual scale, by which the output of a kept block's sublayers is multiplied.

Gates are drawn from a counter-based generator, gate = f(seed, step, micro step, layer), so that a resumed run,
another number of ranks, a recomputed forward pass and an offline replay all see the same gates. A gate is a
Python value outside the tensor graph.

Layers are 1..L in the formulas and 0..L-1 in the code; ``layer_numbers`` is the one place that converts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class DropSettings(BaseModel):
    """What is dropped, when and how; every field can be set alone or through a named ``dialect``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dialect: str | None = Field(None, description="named combination that sets the other fields: see DIALECTS")
    schedule: Literal["none", "constant", "exponential", "linear", "cosine", "halving"] = Field(
        "none", description="theta over training time"
    )
    reverse: bool = Field(False, description="run the schedule backwards: theta starts at its limit and ends at 1")
    theta_bar: float = Field(0.5, gt=0, le=1, description="limit of theta, in (0, 1]; PLD's default is 0.5")
    gamma_times_steps: float = Field(
        100.0, gt=0, description="gamma x T of the exponential schedule; PLD: gamma = 100/T"
    )
    theta_lag: int = Field(0, ge=0, description="optimizer steps by which theta lags behind")
    allocation: Literal["uniform", "linear", "linear_from_first", "first"] = Field(
        "uniform",
        description="keep probability over depth for a given theta; first: no sampling, the first theta x L layers",
    )
    joining_layers: Literal["as_they_are", "copy_below"] = Field(
        "as_they_are",
        description="weights of layers that join a growing stack; copy_below: those of the layers already there",
    )
    residual_scale: Literal["inverse", "inverse_of_next", "none", "test_time"] = Field(
        "inverse", description="factor on a kept block's sublayer outputs"
    )
    unit: Literal["step", "micro_batch"] = Field("step", description="how often gates are redrawn")
    if_all_dropped: Literal["identity", "run_all"] = Field(
        "identity", description="what an empty draw means: no block at all, or every block"
    )
    dropped_gradients: Literal["none", "zero"] = Field(
        "none",
        description="gradient that the optimizer sees for a dropped block: none (its weights rest) or zero "
        "(momentum and weight decay still move them)",
    )

    @model_validator(mode="before")
    @classmethod
    def _expand_dialect(cls, values: Any) -> Any:
        """Fill in the dialect's fields; a field that is set beside it wins."""
        if isinstance(values, Mapping) and values.get("dialect") is not None:
            name = values["dialect"]
            if name not in DIALECTS:
                raise ValueError(f"unknown dialect {name!r}; allowed: {', '.join(DIALECTS)}")
            return {**DIALECTS[name].fields, **values}
        return values

    @model_validator(mode="after")
    def _only_a_stack_grows(self) -> DropSettings:
        if self.joining_layers == "copy_below" and self.allocation != "first":
            raise ValueError(
                f"joining_layers copy_below with allocation {self.allocation}: no layer ever joins; allowed: "
                "allocation first"
            )
        return self

    @model_validator(mode="after")
    def _next_probability_is_positive(self) -> DropSettings:
        if self.residual_scale == "inverse_of_next" and self.allocation != "linear_from_first":
            raise ValueError(
                f"residual_scale inverse_of_next with allocation {self.allocation}: the next keep probability can be "
                "0; allowed: allocation linear_from_first"
            )
        return self


@dataclass(frozen=True)
class Dialect:
    """A named combination of drop settings and where it comes from."""

    source: str
    fields: dict[str, Any]


_PLD = {"schedule": "exponential", "theta_bar": 0.5, "gamma_times_steps": 100.0}

DIALECTS: dict[str, Dialect] = {
    "none": Dialect("no layer dropping", {"schedule": "none"}),
    "paper_alg1": Dialect(
        "PLD Algorithm 1: p starts at 1 and falls by (1 - theta_t)/L after each layer; layer 1 is always kept",
        {**_PLD, "allocation": "linear_from_first", "residual_scale": "inverse"},
    ),
    "paper_eq": Dialect(
        "PLD printed equation: layer l is dropped with probability (l/L)(1 - theta(t))",
        {**_PLD, "allocation": "linear", "residual_scale": "inverse"},
    ),
    "deepspeed": Dialect(
        "DeepSpeed and its BERT example before the removal in 2026: gamma = 0.001 at T = 200,000; a gate is drawn "
        "with p, its block rescaled with the already decremented p; gates per micro-batch; theta one step late; "
        "dropped blocks get zero gradients",
        {
            **_PLD,
            "gamma_times_steps": 200.0,
            "allocation": "linear_from_first",
            "residual_scale": "inverse_of_next",
            "unit": "micro_batch",
            "theta_lag": 1,
            "dropped_gradients": "zero",
        },
    ),
    "no_train_no_gain": Dialect(
        "the PLD of No Train No Gain (arXiv 2307.06440): printed equation, no rescaling, an empty draw runs all layers",
        {
            **_PLD,
            "allocation": "linear",
            "residual_scale": "none",
            "unit": "micro_batch",
            "if_all_dropped": "run_all",
        },
    ),
    "stochastic_depth": Dialect(
        "Huang et al. 2016: keep 1 - (l/L)(1 - 0.5) at all times; no scaling in training, x keep at test time",
        {"schedule": "constant", "theta_bar": 0.5, "allocation": "linear", "residual_scale": "test_time"},
    ),
    "layerdrop": Dialect(
        "LayerDrop (Fan et al. 2020): keep 0.8 for all layers at all times, no scaling; gates per forward pass",
        {
            "schedule": "constant",
            "theta_bar": 0.8,
            "allocation": "uniform",
            "residual_scale": "none",
            "unit": "micro_batch",
        },
    ),
    "stacking": Dialect(
        "progressive stacking (Gong et al. 2019): depth L/4, L/2, L, each for a third of the steps here; layers that "
        "join start as copies of those below",
        {
            "schedule": "halving",
            "reverse": True,
            "theta_bar": 0.25,
            "allocation": "first",
            "residual_scale": "none",
            "joining_layers": "copy_below",
        },
    ),
}


@dataclass(frozen=True)
class Gate:
    """The decision for one block in one forward pass: skip it, or keep it with its sublayers scaled."""

    keep: bool
    scale: float = 1.0


def all_kept(num_layers: int, scales: Sequence[float] | None = None) -> tuple[Gate, ...]:
    """Gates that keep every layer, as in evaluation; shape (L,). scales: one factor per layer, all 1 when None."""
    if scales is None:
        return (Gate(True),) * num_layers
    if len(scales) != num_layers:
        raise ValueError(f"{len(scales)} scales for {num_layers} layers; allowed: one scale per layer")
    return tuple(Gate(True, scale) for scale in scales)


def theta(settings: DropSettings, step: int, num_steps: int) -> float:
    """theta(t) at optimizer step ``step`` (0-based) of ``num_steps``; 1 means that nothing is dropped.

    exponential: theta(t) = (1 - theta_bar) exp(-gamma t) + theta_bar, gamma [1/step] = gamma_times_steps / T
    (PLD, equation of the schedule). linear and cosine fall from 1 to theta_bar over the whole run. halving: 1, 1/2,
    1/4, ... down to theta_bar, each level for an equal share of the run. ``reverse`` runs a schedule backwards.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; allowed: 1 or more")
    passed = min(max(step - settings.theta_lag, 0), num_steps)
    time = (num_steps - 1 - min(passed, num_steps - 1) if settings.reverse else passed) / num_steps
    if settings.schedule == "none":
        return 1.0
    if settings.schedule == "constant":
        return settings.theta_bar
    if settings.schedule == "exponential":
        dropped = 1 - math.exp(-settings.gamma_times_steps * time)
    elif settings.schedule == "linear":
        dropped = time
    elif settings.schedule == "halving":
        halvings = round(-math.log2(settings.theta_bar))
        return max(settings.theta_bar, 0.5 ** min(halvings, int(time * (halvings + 1))))
    else:
        dropped = (1 - math.cos(math.pi * time)) / 2
    return 1 - (1 - settings.theta_bar) * dropped


def layer_numbers(num_layers: int) -> range:
    """1..L, the layer numbers of the papers' formulas, for the code's indices 0..L-1."""
    return range(1, num_layers + 1)


def allocate(settings: DropSettings, theta_t: float, num_layers: int) -> tuple[float, ...]:
    """One keep probability per layer for a level theta_t; shape (L,), each in [0, 1].

    uniform: theta_t. linear: 1 - (l/L)(1 - theta_t), PLD's printed equation. linear_from_first:
    1 - ((l-1)/L)(1 - theta_t), PLD Algorithm 1. first: 1 for the first round(theta_t L) layers, at least one of
    them, and 0 for the others, so that nothing is left to chance.
    """
    if settings.allocation == "first":
        depth = max(1, math.floor(theta_t * num_layers + 0.5))
        return tuple(float(layer <= depth) for layer in layer_numbers(num_layers))
    if settings.allocation == "uniform":
        return (theta_t,) * num_layers
    first = 0 if settings.allocation == "linear" else 1
    return tuple(1 - (layer - first) / num_layers * (1 - theta_t) for layer in layer_numbers(num_layers))


def keep_probabilities(settings: DropSettings, step: int, num_steps: int, num_layers: int) -> tuple[float, ...]:
    """The policy: one keep probability per layer at an optimizer step; shape (L,), each in [0, 1]."""
    return allocate(settings, theta(settings, step, num_steps), num_layers)


def residual_scales(settings: DropSettings, keep: Sequence[float], theta_t: float) -> tuple[float, ...]:
    """The factor on each block's sublayer outputs when it is kept in training; shape (L,).

    inverse: 1/p (PLD). inverse_of_next: 1/p after p was already decremented by (1 - theta_t)/L, as in the
    released DeepSpeed example. none and test_time: 1.
    """
    if settings.residual_scale == "inverse":
        return tuple(1 / p if p else 1.0 for p in keep)
    if settings.residual_scale == "inverse_of_next":
        decrement = (1 - theta_t) / len(keep)
        return tuple(1 / (p - decrement) for p in keep)
    return (1.0,) * len(keep)


def uniform_draw(*counters: int | str) -> float:
    """A number in [0, 1) that depends on the counters alone (BLAKE2b of their text, 53 bits)."""
    digest = blake2b("/".join(map(str, counters)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


def draw_gates(
    settings: DropSettings, *, seed: int, step: int, micro_step: int, num_steps: int, num_layers: int
) -> tuple[Gate, ...]:
    """The gates of one forward pass in training; shape (L,). The same arguments always give the same gates."""
    theta_t = theta(settings, step, num_steps)
    keep = allocate(settings, theta_t, num_layers)
    counter = micro_step if settings.unit == "micro_batch" else 0
    kept = [uniform_draw("gate", seed, step, counter, layer) < p for layer, p in enumerate(keep)]
    if settings.if_all_dropped == "run_all" and not any(kept):
        kept = [True] * num_layers
    scales = residual_scales(settings, keep, theta_t)
    return tuple(Gate(k, scale) if k else Gate(False) for k, scale in zip(kept, scales, strict=True))


def evaluation_scales(settings: DropSettings, step: int, num_steps: int, num_layers: int) -> tuple[float, ...]:
    """The factor on each block when the model of a step is evaluated; shape (L,). All 1, with two exceptions.

    test_time: the final keep probabilities. A stack that grows or shrinks without sampling is as deep at evaluation
    as in training: 0 stands for a layer that is not in use.
    """
    if settings.allocation == "first":
        return keep_probabilities(settings, step, num_steps, num_layers)
    if settings.residual_scale == "test_time":
        return keep_probabilities(settings, 1, 1, num_layers)
    return (1.0,) * num_layers


def expected_depth(settings: DropSettings, step: int, num_steps: int, num_layers: int) -> float:
    """Expected number of kept layers at a step: the sum of the keep probabilities."""
    return math.fsum(keep_probabilities(settings, step, num_steps, num_layers))


def mean_expected_depth(settings: DropSettings, num_steps: int, num_layers: int, until: int | None = None) -> float:
    """Expected number of kept layers, averaged over the first ``until`` optimizer steps (none: over all of them).

    At most 10,000 steps are evaluated.
    """
    until = num_steps if until is None else until
    steps = range(0, until, max(1, until // 10_000))
    return math.fsum(expected_depth(settings, s, num_steps, num_layers) for s in steps) / len(steps)


def match_depth(settings: DropSettings, depth: float, num_steps: int, num_layers: int) -> DropSettings:
    """The same policy with the theta_bar at which it keeps ``depth`` layers on average over the run.

    The mean of 1 - keep probability is proportional to 1 - theta_bar for every allocation that samples layers, so
    one evaluation finds it; a depth that no theta_bar in (0, 1] gives, and the policies that keep a whole number of
    layers, are a ValueError.
    """
    if settings.allocation == "first" or settings.schedule in ("none", "halving"):
        raise ValueError(f"schedule {settings.schedule}, allocation {settings.allocation}: has no theta_bar to match")
    half = settings.model_copy(update={"theta_bar": 0.5})
    dropped = num_layers - mean_expected_depth(half, num_steps, num_layers)
    theta_bar = 1 - 0.5 * (num_layers - depth) / dropped
    if not 0 < theta_bar <= 1:
        raise ValueError(f"a mean depth of {depth:.3f} of {num_layers} layers needs theta_bar {theta_bar:.3f}")
    return settings.model_copy(update={"theta_bar": theta_bar})


def joins(settings: DropSettings, step: int, num_steps: int, num_layers: int) -> dict[int, int]:
    """Layers (0..L-1) that join at a step and are to start as copies, each with the layer it copies.

    Progressive stacking (Gong et al. 2019): layer i of the grown stack copies layer i - d of the d that were there.
    """
    if settings.joining_layers == "as_they_are" or step == 0:
        return {}
    before, now = (round(expected_depth(settings, at, num_steps, num_layers)) for at in (step - 1, step))
    return {layer: layer % before for layer in range(before, now)}


def explain(settings: DropSettings, seed: int, step: int, num_steps: int, num_layers: int) -> str:
    """What happens at one optimizer step, in words and numbers: theta, keep probabilities, gates, expected depth."""
    if not 0 <= step < num_steps:
        raise ValueError(f"step {step}; allowed: 0 to {num_steps - 1}")
    level = theta(settings, step, num_steps)
    keep = allocate(settings, level, num_layers)
    gates = draw_gates(settings, seed=seed, step=step, micro_step=0, num_steps=num_steps, num_layers=num_layers)
    lines = [
        f"dialect {settings.dialect or '(none)'}: schedule {settings.schedule}, allocation {settings.allocation}, "
        f"residual scale {settings.residual_scale}",
        f"step {step} of {num_steps}, seed {seed}: theta(t) = {level:.4f}",
        f"expected depth {math.fsum(keep):.2f} of {num_layers}, drawn {sum(gate.keep for gate in gates)}; "
        f"mean over the run {mean_expected_depth(settings, num_steps, num_layers):.2f}",
        "",
        "layer  keep probability  gate     residual x",
    ]
    for number, p, gate in zip(layer_numbers(num_layers), keep, gates, strict=True):
        state = "kept   " if gate.keep else "dropped"
        lines.append(f"{number:5d}  {p:16.4f}  {state}  {f'{gate.scale:.4f}' if gate.keep else '-':>10}")
    return "\n".join(lines)
