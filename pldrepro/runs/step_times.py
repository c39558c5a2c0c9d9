"""Step times: tau(k) of a calibration, and the reference time that they give a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from pldrepro.config.base import MAX_LAYERS
from pldrepro.config.model import AnyModel
from pldrepro.config.run import CalibrationJob, InterleaveJob, RunSettings
from pldrepro.errors import RecordError
from pldrepro.records import Cost, Kept, Number, Positive, Recorded, Versioned
from pldrepro.runs.folder import PretrainRun, read_finished
from pldrepro.runs.schema import Device, Layers

# Settings of a model that its step time depends on; each family has some of them.
TIMED_SETTINGS = (
    "family", "norm", "num_layers", "hidden_size", "num_heads", "ffn_size", "vocab_size", "dropout",
    "attention_dropout", "image_size", "patch_size", "num_classes", "stages", "window_size",
    "drop_path_rate",
)  # fmt: skip


class StepTime(Recorded):
    """tau(k) of one k: median over the rounds and its 95 % interval [s]; of processes the geometric mean of medians."""

    median: Cost
    low: Cost
    high: Cost
    n: Positive


class Fit(Recorded):
    """The linear fit of tau over k [s]."""

    intercept: Number
    slope: Number
    r2: float


class StepTimes(Recorded):
    """tau(k), the seconds of a training step of one micro-batch with k active layers, of one model shape."""

    norm: str
    num_layers: Layers
    model: AnyModel
    micro_batch_size: Positive
    sequence_length: Positive | None = Field(description="none: images")
    precision: str = "float32"
    compile: bool = False
    residual: str = "float32"
    attention: str = "auto"
    ranks: Positive = 1
    tau: dict[Kept, StepTime]
    fit: Fit
    processes: Positive = Field(1, description="that measured one after another, as many rounds each")
    seconds: list[list[Cost]] = Field(
        [],
        description="every round, process by process: (processes x rounds, L + 1); all shapes of a calibration were "
        "measured in the same rounds",
    )

    @model_validator(mode="after")
    def _times_of_every_depth(self) -> Self:
        layers = self.num_layers
        if not set(range(layers + 1)) <= self.tau.keys():
            raise ValueError(f"tau: expected an entry for each of 0 to {layers}")
        if any(len(times) != layers + 1 for times in self.seconds):
            raise ValueError(f"seconds: expected {layers + 1} in each round")
        if len(self.seconds) % self.processes or (self.processes > 1 and not self.seconds):
            raise ValueError(f"seconds: expected as many rounds of each of {self.processes} processes")
        if self.model.num_layers != layers:
            raise ValueError(f"model: expected {layers} layers, got {self.model.num_layers}")
        if self.expected(layers) <= 0:
            raise ValueError("fit: expected a full step that takes time")
        return self

    @property
    def median(self) -> tuple[float, ...]:
        """tau(k), k = 0..L."""
        return self._of_every_depth("median")

    @property
    def low(self) -> tuple[float, ...]:
        """Lower limit of tau(k), k = 0..L."""
        return self._of_every_depth("low")

    @property
    def high(self) -> tuple[float, ...]:
        """Upper limit of tau(k), k = 0..L."""
        return self._of_every_depth("high")

    @property
    def n(self) -> tuple[int, ...]:
        """Rounds that tau(k) was measured in, k = 0..L."""
        return self._of_every_depth("n")

    def _of_every_depth(self, name: str) -> tuple[Any, ...]:
        return tuple(getattr(self.tau[kept], name) for kept in range(self.num_layers + 1))

    @property
    def stages(self) -> tuple[int, ...]:
        """Layers of each stage of the model, whose layers cost the same; a model of text is one stage."""
        return getattr(self.model, "stages", (self.num_layers,))

    @property
    def layer_share(self) -> float:
        """Share of a full step that the layers take, by the linear fit: L slope / (intercept + L slope)."""
        layers = self.num_layers * self.fit.slope
        return layers / (self.fit.intercept + layers)

    @property
    def relative_errors(self) -> tuple[float, ...]:
        """Standard errors of tau(k) relative to tau(k), from the 95 % intervals; k = 0..L."""
        limits = zip(self.low, self.high, self.median, strict=True)
        return tuple((high - low) / (2 * 1.96 * median) for low, high, median in limits)

    @property
    def layer_seconds(self) -> tuple[float, ...]:
        """What each layer adds to a step; (L,): the mean over its stage of tau(k) - tau(k - 1), k in order of depth."""
        seconds: list[float] = []
        for depth in self.stages:
            first = len(seconds)
            seconds += [(self.tau[first + depth].median - self.tau[first].median) / depth] * depth
        return tuple(seconds)

    def price(
        self,
        passes_by_kept_layers: Mapping[int, float],
        passes_by_layer: Sequence[float] | None = None,
        analysis_passes: float = 0,
    ) -> float:
        """Reference seconds of a run: sum over k of (forward passes with k layers) x tau(k), and its analysis.

        Layers of several stages do not cost the same: there each pass costs tau(0), and each layer it kept its own
        ``layer_seconds``. An analysis of sensitivity costs what as many FLOPs of training at full depth do
        (``analysis_passes`` micro-batches). Source: reference system time of "No Train No Gain" (arXiv 2307.06440).
        """
        analysis = analysis_passes * self.tau[self.num_layers].median
        if len(self.stages) > 1:
            layers = zip(passes_by_layer or (), self.layer_seconds, strict=True)
            fixed = sum(passes_by_kept_layers.values()) * self.tau[0].median
            return fixed + math.fsum(count * seconds for count, seconds in layers) + analysis
        return math.fsum(count * self.tau[kept].median for kept, count in passes_by_kept_layers.items()) + analysis

    def expected(self, kept_layers: float) -> float:
        """Seconds of a step with this many active layers on average, by the linear fit."""
        return self.fit.intercept + self.fit.slope * kept_layers

    def fits(self, run: RunSettings) -> bool:
        """Whether a run with these settings takes this shape's time: same sizes, dropout, micro-batch and length."""
        return (
            all(getattr(self.model, key, None) == getattr(run.model, key, None) for key in TIMED_SETTINGS)
            and self.micro_batch_size == min(run.impl.micro_batch_size, run.training.batch_size)
            and self.ranks == run.impl.ranks
            and self.sequence_length == getattr(run.data, "sequence_length", None)
        )


