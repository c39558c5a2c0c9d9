"""Layer dropping: when, where and how a Transformer block is skipped.

A *policy* is a pure function of (step, num_steps, num_layers, settings) that gives one keep probability per
layer; a policy by rank (SBLD, our reading) also needs the layers' ranks, see ``rank_layers``. It is composed of

* a schedule over time, theta(t), the keep probability of the most dropped layer (theta(0) = 1 where it decays),
* an allocation over depth or over rank, which turns theta(t) into one keep probability per layer,
* a residual scale, by which the output of a kept block's sublayers is multiplied.

Each is a function in a table (``SCHEDULES``, ``ALLOCATIONS``, ``RANKINGS``, ``RESIDUAL_SCALES``): a new policy is one
function and one entry, which the settings then accept by its name.

Gates are drawn from a counter-based generator, gate = f(seed, step, micro step, layer), so that a resumed run,
another number of ranks, a recomputed forward pass and an offline replay all see the same gates. A gate is a
Python value outside the tensor graph.

Layers are 1..L in the formulas and 0..L-1 in the code; ``layer_numbers`` is the one place that converts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

# ---- schedules: theta over training time ----


def layer_numbers(num_layers: int) -> range:
    """1..L, the layer numbers of the papers' formulas, for the code's indices 0..L-1."""
    return range(1, num_layers + 1)


def _fall(settings: DropSettings, dropped: float) -> float:
    """theta after the share ``dropped`` of its way from 1 to theta_bar."""
    return 1 - (1 - settings.theta_bar) * dropped


def no_dropping(settings: DropSettings, time: float) -> float:
    """1."""
    return 1.0


def constant(settings: DropSettings, time: float) -> float:
    """theta_bar at all times."""
    return settings.theta_bar


def exponential(settings: DropSettings, time: float) -> float:
    """(1 - theta_bar) exp(-gamma t) + theta_bar, gamma [1/step] = gamma_times_steps / T; PLD's schedule."""
    return _fall(settings, 1 - math.exp(-settings.gamma_times_steps * time))


def linear(settings: DropSettings, time: float) -> float:
    """A straight line from 1 to theta_bar over the whole run."""
    return _fall(settings, time)


def cosine(settings: DropSettings, time: float) -> float:
    """Half a cosine wave from 1 to theta_bar over the whole run."""
    return _fall(settings, (1 - math.cos(math.pi * time)) / 2)


def halving(settings: DropSettings, time: float) -> float:
    """1, 1/2, 1/4, ... down to theta_bar, each level for an equal share of the run."""
    halvings = round(-math.log2(settings.theta_bar))
    return max(settings.theta_bar, 0.5 ** min(halvings, int(time * (halvings + 1))))


PWEGD_GRID = 10_000  # points of a run at which the curve's peak is looked for


def _pwegd(weights: Sequence[float], beta: float, time: float) -> float:
    return math.fsum(a * time**j for j, a in enumerate(weights)) * math.exp(-beta * time)


@cache
def _pwegd_peak(weights: tuple[float, ...], beta: float) -> tuple[float, float]:
    """Where in the run the curve has its maximum, and the maximum before scaling."""
    height, place = max((_pwegd(weights, beta, point / PWEGD_GRID), -point) for point in range(PWEGD_GRID + 1))
    return -place / PWEGD_GRID, height


def pwegd(weights: tuple[float, ...], beta: float, time: float) -> float:
    """v(tau) = (sum_j a_j tau^j) exp(-beta tau), scaled to maximum 1 and held at 1 before its peak; tau in [0, 1].

    The "poly-weighted exponential gamma distribution" of SBLD, whose formula is not public: our reading.
    """
    place, height = _pwegd_peak(weights, beta)
    if time <= place:
        return 1.0
    return min(1.0, max(0.0, _pwegd(weights, beta, time) / height))


