"""SBLD's tables: what layer dropping costs and reaches on GPT (table 1) and on images (table 2).

The method's full text is not public: what is measured is our reading of it, with PLD and with controls that share its
schedule, its lists or its ranking. The analysis of sensitivity is charged to every arm that makes one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import IMAGES, accuracies
from pldrepro.analysis.text import FAMILIES
from pldrepro.analysis.tidy import claimed
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, reported, select, value
from pldrepro.exhibits.text import INTERVAL_NOTE, measured_time_note


@dataclass(frozen=True)
class Contents:
    """What a table is about: its models, the accuracies that it shows (name in a run's summary -> header)."""

    title: str
    families: tuple[str, ...]
    accuracies: Mapping[str, str]


OVER_RANDOM = ColumnLayout("loss minus the random rankings' mean", "validation_loss_minus_random", 3)
TABLE1 = Contents(
    "SBLD (our reading), table 1: layer dropping on GPT", ("gpt",), {"lambada_accuracy": "LAMBADA accuracy"}
)
TABLE2 = Contents(
    "SBLD (our reading), table 2: layer dropping on images",
    IMAGES,
    {"accuracy": "top-1 accuracy", "top5": "top-5 accuracy"},
)


def sbld_table1_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """What every arm reaches on GPT, and what it costs."""
    study = evidence.of(*TABLE1.families)
    if study is None:
        return [_nothing(TABLE1, evidence)]
    gain = claimed(paper, "accuracy")
    notes = _arm_notes(study, paper)
    if gain:
        notes.append(f"Reported gain ({gain.where}): {gain.note}.")
    if not any(accuracies(study, arm, "lambada_accuracy") for arm in study.methods):
        notes.append("The data of this study have no LAMBADA passages: no accuracy to compare.")
    notes.append(
        "LAMBADA rank: share of a passage's other words that the model finds less probable than the right last one; "
        "chance is 50, where one word is as frequent as another. It tells models apart whose accuracy is 0."
    )
    reaches = TableLayout(
        title=f"{TABLE1.title}, study {study.scale}: what each arm reaches at equal samples",
        columns=(
            ColumnLayout("arm"),
            *_with_differences("validation_loss", "validation loss [nats]", 3, "loss "),
            OVER_RANDOM,
            ColumnLayout("perplexity", "perplexity", 1),
            *_with_differences("lambada_accuracy", "LAMBADA accuracy [%]", 1, unit=" [points]"),
            ColumnLayout("over the baseline's [%]", "lambada_accuracy_change", 1),
            ColumnLayout("reported gain [%]", "lambada_accuracy_change", 2, reported),
            ColumnLayout("LAMBADA perplexity", "lambada_perplexity", 1),
            ColumnLayout("LAMBADA rank [%]", "lambada_rank", 1),
            ColumnLayout("n", "validation_loss", show=count),
        ),
        lines=_lines(study, frame),
        notes=(*notes, INTERVAL_NOTE),
    )
    return [reaches, _costs(TABLE1, study, frame)]


def sbld_table2_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """What every arm reaches on images, and what it costs."""
    studies = evidence.all_of(*TABLE2.families)
    if not studies:
        return [_nothing(TABLE2, evidence)]
    return [table for study in studies for table in _image_tables(study, paper, frame)]


def _image_tables(study: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    claims = [claim for claim in paper.claims if set(claim.families) & set(IMAGES)]
    notes = [f"{claim.statement} ({claim.where}): {claim.note}." for claim in claims if claim.note]
    reaches = TableLayout(
        title=f"{TABLE2.title} ({FAMILIES[study.family]}), study {study.scale}: what each arm reaches at equal samples",
        columns=(
            ColumnLayout("arm"),
            *_with_differences("accuracy", "top-1 [%]", 1, unit=" [points]"),
            *_with_differences("top5", "top-5 [%]", 1, unit=" [points]"),
            *_with_differences("validation_loss", "validation loss [nats]", 3, "loss "),
            OVER_RANDOM,
            ColumnLayout("n", "validation_loss", show=count),
        ),
        lines=_lines(study, frame),
        notes=(*_arm_notes(study, paper), *notes, INTERVAL_NOTE),
    )
    return [reaches, _costs(TABLE2, study, frame)]


def _with_differences(quantity: str, header: str, digits: int, before: str = "", unit: str = "") -> list[ColumnLayout]:
    """A quantity, and what it is above the baseline's and above PLD's."""
    others = {"baseline": "baseline's", "pld": "PLD's"}.items()
    return [
        ColumnLayout(header, quantity, digits),
        *(ColumnLayout(f"{before}minus {name}{unit}", f"{quantity}_minus_{key}", digits) for key, name in others),
    ]


def _lines(study: Evidence, frame: pd.DataFrame) -> tuple[Line, ...]:
    """A line per arm; the baseline is paired with itself, and depth and pairs are not numbers of its own."""
    return tuple(
        Line(
            {
                "arm": study.label(arm),
                "of L": str(study.runs(arm)[0].summary.num_layers),
                "pairs": str(len(study.pairs(arm, study.baseline))),
            },
            select(frame, family=study.family, arm=arm),
        )
        for arm in study.methods
    )


def _costs(contents: Contents, study: Evidence, frame: pd.DataFrame) -> TableLayout:
    saved, over_pld = "saved_over_baseline", "saved_over_pld"
    return TableLayout(
        title=f"{contents.title}, continued: what each arm costs [%]",
        columns=(
            ColumnLayout("arm"),
            ColumnLayout("mean kept layers", "kept_layers", 2),
            ColumnLayout("of L"),
            ColumnLayout("reported time saved", saved, 2, reported, "reference_time"),
            ColumnLayout("reference time saved", saved, 1, cost_axis="reference_time"),
            ColumnLayout("measured time saved", saved, 1, cost_axis="measured_time"),
            ColumnLayout("FLOPs saved", saved, 1, cost_axis="flops"),
            ColumnLayout("reference time saved over PLD", over_pld, 1, cost_axis="reference_time"),
            ColumnLayout("analysis, of reference time", "analysis_share", 1, value, "reference_time"),
            ColumnLayout("analysis, of measured time", "analysis_share", 1, value, "measured_time"),
            ColumnLayout("pairs"),
        ),
        lines=_lines(study, frame),
        notes=(
            "Saved: of the baseline's whole run, at equal samples, over pairs of runs with one seed. The analysis of "
            "sensitivity is part of every time and of the FLOPs of the arms that make one; its columns are the share "
            "of their own time that it took. On the reference clock it costs what as many FLOPs of training at full "
            "depth do.",
            measured_time_note(study),
        ),
    )


def _arm_notes(study: Evidence, paper: Paper) -> list[str]:
    notes = [f"{paper.label}: the full text of the method is not public; every part that it leaves open is a setting."]
    matched = [study.label(arm) for arm in study.methods if study.matched_depth(arm)]
    if matched:
        notes.append(f"Keep as many layers on average as another arm: {'; '.join(matched)}.")
    wanted = (study.pld, study.sbld, *study.arms_with_role("control"))
    absent = [arm for arm in wanted if arm and arm not in study.arms]
    return [*notes, f"Not in this study: {', '.join(absent)}."] if absent else notes


def _nothing(contents: Contents, evidence: Evidence) -> TableLayout:
    names = " or ".join(FAMILIES[family] for family in contents.families)
    there = ", ".join(FAMILIES[study.family] for study in (evidence, *evidence.others))
    return TableLayout(
        contents.title,
        (ColumnLayout("arm"),),
        notes=(f"Not measured here: no study of {names} in this set ({there}).",),
    )
