"""The tests of a set that share one family-wise error rate: those of its claims, of its story and of the reviewers.

Whatever page a comparison stands on, its p is adjusted for all of them, so that no page says another thing.
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
    """All tests of a set, adjusted together; one estimate against one null value is one test, wherever it is shown.

    ``cases``: its claims (none: they are measured).
    """
    claimed = [case.test for case in (all_cases(evidence, papers) if cases is None else cases)]
    compared = [*comparisons_told(evidence, papers), *comparisons_asked(evidence, papers)]
    return Family.of([*claimed, *map(null_test, compared)])
