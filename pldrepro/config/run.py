"""What one job is told: pre-training, fine-tuning, calibration, probes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pldrepro.config.base import Beta, Distinct, Name, Rate, Share, Strict
from pldrepro.config.data import AnyData, DataSettings
from pldrepro.config.model import AnyModel, Pooling, VisionSettings
from pldrepro.policy.drop import DropSettings


class LearningRates(Strict):
    """The two peak learning rates of the paper; where a scale names the baseline's only, both are the same."""

    baseline: Rate = Field(description="of the baseline, and of the arms compared with it at an equal rate")
    higher: Rate = Field(description="of PLD, and of the arms compared with it at an equal rate; none: the baseline's")

    @model_validator(mode="before")
    @classmethod
    def _one_for_all(cls, values: Any) -> Any:
        if isinstance(values, dict) and "baseline" in values:
            return {"higher": values["baseline"], **values}
        return values


class TrainingSettings(Strict):
    """Objective, optimizer and schedule of pre-training."""

    num_steps: int = Field(200_000, ge=0, description="optimizer steps T; 0: the model stays as initialised")
    batch_size: int = Field(4096, ge=1, description="sequences per optimizer step, over all ranks and micro-batches")
    learning_rates: LearningRates = LearningRates(baseline=1e-4, higher=1e-3)
    learning_rate: Literal["baseline", "higher"] = Field("baseline", description="which of the two this arm uses")
    warmup: Share = Field(0.02, description="share of the steps with a linear warm-up")
    decay: Literal["staircase", "linear"] = Field(
        "staircase",
        description="staircase: x 0.99 after each 200th of the run (PLD); linear: to zero at the end",
    )
    weight_decay: float = Field(0.01, ge=0, description="not applied to biases and LayerNorm")
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    bias_correction: bool = Field(True, description="Adam's bias correction; PLD's released settings switch it off")
    epochs: float | None = Field(
        None, gt=0, description="train on the first part of the corpus that makes this many epochs; none: on all of it"
    )
    mask_fraction: float = Field(0.15, gt=0, lt=1, description="share of the tokens of a sequence to predict")
    next_sentence: bool = Field(True, description="add next-sentence prediction to masked-language modelling")
    checkpoints: dict[Name, Share] = Field(
        {f"ckp{epoch}": epoch / 186 for epoch in (9, 23, 46, 87, 100, 140, 186)},
        description="name -> share of the run (PLD counts epochs of 186)",
        validate_default=True,
    )
    validation_points: int = Field(20, ge=1, description="validations, equally spaced, the last at the end")
    validation_sequences: int = Field(512, ge=1)

    @field_validator("checkpoints")
    @classmethod
    def _ends_at_one(cls, checkpoints: dict[str, float]) -> dict[str, float]:
        if sum(share == 1 for share in checkpoints.values()) != 1:
            raise ValueError("exactly one checkpoint must stand at 1, the end of the run")
        return dict(sorted(checkpoints.items(), key=lambda item: item[1]))

    @model_validator(mode="after")
    def _steps_differ(self) -> TrainingSettings:
        steps = self.checkpoint_steps()
        if len(set(steps.values())) != len(steps):
            raise ValueError(f"checkpoints fall on the same step: {steps}; num_steps {self.num_steps} is too small")
        return self

    @property
    def peak_learning_rate(self) -> float:
        """Peak learning rate of this arm."""
        return float(getattr(self.learning_rates, self.learning_rate))

    @property
    def final_checkpoint(self) -> str:
        """Name of the checkpoint at the end of the run."""
        return next(name for name, share in self.checkpoints.items() if share == 1)

    def checkpoint_steps(self) -> dict[str, int]:
        """Checkpoint name -> number of optimizer steps done when it is written; of no steps, the final one only."""
        if self.num_steps == 0:
            return {self.final_checkpoint: 0}
        return {name: max(1, round(share * self.num_steps)) for name, share in self.checkpoints.items()}