class CalibrationSummary(Recorded, Versioned):
    """summary.json of a calibration: the step times of all model shapes of a study, measured on one machine."""

    threads: Positive
    device: Device
    shapes: Annotated[list[StepTimes], Field(min_length=1)]

    @model_validator(mode="after")
    def _same_rounds(self) -> Self:
        if len({(len(shape.seconds), shape.processes) for shape in self.shapes}) > 1:
            raise ValueError("shapes: expected seconds of as many rounds and processes in each, or in none")
        return self


class MeasuredArm(Recorded):
    """Optimizer steps of one arm among those of others: seconds of each, and layers kept, mean over micro-batches."""

    arm: str
    label: str
    seconds: Annotated[list[Cost], Field(min_length=2)]
    kept_layers: list[Annotated[float, Field(ge=0, le=MAX_LAYERS)]]


class CalibrationRecord(CalibrationJob, Versioned):
    """settings.json of a calibration."""


class InterleaveRecord(InterleaveJob, Versioned):
    """settings.json of steps measured in turn."""

    process: Positive


class InterleaveSummary(Recorded, Versioned):
    """summary.json of steps measured in turn in one process, round after round."""

    scale: str
    process: Positive
    device: Device
    arms: Annotated[list[MeasuredArm], Field(min_length=2)]

    @model_validator(mode="after")
    def _same_rounds(self) -> Self:
        if len({len(times) for arm in self.arms for times in (arm.seconds, arm.kept_layers)}) > 1:
            raise ValueError("arms: expected as many rounds of each")
        if len({arm.arm for arm in self.arms}) < len(self.arms):
            raise ValueError("arms: expected each once")
        return self

    def seconds(self, arm: str) -> list[float] | None:
        """Seconds of an arm's steps, a round each; None where it was not measured."""
        return next((one.seconds for one in self.arms if one.arm == arm), None)


@dataclass(frozen=True)
class InterleaveRun:
    """A process that measured steps in turn."""

    folder: Path
    summary: InterleaveSummary


def load_interleave(folder: Path) -> InterleaveRun:
    """Steps measured in turn; missing, incomplete or damaged ones are a RecordError naming file and log."""
    folder, summary, _ = read_finished(folder, InterleaveSummary)
    return InterleaveRun(folder, summary)


@dataclass(frozen=True)
class Calibration:
    """A finished calibration."""

    folder: Path
    summary: CalibrationSummary

    @property
    def shapes(self) -> list[StepTimes]:
        """Step times of each model shape."""
        return self.summary.shapes

    def shape(self, run: RunSettings) -> StepTimes:
        """The shape of a run with these settings; a RecordError when it was not calibrated."""
        for shape in self.shapes:
            if shape.fits(run):
                return shape
        raise RecordError(
            f"{self.folder}: no step times for the model of {run.arm}, seed {run.seed}; run `run calibrate` again"
        )

    def shape_of(self, run: PretrainRun) -> StepTimes:
        """The shape of a finished run."""
        return self.shape(run.settings)


def load_calibration(folder: Path) -> Calibration:
    """The measured tau(k); a missing, incomplete or damaged one is a RecordError naming file and log."""
    folder, summary, _ = read_finished(folder, CalibrationSummary)
    return Calibration(folder, summary)
