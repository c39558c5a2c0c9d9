"""The finished runs of a study as one object, and the quantities that tables, figures and claims share.

Every comparison is paired by pre-training seed and taken on one of four axes: samples, FLOPs, reference time
(runs priced with the measured tau(k)) and measured time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import records, score, stats
from pldrepro.records import Calibration, FinetuneRun, PretrainRun, RecordError, TauShape
from pldrepro.stats import Estimate

AXES: dict[str, str] = {
    "samples": "samples",
    "flops": "FLOPs",
    "reference_time": "reference time",
    "measured_time": "measured time",
}
_FIELDS = {"samples": "samples", "flops": "flops", "measured_time": "train_seconds"}


@dataclass(frozen=True)
class Paired:
    """A comparison of two arms over their common seeds.

    ``effects`` holds one number per seed on the scale of the interval (a difference, or a log ratio); 0 is no effect.
    """

    estimate: Estimate
    effects: tuple[float, ...]


@dataclass(frozen=True)
class Evidence:
    """All finished runs of a study; arms stand in the order in which their runs were given."""

    pretrain: tuple[PretrainRun, ...]
    finetune: tuple[FinetuneRun, ...] = ()
    calibration: Calibration | None = None
    scores: pd.DataFrame | None = None
    baseline: str = "baseline"
    pld: str = "pld"

    @property
    def arms(self) -> list[str]:
        """Names of the arms."""
        return list(dict.fromkeys(run.arm for run in self.pretrain))

    @property
    def scale(self) -> str:
        """Name of the scale."""
        return str(self.pretrain[0].summary["scale"])

    def label(self, arm: str) -> str:
        """An arm's name for people."""
        return next(run.label for run in self.pretrain if run.arm == arm)

    def runs(self, arm: str) -> list[PretrainRun]:
        """The runs of an arm, by seed."""
        return sorted((run for run in self.pretrain if run.arm == arm), key=lambda run: run.seed)

    def pairs(self, arm: str, other: str) -> list[tuple[PretrainRun, PretrainRun]]:
        """The runs of two arms that share a seed."""
        others = {run.seed: run for run in self.runs(other)}
        return [(run, others[run.seed]) for run in self.runs(arm) if run.seed in others]

    def checkpoints(self, arm: str) -> list[str]:
        """Names of an arm's checkpoints, in order of time."""
        points = self.runs(arm)[0].summary["checkpoints"]
        return sorted(points, key=lambda name: points[name]["step"])

    def final_checkpoint(self, arm: str) -> str:
        """Name of the checkpoint at the end of an arm's run."""
        return self.checkpoints(arm)[-1]

    def undropped_twin(self, arm: str) -> str | None:
        """The arm that differs from this one by not dropping layers, and in nothing else."""
        target = self.runs(arm)[0].settings
        for other in self.arms:
            settings = self.runs(other)[0].settings
            if settings["drop"]["schedule"] == "none" != target["drop"]["schedule"] and all(
                settings[group] == target[group] for group in ("model", "data", "training", "impl")
            ):
                return other
        return None

    @cached_property
    def glue_values(self) -> dict[tuple[str, int, str], dict[str, float]]:
        """(arm, seed, checkpoint) -> name of the value -> median over fine-tuning seeds, in percent."""
        values: dict[tuple[str, int, str], dict[str, float]] = {}
        if self.scores is not None and len(self.scores):
            for row in score.cells(self.scores).to_dict("records"):
                values.setdefault((row["arm"], row["seed"], row["checkpoint"]), {})[row["value_name"]] = row["median"]
        return values

    @property
    def finetuned(self) -> list[tuple[str, str]]:
        """(arm, checkpoint) of everything that was fine-tuned, arms as given, checkpoints in order of time."""
        there = {(arm, checkpoint) for arm, _, checkpoint in self.glue_values}
        return [(arm, name) for arm in self.arms for name in self.checkpoints(arm) if (arm, name) in there]

    def cost(self, run: PretrainRun, axis: str, checkpoint: str | None = None) -> float | None:
        """What a run had spent on an axis at a checkpoint (none: at its end); None where it was not measured."""
        point = run.summary if checkpoint is None else run.summary["checkpoints"][checkpoint]
        if axis == "reference_time":
            return self.reference_seconds(run, point)
        return float(point[_FIELDS[axis]])

    def cost_at(self, run: PretrainRun, axis: str, line: dict[str, Any]) -> float | None:
        """What a run had spent on an axis at a line of its metrics."""
        return self.reference_seconds(run, line) if axis == "reference_time" else float(line[_FIELDS[axis]])

    def reference_seconds(self, run: PretrainRun, point: dict[str, Any]) -> float | None:
        """Reference seconds of a run up to a point.

        The whole run costs sum over k of (passes with k layers) x tau(k). Up to a point inside it the linear fit of
        tau prices the layers kept so far, scaled so that the end of the run has exactly that cost. Without a
        calibration: what the run itself recorded, if anything.
        """
        if self.calibration is None:
            return point["reference_seconds"]
        shape = self.calibration.shape_of(run)
        counts = run.summary["steps_by_kept_layers"]
        passes, kept = sum(counts.values()), sum(int(k) * count for k, count in counts.items())
        step, steps = point.get("step", run.summary["steps"]), run.summary["steps"]
        so_far = shape.intercept * passes * step / steps + shape.slope * _kept_layers(run, step, kept)
        return shape.price(counts) * so_far / (shape.intercept * passes + shape.slope * kept)

    def first_at(self, run: PretrainRun, loss: float, axis: str) -> float | None:
        """Cost at which a run's validation loss first reaches ``loss``, linear between validations; None: never."""
        previous: dict[str, Any] | None = None
        for line in run.validation:
            cost = self.cost_at(run, axis, line)
            if cost is None:
                return None
            if line["loss"] <= loss:
                if previous is None:
                    return cost
                share = (previous["loss"] - loss) / (previous["loss"] - line["loss"])
                before = self.cost_at(run, axis, previous)
                return None if before is None else before + share * (cost - before)
            previous = line
        return None