def pwegd_schedule(settings: DropSettings, time: float) -> float:
    """1 - (1 - theta_bar)(1 - v(t/T)), see ``pwegd``; SBLD, our reading."""
    return _fall(settings, 1 - pwegd(settings.pwegd_weights, settings.pwegd_beta, time))


# Each gives theta at a time in [0, 1], the share of the run that has passed.
SCHEDULES: dict[str, Callable[[DropSettings, float], float]] = {
    "none": no_dropping,
    "constant": constant,
    "exponential": exponential,
    "linear": linear,
    "cosine": cosine,
    "halving": halving,
    "pwegd": pwegd_schedule,
}
# Their 1 - theta is not proportional to 1 - theta_bar, so there is no theta_bar to match a depth with.
UNMATCHED_SCHEDULES = ("none", "halving")


# ---- allocations: theta over the layers ----


def uniform(settings: DropSettings, theta_t: float, ranks: Sequence[int]) -> tuple[float, ...]:
    """theta_t for every layer."""
    return (theta_t,) * len(ranks)


def ramp(settings: DropSettings, theta_t: float, ranks: Sequence[int]) -> tuple[float, ...]:
    """1 - (l/L)(1 - theta_t): PLD's printed equation."""
    num_layers = len(ranks)
    return tuple(1 - layer / num_layers * (1 - theta_t) for layer in layer_numbers(num_layers))


def ramp_from_first(settings: DropSettings, theta_t: float, ranks: Sequence[int]) -> tuple[float, ...]:
    """1 - ((l-1)/L)(1 - theta_t): PLD's Algorithm 1, which always keeps the first layer."""
    num_layers = len(ranks)
    return tuple(1 - (layer - 1) / num_layers * (1 - theta_t) for layer in layer_numbers(num_layers))


def depth_truncation(settings: DropSettings, theta_t: float, ranks: Sequence[int]) -> tuple[float, ...]:
    """1 for the first round(theta_t L) layers, at least one, and 0 for the others: nothing is left to chance."""
    num_layers = len(ranks)
    depth = max(1, math.floor(theta_t * num_layers + 0.5))
    return tuple(float(layer <= depth) for layer in layer_numbers(num_layers))


def by_rank(settings: DropSettings, theta_t: float, ranks: Sequence[int]) -> tuple[float, ...]:
    """Keep probabilities of layers with these ranks (1: most sensitive). SBLD, our reading.

    The drop probability of rank r has the weight r/L: none for the protected first ranks, droppable_weight r/L for the
    droppable last ones. One factor on all weights, with the drop probabilities capped at 1, makes the mean keep
    1 - (1 - theta_t)(L + 1)/(2 L), that of PLD's printed equation, where the protected layers leave room for it.
    Without lists this is the printed equation with the rank in the place of the layer.
    """
    num_layers = len(ranks)
    protected, droppable = list_sizes(settings, num_layers)
    weights = [
        0.0 if r <= protected else r / num_layers * (settings.droppable_weight if r > num_layers - droppable else 1.0)
        for r in ranks
    ]
    dropped = fill(weights, (1 - theta_t) * (num_layers + 1) / 2)
    return tuple(1 - p for p in dropped)


def list_sizes(settings: DropSettings, num_layers: int) -> tuple[int, int]:
    """How many layers are protected (SBLD's block list), and how many are dropped more often (its allow list)."""
    fractions = (settings.protected_fraction, settings.droppable_fraction)
    protected, droppable = (math.floor(fraction * num_layers + 0.5) for fraction in fractions)
    return protected, min(droppable, num_layers - protected)


def fill(weights: Sequence[float], total: float) -> list[float]:
    """min(1, c w) for each weight w, with the c that makes their sum ``total`` (water-filling).

    A total beyond what the positive weights can hold fills them all.
    """
    full: set[int] = set()
    while True:
        rest = math.fsum(w for index, w in enumerate(weights) if index not in full)
        factor = (total - len(full)) / rest if rest > 0 else 0.0
        over = {index for index, w in enumerate(weights) if index not in full and factor * w > 1}
        if not over:
            return [1.0 if index in full else max(0.0, factor * w) for index, w in enumerate(weights)]
        full |= over