class ImplSettings(Strict):
    """How a run is executed. Recorded with the run; the same for all arms that are compared."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: int = Field(1, ge=1, description="processes that train one model together, over all nodes")
    nodes: int = Field(1, ge=1, description="machines that the ranks are spread over; more than one: in a Slurm job")
    threads: int = Field(1, ge=1, description="CPU threads of one process")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast, weights in float32")
    residual: Literal["float32", "bfloat16"] = Field(
        "float32", description="what a model of text keeps between its sublayers; bfloat16: with that precision only"
    )
    attention: Literal["auto", "cudnn", "flash", "efficient", "math"] = Field(
        "auto", description="kernel of attention on a GPU, where it takes the shapes and masks; auto: torch's choice"
    )
    compile: bool = Field(False, description="torch.compile one block, for every layer, and the head with its loss")
    micro_batch_size: int = Field(64, ge=1, description="sequences per forward pass, over all ranks")
    save_every_seconds: float = Field(300.0, gt=0, description="interval of resume checkpoints")
    log_points: int = Field(200, ge=1, description="training lines in metrics.jsonl over the whole run")

    @model_validator(mode="after")
    def _ranks_divide(self) -> ImplSettings:
        if self.ranks % self.nodes:
            raise ValueError(f"ranks {self.ranks}; allowed with nodes {self.nodes}: a multiple of it")
        if self.micro_batch_size % self.ranks:
            raise ValueError(f"micro_batch_size {self.micro_batch_size}; allowed with ranks {self.ranks}: a multiple")
        return self

    @model_validator(mode="after")
    def _residual_is_not_more_precise(self) -> ImplSettings:
        if self.residual == "bfloat16" and self.precision != "bfloat16":
            raise ValueError(f"residual bfloat16: allowed with precision bfloat16, not {self.precision}")
        return self


class FinetuneSettings(Strict):
    """Fine-tuning on GLUE (PLD: 5 epochs, batch 32, warm-up 10 %, no weight decay, median of 5 initialisations)."""

    groups: dict[Name, tuple[str, ...]] = Field(
        {"glue": ("rte", "mrpc", "stsb", "cola", "sst2", "qnli", "qqp", "mnli")},
        description="jobs: name -> tasks that one job fine-tunes",
    )
    learning_rates: Annotated[tuple[Rate, ...], Field(min_length=1), Distinct] = (1e-5, 3e-5, 5e-5, 7e-5, 9e-5, 1e-4)
    seeds: Annotated[tuple[int, ...], Field(min_length=1), Distinct] = (1, 2, 3, 4, 5)
    epochs: float = Field(5, gt=0)
    max_train_examples: int | None = Field(None, ge=1, description="use at most the first N training examples")
    batch_size: int = Field(32, ge=1)
    sequence_length: int = Field(128, ge=8)
    warmup: Share = 0.1
    weight_decay: float = Field(0.0, ge=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    pooling: Pooling = Field(
        "cls",
        description="what the classifier sees: the state of [CLS], or the mean over the real tokens; a study without "
        "next-sentence prediction, which trains [CLS], takes the mean unless it says otherwise",
    )
    save_models: bool = Field(False, description="keep every fine-tuned model, in the layout of transformers")

    @model_validator(mode="after")
    def _saved_models_pool_as_transformers(self) -> FinetuneSettings:
        if self.save_models and self.pooling != "cls":
            raise ValueError(f"pooling {self.pooling}; allowed with save_models: cls, as in transformers")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks, in the order of the groups."""
        return tuple(task for tasks in self.groups.values() for task in tasks)


class CalibrationSettings(Strict):
    """Measurement of tau(k), the seconds of a training step with k active layers."""

    rounds: int = Field(15, ge=3, description="interleaved repetitions of every k")
    warmup_rounds: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    processes: int = Field(
        3, ge=1, description="processes that measure one after another; how they differ enters the interval"
    )


class InterleaveSettings(Strict):
    """Optimizer steps of several arms, measured in turn in one process: the time they save without a model of time."""

    arms: Annotated[tuple[Name, ...], Distinct] = Field(
        min_length=2, max_length=4, description="the baseline and what it is compared with"
    )
    processes: int = Field(
        3, ge=1, description="processes that measure one after another; how they differ enters the interval"
    )
    rounds: int = Field(60, ge=2, description="steps of each arm, spread over its whole schedule")
    warmup_rounds: int = Field(3, ge=1)
    threads: int = Field(1, ge=1)


class ProbeSettings(Strict):
    """What is measured on the checkpoints of a finished run, on held-out text."""

    sequences: int = Field(
        256, ge=2, description="of the run's own validation sequences use the first N, or all where there are fewer"
    )
    gradient_batches: int = Field(
        8, ge=1, description="batches into which the sequences are split; gradient norms are means over them"
    )
    lesion_draws: int = Field(
        16, ge=1, description="random sets of layers, the same for all arms, seeds and checkpoints"
    )
    checkpoints: Annotated[tuple[Name, ...], Field(min_length=1), Distinct] | None = Field(
        None, description="checkpoints to probe; none: all that the run has"
    )

    @model_validator(mode="after")
    def _batches_have_sequences(self) -> ProbeSettings:
        if self.gradient_batches > self.sequences:
            raise ValueError(f"gradient_batches {self.gradient_batches}; allowed: at most sequences, {self.sequences}")
        return self


