"""index.json: the finished runs of a results folder, and what the YAML of their arms says of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pldrepro.config.arm import ArmTags
from pldrepro.records import File, Recorded

# ---- the runs of a study ----


class StudyRuns(Recorded):
    """The finished runs of one study, each named by its summary."""

    pretrain: Annotated[list[File], Field(min_length=1)]
    finetune: list[File]
    probes: list[File]
    lambada: list[File]
    early: list[File] = []
    interleaved: list[File] = []
    calibration: File
    arms: dict[str, ArmTags] = {}
    """What the arms' YAML says of them; of arms without runs, too."""


class Index(Recorded):
    """index.json."""

    scores: File
    studies: Annotated[list[StudyRuns], Field(min_length=1)]