# Each gives the keep probabilities, shape (L,), at a level theta_t for layers with these ranks, 1..L.
ALLOCATIONS: dict[str, Callable[[DropSettings, float, Sequence[int]], tuple[float, ...]]] = {
    "uniform": uniform,
    "linear": ramp,
    "linear_from_first": ramp_from_first,
    "depth_truncation": depth_truncation,
    "by_rank": by_rank,
}


# ---- rankings, for the allocation by rank ----


def random_order(settings: DropSettings, sensitivity: float, seed: int, layer: int) -> float:
    """A draw for each run's seed and each ``ranking_seed``."""
    others = (settings.ranking_seed,) if settings.ranking_seed else ()
    return uniform_draw("ranking", seed, *others, layer)


# Each gives the sort key of a layer from its sensitivity, the run's seed and its index: the lowest is kept most.
RANKINGS: dict[str, Callable[[DropSettings, float, int, int], float]] = {
    "sensitivity": lambda settings, sensitivity, seed, layer: -sensitivity,
    "reversed": lambda settings, sensitivity, seed, layer: sensitivity,
    "depth": lambda settings, sensitivity, seed, layer: layer,
    "random": random_order,
}
UNMEASURED_RANKINGS = ("depth", "random")


# ---- residual scales: the factor on the sublayer outputs of a block that is kept in training ----


def unscaled(keep: Sequence[float], theta_t: float) -> tuple[float, ...]:
    """1 for every layer."""
    return (1.0,) * len(keep)


def inverse(keep: Sequence[float], theta_t: float) -> tuple[float, ...]:
    """1/p, as in PLD."""
    return tuple(1 / p if p else 1.0 for p in keep)


def inverse_of_next(keep: Sequence[float], theta_t: float) -> tuple[float, ...]:
    """1/p after p was already decremented by (1 - theta_t)/L, as in the released DeepSpeed example."""
    decrement = (1 - theta_t) / len(keep)
    return tuple(1 / (p - decrement) for p in keep)


# Each gives the factors, shape (L,), for keep probabilities of shape (L,) at a level theta_t.
RESIDUAL_SCALES: dict[str, Callable[[Sequence[float], float], tuple[float, ...]]] = {
    "inverse": inverse,
    "inverse_of_next": inverse_of_next,
    "none": unscaled,
    "test_time": unscaled,  # the factor comes at evaluation: see evaluation_scales
}


# ---- draws ----


