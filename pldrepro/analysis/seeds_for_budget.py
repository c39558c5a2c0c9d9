"""What a grant of device hours pays for: seeds, arms, and the smallest effect that so many seeds would find.

Where not even two seeds of all arms fit, arms are left out, one at a time, until two seeds do; only where the arms that
must stay do not fit twice, one seed is planned. See ``by_importance`` for the order.

How far an effect stands out depends on the spread between seeds, which is taken from recorded runs: the standard
deviation of PLD's paired difference, as in the table ``seeds``. Those models are small, so that it is a first guess.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from pldrepro import stats
from pldrepro.analysis import comparisons as ev
from pldrepro.analysis import glue_scores, results
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.seed_spread import POWER, QUANTITIES, compared_arms
from pldrepro.config.base import read_yaml
from pldrepro.config.study import Study, StudyRuns, load_recorded
from pldrepro.costs.plan import AnyDevice, study_work, wrapped
from pldrepro.stats import Estimate

RECORDED_FILE = Path("config/recorded.yaml")
STAY = 2  # arms of a study that are never left out: nothing can be compared with fewer
MOST = 50.0  # standard deviations; no effect is looked for beyond


@dataclass(frozen=True)
class Cost:
    """Device hours of a study: what is done once, and one seed of each arm, the most important arm first."""

    once: float
    arms: dict[str, float]

    def of(self, seeds: int, arms: Sequence[str]) -> float:
        """Some seeds of some arms."""
        return self.once + seeds * math.fsum(self.arms[arm] for arm in arms)


@dataclass(frozen=True)
class Allowance:
    """What fits a grant; ``arms``: of every study, in its order of importance. No seeds: nothing fits."""

    seeds: int
    arms: tuple[tuple[str, ...], ...]
    hours: float


def by_importance(study: Study) -> list[str]:
    """The arms of a study, the first to be left out last.

    The baseline, PLD, the same model without dropping, SBLD; then as the scale file lists them.
    """
    settings = study.settings
    runs = {arm: study.run(arm, settings.seeds[0]) for arm in settings.arms}
    pld, sbld = study.arm_with_role("pld"), study.arm_with_role("sbld")
    first = [study.baseline, pld]
    if pld:
        groups = ("model", "data", "training", "impl")
        first += [
            arm
            for arm, run in runs.items()
            if run.drop.schedule == "none" and all(getattr(run, key) == getattr(runs[pld], key) for key in groups)
        ]
    return list(dict.fromkeys([*(arm for arm in [*first, sbld] if arm), *settings.arms]))


def study_cost(study: Study, device: AnyDevice) -> Cost:
    """Hours of a study, without its companions, on a device."""
    once, arms = 0.0, dict.fromkeys(by_importance(study), 0.0)
    for work in study_work(study):
        if work.run is None:
            continue
        hours = work.price(device).seconds / 3600
        if work.arm is None:
            once += hours
        else:
            arms[work.arm] += hours
    return Cost(once, arms)


def allowance(costs: Sequence[Cost], hours: float) -> Allowance:
    """The seeds of all studies together that fit some hours, and the arms that are left.

    Arms are left out of the study that has most of them left, its least important first.
    """
    arms = [list(cost.arms) for cost in costs]
    once, one_seed = _total(costs, 0, arms), _total(costs, 1, arms) - _total(costs, 0, arms)
    seeds = math.floor((hours - once) / one_seed * (1 + 1e-9))
    if seeds >= 2:
        return _found(costs, seeds, arms)
    for seeds in (2, 1):
        kept = [list(cost.arms) for cost in costs]
        while _total(costs, seeds, kept) > hours and any(len(names) > STAY for names in kept):
            max(kept, key=len).pop()
        if _total(costs, seeds, kept) <= hours:
            return _found(costs, seeds, kept)
    return Allowance(0, tuple(() for _ in costs), 0.0)


def _total(costs: Sequence[Cost], seeds: int, arms: Sequence[Sequence[str]]) -> float:
    return math.fsum(cost.of(seeds, names) for cost, names in zip(costs, arms, strict=True))


def _found(costs: Sequence[Cost], seeds: int, arms: Sequence[Sequence[str]]) -> Allowance:
    return Allowance(seeds, tuple(map(tuple, arms)), _total(costs, seeds, arms))


# ---- the smallest effect that is found ----


@cache
def detectable_effect(n: int) -> float:
    """The smallest effect, in standard deviations of the paired difference, that n seeds find with power 0.8.

    Two-sided paired t test at 5 %; ``stats.power`` rises with the effect, so that halving the interval finds it.
    """
    low, high = 0.0, MOST
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if stats.power(n, middle, 1.0) >= POWER else (middle, high)
    return high


@dataclass(frozen=True)
class Spread:
    """Standard deviation over seeds of PLD's difference to another arm, in recorded runs."""

    family: str
    place: str
    parameters: int  # of PLD's model there
    against: str  # label of the other arm
    quantity: str  # of tables.seeds
    deviation: Estimate

    def effect(self, n: int) -> Estimate:
        """The smallest difference that n seeds find, with the interval of the spread behind it."""
        return self.deviation.map(lambda deviation: detectable_effect(n) * deviation)


