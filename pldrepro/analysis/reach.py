"""How soon an arm reaches what the baseline has at its end: its loss, its GLUE score, another score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pldrepro.analysis import glue_scores
from pldrepro.analysis.comparisons import Paired, cost_ratio
from pldrepro.analysis.interpolation import first_at_or_below
from pldrepro.analysis.results import Evidence
from pldrepro.runs.folder import PretrainRun


@dataclass(frozen=True)
class Reach:
    """How soon an arm reaches what the baseline has at its end, on one axis, by seed.

    ``costs``: seed -> (the baseline up to there, the arm up to there); a run that never gets there counts with its
    whole run, a bound. ``reached``: the runs that get there.
    """

    costs: dict[int, tuple[float | None, float | None]]
    reached: int


def reach_loss(evidence: Evidence, arm: str, axis: str) -> Reach:
    """How soon an arm and the baseline itself reach the baseline's final validation loss of the same seed.

    For the first time: a validation that is low by chance counts. The baseline's own first time has the same chance, so
    that an arm which is as good as the baseline is not called faster.
    """
    costs, reached = {}, 0
    for run, base in evidence.pairs(arm, evidence.baseline):
        target = base.summary.validation_loss
        first = evidence.first_at(run, target, axis)
        reached += any(line.loss <= target for line in run.validation)
        own = evidence.first_at(base, target, axis)
        costs[run.seed] = own, evidence.cost(run, axis) if first is None else first
    return Reach(costs, reached)


# (cost, score) along the checkpoints of a run, and the score to reach; no point and None where there is none.
Curve = tuple[list[tuple[float | None, float]], float | None]


def reach_glue(evidence: Evidence, arm: str, axis: str, convention: str) -> Reach:
    """How soon an arm reaches the baseline's final GLUE score of the same seed, see ``_reach``.

    Seeds in which the two have no value in common, or a score is undefined, are left out.
    """
    final = evidence.final_checkpoint(evidence.baseline)

    def curve(run: PretrainRun, base: PretrainRun) -> Curve:
        target = evidence.glue_values.get((base.arm, base.seed, final), {})
        return glue_curve(evidence, run, axis, convention, target)

    return _reach(evidence, arm, axis, curve)


def reach_score(evidence: Evidence, scores: Mapping[tuple[str, int, str], float], arm: str, axis: str) -> Reach:
    """How soon an arm reaches the baseline's final score of the same seed, see ``_reach``.

    ``scores``: (arm, seed, checkpoint) -> score.
    """
    final = evidence.final_checkpoint(evidence.baseline)

    def curve(run: PretrainRun, base: PretrainRun) -> Curve:
        keys = [(run.arm, run.seed, name) for name in evidence.checkpoints(run.arm)]
        points = [(evidence.cost(run, axis, key[2]), scores[key]) for key in keys if key in scores]
        return points, scores.get((base.arm, base.seed, final))

    return _reach(evidence, arm, axis, curve)


def _reach(evidence: Evidence, arm: str, axis: str, curve: Callable[[PretrainRun, PretrainRun], Curve]) -> Reach:
    """How soon an arm and the baseline itself have the score of the baseline's end, linear between checkpoints.

    A run whose first checkpoint is already there counts with that checkpoint: late rather than early. A score goes up
    and down from checkpoint to checkpoint, so that the first time that it is high enough comes early, for the baseline
    itself, too: its own first time is what an arm's is compared with.
    """
    costs, reached = {}, 0
    for run, base in evidence.pairs(arm, evidence.baseline):
        (points, target), (own, level) = curve(run, base), curve(base, base)
        if target is None or not points:
            continue
        reached += any(value >= target for _, value in points)
        costs[run.seed] = _until(evidence, base, axis, own, level), _until(evidence, run, axis, points, target)
    return Reach(costs, reached)


def _until(
    evidence: Evidence, run: PretrainRun, axis: str, points: list[tuple[float | None, float]], target: float | None
) -> float | None:
    """Cost of a run up to where its score first is the target's; of a run that never gets there the whole run's."""
    first = None if target is None else first_at_or_below(((cost, -value) for cost, value in points), -target)
    return evidence.cost(run, axis) if first is None else first


def reach_speedup(evidence: Evidence, arm: str, axis: str, reach: Reach) -> Paired | None:
    """Cost of the baseline up to where it has what it has at its end / cost of the arm up to there."""
    return cost_ratio(evidence, (arm, evidence.baseline), axis, reach.costs.values())


def glue_curve(evidence: Evidence, run: PretrainRun, axis: str, convention: str, other: Mapping[str, float]) -> Curve:
    """GLUE score of a run along its fine-tuned checkpoints as (cost, score), and the score of other values.

    Both are over the values that all of them have; no point and None where there is none, or a score is undefined.
    """
    found = {
        checkpoint: evidence.glue_values[run.arm, run.seed, checkpoint]
        for checkpoint in evidence.checkpoints(run.arm)
        if (run.arm, run.seed, checkpoint) in evidence.glue_values
    }
    names = [name for name in glue_scores.VALUES if all(name in values for values in (other, *found.values()))]
    scores = {
        checkpoint: glue_scores.glue_scores({name: values[name] for name in names})[convention].value
        for checkpoint, values in found.items()
    }
    own = glue_scores.glue_scores({name: other[name] for name in names})[convention].value
    curve = [(evidence.cost(run, axis, at), value) for at, value in scores.items() if value is not None]
    return (curve, own) if len(curve) == len(scores) else ([], None)