def uniform_draw(*counters: int | str) -> float:
    """A number in [0, 1) that depends on the counters only (BLAKE2b of their text, 53 bits)."""
    digest = blake2b("/".join(map(str, counters)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)


# ---- settings ----


def name_in(table: Mapping[str, Any]) -> AfterValidator:
    """Of a setting that names an entry of a table."""

    def check(name: str) -> str:
        if name not in table:
            raise ValueError(f"expected one of {', '.join(table)}, got {name!r}")
        return name

    return AfterValidator(check)


class SensitivitySettings(BaseModel):
    """How the sensitivity of the layers is measured during a run; see ``pldrepro.training.sensitivity``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    measure: str = Field(
        "lesion", description="what makes a layer sensitive: an entry of pldrepro.training.sensitivity.SCORES"
    )
    warmup_share: float = Field(0.01, ge=0, lt=1, description="share of the run, at full depth, before the analysis")
    batches: int = Field(8, ge=1, description="training micro-batches of the fixed set that it is measured on")
    train_steps: int = Field(4, ge=1, description="train_lesion: optimizer steps without each layer")
    refresh_share: float | None = Field(
        None, gt=0, le=1, description="measure again after each such share of the run; none: once"
    )
    moving_average: float = Field(0.9, ge=0, lt=1, description="weight of the earlier scores when measured again")


class DropSettings(BaseModel):
    """What is dropped, when and how; every field can be set by itself or through a named ``dialect``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dialect: str | None = Field(None, description="named combination that sets the other fields: see DIALECTS")
    schedule: Annotated[str, name_in(SCHEDULES)] = Field("none", description="theta over training time")
    reverse: bool = Field(False, description="run the schedule backwards: theta starts at its limit and ends at 1")
    theta_bar: float = Field(0.5, gt=0, le=1, description="limit of theta, in (0, 1]; PLD's default is 0.5")
    gamma_times_steps: float = Field(
        100.0, gt=0, description="gamma x T of the exponential schedule; PLD: gamma = 100/T"
    )
    pwegd_weights: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...] = Field(
        (0.0, 1.0),
        min_length=1,
        max_length=20,
        description="pwegd: coefficients a_j of tau^j, tau = t/T; (1,) is the exponential",
    )
    pwegd_beta: float = Field(20.0, gt=0, description="pwegd: rate of its exponential factor, per run")
    theta_lag: int = Field(0, ge=0, description="optimizer steps by which theta lags behind")
    allocation: Annotated[str, name_in(ALLOCATIONS)] = Field(
        "uniform",
        description="keep probability over depth for a given theta; depth_truncation: no sampling, the first "
        "theta x L layers; by_rank: over the layers' ranks instead of their depth",
    )
    ranking: Annotated[str, name_in(RANKINGS)] = Field(
        "sensitivity", description="by_rank: what the layers are ranked by; reversed: the least sensitive kept most"
    )
    ranking_seed: int = Field(0, ge=0, description="ranking random: which of several random orders of a run's seed")
    protected_fraction: float = Field(
        0.0, ge=0, lt=1, description="by_rank: fraction of the layers, first ranks, always kept (SBLD's block list)"
    )
    droppable_fraction: float = Field(
        0.0, ge=0, le=1, description="by_rank: fraction of the layers, last ranks, dropped more (SBLD's allow list)"
    )
    droppable_weight: float = Field(
        2.0, ge=1, description="by_rank: factor on the drop probability of the droppable layers"
    )
    sensitivity: SensitivitySettings = SensitivitySettings()
    new_layer_init: Literal["as_they_are", "copy_below"] = Field(
        "as_they_are",
        description="weights of new layers of a growing stack; copy_below: those of the layers already there",
    )
    residual_scale: Annotated[str, name_in(RESIDUAL_SCALES)] = Field(
        "inverse", description="factor on a kept block's sublayer outputs"
    )
    resample_gates: Literal["step", "micro_batch"] = Field("step", description="how often gates are redrawn")
    empty_draw: Literal["identity", "run_all"] = Field(
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
        """Fill in the dialect's fields; a field that is set next to it wins, and each setting of ``sensitivity``."""
        if isinstance(values, Mapping) and values.get("dialect") is not None:
            name = values["dialect"]
            if not isinstance(name, str) or name not in DIALECTS:
                raise ValueError(f"unknown dialect {name!r}; allowed: {', '.join(DIALECTS)}")
            fields = {**DIALECTS[name].fields, **values}
            own, common = values.get("sensitivity"), DIALECTS[name].fields.get("sensitivity", {})
            return {**fields, "sensitivity": {**common, **own}} if isinstance(own, Mapping) else fields
        return values

    @model_validator(mode="after")
    def _only_a_stack_grows(self) -> DropSettings:
        if self.new_layer_init == "copy_below" and self.allocation != "depth_truncation":
            raise ValueError(
                f"new_layer_init copy_below with allocation {self.allocation}: no layer ever joins; allowed: "
                "allocation depth_truncation"
            )
        return self

    @model_validator(mode="after")
    def _lists_do_not_overlap(self) -> DropSettings:
        if self.protected_fraction + self.droppable_fraction > 1:
            raise ValueError(
                f"protected_fraction {self.protected_fraction} + droppable_fraction {self.droppable_fraction}; "
                "allowed: at most 1"
            )
        return self

    @model_validator(mode="after")
    def _pwegd_has_a_peak(self) -> DropSettings:
        if _pwegd_peak(self.pwegd_weights, self.pwegd_beta)[1] <= 0:
            raise ValueError(f"pwegd_weights {self.pwegd_weights}: nowhere positive in a run")
        return self

    @model_validator(mode="after")
    def _next_probability_is_positive(self) -> DropSettings:
        if self.residual_scale == "inverse_of_next" and self.allocation != "linear_from_first":
            raise ValueError(
                f"residual_scale inverse_of_next with allocation {self.allocation}: the next keep probability can be "
                "0; allowed: allocation linear_from_first"
            )
        return self


# ---- dialects: named combinations ----


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
        "dropped blocks get zero gradients. At another T its code keeps gamma = 0.001, here gamma T stays 200: "
        "theta(1000) at T = 5,000 is 0.5, in its code 0.684",
        {
            **_PLD,
            "gamma_times_steps": 200.0,
            "allocation": "linear_from_first",
            "residual_scale": "inverse_of_next",
            "resample_gates": "micro_batch",
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
            "resample_gates": "micro_batch",
            "empty_draw": "run_all",
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
            "resample_gates": "micro_batch",
        },
    ),
    "stacking": Dialect(
        "progressive stacking (Gong et al. 2019): depth L/4, L/2, L, each for a third of the steps here; layers that "
        "join start as copies of those below",
        {
            "schedule": "halving",
            "reverse": True,
            "theta_bar": 0.25,
            "allocation": "depth_truncation",
            "residual_scale": "none",
            "new_layer_init": "copy_below",
        },
    ),
    "sbld": Dialect(
        "SBLD (Zeng et al., AAAI 2023), our reading: PWEGD schedule, layers ranked by what a few training steps "
        "without each do to the training loss, measured when the schedule starts to drop, the top eighth always kept, "
        "the last quarter dropped twice as often, the mean keep that of PLD's printed equation",
        {
            "schedule": "pwegd",
            "theta_bar": 0.5,
            "pwegd_weights": (0.0, 1.0),
            "pwegd_beta": 20.0,
            "allocation": "by_rank",
            "ranking": "sensitivity",
            "sensitivity": {"measure": "train_lesion", "warmup_share": 0.05},
            "protected_fraction": 0.125,
            "droppable_fraction": 0.25,
            "droppable_weight": 2.0,
            "residual_scale": "inverse",
        },
    ),
}


