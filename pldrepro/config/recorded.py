"""The finished runs that exhibits are made from: of a study, or recorded with the code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from pldrepro.archives import SUFFIX, read_archive
from pldrepro.config.arm import ArmTags
from pldrepro.config.base import Folder, Name, Strict, validate
from pldrepro.config.exhibits import Part, Stage
from pldrepro.config.experiment import arm_tags, experiments_folder
from pldrepro.errors import RecordError, SettingsError
from pldrepro.files import read_json, shipped
from pldrepro.records import File, Recorded

RUN_ARM = re.compile(r"/([^/]+)/seed[0-9]+/(?:[^/]+/)*summary\.json$")


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
            ResultSet(
                f"{self.results}/{name}", tuple(self._find(name, at, Path(folder)) for at, folder in enumerate(folders))
            )
            for name, folders in self.recorded.items()
        ]

    def packed(self) -> list[Packed]:
        """The folders of archives that have to be unpacked first."""
        found = (
            self._packed(name, at, Path(folder))
            for name, folders in self.recorded.items()
            for at, folder in enumerate(folders)
        )
        return [one for one in found if one.archives]

    def _packed(self, name: str, at: int, folder: Path) -> Packed:
        """The archives of a set's folder number ``at``; numbered, because two may share their last name."""
        source = shipped(folder)
        archives = sorted(map(str, source.glob(f"*/**/*{SUFFIX}")))
        return Packed(f"{self.results}/{name}", str(source), f"{self.results}/{name}/records/{at + 1}", archives)

    def _find(self, name: str, at: int, folder: Path) -> StudyRuns:
        packed = self._packed(name, at, folder)
        source = Path(packed.source)
        summaries = sorted([*packed.summaries, *map(str, source.glob("*/**/summary.json"))])

        def runs(stage: str) -> list[str]:
            return [path for path in summaries if re.fullmatch(f".*/{stage}/summary[.]json", path)]

        pretrain = runs("pretrain/[^/]+/[^/]+")
        if not pretrain:
            raise SettingsError(
                f"recorded: {source}: no finished pre-training run (pretrain/ARM/seedN/summary.json, or seedN{SUFFIX})"
            )
        family = packed.summary(pretrain[0]).get("family", "bert")
        return StudyRuns(
            family=family,
            pretrain=pretrain, finetune=runs("finetune/[^/]+/[^/]+/[^/]+/[^/]+"), probes=runs("probe/[^/]+/[^/]+"),
            lambada=runs("lambada/[^/]+/[^/]+"), contrasts=runs("contrasts/[^/]+/[^/]+"),
            early=runs("early/[^/]+/[^/]+"), interleaved=runs("interleave/[^/]+"),
            calibration=str(source / "calibration/summary.json"), arms=arm_tags(experiments_folder(family)),
        )  # fmt: skip


@dataclass(frozen=True)
class Packed:
    """Recorded runs, an archive for each, and where they are unpacked."""

    results: str
    source: str
    folder: str
    archives: list[str]

    @property
    def summaries(self) -> list[str]:
        """The summary of each run, once it is unpacked."""
        return [
            f"{self.folder}/{Path(path).relative_to(self.source).as_posix().removesuffix(SUFFIX)}/summary.json"
            for path in self.archives
        ]

    def summary(self, path: str) -> dict[str, Any]:
        """What one of ``summaries`` will hold; of a run that is not packed, what it holds.

        A damaged archive, or one without a readable summary.json, is a RecordError that names it.
        """
        if path not in self.summaries:
            return dict(read_json(Path(path)))
        archive = self.archives[self.summaries.index(path)]
        content = read_archive(Path(archive)).get("summary.json")
        if content is None:
            raise RecordError(f"{archive}: holds no summary.json: not a finished run; restore it or remove it")
        try:
            return dict(json.loads(content))
        except ValueError as error:  # UnicodeDecodeError, too
            raise RecordError(f"{archive}: summary.json: damaged JSON: {error}") from None


class StudyRuns(Recorded):
    """The finished runs of one study, each named by its summary."""

    family: str = "bert"
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

    def of(self, part: Part) -> StudyRuns:
        """The runs that a part of the exhibits is made from."""
        stages = part.stages if any(getattr(self, stage) for stage in part.stages) else part.otherwise
        left_out = [stage for stage in get_args(Stage) if stage not in stages]
        staged = {arm_of(file) for stage in stages for file in getattr(self, stage)} if part.arms == "staged" else set()
        baseline = {arm for arm, tags in self.arms.items() if tags.role == "baseline"}
        every = {arm_of(file) for file in self.pretrain}
        chosen = {arm for arm in every if part.arms == "chosen" and part.chooses(arm, self.arms)}
        wanted = every if part.arms == "all" else staged | chosen | baseline
        return self.model_copy(
            update={
                "pretrain": [file for file in self.pretrain if arm_of(file) in wanted],
                **{stage: [] for stage in left_out},
            }
        )


def arm_of(file: str) -> str:
    """The arm of a run by its summary: .../pretrain/ARM/seedN/summary.json, and so on for every stage."""
    return RUN_ARM.search(file).group(1)  # type: ignore[union-attr]


class Index(Recorded):
    """index.json: the finished runs of a results folder, and what the YAML of their arms says of them."""

    scores: File
    studies: Annotated[list[StudyRuns], Field(min_length=1)]


@dataclass(frozen=True)
class ResultSet:
    """The studies that a set of exhibits is made from, one for each family of models, and where exhibits go."""

    results: str
    studies: tuple[StudyRuns, ...]

    def of(self, part: Part) -> ResultSet:
        """The runs that a part of the exhibits is made from; where no study has them, the first study's baseline."""
        first = self.studies[:1] if part.first else ()
        studies = tuple(one.of(part) for one in self.studies if one in first or one.family in part.families)
        return ResultSet(self.results, studies or (self.studies[0].of(Part(arms="baseline")),))

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
    def inputs(self) -> list[str]:
        """Every file that the exhibits are made from, with the scores where there are any."""
        return self.files + [f"{self.results}/scores.csv"] * bool(self.finetune)

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
