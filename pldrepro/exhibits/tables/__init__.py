"""Tables: a tidy table of numbers each (csv, full precision), and how it is set (md, tex, and html for the report).

A table is a function of ``pldrepro.analysis`` that gives one row per number, called once, and a layout: columns
declared over those rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pldrepro.analysis.ablation import table3
from pldrepro.analysis.budgets import fair_budgets, overfitting
from pldrepro.analysis.contrasts import contrasts_table
from pldrepro.analysis.depth import depth_robustness
from pldrepro.analysis.fits import fits_table
from pldrepro.analysis.glue_table import table2
from pldrepro.analysis.memory import memory
from pldrepro.analysis.reported import Paper, paper_of
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import sbld_table1, sbld_table2
from pldrepro.analysis.seed_spread import seeds, stability, variance
from pldrepro.analysis.significance import glue_tests
from pldrepro.analysis.text import FAMILIES
from pldrepro.analysis.time_to_target import time_to_target
from pldrepro.analysis.training_cost import table1
from pldrepro.exhibits.chosen import chosen
from pldrepro.exhibits.latex import latex
from pldrepro.exhibits.layout import TableLayout, html
from pldrepro.exhibits.tables.ablation import table3_layout
from pldrepro.exhibits.tables.budgets import fair_budgets_layout, memory_layout, overfitting_layout
from pldrepro.exhibits.tables.contrasts import contrasts_layout
from pldrepro.exhibits.tables.cost import table1_layout
from pldrepro.exhibits.tables.depth import depth_robustness_layout
from pldrepro.exhibits.tables.fits import fits_layout
from pldrepro.exhibits.tables.glue import table2_layout
from pldrepro.exhibits.tables.sbld import sbld_table1_layout, sbld_table2_layout
from pldrepro.exhibits.tables.seed_spread import seeds_layout, stability_layout, variance_layout
from pldrepro.exhibits.tables.significance import glue_tests_layout
from pldrepro.exhibits.tables.target import time_to_target_layout
from pldrepro.files import atomic_path, write_text

Tidy = Callable[[Evidence, Paper], pd.DataFrame]
Layout = Callable[[Evidence, Paper, pd.DataFrame], list[TableLayout]]
TABLES: dict[str, tuple[Tidy, Layout]] = {
    "table1": (table1, table1_layout),
    "table2": (table2, table2_layout),
    "table3": (table3, table3_layout),
    "time_to_target": (time_to_target, time_to_target_layout),
    "contrasts": (contrasts_table, contrasts_layout),
    "fair_budgets": (fair_budgets, fair_budgets_layout),
    "overfitting": (overfitting, overfitting_layout),
    "memory": (memory, memory_layout),
    "depth_robustness": (depth_robustness, depth_robustness_layout),
    "seeds": (seeds, seeds_layout),
    "variance": (variance, variance_layout),
    "stability": (stability, stability_layout),
    "fits": (fits_table, fits_layout),
    "glue_tests": (glue_tests, glue_tests_layout),
    "sbld_table1": (sbld_table1, sbld_table1_layout),
    "sbld_table2": (sbld_table2, sbld_table2_layout),
}


def build(name: str, evidence: Evidence, papers: Mapping[str, Paper]) -> tuple[pd.DataFrame, list[TableLayout]]:
    """A table's tidy rows, and how they are set. PLD's tables say so where the models are not BERT, as the paper's."""
    if name not in TABLES:
        raise ValueError(f"unknown table {name!r}; allowed: {', '.join(TABLES)}")
    numbers, layout = TABLES[name]
    paper = paper_of(name, papers)
    evidence = chosen("tables", name, evidence)
    frame = numbers(evidence, paper)
    tables = layout(evidence, paper, frame)
    if paper.key == "pld" and evidence.family != "bert":
        note = f"Measured on {FAMILIES[evidence.family]}; what the paper reports is of BERT."
        tables = [replace(table, notes=(*table.notes, note)) for table in tables]
    return frame, tables


def write_table(name: str, evidence: Evidence, papers: Mapping[str, Paper], out_prefix: Path) -> None:
    """Write ``out_prefix``.csv (tidy, full precision), and .md, .tex, .paper.tex and .html (for the report).

    What has no value is left out of these; .paper.tex has only columns and lines in which the paper reports something.
    """
    frame, tables = build(name, evidence, papers)
    with atomic_path(out_prefix.with_name(f"{out_prefix.name}.csv")) as temporary:
        frame.to_csv(temporary, index=False)
    trimmed = [table.trimmed() for table in tables]
    shown = [table for table in trimmed if table.lines] or trimmed
    own = [one for table in tables if (one := table.papers_own()) is not None]
    texts = {
        "md": "\n".join(table.markdown() for table in shown),
        "tex": latex(shown, name),
        "paper.tex": latex(own, f"{name}-paper"),
        "html": html(shown, f"table-{name}"),
    }
    for suffix, text in texts.items():
        write_text(out_prefix.with_name(f"{out_prefix.name}.{suffix}"), text)
