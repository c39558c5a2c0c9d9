"""What files of runs and of prepared data must hold: every key that is read, its type, and its limits. No torch here.

``pldrepro.runs.folder`` checks each file against its class before anything uses it, and hands on the values as they are
written; keys that are not named here pass. Limits are those beyond which the arithmetic of the analysis would fail.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, RootModel, Tag, model_validator

from pldrepro.config.arm import ArmTags
from pldrepro.config.base import MAX_LAYERS, Sha256, text_or_images
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.model import ModelSettings, VisionSettings
from pldrepro.config.run import ImplSettings, TrainingSettings
from pldrepro.policy.drop import DropSettings
from pldrepro.records import Cost, Count, File, Kept, Loss, Number, Part, Positive, Recorded, Share

Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]


def Known(kind: type[BaseModel], *needed: str) -> BeforeValidator:  # noqa: N802 (stands in annotations, like a class)
    """For settings that a class of today reads: fields that are no more pass, those ``needed`` must be written."""

    def known(values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise ValueError("allowed: a mapping")
        absent = [name for name in needed if name not in values]
        if absent:
            raise ValueError(f"lacks {', '.join(absent)}")
        return {name: values[name] for name in kind.model_fields if name in values}

    return BeforeValidator(known)


AnyModel = Annotated[
    Annotated[ModelSettings, Known(ModelSettings, "norm", "num_layers", "hidden_size"), Tag("<text>")]
    | Annotated[
        VisionSettings, Known(VisionSettings, "stages", "hidden_size", "image_size", "num_classes"), Tag("<images>")
    ],
    Discriminator(text_or_images("family")),
]
AnyData = Annotated[
    Annotated[DataSettings, Known(DataSettings, "source", "sequence_length"), Tag("<text>")]
    | Annotated[ImageDataSettings, Known(ImageDataSettings, "source"), Tag("<images>")],
    Discriminator(text_or_images("kind")),
]


class BudgetRecord(Recorded):
    """The arm and the checkpoint whose reference time a run ends at."""

    arm: str
    checkpoint: str


class SettingsRecord(Recorded):
    """settings.json of a pre-training run."""

    scale: str
    arm: str
    label: str
    seed: Count
    model: AnyModel
    data: AnyData
    training: Annotated[
        TrainingSettings, Known(TrainingSettings, "num_steps", "batch_size", "learning_rates", "learning_rate")
    ]
    drop: Annotated[DropSettings, Known(DropSettings, "schedule", "theta_bar")]
    impl: Annotated[ImplSettings, Known(ImplSettings, "micro_batch_size")]
    budget: BudgetRecord | None = None
    matched_depth: str | None = None


class DeviceRecord(Recorded):
    """What a run was computed on."""

    type: str


class CorpusRecord(Recorded):
    """What a run was trained on."""

    hash: str | None = None


class ProvenanceRecord(Recorded):
    """provenance.json."""

    commit: str
    versions: dict[str, str]
    platform: str
    processor: str
    cpu_count: int | None
    device: DeviceRecord
    corpus: CorpusRecord | None = None


class CostRecord(Recorded):
    """What a run had spent at a point."""

    step: Positive
    samples: Positive
    flops: Cost
    train_seconds: Cost
    reference_seconds: Cost | None
    analysis_passes: Annotated[float, Field(ge=0, le=1e12)] = 0
    kept_layers: Count | None = None


class PointRecord(CostRecord):
    """A checkpoint of a run."""

    share: Part
    validation_loss: Loss


class PretrainSummary(Recorded):
    """summary.json of a pre-training run."""

    arm: str
    label: str
    seed: Count
    scale: str
    family: Literal["bert", "gpt", "swinv2", "vit"] = "bert"
    steps: Positive
    samples: Positive
    tokens: Count | None = None
    parameters: Positive
    num_layers: Layers
    validation_loss: Loss
    validation_accuracy: Share | None = None
    validation_top5: Share | None = None
    train_seconds: Cost
    reference_seconds: Cost | None
    flops: Cost
    mean_kept_layers: Annotated[float, Field(gt=0, le=MAX_LAYERS)]
    steps_by_kept_layers: dict[Kept, Count]
    passes_by_layer: list[Count] | None = None
    analysis_seconds: Annotated[float, Field(ge=0, le=1e30)] = 0
    analysis_passes: Annotated[float, Field(ge=0, le=1e12)] = 0
    peak_memory_bytes: Positive | None = None
    reduced_bytes: Count | None = None
    checkpoints: Annotated[dict[str, PointRecord], Field(min_length=1)]

    @model_validator(mode="after")
    def _layers_agree(self) -> Self:
        deepest = max(map(int, self.steps_by_kept_layers), default=0)
        if deepest > self.num_layers or not any(int(kept) and n for kept, n in self.steps_by_kept_layers.items()):
            raise ValueError(
                f"steps_by_kept_layers: allowed: some steps with 1 to {self.num_layers} layers, none above"
            )
        if self.passes_by_layer is not None and len(self.passes_by_layer) != self.num_layers:
            raise ValueError(f"passes_by_layer: {len(self.passes_by_layer)} entries; allowed: {self.num_layers}")
        if self.mean_kept_layers > self.num_layers:
            raise ValueError(f"mean_kept_layers {self.mean_kept_layers}; allowed: at most {self.num_layers}")
        if max(point.step for point in self.checkpoints.values()) != self.steps:
            raise ValueError(f"checkpoints: allowed: the last one at the end of the run, step {self.steps}")
        return self


class TrainLine(CostRecord):
    """A line of metrics.jsonl on training; early ones call the main loss by the objective's name."""

    kind: Literal["train"]
    loss: Loss
    main_loss: Loss | None = None