def _kept_layers(run: PretrainRun, step: int, total: int) -> float:
    """Layers kept in all forward passes up to a step; linear between logged lines."""
    lines = [line for line in run.metrics if "kept_layers" in line]
    steps = [0, *(line["step"] for line in lines), run.summary["steps"]]
    kept = [0, *(line["kept_layers"] for line in lines), total]
    return float(np.interp(step, steps, kept))


def load_evidence(
    pretrain: Sequence[Path],
    finetune: Sequence[Path] = (),
    calibration: Path | None = None,
    scores: Path | None = None,
    *,
    baseline: str = "baseline",
    pld: str = "pld",
) -> Evidence:
    """Read run folders (or their summary.json); an unfinished run or an unknown arm is a RecordError."""
    if not pretrain:
        raise RecordError("no pre-training runs were given")
    evidence = Evidence(
        pretrain=tuple(map(records.load_pretrain, pretrain)),
        finetune=tuple(map(records.load_finetune, finetune)),
        calibration=records.load_calibration(calibration) if calibration else None,
        scores=score.read_scores(scores) if scores else None,
        baseline=baseline,
        pld=pld,
    )
    scales = {run.summary["scale"] for run in evidence.pretrain}
    if len(scales) > 1:
        raise RecordError(f"runs of several scales cannot be compared: {', '.join(sorted(scales))}")
    for run in evidence.pretrain:
        if evidence.calibration:
            evidence.calibration.shape_of(run)
        twins = [other for other in evidence.pretrain if (other.arm, other.seed) == (run.arm, run.seed)]
        if len(twins) > 1:
            raise RecordError(f"{run.folder} and {twins[1].folder} are both {run.arm}, seed {run.seed}")
    if baseline not in evidence.arms:
        raise RecordError(f"no run of the baseline arm {baseline!r}; arms here: {', '.join(evidence.arms)}")
    return evidence


def difference(pairs: Iterable[tuple[float, float]]) -> Paired | None:
    """Paired difference, first - second; None without pairs."""
    pairs = list(pairs)
    if not pairs:
        return None
    first, second = zip(*pairs, strict=True)
    return Paired(stats.paired_difference(first, second), tuple(a - b for a, b in pairs))


def ratio(
    pairs: Iterable[tuple[float | None, float | None]],
    of: Callable[[float], float] = lambda value: value,
    shared_error: float = 0.0,
) -> Paired | None:
    """Paired ratio, first / second, or a monotone function ``of`` it; None where a value is missing."""
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    if not known:
        return None
    first, second = zip(*known, strict=True)
    estimate = stats.paired_ratio(first, second, shared_error=shared_error).map(of)
    return Paired(estimate, tuple(math.log(a / b) for a, b in known))


def percent_less(value: float) -> float:
    """A ratio as a saving in percent: 0.76 -> 24."""
    return 100 * (1 - value)


def saving_per_sample(
    evidence: Evidence, arm: str, axis: str, checkpoint: str | None = None, against: str | None = None
) -> Paired | None:
    """Percent less per sample than another arm's whole run (the baseline's), on an axis."""
    other = against or evidence.baseline
    return ratio(
        (
            (_per_sample(evidence, run, axis, checkpoint), _per_sample(evidence, base, axis, None))
            for run, base in evidence.pairs(arm, other)
        ),
        percent_less,
        price_error(evidence, arm, other) if axis == "reference_time" else 0.0,
    )


