"""The finished runs of a study as one object, and the quantities that tables, figures and claims share.

Every comparison is paired by pre-training seed and taken on one of four axes: samples, FLOPs, reference time
(runs priced with the measured tau(k)) and measured time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pldrepro import formats, records, score, stats
from pldrepro.records import Calibration, FinetuneRun, LambadaRun, PretrainRun, ProbeRun, RecordError, TauShape
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
class Reach:
    """How soon an arm reaches what the baseline has at its end, on one axis, by seed.

    ``costs``: seed -> (the baseline's whole run, the arm's run up to there); a run that never gets there counts with
    its whole run, a bound. ``reached``: the runs that get there.
    """

    costs: dict[int, tuple[float | None, float | None]]
    reached: int


@dataclass(frozen=True)
class Evidence:
    """All finished runs of a study; arms stand in the order in which their runs were given."""

    pretrain: tuple[PretrainRun, ...]
    finetune: tuple[FinetuneRun, ...] = ()
    calibration: Calibration | None = None
    scores: pd.DataFrame | None = None
    baseline: str = "baseline"
    pld: str = "pld"
    probes: tuple[ProbeRun, ...] = ()
    sbld: str = "sbld"
    lambada: tuple[LambadaRun, ...] = ()
    others: tuple[Evidence, ...] = ()
    """The studies of other families of models that are shown beside this one."""

    @property
    def family(self) -> str:
        """Family of models: bert, gpt, swinv2 or vit."""
        return self.pretrain[0].family

    def of(self, *families: str) -> Evidence | None:
        """The first study of one of these families, this one or one of the others; None where there is none."""
        return next(iter(self.all_of(*families)), None)

    def all_of(self, *families: str) -> list[Evidence]:
        """Every study of these families, this one and the others."""
        return [one for one in (self, *self.others) if one.family in families]

    @property
    def arms(self) -> list[str]:
        """Names of the arms."""
        return list(dict.fromkeys(run.arm for run in self.pretrain))

    @property
    def scale(self) -> str:
        """Name of the scale."""
        return str(self.pretrain[0].summary["scale"])

    @property
    def methods(self) -> list[str]:
        """The arms that stand for methods: without those cut to another arm's budget and those on a cut corpus."""
        return [arm for arm in self.arms if self.budget(arm) is None and self.epochs(arm) is None]

    def budget(self, arm: str) -> tuple[str, str] | None:
        """(arm, checkpoint) at whose reference time this arm ends with its learning rate decayed; None: no such arm."""
        budget = self.runs(arm)[0].settings.get("budget")
        return None if budget is None else (budget["arm"], budget["checkpoint"])

    def epochs(self, arm: str) -> float | None:
        """Epochs that an arm makes of a corpus cut for it; None: it reads the whole corpus."""
        epochs = self.runs(arm)[0].settings["training"].get("epochs")
        return None if epochs is None else float(epochs)

    def matched_depth(self, arm: str) -> str | None:
        """The arm whose mean kept depth this one was matched to."""
        matched = self.runs(arm)[0].settings.get("matched_depth")
        return None if matched is None else str(matched)

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

    @property
    def theta_arms(self) -> list[str]:
        """PLD and the arms that differ from it by the limit of theta alone, by theta_bar."""
        if self.pld not in self.arms:
            return []

        def but_theta(arm: str) -> dict[str, Any]:
            settings = self.runs(arm)[0].settings
            others = {key: value for key, value in settings["drop"].items() if key != "theta_bar"}
            return {**{group: settings[group] for group in ("model", "training", "impl")}, "drop": others}

        same = [arm for arm in self.methods if but_theta(arm) == but_theta(self.pld)]
        return sorted(same, key=lambda arm: self.runs(arm)[0].settings["drop"]["theta_bar"])

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

    def quality(self, run: PretrainRun, name: str) -> float | None:
        """What a finished run is good for: a number of its last validation, or of LAMBADA; None where there is none.

        Names: loss, accuracy, top5; lambada_accuracy, lambada_perplexity. Accuracies are shares.
        """
        if not name.startswith("lambada_"):
            value = run.summary.get(f"validation_{name}")
            return None if value is None else float(value)
        for scored in self.lambada:
            if (scored.summary["arm"], scored.summary["seed"]) == (run.arm, run.seed):
                return float(scored.summary["checkpoints"][self.final_checkpoint(run.arm)][name])
        return None

    @property
    def probed(self) -> list[str]:
        """Names of the arms whose checkpoints were probed, as given."""
        there = {run.summary["arm"] for run in self.probes}
        return [arm for arm in self.arms if arm in there]

    @cached_property
    def probe_results(self) -> pd.DataFrame:
        """Every number of every probe (see ``pldrepro.probe``), with its arm, seed and share of the run."""
        return pd.DataFrame(
            {
                **{key: run.summary[key] for key in ("arm", "label", "seed", "norm", "num_layers")},
                "share": run.summary["checkpoints"][row["checkpoint"]]["share"],
                **row,
            }
            for run in self.probes
            for row in run.results
        )

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

        The whole run costs sum over k of (passes with k layers) x tau(k), see ``TauShape.price``. Up to a point inside
        it the linear fit of tau prices the layers kept so far, scaled so that the end of the run has exactly that
        cost; an analysis of sensitivity counts from where it was done. Without a calibration: what the run itself
        recorded, if anything.
        """
        if self.calibration is None:
            return point["reference_seconds"]
        shape = self.calibration.shape_of(run)
        counts = run.summary["steps_by_kept_layers"]
        passes, kept = sum(counts.values()), sum(int(k) * count for k, count in counts.items())
        step, steps = point.get("step", run.summary["steps"]), run.summary["steps"]
        so_far = shape.intercept * passes * step / steps + shape.slope * _kept_layers(run, step, kept)
        training = shape.price(counts, run.summary.get("passes_by_layer", ()))
        analysis = shape.price({}, [0] * shape.num_layers, point.get("analysis_passes", 0))
        return training * so_far / (shape.intercept * passes + shape.slope * kept) + analysis

    def first_at(self, run: PretrainRun, loss: float, axis: str) -> float | None:
        """Cost at which a run's validation loss first reaches ``loss``, linear between validations; None: never."""
        return _first_at_or_below(((self.cost_at(run, axis, line), line["loss"]) for line in run.validation), loss)

    def loss_at(self, run: PretrainRun, cost: float | None, axis: str) -> float | None:
        """Validation loss of a run in mid-schedule, at a cost; linear between validations, None outside of them."""
        return value_at([(self.cost_at(run, axis, line), line["loss"]) for line in run.validation], cost)


