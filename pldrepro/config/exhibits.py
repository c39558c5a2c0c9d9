"""What each exhibit is made from. Declared here only: a target such as `table1` runs what stands here and no more.

Exhibits that are made from the same runs are a part. Every part needs pre-training runs and their calibration.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Stage = Literal["finetune", "probes", "lambada", "contrasts", "early", "interleaved"]


class Part(NamedTuple):
    """Exhibits that are made from the same runs."""

    tables: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    """What is done with pre-trained models, or instead of training them."""
    otherwise: tuple[Stage, ...] = ()
    """Instead of them, where a study has none of them."""
    first: bool = True
    """Whether the first study is one of those that they are made from."""
    families: tuple[str, ...] = ()
    """Families of models whose studies are, too."""
    arms: Literal["all", "staged", "baseline"] = "all"
    """staged: those that the stages have, and the baseline."""


SBLD = ("gpt", "swinv2", "vit")
PARTS: dict[str, Part] = {
    "cost": Part(
        tables=("table1", "overfitting", "memory"),
        figures=("finding", "figure6", "figure7", "figure10", "trade_off", "fair_budgets", "overfitting", "schedule"),
        stages=("interleaved",),
    ),
    "glue": Part(
        tables=("table2", "table3", "fair_budgets", "variance", "stability", "fits", "glue_tests"),
        figures=("figure8", "figure9"),
        stages=("finetune",),
    ),
    "seeds": Part(tables=("seeds",), stages=("finetune", "contrasts")),
    "target": Part(tables=("time_to_target",), stages=("finetune", "contrasts", "lambada"), families=("gpt",)),
    "contrasts": Part(tables=("contrasts",), stages=("contrasts",), first=False, families=("bert", "gpt")),
    "depth": Part(
        tables=("depth_robustness",),
        figures=("figure3", "figure4", "depth_robustness"),
        stages=("probes",),
        arms="staged",
    ),
    "early": Part(figures=("figure1", "figure2"), stages=("early",), otherwise=("probes",), arms="staged"),
    "sbld": Part(
        tables=("sbld_table1", "sbld_table2"),
        figures=("sbld_sensitivity", "sbld_keep", "sbld_loss"),
        stages=("lambada",),
        first=False,
        families=SBLD,
    ),
    "steps": Part(figures=("step_time",), families=("bert", *SBLD), arms="baseline"),
}
TABLES = tuple(table for part in PARTS.values() for table in part.tables)
FIGURES = tuple(figure for part in PARTS.values() for figure in part.figures)
