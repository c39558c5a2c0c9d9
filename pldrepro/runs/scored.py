"""The records of what is made from all checkpoints of a run: probes, LAMBADA, contrasts. No torch here."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pldrepro.config.contrasts import ContrastSettings
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


class ProbeNumber(Recorded):
    """What a probe measured of a model: a number of a layer, or a loss with some layers kept."""

    quantity: str
    layer: Positive | None = None
    part: str | None = None
    selection: str | None = None
    kept: list[Positive] | None = None
    text: str | None = None
    value: Annotated[float, Field(allow_inf_nan=True)]
    draw: Count | None = None

    @model_validator(mode="after")
    def _names_what_it_measured(self) -> Self:
        needed = ("selection", "kept", "text") if self.quantity == "loss" else ("layer",)
        absent = [name for name in needed if getattr(self, name) is None]
        if absent:
            raise ValueError(f"{self.quantity} lacks {', '.join(absent)}")
        return self


class ProbeResult(ProbeNumber):
    """A line of a probe's results.jsonl: a finite number of a checkpoint."""

    checkpoint: str
    step: Positive
    value: Number


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
    lambada_rank: Share | None = Field(
        None, description="share of a passage's other words that are less probable than the right one; chance 0.5"
    )


class LambadaSummary(Recorded, Versioned):
    """summary.json of LAMBADA scores."""

    scale: str
    arm: str
    label: str
    seed: Count
    passages: Positive
    ranked: Count = Field(0, description="passages whose words were ranked")
    checkpoints: Annotated[dict[str, LambadaScores], Field(min_length=1)]


# ---- contrasts: minimal pairs and cloze ----


class ContrastInputs(CheckpointInputs):
    """What was scored, on what: also the hash of the prepared items."""

    items: str | None = None


class ContrastsJob(Recorded, Versioned):
    """settings.json of contrasts."""

    scale: str
    arm: str
    label: str
    seed: Count
    contrasts: ContrastSettings
    inputs: ContrastInputs = ContrastInputs()


class ContrastItems(Recorded):
    """The items of a paradigm or a cloze contrast, and what an n-gram model of the training text makes of them."""

    items: Positive
    left_out: Count = Field(0, description="items longer than the sequences that the model was trained on")
    judges: bool
    reason: str = Field("", description="why it does not judge")
    unigram: Share | None = None
    trigram: Share | None = None
    longer: float | None = Field(None, description="tokens by which acceptable sentences are longer, mean")

    @property
    def scored(self) -> int:
        """Items that were not left out."""
        return self.items - self.left_out


class ContrastsSummary(Recorded, Versioned):
    """summary.json of contrasts: the shares of items in which the model prefers what is acceptable, or attested."""

    scale: str
    arm: str
    label: str
    seed: Count
    tasks: dict[str, dict[str, ContrastItems]] = Field(description="task -> paradigm, in the order of the hits")
    missing: dict[str, str] = Field({}, description="task, or cloze contrast -> why the data have none")
    checkpoints: Annotated[dict[str, dict[str, dict[str, Share]]], Field(min_length=1)] = Field(
        description="checkpoint -> task -> paradigm -> share; a paradigm without a scored item is not there"
    )
    seconds: Spent = 0

    @model_validator(mode="after")
    def _scores_what_it_asked(self) -> Self:
        for name, tasks in self.checkpoints.items():
            for task, shares in tasks.items():
                scored = {one for one, about in self.tasks.get(task, {}).items() if about.scored}
                if set(shares) != scored:
                    raise ValueError(f"checkpoints: {name}: {task}: expected a share for each of {', '.join(scored)}")
        return self