class EarlySettings(Strict):
    """What is measured in the first steps of a run, which ends there: gradients by layer (PLD, Figures 1 and 2)."""

    shares: Annotated[tuple[Share, ...], Field(min_length=1), Distinct] = Field(
        (0.003, 0.006, 0.012), description="shares of the run at which the model is probed; the last one ends it"
    )
    sequences: int = Field(128, ge=2, description="of the validation sequences use the first N")
    gradient_batches: int = Field(8, ge=1, description="batches into which the sequences are split")


class Budget(Strict):
    """Reference time that a run may take: that of another arm up to one of its checkpoints, as its policy expects it.

    Pre-training turns it into ``training.num_steps`` with the calibration's linear fit of tau(k).
    """

    arm: Name
    checkpoint: Name
    model: AnyModel = Field(description="of the other arm; its step time is looked up by it")
    num_steps: int = Field(ge=1, description="steps of the other arm up to the checkpoint")
    kept_layers: float = Field(description="expected layers of these steps, mean")


class RunSettings(Strict):
    """One pre-training run, complete: with these and a prepared corpus the run can be repeated."""

    scale: Name
    arm: Name
    label: str
    seed: int = Field(ge=0)
    model: AnyModel
    data: AnyData
    training: TrainingSettings
    drop: DropSettings
    impl: ImplSettings
    matched_depth: Name | None = Field(None, description="the arm whose mean kept depth this one was matched to")
    budget: Budget | None = Field(None, description="the reference time that this run ends at; num_steps follows it")

    @property
    def identity(self) -> dict[str, Any]:
        """What every summary of the run, and of what is made from it, begins with."""
        return {"scale": self.scale, "arm": self.arm, "label": self.label, "seed": self.seed}

    @model_validator(mode="after")
    def _ranks_have_samples(self) -> RunSettings:
        if self.training.batch_size % self.impl.ranks:
            raise ValueError(
                f"training.batch_size {self.training.batch_size}; allowed with impl.ranks {self.impl.ranks}: a multiple"
            )
        return self

    @model_validator(mode="after")
    def _growing_stacks_are_preln(self) -> RunSettings:
        if self.drop.allocation == "depth_truncation" and self.model.norm != "pre":
            raise ValueError(
                "drop.allocation depth_truncation: allowed with model.norm pre, whose skipped block is the identity"
            )
        return self

    @model_validator(mode="after")
    def _dropping_takes_steps(self) -> RunSettings:
        if self.training.num_steps == 0 and self.drop.schedule != "none":
            raise ValueError("training.num_steps 0: allowed with drop.schedule none")
        return self

    @model_validator(mode="after")
    def _copied_layers_have_one_shape(self) -> RunSettings:
        if self.drop.new_layer_init == "copy_below" and isinstance(self.model, VisionSettings):
            raise ValueError("drop.new_layer_init copy_below: allowed with models of text, whose layers have one shape")
        return self

    @model_validator(mode="after")
    def _images_keep_float32(self) -> RunSettings:
        if self.impl.residual != "float32" and isinstance(self.model, VisionSettings):
            raise ValueError("impl.residual bfloat16: allowed with models of text")
        return self

    @model_validator(mode="after")
    def _data_suit_the_model(self) -> RunSettings:
        needs = "images" if isinstance(self.model, VisionSettings) else "text"
        if self.data.kind != needs:
            raise ValueError(f"data.kind {self.data.kind} with model.family {self.model.family}; allowed: {needs}")
        if isinstance(self.data, DataSettings):
            tokenizer = "bpe" if self.model.family == "gpt" else "wordpiece"
            if self.data.tokenizer != tokenizer:
                raise ValueError(
                    f"data.tokenizer {self.data.tokenizer} with model.family {self.model.family}; allowed: {tokenizer}"
                )
        return self


class EarlyRunSettings(RunSettings):
    """A run that ends early in training: its schedules are those of all ``training.num_steps``."""

    early: EarlySettings

    @property
    def steps(self) -> list[int]:
        """Optimizer steps done at each probe, in order."""
        return sorted({max(1, round(share * self.training.num_steps)) for share in self.early.shares})


class InterleaveJob(Strict):
    """The runs whose steps are measured in turn, and how."""

    runs: tuple[RunSettings, ...] = Field(min_length=2)
    interleave: InterleaveSettings


class CalibrationJob(Strict):
    """The runs whose model shapes are calibrated together, and how."""

    runs: tuple[RunSettings, ...] = Field(min_length=1)
    calibration: CalibrationSettings
