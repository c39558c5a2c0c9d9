"""Comparisons of two arms, paired by seed: savings, speedups, differences in loss and in GLUE."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import numpy as np
import pandas as pd

from pldrepro import stats
from pldrepro.analysis import glue_scores, power, sampling
from pldrepro.analysis.results import Evidence
from pldrepro.runs.folder import PretrainRun
from pldrepro.runs.step_times import StepTimes
from pldrepro.stats import Estimate

# Units of differences; the effects of others are logarithms of ratios.
DIFFERENCES = ("nats", "points", "degrees")


@dataclass(frozen=True)
class Paired:
    """A comparison of two arms over their common seeds.

    ``effects`` holds one number per seed on the scale of the interval (a difference, or a log ratio); 0 is no effect.
    ``shared_error``: standard error, on that scale, of what the seeds have in common, with its degrees of freedom; see
    stats.mean_interval. ``least_spread``: what the spread of the effects is taken to be at least, as their interval
    does; see stats.group_interval. ``unit``: what an effect is of.
    """

    estimate: Estimate
    effects: tuple[float, ...]
    shared_error: float = 0.0
    shared_freedom: float = math.inf
    least_spread: float = 0.0
    unit: Literal["seeds", "processes"] = "seeds"

    @property
    def p(self) -> float | None:
        """Two-sided p of no effect, below 0.05 where the 95 % interval excludes no effect; None for one seed."""
        return stats.p_value(self.effects, self.shared_error, self.shared_freedom, self.least_spread)

    @property
    def test(self) -> tuple[float, ...]:
        """What its test of no effect rests on: equal where two comparisons are one estimate, turned round or not."""
        side = 1 if next(filter(None, self.effects), 0.0) >= 0 else -1
        numbers = (*(side * effect for effect in self.effects), self.shared_error, self.shared_freedom)
        return tuple(float(f"{number:.12g}") for number in (*numbers, self.least_spread))

    @property
    def agree(self) -> int:
        """How many effects are on the side of their mean."""
        side = 1 if sum(self.effects) >= 0 else -1
        return sum(side * effect > 0 for effect in self.effects)

    def turned(self) -> Paired:
        """A difference the other way round: second - first."""
        return replace(
            self, estimate=self.estimate.map(lambda value: -value), effects=tuple(-effect for effect in self.effects)
        )

    def smallest_seen(self, unit: str) -> float | None:
        """The smallest difference that so many seeds find with power.POWER, by itself.

        None of a ratio, by the unit, and where fewer than FEWEST values, or equal ones, tell no spread.
        """
        if len(self.effects) < stats.FEWEST or unit not in DIFFERENCES:
            return None
        spread = max(float(np.std(self.effects, ddof=1)), self.least_spread)
        if not spread:
            return None
        return power.smallest_seen(
            len(self.effects), spread, shared_error=self.shared_error, shared_freedom=self.shared_freedom
        )

    def pairs_for_power(self) -> int | None:
        """Seeds with which this effect, by itself, is found with power.POWER; None where no number is enough."""
        return power.pairs_for_power(
            self.effects,
            shared_error=self.shared_error,
            shared_freedom=self.shared_freedom,
            least_spread=self.least_spread,
        )


def difference(
    pairs: Iterable[tuple[float, float]], shared_error: float = 0.0, shared_freedom: float = math.inf
) -> Paired | None:
    """Paired difference, first - second; None without pairs."""
    pairs = list(pairs)
    if not pairs:
        return None
    first, second = zip(*pairs, strict=True)
    estimate = stats.paired_difference(first, second, shared_error=shared_error, shared_freedom=shared_freedom)
    return Paired(estimate, tuple(a - b for a, b in pairs), shared_error, shared_freedom)


def ratio(
    pairs: Iterable[tuple[float | None, float | None]],
    of: Callable[[float], float] = lambda value: value,
    shared_error: float = 0.0,
    shared_freedom: float = math.inf,
) -> Paired | None:
    """Paired ratio, first / second, or a monotone function ``of`` it; None where a value is missing."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return None
    first, second = zip(*known, strict=True)
    estimate = stats.paired_ratio(first, second, shared_error=shared_error, shared_freedom=shared_freedom).map(of)
    return Paired(estimate, tuple(math.log(a / b) for a, b in known), shared_error, shared_freedom)