def _per_sample(evidence: Evidence, run: PretrainRun, axis: str, checkpoint: str | None) -> float | None:
    cost, samples = evidence.cost(run, axis, checkpoint), evidence.cost(run, "samples", checkpoint)
    return None if cost is None or samples is None else cost / samples


def speedup(evidence: Evidence, arm: str, axis: str, checkpoint: str | None = None) -> Paired | None:
    """Cost of the baseline's whole run / cost of the arm up to a checkpoint, on an axis."""
    return ratio(
        (
            (evidence.cost(base, axis), evidence.cost(run, axis, checkpoint))
            for run, base in evidence.pairs(arm, evidence.baseline)
        ),
        shared_error=price_error(evidence, arm, evidence.baseline) if axis == "reference_time" else 0.0,
    )


def price_error(evidence: Evidence, arm: str, other: str) -> float:
    """Standard error of the log ratio of two arms' reference times that comes from the calibration itself.

    A paired bootstrap over the rounds in which all shapes were measured in turn: what a slow moment of the machine
    does to both arms cancels. Where only the intervals of tau(k) are known, they are taken as independent.
    """
    if evidence.calibration is None:
        return 0.0
    shapes = [evidence.calibration.shape_of(evidence.runs(name)[0]) for name in (arm, other)]
    counts = [_passes(evidence, name, shape) for name, shape in zip((arm, other), shapes, strict=True)]
    if not all(shape.seconds for shape in shapes):
        return _independent_error(shapes, counts)
    rounds = len(shapes[0].seconds)
    draws = np.random.default_rng(0).integers(0, rounds, size=(1000, rounds))
    prices = [np.median(np.array(s.seconds)[draws], axis=1) @ count for s, count in zip(shapes, counts, strict=True)]
    return float(np.log(prices[0] / prices[1] * counts[1].sum() / counts[0].sum()).std(ddof=1))


def _passes(evidence: Evidence, arm: str, shape: TauShape) -> np.ndarray:
    """Forward passes of all runs of an arm by number of kept layers; (L + 1,)."""
    passes = Counter[int]()
    for run in evidence.runs(arm):
        passes.update({int(kept): count for kept, count in run.summary["steps_by_kept_layers"].items()})
    return np.array([passes[kept] for kept in range(shape.num_layers + 1)])


def _independent_error(shapes: Sequence[TauShape], counts: Sequence[np.ndarray]) -> float:
    """sqrt(sum over shapes and k of (w(k) e(k))^2), w(k) the share of k in a price, e(k) tau(k)'s relative error.

    Two arms of one shape share its tau(k): their w(k) are subtracted first.
    """
    weights = [c * np.array(s.median) / (c @ np.array(s.median)) for s, c in zip(shapes, counts, strict=True)]
    if shapes[0] == shapes[1]:
        weights = [weights[0] - weights[1]]
    return math.hypot(*(np.concatenate([w * s.relative_errors for w, s in zip(weights, shapes, strict=False)])))


def saving_bound(evidence: Evidence, arm: str) -> Estimate | None:
    """Percent of a step that skipping can save at most: (share of the layers in a full step)(1 - mean kept / L)."""
    if evidence.calibration is None:
        return None
    bounds = []
    for run in evidence.runs(arm):
        shape = evidence.calibration.shape_of(run)
        skipped = 1 - run.summary["mean_kept_layers"] / run.summary["num_layers"]
        bounds.append(100 * shape.layer_share * skipped)
    return stats.mean_interval(bounds)


def glue(evidence: Evidence, arm: str, seed: int, checkpoint: str, convention: str) -> score.GlueScore:
    """GLUE score of one run at a checkpoint."""
    return score.glue_scores(evidence.glue_values.get((arm, seed, checkpoint), {}))[convention]


def glue_gain(
    evidence: Evidence, arm: str, checkpoint: str, other: str, other_checkpoint: str, convention: str
) -> Paired | None:
    """GLUE points above another arm, paired by seed, over the values that both have; None where undefined."""
    pairs = []
    for run, base in evidence.pairs(arm, other):
        first = evidence.glue_values.get((arm, run.seed, checkpoint), {})
        second = evidence.glue_values.get((other, base.seed, other_checkpoint), {})
        common = [name for name in score.VALUES if name in first and name in second]
        if not common:
            continue
        values = [score.glue_scores({name: v[name] for name in common})[convention].value for v in (first, second)]
        if values[0] is None or values[1] is None:
            return None
        pairs.append((values[0], values[1]))
    return difference(pairs)