# ---- the policy and its gates ----


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

    ``reverse`` runs a schedule backwards.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; expected 1 or more")
    passed = min(max(step - settings.theta_lag, 0), num_steps)
    time = (num_steps - 1 - min(passed, num_steps - 1) if settings.reverse else passed) / num_steps
    return SCHEDULES[settings.schedule](settings, time)


def allocate(
    settings: DropSettings, theta_t: float, num_layers: int, ranks: Sequence[int] | None = None
) -> tuple[float, ...]:
    """One keep probability per layer for a level theta_t; shape (L,), each in [0, 1].

    ranks: of an allocation by rank; None takes the layers' own order.
    """
    return ALLOCATIONS[settings.allocation](settings, theta_t, ranks or layer_numbers(num_layers))


def rank_layers(
    settings: DropSettings, num_layers: int, sensitivity: Sequence[float] | None, seed: int
) -> tuple[int, ...] | None:
    """The rank of each layer, 1 (kept most) to L; shape (L,). None: not known yet, as no sensitivity was measured.

    Layers that are equally sensitive are ranked by depth. A random ranking is drawn from the run's seed.
    """
    measured = sensitivity if is_ranked_by_sensitivity(settings) else (0.0,) * num_layers
    if measured is None:
        return None
    if len(measured) != num_layers:
        raise ValueError(f"{len(measured)} sensitivities for {num_layers} layers; expected one per layer")
    key = [RANKINGS[settings.ranking](settings, value, seed, layer) for layer, value in enumerate(measured)]
    order = sorted(range(num_layers), key=key.__getitem__)
    ranks = [0] * num_layers
    for rank, layer in zip(layer_numbers(num_layers), order, strict=True):
        ranks[layer] = rank
    return tuple(ranks)