def recorded_spreads(families: Sequence[str], path: Path = RECORDED_FILE) -> list[Spread]:
    """Spreads of some families of models, each from the recorded study of it with the most seeds of PLD."""
    sets = load_recorded(read_yaml(path)).result_sets()
    found = [
        (runs, results.load_evidence(list(map(Path, runs.pretrain)), tags=runs.arms))
        for one in sets
        for runs in one.studies
    ]
    spreads = []
    for family in families:
        own = [
            (runs, evidence) for runs, evidence in found if evidence.family == family and evidence.pld in evidence.arms
        ]
        if own:
            runs, evidence = max(own, key=lambda item: len(item[1].pairs(item[1].pld, item[1].baseline)))
            spreads += _spreads(runs, evidence)
    return spreads


def _spreads(runs: StudyRuns, evidence: Evidence) -> list[Spread]:
    place = str(Path(runs.calibration).parent.parent)
    pld = evidence.pld
    others, parameters = compared_arms(evidence, pld), evidence.runs(pld)[0].summary.parameters
    final = {arm: evidence.final_checkpoint(arm) for arm in (pld, *others)}
    # .../finetune/ARM/seedN/CHECKPOINT/GROUP/summary.json
    tuned = [Path(file) for file in runs.finetune if final.get(Path(file).parts[-5]) == Path(file).parts[-3]]
    evidence = replace(evidence, scores=glue_scores.score([file.parent for file in tuned]) if tuned else None)
    spreads = []
    for other in others:
        differences = {
            "validation_loss": ev.loss_difference(evidence, pld, other),
            "glue_nine": ev.glue_gain(evidence, pld, final[pld], other, final[other], "nine"),
        }
        for quantity, paired in differences.items():
            deviation = stats.deviation_interval(paired.effects) if paired else None
            if deviation:
                spreads.append(Spread(evidence.family, place, parameters, evidence.label(other), quantity, deviation))
    return spreads


# ---- for people ----


def render_grant(
    studies: Sequence[Study], device_name: str, device: AnyDevice, hours: float, recorded: Path = RECORDED_FILE
) -> str:
    """What fits so many hours of a device, as text."""
    every = [one for study in studies for one in study.all]
    costs = [study_cost(study, device) for study in every]
    found = allowance(costs, hours)
    lines = [f"what fits {hours:,.5g} hours of {device_name}"]
    if not found.seeds:
        least = math.fsum(cost.of(1, list(cost.arms)[:STAY]) for cost in costs)
        return "\n".join([*lines, f"Nothing: one seed of the arms that must stay takes {least:,.4g} hours."])
    seeds = f"{found.seeds:,} seed{'s' if found.seeds > 1 else ''}"
    dropped = [
        f"{study.settings.scale}: {', '.join(arm for arm in cost.arms if arm not in kept)}"
        for study, cost, kept in zip(every, costs, found.arms, strict=True)
        if len(kept) < len(cost.arms)
    ]
    arms = f"all {sum(map(len, found.arms))} arms" if not dropped else f"{sum(map(len, found.arms))} arms"
    lines.append(f"{seeds} of {arms}, in {found.hours:,.4g} hours.")
    lines += [f"Left out of {text}." for text in dropped]
    if found.seeds < 2:
        return "\n".join(
            wrapped([*lines, "One seed detects nothing: there is no spread to hold a difference against."])
        )
    families = list(dict.fromkeys(study.family for study in every))
    spreads = recorded_spreads(families, recorded)
    lines += ["", f"smallest effect that {seeds} find (paired t test, power {POWER:g}, two-sided 5 %)"]
    return "\n".join([*wrapped(lines), *_effects(spreads, found.seeds), *wrapped(_remarks(families, spreads))])


def _effects(spreads: Sequence[Spread], seeds: int) -> list[str]:
    lines = [f"{'PLD against':<38}{'family, unit':<15}{'effect':>22}{'spread':>9}{'of seeds':>10}"]
    for one in spreads:
        _, unit, digits = QUANTITIES[one.quantity]
        effect, deviation = one.effect(seeds), one.deviation
        limits = f" [{effect.low:.{digits}f}, {effect.high:.{digits}f}]" if effect.low is not None else ""
        lines.append(
            f"{one.against[:36]:<38}{f'{one.family}, {unit}':<15}{f'{effect.value:.{digits}f}{limits}':>22}"
            f"{deviation.value:>9.{digits}f}{deviation.n:>10}"
        )
    return lines if spreads else ["unknown: no recorded runs of PLD in these families"]


def _remarks(families: Sequence[str], spreads: Sequence[Spread]) -> list[str]:
    places = list(dict.fromkeys(spread.place for spread in spreads))
    absent = [family for family in families if family not in {spread.family for spread in spreads}]
    remarks = []
    if spreads:
        largest = max(spread.parameters for spread in spreads) / 1e6
        remarks.append(
            f"Spread: standard deviation over seeds of the paired difference in {', '.join(places)}; brackets: the "
            f"effect at the limits of its 95 % interval. Those are models of at most {largest:.2g} million parameters: "
            "how much larger ones differ between seeds was not measured, so that these effects are a first guess. "
            "nats: final validation loss; points: nine-metric GLUE score."
        )
    if absent:
        remarks.append(f"No recorded runs of PLD of {', '.join(absent)}: no effect is given for them.")
    return remarks
