"""Figures: each as PDF, PNG and SVG, with its data (csv) and its caption (txt)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from pldrepro.analysis.reported import Paper, paper_of
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import FAMILIES
from pldrepro.exhibits.chosen import chosen
from pldrepro.exhibits.figures.budgets import fair_budgets, figure10, overfitting
from pldrepro.exhibits.figures.costs import figure6, figure7, schedule, step_time, trade_off
from pldrepro.exhibits.figures.finding import finding
from pldrepro.exhibits.figures.glue import figure8, figure9
from pldrepro.exhibits.figures.probes import depth_robustness, figure1, figure2, figure3, figure4
from pldrepro.exhibits.figures.sbld import sbld_keep, sbld_loss, sbld_sensitivity
from pldrepro.exhibits.figures.style import STYLE, FigureData
from pldrepro.files import atomic_path, write_text

FIGURES: dict[str, Callable[[Evidence, Paper], FigureData]] = {
    "finding": finding,
    "figure1": figure1,
    "figure2": figure2,
    "figure3": figure3,
    "figure4": figure4,
    "figure6": figure6,
    "figure7": figure7,
    "figure8": figure8,
    "figure9": figure9,
    "figure10": figure10,
    "fair_budgets": fair_budgets,
    "overfitting": overfitting,
    "trade_off": trade_off,
    "depth_robustness": depth_robustness,
    "schedule": schedule,
    "step_time": step_time,
    "sbld_sensitivity": sbld_sensitivity,
    "sbld_keep": sbld_keep,
    "sbld_loss": sbld_loss,
}
FORMATS = ("pdf", "png", "svg")


def write_figure(name: str, evidence: Evidence, papers: Mapping[str, Paper], out_prefix: Path) -> None:
    """Write ``out_prefix``.pdf, .png, .svg, its data as .csv and its caption as .txt."""
    if name not in FIGURES:
        raise ValueError(f"unknown figure {name!r}; allowed: {', '.join(FIGURES)}")
    paper = paper_of(name, papers)
    with plt.rc_context(STYLE):
        evidence = chosen("figures", name, evidence)
        figure, data, caption = FIGURES[name](evidence, paper)
        if name.startswith("figure") and evidence.family != "bert":
            caption += f" Measured on {FAMILIES[evidence.family]}; the paper's figure is of BERT."
        with plt.rc_context({"figure.constrained_layout.use": False}):  # or each savefig brings the engine back
            lay_out(figure)
            for suffix in FORMATS:
                _save(figure, out_prefix.with_name(f"{out_prefix.name}.{suffix}"), suffix)
        plt.close(figure)
    with atomic_path(out_prefix.with_name(f"{out_prefix.name}.csv")) as temporary:
        data.to_csv(temporary, index=False)
    write_text(out_prefix.with_name(f"{out_prefix.name}.txt"), caption + "\n")


def lay_out(figure: Figure) -> None:
    """Place axes and legends once; with a layout engine each file would be drawn twice and laid out anew.

    None is the engine that ``figure.constrained_layout.use`` names, which must be False.
    """
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    figure.set_layout_engine(None)


def _save(figure: Figure, path: Path, suffix: str) -> None:
    """Save without dates, so that the same runs give the same file."""
    metadata: dict[str, Sequence[tuple[str, None]]] = {
        "pdf": [("CreationDate", None)], "svg": [("Date", None)], "png": [],
    }  # fmt: skip
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=suffix, dpi=200, metadata=dict(metadata[suffix]))
