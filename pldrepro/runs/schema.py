"""The records of a run folder: one class for each file, with every key, its type and its limits. No torch here.

The writers construct these classes, ``pldrepro.runs.folder`` returns them, and the analysis computes with them. Limits
are those beyond which the arithmetic of the analysis would fail. Records of earlier versions stay readable: fields that
they lack have defaults, keys that are no more are passed over, and keys that were renamed are read by both names.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, ConfigDict, Field, RootModel, model_validator

from pldrepro.config.base import MAX_LAYERS
from pldrepro.config.run import FinetuneSettings, RunSettings
from pldrepro.records import (
    Cost,
    Count,
    File,
    FileEntry,
    Kept,
    Loss,
    Number,
    Part,
    Positive,
    Recorded,
    Sealed,
    Share,
    Spent,
    Versioned,
)
from pldrepro.runs.retired import in_todays_names

Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
Family = Literal["bert", "gpt", "swinv2", "vit"]
# What every version wrote: a record without one of these is damaged, and a default would hide it.
NEEDED = {
    "data": ("source",),
    "training": ("num_steps", "batch_size", "learning_rates", "learning_rate"),
    "drop": ("schedule", "theta_bar"),
    "impl": ("micro_batch_size",),
}
NEEDED_OF_MODEL = {
    "text": ("norm", "num_layers", "hidden_size"),
    "images": ("stages", "hidden_size", "image_size", "num_classes"),
}

AnyLoss = Annotated[float, Field(ge=0, le=1e39, description="a number of a training step, in float32")]


class PretrainJob(RunSettings, Versioned):
    """settings.json of a pre-training run."""

    @model_validator(mode="before")
    @classmethod
    def _todays_names(cls, values: Any) -> Any:
        return in_todays_names(values)

    @model_validator(mode="after")
    def _nothing_is_made_up(self) -> Self:
        for group, names in {**NEEDED, "model": NEEDED_OF_MODEL[self.data.kind]}.items():
            absent = [name for name in names if name not in getattr(self, group).model_fields_set]
            if absent:
                raise ValueError(f"{group}: lacks {', '.join(absent)}")
        return self


# ---- provenance ----


class Device(Recorded):
    """What a run was computed on; threads: of a CPU, name and memory: of a GPU, ranks: where there are several."""

    type: str
    name: str | None = None
    threads: Positive | None = None
    memory_bytes: Positive | None = None
    ranks: Positive | None = None
    nodes: Positive | None = None


class SplitSize(Recorded):
    """How much a split of prepared data holds; of its manifest's entry only the number of images is read back."""

    model_config = ConfigDict(extra="allow")

    images: Positive | None = None


class DataManifest(Recorded):
    """A copy of the manifest of prepared data, of which only the hash and the number of images are read back."""

    model_config = ConfigDict(extra="allow")

    hash: str | None = None
    splits: dict[str, SplitSize] = {}


class Provenance(Recorded, Versioned):
    """provenance.json: the code, the machine and the data that a record comes from."""

    commit: str
    versions: dict[str, str]
    platform: str
    processor: str
    cpu_count: int | None
    device: Device
    argv: list[str] = []
    corpus: DataManifest | None = None
    glue: DataManifest | None = None
    seeds: list[int] | None = None

    def images(self, split: str) -> int | None:
        """Number of images of a split of the data; None where the data are no images, or their size was not kept."""
        size = self.corpus.splits.get(split) if self.corpus else None
        return size.images if size else None


# ---- pre-training ----


class Costs(Recorded):
    """What a run has cost up to a point, on every axis; the analysis of sensitivity is part of it."""

    step: Count
    samples: Count
    tokens: Count | None = None
    kept_layers: Count | None = Field(None, description="summed over forward passes")
    flops: Spent
    train_seconds: Spent
    reference_seconds: Spent | None = None
    analysis_seconds: Spent = 0
    analysis_passes: Annotated[float, Field(ge=0, le=1e12)] = 0
    reduced_bytes: Count | None = Field(None, description="of gradients that each rank gave to the all-reduce")