def _first_at_or_below(points: Iterable[tuple[float | None, float]], level: float) -> float | None:
    """Cost at which a curve of (cost, value) first falls to a level, linear between points; None: never."""
    before: tuple[float, float] | None = None
    for cost, value in points:
        if cost is None:
            return None
        if value <= level:
            if before is None:
                return cost
            return before[0] + (before[1] - level) / (before[1] - value) * (cost - before[0])
        before = (cost, value)
    return None


def value_at(points: Sequence[tuple[float | None, float]], cost: float | None) -> float | None:
    """Value of a curve of (cost, value) at a cost, linear between points; None outside of them."""
    known = [(at, value) for at, value in points if at is not None]
    if cost is None or not known or not known[0][0] <= cost <= known[-1][0]:
        return None
    return float(np.interp(cost, [at for at, _ in known], [value for _, value in known]))


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
    probes: Sequence[Path] = (),
    lambada: Sequence[Path] = (),
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
        probes=tuple(map(records.load_probe, probes)),
        lambada=tuple(map(records.load_lambada, lambada)),
    )
    scales = {run.summary["scale"] for run in evidence.pretrain}
    families = {run.family for run in evidence.pretrain}
    if len(scales) > 1 or len(families) > 1:
        several = sorted(scales) if len(scales) > 1 else sorted(families)
        raise RecordError(f"runs of several scales or families cannot be compared: {', '.join(several)}")
    for run in evidence.pretrain:
        if evidence.calibration:
            evidence.calibration.shape_of(run)
        twins = [other for other in evidence.pretrain if (other.arm, other.seed) == (run.arm, run.seed)]
        if len(twins) > 1:
            raise RecordError(f"{run.folder} and {twins[1].folder} are both {run.arm}, seed {run.seed}")
    for arm in evidence.arms:
        for run in evidence.runs(arm):
            if set(run.summary["checkpoints"]) != set(evidence.checkpoints(arm)):
                raise RecordError(f"{run.folder}: not the checkpoints of {evidence.runs(arm)[0].folder}")
    _check_belongs(evidence, evidence.probes)
    _check_belongs(evidence, evidence.lambada)
    if baseline not in evidence.arms:
        raise RecordError(f"no run of the baseline arm {baseline!r}; arms here: {', '.join(evidence.arms)}")
    return evidence