def is_ranked_by_sensitivity(settings: DropSettings) -> bool:
    """Whether the layers' ranks follow from a sensitivity that the run measures."""
    return settings.ranking not in UNMEASURED_RANKINGS


def warmup_steps(settings: DropSettings, num_steps: int) -> int:
    """Steps at full depth at the beginning of a run by rank; none for other policies."""
    if settings.allocation != "by_rank" or settings.schedule == "none":
        return 0
    return round(settings.sensitivity.warmup_share * num_steps)


def is_analysed(settings: DropSettings, step: int, num_steps: int) -> bool:
    """Whether the layers' sensitivity is measured before this step (0-based)."""
    if settings.allocation != "by_rank" or settings.schedule == "none" or not is_ranked_by_sensitivity(settings):
        return False
    since = step - warmup_steps(settings, num_steps)
    if settings.sensitivity.refresh_share is None:
        return since == 0
    return since >= 0 and since % max(1, round(settings.sensitivity.refresh_share * num_steps)) == 0


def keep_probabilities(
    settings: DropSettings, step: int, num_steps: int, num_layers: int, ranks: Sequence[int] | None = None
) -> tuple[float, ...]:
    """The policy: one keep probability per layer at an optimizer step; shape (L,), each in [0, 1].

    ranks: of a policy by rank (``rank_layers``); None takes the layers' order, which gives the same expected depth.
    """
    if step < warmup_steps(settings, num_steps):
        return (1.0,) * num_layers
    return allocate(settings, theta(settings, step, num_steps), num_layers, ranks)


def residual_scales(settings: DropSettings, keep: Sequence[float], theta_t: float) -> tuple[float, ...]:
    """The factor on each block's sublayer outputs when it is kept in training; shape (L,)."""
    return RESIDUAL_SCALES[settings.residual_scale](keep, theta_t)


def draw_gates(
    settings: DropSettings,
    *,
    seed: int,
    step: int,
    micro_step: int,
    num_steps: int,
    num_layers: int,
    ranks: Sequence[int] | None = None,
) -> tuple[Gate, ...]:
    """The gates of one forward pass in training; shape (L,). The same arguments always give the same gates."""
    theta_t = theta(settings, step, num_steps)
    keep = keep_probabilities(settings, step, num_steps, num_layers, ranks)
    counter = micro_step if settings.resample_gates == "micro_batch" else 0
    kept = [uniform_draw("gate", seed, step, counter, layer) < p for layer, p in enumerate(keep)]
    if settings.empty_draw == "run_all" and not any(kept):
        kept = [True] * num_layers
    scales = residual_scales(settings, keep, theta_t)
    return tuple(Gate(k, scale) if k else Gate(False) for k, scale in zip(kept, scales, strict=True))


def evaluation_scales(
    settings: DropSettings, step: int, num_steps: int, num_layers: int, ranks: Sequence[int] | None = None
) -> tuple[float, ...]:
    """The factor on each block when the model of a step is evaluated; shape (L,). All 1, with two exceptions.

    test_time: the final keep probabilities. A stack that grows or shrinks without sampling is as deep at evaluation
    as in training: 0 is a layer that is not in use.
    """
    if settings.allocation == "depth_truncation":
        return keep_probabilities(settings, step, num_steps, num_layers)
    if settings.residual_scale == "test_time":
        return allocate(settings, theta(settings, 1, 1), num_layers, ranks)
    return (1.0,) * num_layers


def expected_depth(settings: DropSettings, step: int, num_steps: int, num_layers: int) -> float:
    """Expected number of kept layers at a step: the sum of the keep probabilities."""
    return math.fsum(keep_probabilities(settings, step, num_steps, num_layers))


