"""The tests of a set: those of its claims and findings share one error rate; the reviewers' further ones come after.

A comparison has one adjusted p, whatever page it stands on, so that no page says another thing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pldrepro.analysis.cases import Case, all_cases
from pldrepro.analysis.findings import comparisons_told
from pldrepro.analysis.questions import comparisons_asked
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.verdicts import Family, null_test


def family_of(evidence: Evidence, papers: Mapping[str, Paper], cases: Sequence[Case] | None = None) -> Family:
    """All tests of a set, adjusted; one estimate against one null value is one test, wherever it is shown.

    ``cases``: its claims (none: they are measured).
    """
    claimed = [case.test for case in (all_cases(evidence, papers) if cases is None else cases)]
    told = map(null_test, comparisons_told(evidence, papers))
    return Family.of([*claimed, *told], further=map(null_test, comparisons_asked(evidence, papers)))