def _check_belongs(evidence: Evidence, found: Sequence[ProbeRun | LambadaRun]) -> None:
    """A probe, and LAMBADA's scores, belong to one of the runs, and a run has them at most once."""
    known = {(run.arm, run.seed): run.summary for run in evidence.pretrain}
    seen: dict[tuple[str, int], Path] = {}
    for probe in found:
        key = (probe.summary["arm"], probe.summary["seed"])
        run, points = known.get(key), probe.summary["checkpoints"]
        if run is None or run["scale"] != probe.summary["scale"]:
            raise RecordError(f"{probe.folder}: of none of these runs: {key[0]}, seed {key[1]}")
        if probe.summary.get("num_layers", run["num_layers"]) != run["num_layers"]:
            raise RecordError(
                f"{probe.folder}: of {probe.summary['num_layers']} layers, its run of {run['num_layers']}"
            )
        if not set(points) <= set(run["checkpoints"]) or (
            isinstance(probe, LambadaRun) and evidence.final_checkpoint(key[0]) not in points
        ):
            raise RecordError(
                f"{probe.folder}: checkpoints {', '.join(points)}; of its run: {', '.join(run['checkpoints'])}"
            )
        if key in seen:
            raise RecordError(f"{seen[key]} and {probe.folder} are both {key[0]}, seed {key[1]}")
        seen[key] = probe.folder


def read_evidence(path: Path) -> Evidence:
    """The runs that an evidence.json names, the first study with the others beside it; RecordError if it is damaged."""
    listing = records.read_checked(path, formats.EvidenceRecord)
    first, *others = (_read_study(study, Path(listing["scores"])) for study in listing["studies"])
    families = [study.family for study in (first, *others)]
    if len(set(families)) < len(families):
        raise RecordError(f"{path}: two studies of one family: {', '.join(families)}")
    return replace(first, others=tuple(others))


def _read_study(study: Mapping[str, Any], scores: Path) -> Evidence:
    return load_evidence(
        list(map(Path, study["pretrain"])),
        list(map(Path, study["finetune"])),
        Path(study["calibration"]),
        scores if study["finetune"] else None,
        probes=list(map(Path, study["probes"])),
        lambada=list(map(Path, study["lambada"])),
        baseline=study["baseline"],
    )


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


def relative_cost(evidence: Evidence, arm: str, other: str, axis: str) -> Paired | None:
    """Cost of an arm's whole run / cost of another arm's, on an axis."""
    return ratio(
        ((evidence.cost(run, axis), evidence.cost(second, axis)) for run, second in evidence.pairs(arm, other)),
        shared_error=price_error(evidence, arm, other) if axis == "reference_time" else 0.0,
    )


def loss_difference(evidence: Evidence, arm: str, other: str) -> Paired | None:
    """Final validation loss of an arm minus that of another [nats]."""
    return difference(
        (run.summary["validation_loss"], second.summary["validation_loss"])
        for run, second in evidence.pairs(arm, other)
    )


