"""The arms of an exhibit: those that pldrepro.config.exhibits declares, whatever else was trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pldrepro.analysis.results import Evidence
from pldrepro.config.exhibits import part_of


def chosen(kind: Literal["tables", "figures"], exhibit: str, evidence: Evidence) -> Evidence:
    """The runs of the arms that a table or figure shows: the workflow trains no others for it."""
    part = part_of(kind, exhibit)
    if part.arms != "chosen":
        return evidence
    runs = tuple(run for run in evidence.pretrain if part.chooses(run.arm, evidence.tags))
    return replace(evidence, pretrain=runs, others=())
