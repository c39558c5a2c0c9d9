"""Scores without fine-tuning: every arm's, and each paradigm's next to word counts and the model without training."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pldrepro.analysis.contrasts import CHANCE, FAMILIES, scores, title
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, number
from pldrepro.analysis.tidy import find
from pldrepro.config.arm import Role
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, select, value
from pldrepro.exhibits.text import INTERVAL_NOTE

NONE = "This study has no minimal pairs and no cloze items."
SHOWN_ROLES: tuple[Role, ...] = ("baseline", "preln", "preln_higher_lr", "pld", "sbld")


def contrasts_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """For each family of text models a table of each score, then one of its paradigms."""
    tables = []
    for study in evidence.all_of(*FAMILIES):
        own = frame[frame["family"] == study.family]
        for score in scores(study):
            tables += [_scores(study, own, score), _paradigms(study, own, score)]
    return tables or [
        TableLayout(f"Without fine-tuning, study {evidence.scale}", (ColumnLayout("arm"),), notes=(NONE,))
    ]


def _scores(evidence: Evidence, frame: pd.DataFrame, score: str) -> TableLayout:
    part = frame[(frame["quantity"] == score) & (frame["condition"] == "")]
    lines = []
    for arm in dict.fromkeys(part["arm"]):
        final = select(part, arm=arm, checkpoint=evidence.final_checkpoint(arm))
        rows = [row for row in final if row["against"] in ("", evidence.baseline)]
        lines.append(Line({"arm": evidence.label(arm)}, rows))
    return TableLayout(
        title=f"Without fine-tuning: {title(score)} [%; chance {CHANCE:.0f}], study {evidence.scale}",
        columns=(
            ColumnLayout("arm"),
            ColumnLayout("score", score, 1, statistic="mean"),
            ColumnLayout("above the baseline [points]", score, 1, statistic="difference"),
            ColumnLayout("items' standard error [points]", score, 1, value, statistic="item_error"),
            ColumnLayout("n", score, show=count, statistic="mean"),
        ),
        lines=tuple(lines),
        notes=(
            "At the end of pre-training: mean over the judging paradigms, then over n seeds; differences are paired by "
            "seed. The items' standard error is what the choice of items adds, for these very runs; the interval of a "
            "difference includes it.",
            INTERVAL_NOTE,
        ),
    )


def _paradigms(evidence: Evidence, frame: pd.DataFrame, score: str) -> TableLayout:
    part = frame[(frame["quantity"] == score) & (frame["condition"] != "")]
    arms = _shown_arms(evidence, part)
    lines = tuple(
        Line({"paradigm": str(name), **_judges(own), **_means(evidence, own, arms)}, select(own, arm=evidence.baseline))
        for judging in (1.0, 0.0)
        for name, own in part.groupby("condition", sort=False)
        if (found := find(own, statistic="judges")) and found.value == judging
    )
    return TableLayout(
        title=f"{title(score)}, by paradigm [%], study {evidence.scale}",
        columns=(
            ColumnLayout("paradigm"),
            ColumnLayout("judges"),
            ColumnLayout("items", None, 0, value, statistic="items"),
            ColumnLayout("left out", None, 0, value, statistic="left_out"),
            ColumnLayout("longer by [tokens]", None, 2, value, statistic="longer"),
            ColumnLayout("unigrams", None, 0, value, statistic="unigram"),
            ColumnLayout("trigrams", None, 0, value, statistic="trigram"),
            *(ColumnLayout(evidence.label(arm)) for arm in arms),
        ),
        lines=lines,
        notes=tuple(_paradigm_notes(evidence, part, score)),
    )


def _paradigm_notes(evidence: Evidence, part: pd.DataFrame, score: str) -> list[str]:
    notes = [
        "Share of items in which the model prefers the acceptable sentence or the attested word, mean over seeds; a "
        f"tie counts one half, chance is {CHANCE:.0f}. Longer by: tokens that acceptable sentences have more. Unigrams "
        "and trigrams: the same share of models that count the words of the training text. Left out: longer than the "
        "sequences of pre-training."
    ]
    judges = part[(part["statistic"] == "judges") & (part["note"] != "")]
    if len(judges):
        reasons = "; ".join(f"{name} ({note})" for name, note in zip(judges["condition"], judges["note"], strict=True))
        notes.append(f"What does not judge is shown, and not in the score: {reasons}.")
    missing = {name: reason for run in evidence.contrasts for name, reason in run.summary.missing.items()}
    asked = [f"{name} ({reason})" for name, reason in missing.items() if (score == "cloze") == ("/" in name)]
    return [*notes, *([f"Not scored: {'; '.join(asked)}."] if asked else [])]


def _shown_arms(evidence: Evidence, part: pd.DataFrame) -> list[str]:
    """The arm without training, and those that the papers compare."""
    wanted = [*evidence.untrained, *(evidence.arm_with_role(role) for role in SHOWN_ROLES)]
    return [arm for arm in dict.fromkeys(wanted) if arm in set(part["arm"])]


def _judges(own: pd.DataFrame) -> dict[str, str]:
    found = find(own, statistic="judges")
    return {"judges": "yes" if found and found.value else "no"}


def _means(evidence: Evidence, own: pd.DataFrame, arms: Sequence[str]) -> dict[str, str]:
    means = {arm: find(own, statistic="mean", arm=arm) for arm in arms}
    return {evidence.label(arm): number(mean.value, 1) if mean else DASH for arm, mean in means.items()}