class ValidationLine(CostRecord):
    """A line of metrics.jsonl on a validation."""

    kind: Literal["validation"]
    loss: Loss
    accuracy: Share | None = None


class SensitivityLine(Recorded):
    """A line of metrics.jsonl on an analysis of sensitivity."""

    kind: Literal["sensitivity"]
    step: Count
    measure: str
    scores: list[Number]
    ranks: list[Positive]

    @model_validator(mode="after")
    def _ranks_of_layers(self) -> Self:
        if len(self.scores) != len(self.ranks) or sorted(self.ranks) != list(range(1, len(self.ranks) + 1)):
            raise ValueError("ranks: allowed: each of 1 to L once, one for each score")
        return self


class MetricsLine(RootModel[Annotated[TrainLine | ValidationLine | SensitivityLine, Field(discriminator="kind")]]):
    """A line of metrics.jsonl."""


class FileRecord(Recorded):
    """A file that a manifest lists."""

    bytes: Count
    sha256: Sha256


class RunManifest(Recorded):
    """manifest.json of a finished job."""

    files: dict[File, FileRecord]
    summary: dict[str, Any]


class FinetuneSummary(Recorded):
    """summary.json of a fine-tuning job."""

    arm: str
    label: str
    seed: Count
    checkpoint: str
    group: str
    tasks: list[str]


class FinetuneSettingsRecord(Recorded):
    """settings.json of a fine-tuning job."""

    missing: dict[str, dict[str, str]] = {}


class FinetuneLine(Recorded):
    """A line of a fine-tuning job's results.jsonl."""

    task: str
    learning_rate: Cost
    seed: Count


class ProbedPoint(Recorded):
    """A probed checkpoint."""

    step: Positive
    share: Part
    validation_loss: Loss


class ProbeSummary(Recorded):
    """summary.json of a probe."""

    scale: str
    arm: str
    label: str
    seed: Count
    norm: str
    num_layers: Layers
    checkpoints: Annotated[dict[str, ProbedPoint], Field(min_length=1)]
    sequences: Positive
    lesion_keep: Part


class ProbeLine(Recorded):
    """A line of a probe's results.jsonl: a number of a layer, or a loss with some layers kept."""

    checkpoint: str
    step: Positive
    quantity: str
    value: Number
    layer: Positive | None = None
    part: str | None = None
    selection: str | None = None
    kept: list[Positive] | None = None
    text: str | None = None
    draw: Count | None = None

    @model_validator(mode="after")
    def _names_what_it_measured(self) -> Self:
        needed = ("selection", "kept", "text") if self.quantity == "loss" else ("layer",)
        absent = [name for name in needed if getattr(self, name) is None]
        if absent:
            raise ValueError(f"{self.quantity} lacks {', '.join(absent)}")
        return self


class LambadaPoint(Recorded):
    """The scores of a checkpoint."""

    lambada_accuracy: Share
    lambada_perplexity: Annotated[float, Field(gt=0, le=1e300)]


class LambadaSummary(Recorded):
    """summary.json of LAMBADA scores."""

    scale: str
    arm: str
    label: str
    seed: Count
    passages: Positive
    checkpoints: Annotated[dict[str, LambadaPoint], Field(min_length=1)]


class TauPoint(Recorded):
    """tau(k) of one k."""

    median: Cost
    low: Cost
    high: Cost
    n: Positive


class FitRecord(Recorded):
    """The linear fit of tau over k."""

    intercept: Number
    slope: Number
    r2: float


class ShapeRecord(Recorded):
    """The step times of one model shape."""

    norm: str
    num_layers: Layers
    model: dict[str, Any]
    micro_batch_size: Positive
    sequence_length: Positive | None
    ranks: Positive = 1
    tau: dict[Kept, TauPoint]
    fit: FitRecord
    seconds: list[list[Cost]] = []

    @model_validator(mode="after")
    def _times_of_every_depth(self) -> Self:
        layers = self.num_layers
        if not {str(kept) for kept in range(layers + 1)} <= self.tau.keys():
            raise ValueError(f"tau: allowed: an entry for each of 0 to {layers}")
        if any(len(times) != layers + 1 for times in self.seconds):
            raise ValueError(f"seconds: allowed: {layers + 1} in each round")
        if "stages" in self.model:
            stages = self.model["stages"]
            if (
                not isinstance(stages, list)
                or not all(type(n) is int and n > 0 for n in stages)
                or sum(stages) != layers
            ):
                raise ValueError(f"model.stages {stages!r}; allowed: blocks of each stage, {layers} in all")
        if self.fit.intercept + layers * self.fit.slope <= 0:
            raise ValueError("fit: allowed: a full step that takes time")
        return self


class CalibrationSummary(Recorded):
    """summary.json of a calibration."""

    threads: Positive
    device: DeviceRecord
    shapes: Annotated[list[ShapeRecord], Field(min_length=1)]

    @model_validator(mode="after")
    def _same_rounds(self) -> Self:
        if len({len(shape.seconds) for shape in self.shapes}) > 1:
            raise ValueError("shapes: allowed: seconds of as many rounds in each, or in none")
        return self


class StudyRecord(Recorded):
    """The finished runs of one study, each named by its summary."""

    pretrain: Annotated[list[File], Field(min_length=1)]
    finetune: list[File]
    probes: list[File]
    lambada: list[File]
    calibration: File
    arms: dict[str, ArmTags] = {}
    """What the arms' YAML says of them; of arms without runs, too."""


class EvidenceRecord(Recorded):
    """evidence.json."""

    scores: File
    studies: Annotated[list[StudyRecord], Field(min_length=1)]
