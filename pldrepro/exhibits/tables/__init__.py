"""Tables: tidy data first (csv, full precision), then the paper's wide layout (md, tex, and the report).

Each table is a function that gives one row per number and one that gives its ``Panel``s, ready to be set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pldrepro.analysis.ablation import table3
from pldrepro.analysis.budgets import fair_budgets, overfitting
from pldrepro.analysis.depth import depth_robustness
from pldrepro.analysis.glue_table import table2
from pldrepro.analysis.memory import memory
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import sbld_table1, sbld_table2
from pldrepro.analysis.seed_spread import seeds, stability, variance
from pldrepro.analysis.significance import glue_tests
from pldrepro.analysis.text import FAMILIES
from pldrepro.analysis.time_to_target import time_to_target
from pldrepro.analysis.training_cost import table1
from pldrepro.exhibits.layout import Panel
from pldrepro.exhibits.tables.ablation import table3_panels
from pldrepro.exhibits.tables.budgets import fair_budgets_panels, memory_panels, overfitting_panels
from pldrepro.exhibits.tables.cost import table1_panels
from pldrepro.exhibits.tables.depth import depth_robustness_panels
from pldrepro.exhibits.tables.glue import table2_panels
from pldrepro.exhibits.tables.sbld import sbld_table1_panels, sbld_table2_panels
from pldrepro.exhibits.tables.seed_spread import seeds_panels, stability_panels, variance_panels
from pldrepro.exhibits.tables.significance import glue_tests_panels
from pldrepro.exhibits.tables.target import time_to_target_panels
from pldrepro.files import atomic_path, write_text

Tidy = Callable[[Evidence, Paper], pd.DataFrame]
Panels = Callable[[Evidence, Paper], list[Panel]]
TABLES: dict[str, tuple[Tidy, Panels]] = {
    "table1": (table1, table1_panels),
    "table2": (table2, table2_panels),
    "table3": (table3, table3_panels),
    "time_to_target": (time_to_target, time_to_target_panels),
    "fair_budgets": (fair_budgets, fair_budgets_panels),
    "overfitting": (overfitting, overfitting_panels),
    "memory": (memory, memory_panels),
    "depth_robustness": (depth_robustness, depth_robustness_panels),
    "seeds": (seeds, seeds_panels),
    "variance": (variance, variance_panels),
    "stability": (stability, stability_panels),
    "glue_tests": (glue_tests, glue_tests_panels),
    "sbld_table1": (sbld_table1, sbld_table1_panels),
    "sbld_table2": (sbld_table2, sbld_table2_panels),
}


def paper_of(name: str, papers: Mapping[str, Paper]) -> Paper:
    """The paper whose values stand in a table or figure: SBLD's, or PLD's."""
    return papers["sbld" if name.startswith("sbld") else "pld"]


def panels(name: str, evidence: Evidence, papers: Mapping[str, Paper]) -> list[Panel]:
    """A table as it is shown. PLD's tables say so where the models are not BERT, as the paper's are."""
    paper = paper_of(name, papers)
    rendered = TABLES[name][1](evidence, paper)
    if paper.key != "pld" or evidence.family == "bert":
        return rendered
    note = f"Measured on {FAMILIES[evidence.family]}; what the paper reports is of BERT."
    return [replace(panel, notes=(*panel.notes, note)) for panel in rendered]


def write_table(name: str, evidence: Evidence, papers: Mapping[str, Paper], out_prefix: Path) -> None:
    """Write ``out_prefix``.csv (tidy, full precision), .md and .tex of a table."""
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; allowed: {', '.join(TABLES)}")
    rendered = panels(name, evidence, papers)
    with atomic_path(out_prefix.with_name(out_prefix.name + ".csv")) as temporary:
        TABLES[name][0](evidence, paper_of(name, papers)).to_csv(temporary, index=False)
    markdown = "\n".join(panel.markdown() for panel in rendered)
    write_text(out_prefix.with_name(out_prefix.name + ".md"), markdown)
    latex = "\n\n".join(panel.latex() for panel in rendered)
    write_text(out_prefix.with_name(out_prefix.name + ".tex"), latex + "\n")
