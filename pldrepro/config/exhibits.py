"""What each exhibit is made from. Declared here only: a target such as `table1` runs what is listed here and no more.

Exhibits that are made from the same runs are a part; of recorded runs, where nothing is trained, all are made together.
Every part needs pre-training runs and their calibration. An arm of the user's own joins an exhibit that shows chosen
arms by naming it (``exhibits`` in the arm's file).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from pldrepro.config.arm import ArmTags, Role

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
    arms: Literal["all", "chosen", "staged", "baseline"] = "all"
    """chosen: those of ``roles``, those that name an exhibit of this part, and with ``treated`` those with a treatment;
    staged: those that the stages have. The baseline is always one of them."""
    roles: tuple[Role, ...] = ()
    treated: bool = False

    def chooses(self, arm: str, tags: Mapping[str, ArmTags]) -> bool:
        """Whether a chosen arm is one of these exhibits; ``tags``: what the arms' files say of them."""
        own = tags.get(arm, ArmTags())
        named = {*self.tables, *self.figures} & set(own.exhibits)
        return own.role in ("baseline", *self.roles) or bool(named) or (self.treated and own.treatment is not None)


CHAIN: tuple[Role, ...] = ("baseline_higher_lr", "preln", "preln_higher_lr", "pld")  # from the baseline to PLD
SBLD = ("gpt", "swinv2", "vit")
PARTS: dict[str, Part] = {
    "pld": Part(
        tables=("table1",), figures=("finding", "figure7"), stages=("interleaved",), arms="chosen", roles=CHAIN
    ),
    "schedule": Part(figures=("figure6", "schedule"), arms="chosen", roles=("pld", "sbld")),
    "theta": Part(figures=("figure10",), arms="chosen", roles=("preln_higher_lr", "pld")),
    "overfitting": Part(tables=("overfitting",), figures=("overfitting",), arms="chosen", treated=True),
    "cost": Part(tables=("memory",), figures=("trade_off", "fair_budgets")),
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
# All of them together, where nothing has to be trained for them: the runs are read once, not once for each part.
RECORDED_PARTS = {"every": Part(tables=TABLES, figures=FIGURES, stages=get_args(Stage), families=("bert", *SBLD))}


def part_of(kind: Literal["tables", "figures"], exhibit: str) -> Part:
    """The part that a table or figure belongs to."""
    return next(part for part in PARTS.values() if exhibit in getattr(part, kind))
