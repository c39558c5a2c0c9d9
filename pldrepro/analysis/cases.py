"""Claims of the papers, measured and judged: what a set has to say of each.

A claim names its estimator (``measure``), a function of ``pldrepro.analysis.claim_estimators.ESTIMATORS``, and what a
study needs to speak of it. The rule of the verdict is in ``pldrepro.analysis.verdicts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pldrepro.analysis import power
from pldrepro.analysis.arithmetic import arithmetic_note
from pldrepro.analysis.claim_estimators import ESTIMATORS, missing_arm
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.measurement import Measurement, join_notes
from pldrepro.analysis.needs import lacking
from pldrepro.analysis.reported import Claim, Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import FAMILIES, number
from pldrepro.analysis.verdicts import ERROR_RATE, MIN_SEEDS, Family, NullTest, Verdict, null_test, verdict
from pldrepro.errors import SettingsError

# Why nothing is decided: too few seeds, an interval that includes no effect, the adjustment for the set's tests,
# a condition of which it is open whether it is met, or an effect that is only a bound.
Open = Literal["", "seeds", "interval", "adjustment", "condition", "bound"]


NO_STUDY = "no study of"  # how the note begins where a set lacks the family of models that a claim is about


@dataclass(frozen=True)
class Case:
    """A claim with what this set has to say of it.

    ``lacks``: what the study lacks for any verdict, ``lacks_size``: for one on the reported size; ``leader``: the id of
    the claim whose verdict this one shares, because both rest on one estimate.
    """

    paper: Paper
    claim: Claim
    measurement: Measurement
    study: Evidence | None = None
    lacks: tuple[str, ...] = ()
    lacks_size: tuple[str, ...] = ()
    leader: str = ""

    @property
    def key(self) -> str:
        """Name of the claim over all papers."""
        return f"{self.paper.key}.{self.claim.id}"

    @property
    def test(self) -> NullTest | None:
        """The test that decides, where data decide; it counts among those of the set.

        With a condition it is of the effect and the condition at once; where the condition looks broken, of that by
        itself, for it is all that can then be shown. A condition that too few seeds test leaves nothing to test.
        """
        if self.lacks or self.claim.by_construction:
            return None
        effect, condition = null_test(self.measurement.paired), self.measurement.condition
        if condition is None:
            return effect
        second = null_test(condition.excess)
        if condition.broken or second is None:
            return second
        return effect and effect.both(second)


def find_case(evidence: Evidence, paper: Paper, claim: Claim) -> Case:
    """Measure a claim and look up what its study lacks."""
    measurement = measure_claim(evidence, claim)
    study = evidence.of(*claim.families) if claim.families else evidence
    leader = next(
        one.id for one in paper.claims if one.id == claim.id or (one.estimate and one.estimate == claim.estimate)
    )
    if study is None or measurement.paired is None:
        return Case(paper, claim, measurement, study, leader=leader)
    return Case(
        paper, claim, measurement, study, tuple(lacking(claim.needs, study)), tuple(lacking(claim.size_needs, study)),
        leader,
    )  # fmt: skip


def measure_claim(evidence: Evidence, claim: Claim) -> Measurement:
    """Measure a claim; without a measure, or without the arm, a Measurement of nothing that says why."""
    if claim.measure is None:
        return Measurement()
    if claim.measure not in ESTIMATORS:
        raise SettingsError(f"claim {claim.id}: unknown measure {claim.measure!r}; allowed: {', '.join(ESTIMATORS)}")
    study = evidence.of(*claim.families) if claim.families else evidence
    if study is None:
        names = " or ".join(FAMILIES[family] for family in claim.families)
        return Measurement(note=f"{NO_STUDY} {names} is in this set")
    missing = missing_arm(study, claim.measure)
    return Measurement(note=missing) if missing else ESTIMATORS[claim.measure](study)


@dataclass(frozen=True)
class Judgement:
    """A verdict, why nothing is decided where it is "inconclusive", and what more there is to say."""

    verdict: Verdict
    open: Open = ""
    note: str = ""


def judge(case: Case, family: Family) -> Judgement:
    """The verdict on a claim, by the tests of the set."""
    found, claim = _found(case, family), case.claim
    arithmetic = arithmetic_note(case.paper, claim, case.study)
    return Judgement(
        found.verdict, found.open, join_notes(found.note, case.measurement.basis, case.measurement.note, claim.note,
                                              arithmetic)
    )  # fmt: skip


def _found(case: Case, family: Family) -> Judgement:
    claim, paired, condition = case.claim, case.measurement.paired, case.measurement.condition
    if paired is None:
        return Judgement("not measured at this scale")
    if claim.by_construction:
        return Judgement("by construction")
    if case.lacks:
        return Judgement("not measured at this scale", note=f"an observation: it needs {'; '.join(case.lacks)}")
    p = family.p(case.test)
    if condition is not None and (condition.broken or p is None):
        shown = condition.broken and p is not None and p <= ERROR_RATE
        return Judgement("premise fails") if shown else _open(case, p, family)
    found = verdict(paired.estimate, claim, p, sized=not case.lacks_size)
    if found == "inconclusive":
        return _open(case, p, family)
    return Judgement(found, note=size_note(case) if found == "same direction" else "")


def _open(case: Case, p: float | None, family: Family) -> Judgement:
    """Why a claim is inconclusive, and what would help."""
    paired, condition = case.measurement.paired, case.measurement.condition
    assert paired is not None
    untestable = condition is not None and condition.excess is None
    if paired.estimate.n < MIN_SEEDS or (p is None and not untestable):
        more = "" if case.measurement.bound else power_note(paired)
        return _because("seeds", join_notes(f"below {MIN_SEEDS} {paired.unit} no direction is judged", more))
    broken = condition is not None and condition.broken
    if not broken and not case.measurement.bound and paired.p is not None and paired.p > ERROR_RATE:
        return _because("interval", power_note(paired))
    if condition is not None and condition.state == "open":
        reason: Open = "bound" if case.measurement.bound else "condition"
        more = "" if condition.excess is None else f"for the condition by itself {power_note(condition.excess)}"
        return _because(reason, join_notes("it is open whether a condition of the claim is met", more))
    assert p is not None
    what = "that a condition is not met is" if broken else "it is"
    note = f"{what} decided by the interval itself, but not after the adjustment for {family.size} tests (p = {p:.2g})"
    return _because("adjustment", note)


def _because(reason: Open, note: str) -> Judgement:
    return Judgement("inconclusive", reason, note)


def power_note(paired: Paired) -> str:
    """How many seeds would find the observed effect in a new study, for this claim by itself; empty if these do."""
    n, many, needed, share = paired.estimate.n, paired.unit, paired.pairs_for_power(), f"{100 * power.POWER:g} % power"
    if n < 2:
        return f"one value has no interval: at least {MIN_SEEDS} {many} are needed"
    if needed is not None:
        found = f"about {needed} {many} would find it with {share}, were mean and spread as in these {n} and no other"
        return "" if needed <= n else f"{found} claim judged with it"
    if paired.shared_error and power.pairs_for_power(paired.effects, least_spread=paired.least_spread) is not None:
        return f"no number of {many} would find it with {share}: the error that they share is too large"
    return f"more than 1,000 {many} would be needed to find it with {share}"


def size_note(case: Case) -> str:
    """Why an established direction is not a reproduced size."""
    claim, paired = case.claim, case.measurement.paired
    if case.lacks_size:
        return f"the size is not judged: it needs {'; '.join(case.lacks_size)}"
    if paired is None or claim.reported is None:
        return ""
    share = (paired.estimate.value - claim.null_value) / (claim.reported - claim.null_value)
    return f"{number(100 * share, 0)} % of the reported effect"


def about_size(case: Case, found: Verdict) -> str:
    """What a reader must know of a size: that it is not judged, or that its interval misses the reported value."""
    paired, reported = case.measurement.paired, case.claim.reported_interval
    if found == "same direction" and reported is not None and case.lacks_size:
        return size_note(case)
    if found != "reproduced" or paired is None or reported is None:
        return ""
    low, high = paired.estimate.low, paired.estimate.high
    if low is None or high is None or (low <= max(reported) and high >= min(reported)):
        return ""
    return f"close to the reported value, but its interval does not hold it: {size_note(case)}"


def all_cases(evidence: Evidence, papers: Mapping[str, Paper]) -> list[Case]:
    """Every claim of every paper, measured."""
    return [find_case(evidence, paper, claim) for paper in papers.values() for claim in paper.claims]
