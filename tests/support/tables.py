"""Tables as they are shown, from synthetic runs."""

from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits import tables
from pldrepro.exhibits.layout import TableLayout

PAPERS = load_papers()


def shown(name: str, evidence: Evidence) -> list[TableLayout]:
    """The tables of this name, laid out."""
    return tables.build(name, evidence, PAPERS)[1]
