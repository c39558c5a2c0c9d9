"""The records of what is made from all checkpoints of a run: probes and LAMBADA. No torch here."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pldrepro.config.run import EarlyRunSettings, ProbeSettings
from pldrepro.records import Count, Loss, Number, Part, Positive, Recorded, Share, Spent, Versioned
from pldrepro.runs.schema import Layers


class CheckpointInputs(Recorded):
    """What was scored: SHA-256 of each checkpoint's weights, hash of the corpus."""

    weights: dict[str, str] = {}
    corpus: str | None = None


class ProbeJob(Recorded, Versioned):
    """settings.json of a probe."""

    scale: str
    arm: str
    label: str
    seed: Count
    probe: ProbeSettings
    inputs: CheckpointInputs = CheckpointInputs()


class ProbedPoint(Recorded):
    """A probed checkpoint."""

    step: Positive
    share: Part
    validation_loss: Loss


class LayersSummary(Recorded, Versioned):
    """What a model was when its layers were probed, and how many sequences it read."""

    scale: str
    arm: str
    label: str
    seed: Count
    norm: str
    num_layers: Layers
    checkpoints: Annotated[dict[str, ProbedPoint], Field(min_length=1)]
    sequences: Positive
    seconds: Spent = 0


class ProbeSummary(LayersSummary):
    """summary.json of a probe."""

    lesion_keep: Part


class EarlyJob(EarlyRunSettings, Versioned):
    """settings.json of a run that is probed early in training."""

    corpus: str | None = Field(None, description="hash of the corpus")


class EarlySummary(LayersSummary):
    """summary.json of a run that was probed early in training; its checkpoints were not kept."""

    num_steps: Positive = Field(description="of the whole run, whose schedules it had")


class ProbeResult(Recorded):
    """A line of a probe's results.jsonl: a number of a layer, or a loss with some layers kept."""

    checkpoint: str
    step: Positive
    quantity: str
    layer: Positive | None = None
    part: str | None = None
    selection: str | None = None
    kept: list[Positive] | None = None
    text: str | None = None
    value: Number
    draw: Count | None = None

    @model_validator(mode="after")
    def _names_what_it_measured(self) -> Self:
        needed = ("selection", "kept", "text") if self.quantity == "loss" else ("layer",)
        absent = [name for name in needed if getattr(self, name) is None]
        if absent:
            raise ValueError(f"{self.quantity} lacks {', '.join(absent)}")
        return self


class LambadaJob(Recorded, Versioned):
    """settings.json of LAMBADA scores."""

    scale: str
    arm: str
    label: str
    seed: Count
    max_tokens: Positive | None = None
    inputs: CheckpointInputs = CheckpointInputs()


class LambadaScores(Recorded):
    """The scores of a checkpoint."""

    lambada_accuracy: Share
    lambada_perplexity: Annotated[float, Field(gt=0, le=1e300)]


class LambadaSummary(Recorded, Versioned):
    """summary.json of LAMBADA scores."""

    scale: str
    arm: str
    label: str
    seed: Count
    passages: Positive
    checkpoints: Annotated[dict[str, LambadaScores], Field(min_length=1)]