def paid_for(step: int, *costs: float | None) -> None:
    """A ValueError unless what was measured of some costs is positive after a step, and nothing before the first."""
    if any(cost is not None and (cost > 0) != (step > 0) for cost in costs):
        raise ValueError(f"step {step}: expected costs {'above' if step else 'of'} 0")


class Point(Costs):
    """What a run has cost at a point that is evaluated: after some steps, or of a run without training at step 0."""

    @model_validator(mode="after")
    def _steps_cost(self) -> Self:
        paid_for(self.step, self.samples, self.flops, self.train_seconds, self.reference_seconds)
        return self


class Checkpoint(Point):
    """A checkpoint of a run."""

    share: Part
    validation_loss: Loss
    validation_accuracy: Share | None = None
    validation_top5: Share | None = None
    folder: File


class SavedBytes(Recorded):
    """Activations that a forward pass of a micro-batch saves for its backward pass [bytes]."""

    all_layers: Positive
    mean_depth: Cost = Field(description="at the mean number of kept layers of the run")


class PretrainSummary(Recorded, Versioned):
    """summary.json of a pre-training run."""

    arm: str
    label: str
    seed: Count
    scale: str
    norm: str = ""
    family: Family = "bert"
    steps: Count
    samples: Count
    tokens: Count | None = None
    parameters: Positive
    num_layers: Layers
    validation_loss: Loss
    validation_accuracy: Share | None = None
    validation_top5: Share | None = None
    train_seconds: Spent
    warmup_seconds: Spent = Field(0, description="of compiling and first use of kernels, over all starts of the run")
    reference_seconds: Spent | None
    flops: Spent
    mean_kept_layers: Annotated[float, Field(ge=0, le=MAX_LAYERS)]
    passes_by_kept_layers: dict[Kept, Count] = Field(
        validation_alias=AliasChoices("passes_by_kept_layers", "steps_by_kept_layers")
    )
    passes_by_layer: list[Count] | None = None
    analysis_seconds: Spent = 0
    analysis_passes: Annotated[float, Field(ge=0, le=1e12)] = 0
    peak_memory_bytes: Positive | None = None
    saved_bytes: SavedBytes | None = None
    reduced_bytes: Count | None = None
    checkpoints: Annotated[dict[str, Checkpoint], Field(min_length=1)]

    @property
    def step(self) -> int:
        """Optimizer steps done, as of every point of a run."""
        return self.steps

    @model_validator(mode="after")
    def _steps_cost(self) -> Self:
        paid_for(
            self.steps, self.samples, self.flops, self.train_seconds, self.reference_seconds, self.mean_kept_layers
        )
        return self

    @model_validator(mode="after")
    def _layers_agree(self) -> Self:
        deepest = max(self.passes_by_kept_layers, default=0)
        passed = any(kept and n for kept, n in self.passes_by_kept_layers.items())
        if deepest > self.num_layers or passed != (self.steps > 0):
            raise ValueError(
                f"passes_by_kept_layers: expected some passes with 1 to {self.num_layers} layers, none above"
            )
        if self.passes_by_layer is not None and len(self.passes_by_layer) != self.num_layers:
            raise ValueError(f"passes_by_layer: expected {self.num_layers} entries, got {len(self.passes_by_layer)}")
        if self.mean_kept_layers > self.num_layers:
            raise ValueError(f"mean_kept_layers: expected at most {self.num_layers}, got {self.mean_kept_layers}")
        if max(point.step for point in self.checkpoints.values()) != self.steps:
            raise ValueError(f"checkpoints: expected the last one at the end of the run, step {self.steps}")
        return self


class TrainLine(Point):
    """A line of metrics.jsonl on training, means since the last one; early ones name the main loss ``mlm_loss``."""

    step: Positive
    kind: Literal["train"]
    loss: AnyLoss
    main_loss: AnyLoss = Field(validation_alias=AliasChoices("main_loss", "mlm_loss"))
    gradient_norm: AnyLoss = 0
    learning_rate: Spent = 0
    theta: Share = 1


