"""claims.csv: a row for each claim of the papers, with a verdict that is computed, never typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pldrepro.analysis.cases import Case, about_size, all_cases, judge
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.family import family_of
from pldrepro.analysis.measurement import join_notes
from pldrepro.analysis.reported import MARKS, Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.table_files import read_table
from pldrepro.analysis.tidy import joined
from pldrepro.analysis.time_to_target import bounded
from pldrepro.analysis.verdicts import VERDICTS
from pldrepro.errors import RecordError
from pldrepro.files import atomic_path
from pldrepro.stats import Estimate

# null: the value of no effect. p_holm: adjusted for ``tests``. open: why nothing is decided.
# sees: the smallest effect that so many seeds find with 80 % power, of a difference. agree: how many seeds are on the
# estimate's side of no effect. ours: the paper's claim on a measure of this suite. basis: what a reader must know
# wherever the number is shown. premise: what was measured of the claim's condition. same: the earlier claim with the
# same number.
COLUMNS: dict[str, type] = {
    "claim": str, "paper": str, "statement": str, "reported": float, "null": float, "provenance": str,
    "bound": str, "measured": float, "low": float, "high": float, "n": int, "values": str, "counts": str, "unit": str,
    "p_holm": float, "tests": int, "verdict": str, "open": str, "sees": float, "agree": float,
    "ours": bool, "lacks": str, "same": str, "exhibit": str, "basis": str, "premise": str,
    "note": str,
}  # fmt: skip
OPTIONAL = (
    "reported", "bound", "measured", "low", "high", "values", "p_holm", "open", "sees", "agree", "lacks", "same",
    "basis", "premise", "note",
)  # fmt: skip


def claims(evidence: Evidence, papers: Mapping[str, Paper]) -> pd.DataFrame:
    """One row per claim of every paper: reported, measured with interval, verdict and why."""
    cases = all_cases(evidence, papers)
    family = family_of(evidence, papers, cases)
    judged = {case.key: judge(case, family) for case in cases}
    rows = []
    for place, case in enumerate(cases):
        found, note = judged[case.key], judged[case.key].note
        if case.measurement.paired is not None and case.leader != case.claim.id:
            found = judged[f"{case.paper.key}.{case.leader}"]
            note = join_notes(f"one estimate with {case.leader}, and one verdict", note)
        twin = _same_number(cases[:place], case)
        rows.append(
            {
                **_measured(case), "p_holm": family.p(case.test), "tests": family.size, "verdict": found.verdict,
                "open": found.open, "same": "" if twin is None else twin.key, "note": note,
                "premise": case.measurement.condition.about if case.measurement.condition else "",
                "basis": join_notes(case.measurement.basis, about_size(case, found.verdict)),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _same_number(earlier: Sequence[Case], case: Case) -> Case | None:
    """The first claim before this one that rests on the same estimate, in this form or another."""
    paired = case.measurement.paired
    if paired is None:
        return None
    return next((one for one in earlier if _one_estimate(one, case, one.measurement.paired, paired)), None)


def _one_estimate(one: Case, case: Case, first: Paired | None, second: Paired) -> bool:
    if first is None:
        return False
    forms = [(each.paper.key, each.claim.estimate) for each in (one, case) if each.claim.estimate]
    same_form = len(forms) == 2 and forms[0] == forms[1]
    return same_form or (first.estimate == second.estimate and first.estimate.value != 0)


def _measured(case: Case) -> dict[str, Any]:
    """What the paper reports and what this set measures."""
    claim, paired = case.claim, case.measurement.paired
    bound = "≤" if case.measurement.bound else ""
    return {
        "claim": case.key, "paper": case.paper.label, "statement": claim.statement, "reported": claim.reported,
        "null": claim.null_value, "provenance": claim.provenance, "bound": bound,
        **_limits(bounded(paired.estimate if paired else None, bound)),
        "counts": paired.unit if paired else "seeds", "unit": claim.unit,
        "sees": paired.smallest_seen(claim.unit) if paired and not bound else None,
        "agree": paired.agree if paired and not bound else None,
        "ours": claim.ours, "lacks": "; ".join(case.lacks), "exhibit": claim.exhibit,
    }  # fmt: skip


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
    texts = ("note", "bound", "lacks", "values", "open", "same", "basis", "premise")
    return frame.astype(dict.fromkeys(texts, object)).fillna(dict.fromkeys(texts, ""))
