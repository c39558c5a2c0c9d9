"""Claims of the papers, measured: one row each in claims.csv, with a verdict that is computed, never typed.

A claim names its estimator (``measure``), a function of ``pldrepro.analysis.claim_estimators.ESTIMATORS``, and what a
study needs to speak of it. The rule of the verdict is in ``pldrepro.analysis.verdicts``; claims that are judged on data
share one family-wise error rate, by Holm, in which one estimate is one test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pldrepro.analysis import power
from pldrepro.analysis.arithmetic import arithmetic_note
from pldrepro.analysis.claim_estimators import ESTIMATORS, missing_arm
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.measurement import Measurement, join_notes
from pldrepro.analysis.needs import lacking
from pldrepro.analysis.reported import MARKS, Claim, Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.table_files import read_table
from pldrepro.analysis.text import FAMILIES, number
from pldrepro.analysis.tidy import joined
from pldrepro.analysis.time_to_target import bounded
from pldrepro.analysis.verdicts import ERROR_RATE, MIN_SEEDS, VERDICTS, Verdict, adjusted_p, tests_of, verdict
from pldrepro.errors import RecordError, SettingsError
from pldrepro.files import atomic_path
from pldrepro.stats import Estimate

COLUMNS: dict[str, type] = {
    "claim": str, "paper": str, "statement": str, "reported": float, "provenance": str, "bound": str,
    "measured": float, "low": float, "high": float, "n": int, "values": str, "counts": str,
    "unit": str, "p_holm": float, "verdict": str,
    "lacks": str, "exhibit": str, "note": str,
}  # fmt: skip
OPTIONAL = ("reported", "bound", "measured", "low", "high", "values", "p_holm", "lacks", "note")
# Verdicts that a claim's premise must hold for.
FAVOURABLE: tuple[Verdict, ...] = ("reproduced", "exceeded", "same direction")


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
    def judged(self) -> bool:
        """Whether data decide: a test of its own, which counts among those of the set."""
        paired = self.measurement.paired
        enough = paired is not None and paired.estimate.n >= MIN_SEEDS
        return enough and not self.lacks and not self.claim.by_construction and self.leader == self.claim.id


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
        return Measurement(note=f"no study of {names} is in this set")
    missing = missing_arm(study, claim.measure)
    return Measurement(note=missing) if missing else ESTIMATORS[claim.measure](study)


def adjusted(cases: Sequence[Case]) -> dict[str, float]:
    """Key of each claim that is judged -> p of no effect, adjusted by Holm for all that are judged in this set.

    Claims that rest on one estimate have one p, which counts once: similar scores in less time are one ratio of times,
    under premises of their own.
    """
    judged = [case for case in cases if case.judged]
    found = adjusted_p([case.measurement.paired for case in judged])
    return {case.key: p for case, p in zip(judged, found, strict=True) if p is not None}


def same_test(cases: Sequence[Case]) -> dict[str, str]:
    """Key of each judged claim that tests what an earlier one of the set does -> id of that one."""
    judged, first = [case for case in cases if case.judged], dict[tuple[float, ...] | None, Case]()
    tests = tests_of([case.measurement.paired for case in judged])
    leaders = [first.setdefault(test, case) for test, case in zip(tests, judged, strict=True)]
    return {case.key: leader.claim.id for case, leader in zip(judged, leaders, strict=True) if leader is not case}


def judge(case: Case, p_values: Mapping[str, float], num_tests: int | None = None) -> tuple[Verdict, str]:
    """Verdict on a claim, and why; ``p_values``: of ``adjusted``; ``num_tests``: that they count (none: all)."""
    claim, measurement = case.claim, case.measurement
    found, reason = _found(case, p_values, len(p_values) if num_tests is None else num_tests)
    return found, join_notes(reason, measurement.note, claim.note, arithmetic_note(case.paper, claim, case.study))


def _found(case: Case, p_values: Mapping[str, float], num_tests: int) -> tuple[Verdict, str]:
    claim, paired = case.claim, case.measurement.paired
    if paired is None:
        return "not measured at this scale", ""
    if claim.by_construction:
        return "by construction", ""
    if case.lacks:
        return "not measured at this scale", f"an observation: it needs {'; '.join(case.lacks)}"
    if case.measurement.premise == "fails" and paired.estimate.n >= MIN_SEEDS:
        return "premise fails", ""
    p = p_values.get(f"{case.paper.key}.{case.leader}")
    found = verdict(paired.estimate, claim, p, sized=not case.lacks_size)
    if found == "inconclusive":
        return found, "" if case.measurement.bound else open_note(paired, p, num_tests)
    if found in FAVOURABLE and case.measurement.premise != "holds":
        return "inconclusive", "it is open whether its premise holds"
    return found, size_note(case) if found == "same direction" else ""


def open_note(paired: Paired, p: float | None, num_tests: int) -> str:
    """Why a claim is inconclusive: how many seeds would find the observed effect, or what else leaves it open."""
    n, own, many = paired.estimate.n, paired.p, paired.unit
    if n < 2:
        return f"one value has no interval: at least {MIN_SEEDS} {many} are needed"
    if own is not None and own <= ERROR_RATE and p is not None:
        return f"its own interval excludes no effect, but not after the adjustment for {num_tests} tests (p = {p:.2g})"
    few = f"below {MIN_SEEDS} {many} no direction is judged" if n < MIN_SEEDS else ""
    return join_notes(few, power_note(paired))


def power_note(paired: Paired) -> str:
    """How many seeds would find the observed effect in a new study, for this claim by itself; empty if these do."""
    n, many, needed, share = paired.estimate.n, paired.unit, paired.pairs_for_power(), f"{100 * power.POWER:g} % power"
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


# ---- claims.csv ----


def claims(evidence: Evidence, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """One row per claim of every paper: reported, measured with interval, verdict and why."""
    cases = [find_case(evidence, paper, claim) for paper in papers.values() for claim in paper.claims]
    p_values, repeated, verdicts = adjusted(cases), same_test(cases), {}
    rows = []
    for case in cases:
        claim, paired = case.claim, case.measurement.paired
        found, note = judge(case, p_values, len(p_values) - len(repeated))
        bound = "≤" if case.measurement.bound else ""
        p = None if case.key in repeated else p_values.get(case.key)
        verdicts[case.key] = found
        if paired is not None and case.leader != claim.id:
            found = verdicts[f"{case.paper.key}.{case.leader}"]
            note = join_notes(f"one estimate with {case.leader}, and one verdict", note)
        if case.key in repeated:
            note = join_notes(f"one test with {repeated[case.key]}, counted once", note)
        rows.append(
            {
                "claim": case.key, "paper": case.paper.label, "statement": claim.statement,
                "reported": claim.reported, "provenance": claim.provenance,
                "bound": bound, **_limits(bounded(paired.estimate if paired else None, bound)),
                "counts": paired.unit if paired else "seeds",
                "unit": claim.unit, "p_holm": p, "verdict": found, "lacks": "; ".join(case.lacks),
                "exhibit": claim.exhibit, "note": note,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _limits(estimate: Estimate | None) -> dict[str, float | int | str | None]:
    if estimate is None:
        return {"measured": None, "low": None, "high": None, "n": 0, "values": ""}
    limits = {"measured": estimate.value, "low": estimate.low, "high": estimate.high}
    return {**limits, "n": estimate.n, "values": joined(estimate)}


def write_claims(evidence: Evidence, papers: Mapping[str, Paper], out: Path) -> pd.DataFrame:
    """Write claims.csv and return what was written."""
    frame = claims(evidence, papers)
    with atomic_path(out) as temporary:
        frame.to_csv(temporary, index=False)
    return frame


def read_claims(path: Path) -> pd.DataFrame:
    """claims.csv; a missing or damaged file is a RecordError that names it, and the row."""
    frame = read_table(path, COLUMNS, "make claims", optional=OPTIONAL)
    for line, row in enumerate(frame.to_dict("records"), start=2):
        for column, allowed in (("verdict", VERDICTS), ("provenance", MARKS)):
            if row[column] not in allowed:
                raise RecordError(f"{path}: row {line}: {column} {row[column]!r}; allowed: {', '.join(allowed)}")
    texts = ("note", "bound", "lacks", "values")
    return frame.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, ""))