def mean_expected_depth(settings: DropSettings, num_steps: int, num_layers: int, until: int | None = None) -> float:
    """Expected number of kept layers, averaged over the first ``until`` optimizer steps (none: over all of them).

    At most 10,000 steps are evaluated; a run without steps drops nothing.
    """
    until = num_steps if until is None else until
    steps = range(0, until, max(1, until // 10_000))
    if not steps:
        return float(num_layers)
    return math.fsum(expected_depth(settings, s, num_steps, num_layers) for s in steps) / len(steps)


def match_depth(settings: DropSettings, depth: float, num_steps: int, num_layers: int) -> DropSettings:
    """The same policy with the theta_bar at which it keeps ``depth`` layers on average over the run.

    The mean of 1 - keep probability is proportional to 1 - theta_bar for every allocation that samples layers (by
    rank: as long as the protected layers leave room), so one evaluation finds it; a depth that no theta_bar in (0, 1]
    gives, and the policies that keep a whole number of layers, are a ValueError.
    """
    if settings.allocation == "depth_truncation" or settings.schedule in UNMATCHED_SCHEDULES:
        raise ValueError(f"schedule {settings.schedule}, allocation {settings.allocation}: has no theta_bar to match")
    half = settings.model_copy(update={"theta_bar": 0.5})
    dropped = num_layers - mean_expected_depth(half, num_steps, num_layers)
    if dropped <= 0:
        raise ValueError(f"schedule {settings.schedule}: drops nothing within {num_steps} steps at any theta_bar")
    theta_bar = 1 - 0.5 * (num_layers - depth) / dropped
    if not 0 < theta_bar <= 1:
        raise ValueError(f"a mean depth of {depth:.3f} of {num_layers} layers needs theta_bar {theta_bar:.3f}")
    return settings.model_copy(update={"theta_bar": theta_bar})


def joins(settings: DropSettings, step: int, num_steps: int, num_layers: int) -> dict[int, int]:
    """Layers (0..L-1) that join at a step and are to start as copies, each with the layer it copies.

    Progressive stacking (Gong et al. 2019): layer i of the grown stack copies layer i - d of the d that were there.
    """
    if settings.new_layer_init == "as_they_are" or step == 0:
        return {}
    before, now = (round(expected_depth(settings, at, num_steps, num_layers)) for at in (step - 1, step))
    return {layer: layer % before for layer in range(before, now)}


def explain(settings: DropSettings, seed: int, step: int, num_steps: int, num_layers: int) -> str:
    """What happens at one optimizer step, in words and numbers: theta, keep probabilities, gates, expected depth."""
    if not 0 <= step < num_steps:
        raise ValueError(f"step {step}; allowed: 0 to {num_steps - 1}")
    level = theta(settings, step, num_steps)
    ranks = rank_layers(settings, num_layers, None, seed)
    keep = keep_probabilities(settings, step, num_steps, num_layers, ranks)
    gates = draw_gates(
        settings, seed=seed, step=step, micro_step=0, num_steps=num_steps, num_layers=num_layers, ranks=ranks
    )
    lines = [
        f"dialect {settings.dialect or '(none)'}: schedule {settings.schedule}, allocation {settings.allocation}, "
        f"residual scale {settings.residual_scale}",
        f"step {step} of {num_steps}, seed {seed}: theta(t) = {level:.4f}",
        f"expected depth {math.fsum(keep):.2f} of {num_layers}, drawn {sum(gate.keep for gate in gates)}; "
        f"mean over the run {mean_expected_depth(settings, num_steps, num_layers):.2f}",
        *(["ranks follow from the sensitivity that a run measures; here the layers' order"] if ranks is None else []),
        "",
        "layer  keep probability  gate     residual x",
    ]
    for number, p, gate in zip(layer_numbers(num_layers), keep, gates, strict=True):
        state = "kept   " if gate.keep else "dropped"
        lines.append(f"{number:5d}  {p:16.4f}  {state}  {f'{gate.scale:.4f}' if gate.keep else '-':>10}")
    return "\n".join(lines)
