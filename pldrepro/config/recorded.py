"""The finished runs that exhibits are made from: of a study, or recorded with the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pldrepro.config.arm import ArmTags
from pldrepro.config.base import Folder, Name, Strict, validate
from pldrepro.config.experiment import arm_tags, experiments_folder
from pldrepro.errors import SettingsError
from pldrepro.files import read_json, shipped
from pldrepro.records import File, Recorded


class RecordedSettings(Strict):
    """Finished runs to analyse again: nothing is trained."""

    scale: Literal["recorded"]
    description: str
    results: Folder = Field("results/rebuilt", description="exhibits go to <results>/<name>")
    recorded: dict[Name, tuple[str, ...]] = Field(
        min_length=1, description="name -> folders of run folders, one for each family of models"
    )

    def result_sets(self) -> list[ResultSet]:
        """What the recorded folders hold; a folder without a finished run is a SettingsError."""
        return [
            ResultSet(f"{self.results}/{name}", tuple(self._find(shipped(Path(folder))) for folder in folders))
            for name, folders in self.recorded.items()
        ]

    def _find(self, folder: Path) -> StudyRuns:
        pretrain = sorted(map(str, folder.glob("pretrain/*/*/summary.json")))
        if not pretrain:
            raise SettingsError(f"recorded: {folder}: no finished pre-training run (pretrain/ARM/seedN/summary.json)")
        finetune = sorted(map(str, folder.glob("finetune/*/*/*/*/summary.json")))
        probes, lambada, contrasts, early = (
            sorted(map(str, folder.glob(f"{kind}/*/*/summary.json")))
            for kind in ("probe", "lambada", "contrasts", "early")
        )
        tags = arm_tags(experiments_folder(read_json(Path(pretrain[0])).get("family", "bert")))
        return StudyRuns(
            pretrain=pretrain, finetune=finetune, probes=probes, lambada=lambada, contrasts=contrasts,
            early=early,
            interleaved=sorted(map(str, folder.glob("interleave/*/summary.json"))),
            calibration=str(folder / "calibration/summary.json"), arms=tags,
        )  # fmt: skip


class StudyRuns(Recorded):
    """The finished runs of one study, each named by its summary."""

    pretrain: Annotated[list[File], Field(min_length=1)]
    finetune: list[File]
    probes: list[File]
    lambada: list[File]
    contrasts: list[File] = []
    early: list[File] = []
    interleaved: list[File] = []
    calibration: File
    arms: dict[str, ArmTags] = {}
    """What every experiment with tags says of itself; of those without runs, too: an exhibit says that they miss."""


class Index(Recorded):
    """index.json: the finished runs of a results folder, and what the YAML of their arms says of them."""

    scores: File
    studies: Annotated[list[StudyRuns], Field(min_length=1)]


@dataclass(frozen=True)
class ResultSet:
    """The studies that a set of exhibits is made from, one for each family of models, and where exhibits go."""

    results: str
    studies: tuple[StudyRuns, ...]

    @property
    def files(self) -> list[str]:
        """Every file that the exhibits are made from, but for the scores."""
        return [
            file
            for runs in self.studies
            for files in (
                runs.pretrain,
                runs.finetune,
                runs.probes,
                runs.lambada,
                runs.contrasts,
                runs.early,
                runs.interleaved,
            )
            for file in files
        ] + [runs.calibration for runs in self.studies]

    @property
    def finetune(self) -> list[str]:
        """The fine-tuning runs of all studies."""
        return [file for runs in self.studies for file in runs.finetune]

    @property
    def listing(self) -> str:
        """The text of index.json, from which every exhibit finds the runs."""
        index = Index(scores=f"{self.results}/scores.csv", studies=list(self.studies))
        return index.model_dump_json(indent=1, exclude_defaults=True)


def load_recorded(values: Mapping[str, Any]) -> RecordedSettings:
    """The recorded runs that a mapping names."""
    return validate(RecordedSettings, dict(values), "configuration")