class ValidationLine(Point):
    """A line of metrics.jsonl on a validation."""

    kind: Literal["validation"]
    loss: Loss
    accuracy: Share | None = None
    top5: Share | None = None


class SensitivityLine(Costs):
    """A line of metrics.jsonl on an analysis of sensitivity."""

    kind: Literal["sensitivity"]
    measure: str
    scores: list[Number]
    ranks: list[Positive]

    @model_validator(mode="after")
    def _ranks_of_layers(self) -> Self:
        if len(self.scores) != len(self.ranks) or sorted(self.ranks) != list(range(1, len(self.ranks) + 1)):
            raise ValueError("ranks: expected each of 1 to L once, one for each score")
        return self


AnyLine = TrainLine | ValidationLine | SensitivityLine


class MetricsLine(RootModel[Annotated[AnyLine, Field(discriminator="kind")]]):
    """A line of metrics.jsonl."""


# ---- the end of every job ----


class RunManifest(Sealed):
    """manifest.json of a finished job."""

    files: dict[File, FileEntry]
    left_out: list[File] = Field([], description="those of the files that this copy of the run does without")
    summary: dict[str, Any]


class WrittenFiles(Sealed):
    """written.json of an interrupted job: what the files that the next start goes on with were when written."""

    files: dict[File, FileEntry]


# ---- fine-tuning ----


class FinetuneInputs(Recorded):
    """What a fine-tuning job was made from: SHA-256 of the checkpoint's weights, hash of the prepared tasks."""

    weights: str | None = None
    glue: str | None = None


class FinetuneJob(Recorded, Versioned):
    """settings.json of a fine-tuning job."""

    scale: str
    arm: str
    label: str
    seed: Count
    checkpoint: str
    group: str
    finetune: FinetuneSettings
    missing: dict[str, dict[str, str]] = Field({}, description="task -> split -> why the data had none")
    inputs: FinetuneInputs = FinetuneInputs()

    @model_validator(mode="before")
    @classmethod
    def _todays_names(cls, values: Any) -> Any:
        return in_todays_names(values)


class FinetuneExamples(Recorded):
    """The examples of a split that a task was fine-tuned or evaluated on."""

    examples: Count
    cut: Count | None = Field(None, description="longer than the sequence length and cut; none: not counted")
    untrained: Count = Field(description="with positions that pre-training never saw")


class FinetuneSummary(Recorded, Versioned):
    """summary.json of a fine-tuning job."""

    scale: str | None = None
    arm: str
    label: str
    seed: Count
    checkpoint: str
    group: str
    tasks: list[str]
    runs: Count = 0
    failed: list[str] = Field([], description="fits that did not train, by name")
    trained_positions: Positive | None = Field(None, description="tokens of a sequence in pre-training")
    inputs: dict[str, dict[str, FinetuneExamples]] = Field({}, description="task -> split -> its examples")
    seconds: Spent = 0


# Share by which a fit must beat the best constant prediction: a classifier that never moved comes near it by chance.
FIT_MARGIN = 0.01


class FinetuneResult(Recorded):
    """A line of a fine-tuning job's results.jsonl: one task, learning rate and seed."""

    task: str
    learning_rate: Cost
    seed: Count
    steps: Count = 0
    train_loss: AnyLoss = Field(
        0, description="mean over the last epoch; where there is no constant_loss, over the last tenth of the steps"
    )
    constant_loss: AnyLoss | None = Field(None, description="of the best constant prediction on the training set")
    seconds: Spent = 0

    @property
    def name(self) -> str:
        """The fit, for people: cola 0.001 seed 2."""
        return f"{self.task} {self.learning_rate!r} seed {self.seed}"

    @property
    def failed(self) -> bool | None:
        """The training loss is not below the best constant's by FIT_MARGIN; None: not known."""
        return None if self.constant_loss is None else self.train_loss >= (1 - FIT_MARGIN) * self.constant_loss