def reach_loss(evidence: Evidence, arm: str, axis: str) -> Reach:
    """How soon an arm reaches the baseline's final validation loss of the same seed."""
    costs, reached = {}, 0
    for run, base in evidence.pairs(arm, evidence.baseline):
        target = base.summary["validation_loss"]
        first = evidence.first_at(run, target, axis)
        reached += any(line["loss"] <= target for line in run.validation)
        costs[run.seed] = (evidence.cost(base, axis), evidence.cost(run, axis) if first is None else first)
    return Reach(costs, reached)


def reach_glue(evidence: Evidence, arm: str, axis: str, convention: str) -> Reach:
    """How soon an arm reaches the baseline's final GLUE score of the same seed, linear between fine-tuned checkpoints.

    A run whose first fine-tuned checkpoint is already there counts with that checkpoint: late rather than early.
    Seeds in which the two have no value in common, or a score is undefined, are left out.
    """
    costs, reached, final = {}, 0, evidence.final_checkpoint(evidence.baseline)
    for run, base in evidence.pairs(arm, evidence.baseline):
        target = evidence.glue_values.get((base.arm, base.seed, final), {})
        curve, target_score = glue_curve(evidence, run, axis, convention, target)
        if target_score is None or not curve:
            continue
        first = _first_at_or_below(((cost, -value) for cost, value in curve), -target_score)
        reached += any(value >= target_score for _, value in curve)
        costs[run.seed] = (evidence.cost(base, axis), evidence.cost(run, axis) if first is None else first)
    return Reach(costs, reached)


def reach_speedup(evidence: Evidence, arm: str, axis: str, reach: Reach) -> Paired | None:
    """Cost of the baseline's whole run / cost of the arm up to where it has what the baseline has at its end."""
    shared_error = price_error(evidence, arm, evidence.baseline) if axis == "reference_time" else 0.0
    return ratio(reach.costs.values(), shared_error=shared_error)


def glue_curve(
    evidence: Evidence, run: PretrainRun, axis: str, convention: str, other: Mapping[str, float]
) -> tuple[list[tuple[float | None, float]], float | None]:
    """GLUE score of a run along its fine-tuned checkpoints as (cost, score), and the score of other values beside it.

    Both are over the values that all of them have; no point and None where there is none, or a score is undefined.
    """
    found = {
        checkpoint: evidence.glue_values[run.arm, run.seed, checkpoint]
        for checkpoint in evidence.checkpoints(run.arm)
        if (run.arm, run.seed, checkpoint) in evidence.glue_values
    }
    names = [name for name in score.VALUES if all(name in values for values in (other, *found.values()))]
    scores = {
        checkpoint: score.glue_scores({name: values[name] for name in names})[convention].value
        for checkpoint, values in found.items()
    }
    own = score.glue_scores({name: other[name] for name in names})[convention].value
    curve = [(evidence.cost(run, axis, at), value) for at, value in scores.items() if value is not None]
    return (curve, own) if len(curve) == len(scores) else ([], None)


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


def glue_convention(evidence: Evidence) -> tuple[str, str]:
    """The convention that GLUE scores are compared in, and why: the paper's, or where it is undefined the nine-metric.

    The paper's geometric mean does not exist where a correlation is not positive.
    """
    for arm, name in evidence.finetuned:
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


def rate_medians(evidence: Evidence, scores: pd.DataFrame) -> pd.DataFrame:
    """Median over fine-tuning seeds of each primary metric, and the mean of the tasks, at the end of pre-training.

    Columns: arm, seed (of pre-training), learning_rate, panel, value [%].
    """
    primary = {score.VALUES[name]: name for name in score.PRIMARY.values()}
    keys = zip(scores["task"], scores["split"], scores["metric"], strict=True)
    panels = scores.assign(panel=[primary.get(key, "") for key in keys])
    finals = panels["arm"].map({arm: evidence.final_checkpoint(arm) for arm in evidence.arms})
    kept = panels[panels["panel"].ne("") & panels["checkpoint"].eq(finals)]
    run = ["arm", "seed", "learning_rate"]
    medians = kept.groupby([*run, "panel"])["value"].median().reset_index()
    means = medians.groupby(run)["value"].mean().reset_index().assign(panel="mean")
    return pd.concat([medians, means], ignore_index=True)
