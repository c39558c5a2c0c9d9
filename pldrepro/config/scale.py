"""The file of a study: the keys of ``config/<study>.yaml``, and what each of them means."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from pldrepro.config.base import Distinct, Folder, Name, Strict
from pldrepro.config.contrasts import ContrastSettings
from pldrepro.config.run import (
    CalibrationSettings,
    EarlySettings,
    FinetuneSettings,
    InterleaveSettings,
    ProbeSettings,
)
from pldrepro.records import Sha256


class ScaleSettings(Strict):
    """What a scale sets for all of its arms."""

    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    training: dict[str, Any] = {}
    impl: dict[str, Any] = {}


class EarlyStudy(EarlySettings):
    """Runs that end early in training, and what they have of their own."""

    arms: Annotated[tuple[Name, ...], Distinct] = Field(min_length=1)
    seeds: Annotated[tuple[int, ...], Distinct] = Field(min_length=1)
    model: dict[str, Any] = Field({}, description="laid over the scale's, such as the paper's number of layers")
    training: dict[str, Any] = Field({}, description="laid over the scale's")


class StudySettings(Strict):
    """The file of a study; with ``base: FILE`` its keys are merged over those of another one (``with_base``)."""

    scale: Name = Field(description="name of the scale; results go to results/<scale>")
    description: str
    results: Folder | None = Field(None, description="results folder; none: results/<scale>")
    data_root: str | None = Field(None, description="files source: the folder that holds text and GLUE")
    data_hash: Sha256 | None = Field(
        None, description="what the `hash` of the manifest of the prepared corpus or images must be; none: anything"
    )
    glue_hash: Sha256 | None = Field(
        None, description="what the `hash` of the manifest of GLUE must be; none: anything"
    )
    experiments: str = Field(
        "bert", description="folder of the arms' files, in config/experiments or anywhere; `arms` chooses from it"
    )
    arms: Annotated[tuple[Name, ...], Distinct] = Field(min_length=1, description="names of experiments")
    seeds: Annotated[tuple[int, ...], Distinct] = Field(
        min_length=1, description="pre-training seeds, paired over arms"
    )
    finetune_checkpoints: tuple[Name, ...] | dict[Name, tuple[Name, ...]] | None = Field(
        None,
        description="of the checkpoints that the experiments name, fine-tune only these; or arm -> checkpoints, and no "
        "other arm; none: all of them",
    )
    settings: ScaleSettings = ScaleSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    interleave: InterleaveSettings | None = Field(
        None, description="steps of some arms that are measured in turn; none: they are not"
    )
    probe: ProbeSettings = ProbeSettings()
    probe_arms: Annotated[tuple[Name, ...], Distinct] | None = Field(
        None, description="arms whose checkpoints are probed; none: all of them"
    )
    contrasts: ContrastSettings | None = Field(
        None, description="minimal pairs and cloze contrasts for every run of a text model; none: the study has none"
    )
    contrast_arms: Annotated[tuple[Name, ...], Distinct] | None = Field(
        None, description="arms that are scored on them; none: all of them"
    )
    early: EarlyStudy | None = Field(None, description="runs that are probed early in training; none: there are none")
    companions: dict[Name, str] = Field(
        {}, description="name -> file of the study of another family of models; its results go to <results>/<name>"
    )
