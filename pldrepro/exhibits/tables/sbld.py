"""SBLD's tables: what layer dropping costs and reaches on GPT (table 1) and on images (table 2).

The method's full text is not public: what is measured is our reading of it, beside PLD and beside controls that share
its schedule, its lists or its ranking. The analysis of sensitivity is charged to every arm that makes one.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pldrepro.analysis.reported import Paper, mark_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import (
    CLOCKS,
    CONTROLS,
    IMAGES,
    TABLE1,
    TABLE2,
    Contents,
    _image_rows,
    accuracies,
    sbld_table1,
)
from pldrepro.analysis.text import DASH, FAMILIES, INTERVAL_NOTE, estimate_text, reported_text
from pldrepro.analysis.tidy import cell, claimed
from pldrepro.exhibits.layout import Panel
from pldrepro.stats import Estimate

# ---- panels ----


def sbld_table1_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """What every arm reaches on GPT, and what it costs."""
    study = evidence.of(*TABLE1.families)
    if study is None:
        return [_nothing(TABLE1, evidence)]
    frame = sbld_table1(evidence, paper)
    reported = claimed(paper, "accuracy")
    rows = []
    for arm in study.methods:
        final = study.final_checkpoint(arm)
        own = reported if arm == study.sbld else None
        rows.append(
            (
                study.label(arm),
                *_with_differences(frame, arm, final, "validation_loss", 3),
                estimate_text(cell(frame, arm, final, "perplexity"), 1),
                *_with_differences(frame, arm, final, "lambada_accuracy", 1),
                estimate_text(cell(frame, arm, final, "lambada_accuracy_change"), 1),
                reported_text(own, 2),
                estimate_text(cell(frame, arm, final, "lambada_perplexity"), 1),
                str(len(study.runs(arm))),
            )
        )
    columns = (
        "arm", "validation loss [nats]", "loss minus baseline's", "loss minus PLD's", "perplexity",
        "LAMBADA accuracy [%]", "minus baseline's [points]", "minus PLD's [points]", "over the baseline's [%]",
        "reported gain [%]", "LAMBADA perplexity", "n",
    )  # fmt: skip
    notes = [*_arm_notes(study, paper)]
    if reported:
        notes.append(f"Reported gain ({reported.where}): {reported.note}.")
    if not any(accuracies(study, arm, "lambada_accuracy") for arm in study.methods):
        notes.append("The data of this study have no LAMBADA passages: no accuracy to compare.")
    marks = mark_notes([reported.provenance] if reported else [])
    caption = f"{TABLE1.title}, scale {study.scale}: what each arm reaches at equal samples"
    return [
        Panel(caption, columns, tuple(rows), (*notes, INTERVAL_NOTE, *marks)),
        _cost_panel(TABLE1, study, frame, paper),
    ]


def sbld_table2_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """What every arm reaches on images, and what it costs."""
    studies = evidence.all_of(*TABLE2.families)
    if not studies:
        return [_nothing(TABLE2, evidence)]
    return [panel for study in studies for panel in _image_panels(study, paper)]


def _image_panels(study: Evidence, paper: Paper) -> list[Panel]:
    frame = pd.DataFrame(_image_rows(study, paper))
    rows = []
    for arm in study.methods:
        final = study.final_checkpoint(arm)
        rows.append(
            (
                study.label(arm),
                *_with_differences(frame, arm, final, "accuracy", 1),
                *_with_differences(frame, arm, final, "top5", 1),
                *_with_differences(frame, arm, final, "validation_loss", 3),
                str(len(study.runs(arm))),
            )
        )
    columns = (
        "arm", "top-1 [%]", "minus baseline's [points]", "minus PLD's [points]", "top-5 [%]",
        "minus baseline's [points]", "minus PLD's [points]", "validation loss [nats]", "loss minus baseline's",
        "loss minus PLD's", "n",
    )  # fmt: skip
    claims = [claim for claim in paper.claims if set(claim.families) & set(IMAGES)]
    notes = [f"{claim.statement} ({claim.where}): {claim.note}." for claim in claims if claim.note]
    caption = f"{TABLE2.title} ({FAMILIES[study.family]}), scale {study.scale}: what each arm reaches at equal samples"
    return [
        Panel(caption, columns, tuple(rows), (*_arm_notes(study, paper), *notes, INTERVAL_NOTE)),
        _cost_panel(TABLE2, study, frame, paper),
    ]


def _with_differences(frame: pd.DataFrame, arm: str, checkpoint: str, quantity: str, digits: int) -> list[str]:
    """A quantity, and what it is above the baseline's and above PLD's."""
    names = (quantity, f"{quantity}_minus_baseline", f"{quantity}_minus_pld")
    return [estimate_text(cell(frame, arm, checkpoint, name), digits) for name in names]


def _cost_panel(contents: Contents, study: Evidence, frame: pd.DataFrame, paper: Paper) -> Panel:
    rows, provenances = [], []
    for arm in study.methods:
        final = study.final_checkpoint(arm)
        reported = claimed(paper, "time") if arm == study.sbld and study.family in TABLE1.families else None
        provenances += [reported.provenance] if reported else []
        shares = [cell(frame, arm, final, "analysis_share", axis) for axis in CLOCKS]
        rows.append(
            (
                study.label(arm),
                estimate_text(cell(frame, arm, final, "kept_layers"), 2),
                str(study.runs(arm)[0].summary["num_layers"]),
                reported_text(reported, 2),
                *_saved(frame, arm, final, "saved_over_baseline", (*CLOCKS, "flops")),
                *_saved(frame, arm, final, "saved_over_pld", ("reference_time",)),
                " / ".join(DASH if one is None else estimate_text(Estimate(one.value, None, None, one.n, ""), 1)
                           for one in shares) if any(shares) else DASH,
                str(len(study.pairs(arm, study.baseline))),
            )
        )  # fmt: skip
    columns = (
        "arm", "mean kept layers", "of L", "reported time saved", "reference time saved", "measured time saved",
        "FLOPs saved", "reference time saved over PLD", "analysis, reference / measured", "n",
    )  # fmt: skip
    notes = (
        "Saved: of the baseline's whole run, at equal samples. The analysis of sensitivity is part of every time and "
        "of the FLOPs of the arms that make one; its column is the share of their own time that it took. On the "
        "reference clock it costs what as many FLOPs of training at full depth do.",
        *mark_notes(provenances),
    )
    return Panel(f"{contents.title}, continued: what each arm costs [%]", columns, tuple(rows), notes)


def _saved(frame: pd.DataFrame, arm: str, checkpoint: str, quantity: str, axes: Sequence[str]) -> list[str]:
    return [estimate_text(cell(frame, arm, checkpoint, quantity, axis), 1) for axis in axes]


def _arm_notes(study: Evidence, paper: Paper) -> list[str]:
    notes = [f"{paper.label}: the full text of the method is not public; every part that it leaves open is a setting."]
    matched = [study.label(arm) for arm in study.methods if study.matched_depth(arm)]
    if matched:
        notes.append(f"Keep as many layers on average as another arm: {'; '.join(matched)}.")
    absent = [arm for arm in (study.pld, study.sbld, *CONTROLS) if arm not in study.arms]
    return [*notes, f"Not in this study: {', '.join(absent)}."] if absent else notes


def _nothing(contents: Contents, evidence: Evidence) -> Panel:
    names = " or ".join(FAMILIES[family] for family in contents.families)
    there = ", ".join(FAMILIES[study.family] for study in (evidence, *evidence.others))
    return Panel(contents.title, ("arm",), (), (f"Not measured here: no study of {names} in this set ({there}).",))