def cost_ratio(
    evidence: Evidence,
    arms: tuple[str, str],
    axis: str,
    costs: Iterable[tuple[float | None, float | None]],
    of: Callable[[float], float] = lambda value: value,
) -> Paired | None:
    """``ratio`` of costs of two arms on an axis; in reference time they share the calibration's own error."""
    return ratio(costs, of, *(price_error(evidence, *arms) if axis == "reference_time" else ()))


def percent_less(value: float) -> float:
    """A ratio as a saving in percent: 0.76 -> 24."""
    return 100 * (1 - value)


def saving_per_sample(
    evidence: Evidence, arm: str, axis: str, checkpoint: str | None = None, against: str | None = None
) -> Paired | None:
    """Percent less per sample than another arm's whole run (the baseline's), on an axis."""
    other = against or evidence.baseline
    costs = (
        (_per_sample(evidence, run, axis, checkpoint), _per_sample(evidence, base, axis, None))
        for run, base in evidence.pairs(arm, other)
    )
    return cost_ratio(evidence, (arm, other), axis, costs, percent_less)


def _per_sample(evidence: Evidence, run: PretrainRun, axis: str, checkpoint: str | None) -> float | None:
    cost, samples = evidence.cost(run, axis, checkpoint), evidence.cost(run, "samples", checkpoint)
    return None if cost is None or samples is None else cost / samples


def speedup(evidence: Evidence, arm: str, axis: str, checkpoint: str | None = None) -> Paired | None:
    """Cost of the baseline's whole run / cost of the arm up to a checkpoint, on an axis."""
    pairs = evidence.pairs(arm, evidence.baseline)
    costs = ((evidence.cost(base, axis), evidence.cost(run, axis, checkpoint)) for run, base in pairs)
    return cost_ratio(evidence, (arm, evidence.baseline), axis, costs)


def relative_cost(evidence: Evidence, arm: str, other: str, axis: str) -> Paired | None:
    """Cost of an arm's whole run / cost of another arm's, on an axis."""
    costs = ((evidence.cost(run, axis), evidence.cost(second, axis)) for run, second in evidence.pairs(arm, other))
    return cost_ratio(evidence, (arm, other), axis, costs)


def loss_difference(evidence: Evidence, arm: str, other: str) -> Paired | None:
    """Final validation loss of an arm minus that of another [nats]."""
    return difference(
        (run.summary.validation_loss, second.summary.validation_loss) for run, second in evidence.pairs(arm, other)
    )


def loss_by_seed(evidence: Evidence, arm: str, other: str) -> dict[int, float]:
    """Seed -> final validation loss of an arm minus that of another [nats]."""
    pairs = evidence.pairs(arm, other)
    return {run.seed: run.summary.validation_loss - second.summary.validation_loss for run, second in pairs}


def price_error(evidence: Evidence, arm: str, other: str) -> tuple[float, float]:
    """Standard error of the log ratio of two arms' reference times that comes from the calibration itself.

    With its degrees of freedom, infinite where it is known as that of a normal value.

    A paired bootstrap over the rounds in which all shapes were measured in turn: what a slow moment of the machine
    does to both arms cancels. Where several processes measured them, how these differ counts, too: the error is that of
    ``stats.group_interval``, with the processes less 1 as its degrees of freedom. Where only the intervals of tau(k)
    are known, they are taken as independent. Without a calibration, or without a run of one of the arms, there is
    nothing to err in: 0.
    """
    if evidence.calibration is None or not {arm, other} <= set(evidence.arms):
        return 0.0, math.inf
    shapes = [evidence.calibration.shape_of(evidence.runs(name)[0]) for name in (arm, other)]
    counts = [_passes(evidence, name, shape) for name, shape in zip((arm, other), shapes, strict=True)]
    if not all(shape.seconds for shape in shapes):
        return _independent_error(shapes, counts), math.inf
    processes = shapes[0].processes
    times = [np.array(shape.seconds).reshape(processes, -1, shape.num_layers + 1) for shape in shapes]
    found = [_round_error([one[process] for one in times], counts) for process in range(processes)]
    if processes == 1:
        return found[0][1], math.inf
    logs, errors = zip(*found, strict=True)
    spread = max(float(np.std(logs, ddof=1)), stats.root_mean_square(errors))
    return spread / math.sqrt(processes), processes - 1


