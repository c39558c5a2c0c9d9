"""What PLD's speedup at a checkpoint before its end is made of: stopping early, and less time per sample."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pldrepro.analysis import comparisons
from pldrepro.analysis.finding import SHOWN, Finding
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.time_to_target import REPORTED, joined_changes
from pldrepro.config.arm import Role
from pldrepro.stats import FEWEST

CHECKPOINT = REPORTED["glue"]  # at which the paper has its speedup to a similar GLUE score
STOP, WHOLE = "stop", "whole"


@dataclass(frozen=True)
class Stretch:
    """What a factor adds to the product of those before it; ``low`` and ``high``: the limits of its end."""

    begin: float
    end: float
    low: float | None
    high: float | None


def early_stop(study: Evidence, changes: Sequence[tuple[Role, str, str]] | None = None) -> list[Finding]:
    """The factors of the speedup at CHECKPOINT over the baseline's whole run, and their product, last.

    Speedup = samples of the baseline / samples of PLD (``part`` stop) x, for each change from the baseline to PLD,
    reference time per sample before / after it (``part``: the role). ``arm``: that of the change, by its name here;
    ``note``: the change. ``changes``: role, arm and name of each (none: those that the study can tell apart). All
    factors are over the seeds that every arm has. Empty where PLD has no such checkpoint.
    """
    if study.pld not in study.arms or CHECKPOINT not in study.checkpoints(study.pld):
        return []
    steps = joined_changes(study) if changes is None else changes
    arms = [study.baseline, *(arm for _, arm, _ in steps)]
    seeds = [run.seed for run in study.runs(study.pld) if all(run.seed in _seeds(study, arm) for arm in arms)]
    samples = {arm: _costs(study, arm, "samples", seeds) for arm in arms}
    times = {arm: _costs(study, arm, study.clock, seeds) for arm in arms}
    each = {arm: [a / b for a, b in zip(times[arm], samples[arm], strict=True)] for arm in arms}
    found = [_factor(study, STOP, "stopping early", samples, (arms[0], study.pld), priced=False)]
    before = arms[0]
    for role, arm, change in steps:
        found.append(_factor(study, role, change, each, (before, arm)))
        before = arm
    return [one for one in (*found, _factor(study, WHOLE, "all of it", times, (arms[0], study.pld))) if one.estimate]


def stretches(parts: Iterable[Finding]) -> list[Stretch]:
    """From where to where each factor of ``early_stop`` takes the speedup: each goes on from the one before it.

    The last one, the whole, begins at 1 again. Limits are None where the estimate has too few seeds for an interval.
    """
    found, end = [], 1.0
    for one in parts:
        assert one.estimate is not None
        factor, begin = one.estimate, 1.0 if one.part == WHOLE else end
        end = begin * factor.value
        limits = (None, None) if factor.n < FEWEST else (factor.low, factor.high)
        low, high = (None if limit is None else begin * limit for limit in limits)
        found.append(Stretch(begin, end, low, high))
    return found


def _seeds(study: Evidence, arm: str) -> set[int]:
    return {run.seed for run in study.runs(arm)}


def _costs(study: Evidence, arm: str, axis: str, seeds: list[int]) -> list[float]:
    """What the runs of an arm had spent on an axis: PLD's at the checkpoint, the others' at their end."""
    checkpoint = CHECKPOINT if arm == study.pld else None
    return [study.cost(run, axis, checkpoint) or 0.0 for run in study.runs(arm) if run.seed in seeds]


def _factor(
    study: Evidence, part: str, change: str, costs: dict[str, list[float]], arms: tuple[str, str], priced: bool = True
) -> Finding:
    """Costs of an arm over those of another, paired by seed."""
    error = comparisons.price_error(study, *arms) if priced and study.clock == "reference_time" else ()
    paired = comparisons.ratio(zip(costs[arms[0]], costs[arms[1]], strict=True), lambda factor: factor, *error)
    estimate = None if paired is None else paired.estimate
    arm = "" if part in (STOP, WHOLE) else arms[1]
    return Finding("early_stop", part, SHOWN, estimate, "x", "table1", arm=arm, null=1.0, note=change)