def _round_error(times: Sequence[np.ndarray], counts: Sequence[np.ndarray]) -> tuple[float, float]:
    """Log ratio of two prices per pass by one process's rounds (rounds, L + 1), and its bootstrap standard error."""

    def log_ratio(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray(np.log(first @ counts[0] / (second @ counts[1]) * counts[1].sum() / counts[0].sum()))

    resampled = log_ratio(*(_resampled_medians(one.tobytes(), one.shape) for one in times))
    return float(log_ratio(*(np.median(one, axis=0) for one in times))), float(resampled.std(ddof=1))


@cache
def _resampled_medians(times: bytes, shape: tuple[int, int]) -> np.ndarray:
    """Medians (1000, L + 1) of rounds drawn again, the same rounds for every shape; many pairs of arms share one."""
    draws = np.random.default_rng(0).integers(0, shape[0], size=(1000, shape[0]))
    return np.asarray(np.median(np.frombuffer(times).reshape(shape)[draws], axis=1))


def _passes(evidence: Evidence, arm: str, shape: StepTimes) -> np.ndarray:
    """Forward passes of all runs of an arm by number of kept layers; (L + 1,)."""
    passes = Counter[int]()
    for run in evidence.runs(arm):
        passes.update(run.summary.passes_by_kept_layers)
    return np.array([passes[kept] for kept in range(shape.num_layers + 1)])


def _independent_error(shapes: Sequence[StepTimes], counts: Sequence[np.ndarray]) -> float:
    """sqrt(sum over shapes and k of (w(k) e(k))^2), w(k) the share of k in a price, e(k) tau(k)'s relative error.

    Two arms of one shape share its tau(k): their w(k) are subtracted first.
    """
    weights = [c * np.array(s.median) / (c @ np.array(s.median)) for s, c in zip(shapes, counts, strict=True)]
    if shapes[0] == shapes[1]:
        weights = [weights[0] - weights[1]]
    return math.hypot(*(np.concatenate([w * s.relative_errors for w, s in zip(weights, shapes, strict=False)])))


def dropped_layers(evidence: Evidence, arm: str) -> bool:
    """Whether runs of an arm skipped layers."""
    return any(run.summary.mean_kept_layers < run.summary.num_layers for run in evidence.runs(arm))


def linear_saving(evidence: Evidence, arm: str) -> Estimate | None:
    """Percent of a step saved, predicted from the kept depth: (share of the layers in a full step)(1 - mean kept / L).

    No bound: where tau(k) is convex, the first layers that are dropped save more than the linear fit says. None of an
    arm that keeps all its layers, at the baseline's depth or at another: it says nothing of what fewer layers save.
    """
    if evidence.calibration is None or not dropped_layers(evidence, arm):
        return None
    savings = []
    for run in evidence.runs(arm):
        shape = evidence.calibration.shape_of(run)
        skipped = 1 - run.summary.mean_kept_layers / run.summary.num_layers
        savings.append(100 * shape.layer_share * skipped)
    return stats.mean_interval(savings)


def glue(evidence: Evidence, arm: str, seed: int, checkpoint: str, convention: str) -> glue_scores.GlueScore:
    """GLUE score of one run at a checkpoint."""
    return glue_scores.glue_scores(evidence.glue_values.get((arm, seed, checkpoint), {}))[convention]


def glue_convention(evidence: Evidence) -> tuple[str, str]:
    """The convention that GLUE scores are compared in, and why: the paper's, or where it is undefined the nine-metric.

    The paper's geometric mean does not exist where a correlation is not positive.
    """
    for arm, name in [tuned for tuned in evidence.finetuned if tuned[0] in evidence.arms]:
        for run in evidence.runs(arm):
            if glue(evidence, arm, run.seed, name, "paper").note.startswith("undefined"):
                return "nine", (
                    "in the nine-metric mean: the paper's geometric mean is undefined here "
                    "(a Matthews or other correlation is not positive)"
                )
    return "paper", ""


def glue_gain(
    evidence: Evidence, arm: str, checkpoint: str, other: str, other_checkpoint: str, convention: str
) -> Paired | None:
    """GLUE points above another arm, paired by seed, over the values that both have; None where undefined."""
    both = _common_values(evidence, (arm, checkpoint), (other, other_checkpoint))
    sizes = evidence.glue_sizes
    errors = [math.hypot(*(sampling.glue_error(values, sizes, convention) for values in pair)) for pair in both]
    pairs = glue_pairs(evidence, arm, checkpoint, other, other_checkpoint, convention)
    return difference(pairs, float(np.mean(errors)) if pairs else 0.0)


def glue_pairs(
    evidence: Evidence, arm: str, checkpoint: str, other: str, other_checkpoint: str, convention: str
) -> list[tuple[float, float]]:
    """GLUE scores of two arms by common seed, over the values that both have; none where one is undefined."""
    pairs = []
    for both in _common_values(evidence, (arm, checkpoint), (other, other_checkpoint)):
        first, second = (glue_scores.glue_scores(values)[convention].value for values in both)
        if first is None or second is None:
            return []
        pairs.append((first, second))
    return pairs


def _common_values(
    evidence: Evidence, first: tuple[str, str], second: tuple[str, str]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """The GLUE values that two (arm, checkpoint) both have, by common seed; without the seeds that have none."""
    found = []
    for run, base in evidence.pairs(first[0], second[0]):
        own = evidence.glue_values.get((run.arm, run.seed, first[1]), {})
        others = evidence.glue_values.get((base.arm, base.seed, second[1]), {})
        common = [name for name in glue_scores.VALUES if name in own and name in others]
        if common:
            found.append(({name: own[name] for name in common}, {name: others[name] for name in common}))
    return found


def rate_medians(evidence: Evidence, scores: pd.DataFrame) -> pd.DataFrame:
    """Median over fine-tuning seeds of each primary metric, and the mean of the tasks, at the end of pre-training.

    Columns: arm, seed (of pre-training), learning_rate, quantity, value [%].
    """
    primary = {glue_scores.VALUES[name]: name for name in glue_scores.PRIMARY.values()}
    keys = zip(scores["task"], scores["split"], scores["metric"], strict=True)
    named = scores.assign(quantity=[primary.get(key, "") for key in keys])
    finals = named["arm"].map({arm: evidence.final_checkpoint(arm) for arm in evidence.arms})
    kept = named[named["quantity"].ne("") & named["checkpoint"].eq(finals)]
    run = ["arm", "seed", "learning_rate"]
    medians = kept.groupby([*run, "quantity"])["value"].agg(glue_scores.over_finetuning_seeds).reset_index()
    means = medians.groupby(run)["value"].mean().reset_index().assign(quantity="mean")
    return pd.concat([medians, means], ignore_index=True)


def rate_range(data: pd.DataFrame, arm: str) -> float:
    """Mean of the tasks at the best rate of the grid minus that at the worst [points]; ``data``: rate_data's rows."""
    means = data[(data["quantity"] == "mean") & (data["arm"] == arm)]["mean"]
    return float(means.max() - means.min())
