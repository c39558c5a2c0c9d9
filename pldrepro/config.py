"""Settings: strict, typed, and the only way in which a study is described.

A *study* is one scale file (``config/<scale>.yaml``) over the experiments of ``config/experiments`` (one arm
each). ``load_study`` resolves both into a ``Study``; ``Study.run`` gives the complete ``RunSettings`` of one
pre-training run. Unknown keys are refused with their path and the names that are allowed there.

Five groups make up a run: model, data, training, drop (the science) and impl (how it is executed).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from pldrepro.drop import DropSettings, match_depth, mean_expected_depth

Model = TypeVar("Model", bound=BaseModel)
EXPERIMENTS_FOLDER = Path("config/experiments")
MAX_LAYERS = 1000  # bounds what a policy and a price are computed over
MAX_DEPTH, MAX_VALUES = 40, 200_000  # of a file of settings: mappings and lists within each other, and all values
MAX_PROBLEMS, MAX_SHOWN = 10, 200  # of one message: problems, and characters of a value
# A folder that files go to: in the workflow's file names {} are wildcards, and a leading - makes an option of a name.
Folder = Annotated[str, Field(pattern=r"^[^-{}\x00-\x1f\x7f][^{}\x00-\x1f\x7f]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class SettingsError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and what is allowed."""


class Strict(BaseModel):
    """Base of all settings: immutable, finite, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _fraction(value: Any) -> float:
    """Accept 0.5 and the text "87/186"."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(
        r"([0-9]{0,9}\.?[0-9]{1,20}(?:[eE][-+]?[0-9]{1,2})?)(?:/(0{0,9}[1-9][0-9]{0,8}))?", value, re.ASCII
    )
    if match is None:
        raise ValueError("neither a number nor a fraction such as 87/186")
    return float(Fraction(match[1]) / Fraction(match[2] or 1))


Share = Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]


def _no_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A run that is listed twice would count as two."""
    if len(set(values)) != len(values):
        raise ValueError("an entry is repeated")
    return values


Distinct = AfterValidator(_no_repeats)


class ModelSettings(Strict):
    """Shape of a Transformer of text: the encoder (BERT), or the decoder (GPT)."""

    family: Literal["bert", "gpt"] = "bert"
    norm: Literal["post", "pre"] = Field("post", description="PostLN, or PreLN with Switchable-Transformer blocks")
    num_layers: int = Field(12, ge=1, le=MAX_LAYERS)
    hidden_size: int = Field(768, ge=1)
    num_heads: int = Field(12, ge=1)
    ffn_size: int = Field(3072, ge=1)
    vocab_size: int = Field(30528, ge=8, description="rows of the embedding; at least the tokenizer's vocabulary")
    max_positions: int = Field(512, ge=2)
    dropout: float = Field(0.1, ge=0, lt=1)
    attention_dropout: float = Field(0.1, ge=0, lt=1)
    init_std: float = Field(0.02, gt=0)
    layer_norm_eps: float = Field(1e-12, gt=0)

    @model_validator(mode="after")
    def _heads_divide(self) -> ModelSettings:
        if self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}")
        return self

    @model_validator(mode="after")
    def _gpt_is_preln(self) -> ModelSettings:
        if self.family == "gpt" and self.norm != "pre":
            raise ValueError("family gpt: allowed with norm pre")
        return self


class VisionSettings(Strict):
    """Shape of a Transformer of images: SwinV2 (stages, with down-sampling between them), or plain ViT (one stage)."""

    family: Literal["swinv2", "vit"]
    image_size: int = Field(32, ge=4, description="pixels of a side")
    patch_size: int = Field(2, ge=1, description="pixels of a side of a patch")
    num_classes: int = Field(10, ge=2)
    stages: Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_LAYERS)], ...], Field(min_length=1, max_length=10)] = (
        Field(description="blocks of each stage; the hidden size doubles from one to the next")
    )
    hidden_size: int = Field(ge=1, description="of the first stage")
    num_heads: tuple[Annotated[int, Field(ge=1)], ...] = Field(description="attention heads of each stage")
    ffn_ratio: float = Field(4.0, gt=0, description="hidden units of the feed-forward layer / hidden size")
    window_size: int = Field(8, ge=1, description="patches of a side of an attention window; not for vit")
    dropout: float = Field(0.0, ge=0, lt=1)
    attention_dropout: float = Field(0.0, ge=0, lt=1)
    drop_path_rate: float = Field(
        0.0, ge=0, lt=1, description="per-sample stochastic depth of the last block; transformers' own default is 0.1"
    )
    init_std: float = Field(0.02, gt=0)
    layer_norm_eps: float = Field(1e-5, gt=0)

    @model_validator(mode="after")
    def _stages_fit(self) -> VisionSettings:
        if len(self.num_heads) != len(self.stages):
            raise ValueError(f"num_heads has {len(self.num_heads)} entries; allowed: one for each of {self.stages}")
        for index, heads in enumerate(self.num_heads):
            if self.hidden_size * 2**index % heads:
                raise ValueError(f"hidden_size {self.hidden_size * 2**index} is not a multiple of num_heads {heads}")
        if self.family == "vit" and (len(self.stages) > 1 or self.drop_path_rate):
            raise ValueError("family vit: allowed with one stage and drop_path_rate 0")
        if self.image_size % (self.patch_size * 2 ** (len(self.stages) - 1)):
            raise ValueError(f"image_size {self.image_size} is not a multiple of patch_size x 2^(stages - 1)")
        return self

    @property
    def num_layers(self) -> int:
        """Blocks of all stages."""
        return sum(self.stages)

    @property
    def norm(self) -> str:
        """Where LayerNorm stands: after the sublayer and before the sum (SwinV2), or before the sublayer (ViT)."""
        return "res_post" if self.family == "swinv2" else "pre"


def text_or_images(key: str) -> Callable[[Any], str]:
    """Chooses between the settings of text and of images, by the value of ``family`` or ``kind``."""

    def choose(value: Any) -> str:
        given = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        return "<images>" if given in ("swinv2", "vit", "images") else "<text>"

    return choose


AnyModel = Annotated[
    Annotated[ModelSettings, Tag("<text>")] | Annotated[VisionSettings, Tag("<images>")],
    Discriminator(text_or_images("family")),
]


class HubText(Strict):
    """One text corpus on the Hugging Face hub, pinned to a revision."""

    path: str = Field(description="repository, e.g. wikimedia/wikipedia, or a local directory in the hub's layout")
    name: str | None = Field(None, description="configuration, e.g. 20231101.en")
    revision: str | None = Field(None, description="git commit of the data set repository")
    split: str = "train"
    column: str = "text"
    rows_per_document: int = Field(
        1, ge=1, description="rows that make a document; more than 1 for BookCorpus, which has a sentence per row"
    )


class HubSettings(Strict):
    """The hub source: real corpora through ``datasets``."""

    text: tuple[HubText, ...] = ()
    lambada: HubText | None = Field(None, description="LAMBADA passages, one a row, e.g. EleutherAI/lambada_openai")
    glue_path: str = Field("nyu-mll/glue", description="repository or local directory of GLUE")
    glue_revision: str | None = None
    streaming: bool = Field(True, description="stream the text instead of caching it on disk")


class MiniatureSettings(Strict):
    """The generated language: see pldrepro.data.miniature."""

    seed: int = Field(0, ge=0, description="seed of the generated language; the same for every run of a study")
    num_documents: int = Field(4000, ge=10)
    train_examples: int = Field(1000, ge=8, description="GLUE training examples per task")
    dev_examples: int = Field(400, ge=8, description="GLUE development examples per task and split")
    lambada_passages: int = Field(0, ge=0, description="passages whose last word follows only from the wider context")


class DataSettings(Strict):
    """Where text, GLUE and LAMBADA come from, and how text becomes token sequences."""

    kind: Literal["text"] = "text"
    source: Literal["miniature", "files", "hub"] = "miniature"
    root: str | None = Field(None, description="files: the folder that text and glue patterns start from")
    text: tuple[str, ...] = Field((), description="files: patterns of UTF-8 text (.txt .gz .xz .zst) below root")
    glue: str = Field("glue", description="files: folder below root with <Task>/{train,dev}.tsv (.gz .xz .zst too)")
    lambada: str | None = Field(
        None, description="files: LAMBADA passages below root, a JSON object with `text` a line"
    )
    hash: Sha256 | None = Field(None, description="data_hash of the scale file, for the preparation alone")
    glue_hash: Sha256 | None = Field(None, description="glue_hash of the scale file, for the preparation alone")
    hub: HubSettings = HubSettings()
    miniature: MiniatureSettings = MiniatureSettings()
    max_megabytes: float | None = Field(None, gt=0, description="read at most this much text [10^6 bytes of UTF-8]")
    tokenizer: Literal["wordpiece", "bpe"] = Field("wordpiece", description="as in BERT, or byte-level as in GPT-2")
    vocabulary: str | None = Field(
        None, description="vocabulary file: of WordPiece, or GPT-2's vocab.json; none: train one on the corpus"
    )
    merges: str | None = Field(None, description="bpe: GPT-2's merges.txt, which belongs to its vocabulary file")
    vocab_size: int = Field(30522, ge=8, description="size of a vocabulary that is trained")
    lowercase: bool = True
    sequence_length: int = Field(128, ge=8, description="tokens per pre-training sequence, special tokens included")
    validation_ratio: int = Field(300, ge=1, description="train : validation documents (PLD: 300 to 1)")

    @model_validator(mode="after")
    def _merges_belong_to_a_vocabulary(self) -> DataSettings:
        if self.merges is not None and (self.tokenizer != "bpe" or self.vocabulary is None):
            raise ValueError("merges: allowed with tokenizer bpe and its vocabulary file")
        if self.tokenizer == "bpe" and (self.vocabulary is None) != (self.merges is None):
            raise ValueError("tokenizer bpe: vocabulary and merges go together; allowed: both, or none to train them")
        return self


class HubImages(Strict):
    """One set of labelled images on the Hugging Face hub, pinned to a revision."""

    path: str = Field(description="repository, e.g. uoft-cs/cifar10, or a local directory in the hub's layout")
    name: str | None = Field(None, description="configuration")
    revision: str | None = Field(None, description="git commit of the data set repository")
    train_split: str = "train"
    validation_split: str = "test"
    image_column: str = "img"
    label_column: str = "label"


class ShapesSettings(Strict):
    """Generated images: see pldrepro.data.images."""

    seed: int = Field(0, ge=0, description="seed of the images; the same for every run of a study")
    train_images: int = Field(4000, ge=8)
    validation_images: int = Field(512, ge=8)


class ImageDataSettings(Strict):
    """Where labelled images come from, and how they are augmented in training."""

    kind: Literal["images"]
    source: Literal["shapes", "files", "hub"] = "shapes"
    root: str | None = Field(None, description="files: the folder that train and validation start from")
    train: str | None = Field(None, description="files: a folder or .zip below root with <class>/<image> entries")
    validation: str | None = Field(None, description="files: likewise, with the same classes")
    hash: Sha256 | None = Field(None, description="data_hash of the scale file, for the preparation alone")
    hub: HubImages | None = None
    shapes: ShapesSettings = ShapesSettings()
    image_size: int = Field(32, ge=4, description="pixels of a side; other images are resized and cropped to it")
    augment: bool = Field(True, description="in training: random shift by up to an eighth of a side, random mirror")


AnyData = Annotated[
    Annotated[DataSettings, Tag("<text>")] | Annotated[ImageDataSettings, Tag("<images>")],
    Discriminator(text_or_images("kind")),
]


class LearningRates(Strict):
    """The two peak learning rates of the paper."""

    same: Rate = Field(description="the baseline's")
    higher: Rate = Field(description="PLD's, at which the paper's baseline diverges")


class TrainingSettings(Strict):
    """Objective, optimizer and schedule of pre-training."""

    num_steps: int = Field(200_000, ge=1, description="optimizer steps T")
    batch_size: int = Field(4096, ge=1, description="sequences per optimizer step, over all ranks and micro-batches")
    learning_rates: LearningRates = LearningRates(same=1e-4, higher=1e-3)
    learning_rate: Literal["same", "higher"] = Field("same", description="which of the two this arm uses")
    warmup: Share = Field(0.02, description="share of the steps with a linear warm-up")
    decay: Literal["staircase", "linear"] = Field(
        "staircase",
        description="staircase: x decay_factor after each interval (PLD); linear: to zero at the end",
    )
    decay_factor: float = Field(0.99, gt=0, le=1)
    decay_intervals: int = Field(200, ge=1, description="intervals in the run (PLD: 200,000 steps / 1,000)")
    weight_decay: float = Field(0.01, ge=0, description="not applied to biases and LayerNorm")
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    epsilon: float = Field(1e-8, gt=0)
    bias_correction: bool = Field(True, description="Adam's bias correction; PLD's released settings switch it off")
    max_gradient_norm: float = Field(1.0, gt=0)
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
        """Checkpoint name -> number of optimizer steps done when it is written."""
        return {name: max(1, round(share * self.num_steps)) for name, share in self.checkpoints.items()}


class ImplSettings(Strict):
    """How a run is executed. Recorded with the run; the same for all arms that are compared."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    ranks: int = Field(1, ge=1, description="processes that train one model together, over all nodes")
    nodes: int = Field(1, ge=1, description="machines that the ranks are spread over; more than one: in a Slurm job")
    threads: int = Field(1, ge=1, description="CPU threads of one process")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast, weights in float32")
    compile: bool = Field(False, description="torch.compile one block and reuse it for every layer")
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
    max_gradient_norm: float = Field(1.0, gt=0)
    save_models: bool = Field(False, description="keep every fine-tuned model, in the layout of transformers")

    @property
    def tasks(self) -> tuple[str, ...]:
        """All tasks, in the order of the groups."""
        return tuple(task for tasks in self.groups.values() for task in tasks)


class CalibrationSettings(Strict):
    """Measurement of tau(k), the seconds of a training step with k active layers."""

    rounds: int = Field(15, ge=3, description="interleaved repetitions of every k")
    warmup_rounds: int = Field(2, ge=1)
    threads: int = Field(1, ge=1)
    reserved_cores: int = Field(2, ge=1, description="cores that no other job may use while step times are measured")


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

    @model_validator(mode="after")
    def _ranks_have_samples(self) -> RunSettings:
        if self.training.batch_size % self.impl.ranks:
            raise ValueError(
                f"training.batch_size {self.training.batch_size}; allowed with impl.ranks {self.impl.ranks}: a multiple"
            )
        return self

    @model_validator(mode="after")
    def _growing_stacks_are_preln(self) -> RunSettings:
        if self.drop.allocation == "first" and self.model.norm != "pre":
            raise ValueError("drop.allocation first: allowed with model.norm pre, whose skipped block is the identity")
        return self

    @model_validator(mode="after")
    def _copied_layers_have_one_shape(self) -> RunSettings:
        if self.drop.joining_layers == "copy_below" and isinstance(self.model, VisionSettings):
            raise ValueError("drop.joining_layers copy_below: allowed with models of text, whose layers have one shape")
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


class CalibrationJob(Strict):
    """The runs whose model shapes are calibrated together, and how."""

    runs: tuple[RunSettings, ...] = Field(min_length=1)
    calibration: CalibrationSettings


class DepthMatch(Strict):
    """Keep as many layers on average over the run as another arm."""

    arm: Name
    by: Literal["theta_bar", "num_layers"] = Field(
        "theta_bar", description="what is set: the limit of theta, or the number of layers of a model without dropping"
    )


class BudgetOf(Strict):
    """End, with the learning rate decayed, at the reference time that another arm takes up to a checkpoint."""

    arm: Name
    checkpoint: Name


class Experiment(Strict):
    """One arm: a label, what it is, the experiment it starts from, and the few lines that differ."""

    label: str
    description: str
    base: Name | None = None
    match_depth: DepthMatch | None = Field(None, description="not inherited from `base`")
    budget: BudgetOf | None = Field(None, description="not inherited from `base`")
    finetune_checkpoints: tuple[Name, ...] | None = Field(
        None, description="checkpoints to fine-tune; none: the final one"
    )
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    drop: dict[str, Any] = {}


class ScaleSettings(Strict):
    """What a scale sets for all of its arms."""

    model: dict[str, Any] = {}
    data: dict[str, Any] = {}
    training: dict[str, Any] = {}
    impl: dict[str, Any] = {}


class StudySettings(Strict):
    """A scale file."""

    scale: Name = Field(description="name of the scale; results go to results/<scale>")
    description: str
    results: Folder | None = Field(None, description="results folder; none: results/<scale>")
    data_root: str | None = Field(None, description="files source: the folder that holds text and GLUE")
    data_hash: Sha256 | None = Field(
        None, description="what the `hash` of the manifest of the prepared corpus or images must be; none: anything"
    )
    glue_hash: Sha256 | None = Field(None, description="what the `hash` of the manifest of GLUE must be; likewise")
    experiments: str = Field(str(EXPERIMENTS_FOLDER), description="folder of the arms' files")
    arms: Annotated[tuple[Name, ...], Distinct] = Field(min_length=1)
    baseline: Name = Field("baseline", description="the arm that the others are compared with")
    seeds: Annotated[tuple[int, ...], Distinct] = Field(
        min_length=1, description="pre-training seeds, paired over arms"
    )
    finetune_checkpoints: tuple[Name, ...] | None = Field(
        None, description="of the checkpoints that the experiments name, fine-tune these alone; none: all of them"
    )
    settings: ScaleSettings = ScaleSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    probe: ProbeSettings = ProbeSettings()
    probe_arms: Annotated[tuple[Name, ...], Distinct] | None = Field(
        None, description="arms whose checkpoints are probed; none: all of them"
    )
    companions: dict[Name, str] = Field(
        {}, description="name -> scale file of another family of models; its results go to <results>/<name>"
    )


class RecordedSettings(Strict):
    """Finished runs to analyse again: nothing is trained."""

    scale: Literal["recorded"]
    description: str
    results: Folder = Field("results/rebuilt", description="exhibits go to <results>/<name>")
    recorded: dict[Name, tuple[str, ...]] = Field(
        min_length=1, description="name -> folders of run folders, one for each family of models"
    )
    baseline: Name = "baseline"

    def result_sets(self) -> list[ResultSet]:
        """What the recorded folders hold; a folder without a finished run is a SettingsError."""
        return [
            ResultSet(f"{self.results}/{name}", tuple(self._find(Path(folder)) for folder in folders))
            for name, folders in self.recorded.items()
        ]

    def _find(self, folder: Path) -> StudyRuns:
        pretrain = sorted(map(str, folder.glob("pretrain/*/*/summary.json")))
        if not pretrain:
            raise SettingsError(f"recorded: {folder}: no finished pre-training run (pretrain/ARM/seedN/summary.json)")
        finetune = sorted(map(str, folder.glob("finetune/*/*/*/*/summary.json")))
        probes, lambada = (sorted(map(str, folder.glob(f"{kind}/*/*/summary.json"))) for kind in ("probe", "lambada"))
        return StudyRuns(pretrain, finetune, probes, lambada, str(folder / "calibration/summary.json"), self.baseline)


@dataclass(frozen=True)
class StudyRuns:
    """The finished runs of one study, each named by its summary."""

    pretrain: list[str]
    finetune: list[str]
    probes: list[str]
    lambada: list[str]
    calibration: str
    baseline: str


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
            for file in (*runs.pretrain, *runs.finetune, *runs.probes, *runs.lambada, runs.calibration)
        ]

    @property
    def finetune(self) -> list[str]:
        """The fine-tuning runs of all studies."""
        return [file for runs in self.studies for file in runs.finetune]

    @property
    def listing(self) -> str:
        """The text of evidence.json, from which every exhibit finds the runs."""
        return json.dumps(
            {"scores": f"{self.results}/scores.csv", "studies": [vars(s) for s in self.studies]}, indent=1
        )


class Study:
    """A scale file resolved over its experiments: knows every run and its settings."""

    def __init__(self, settings: StudySettings) -> None:
        self.settings = settings
        self.results = settings.results or f"results/{settings.scale}"
        self.runs = f"{self.results}/runs"
        self._experiments = Path(settings.experiments)
        self._arms: dict[str, RunSettings] = {}
        self._runs: dict[tuple[str, int], RunSettings] = {}
        self.companions = tuple(self._companion(name, Path(file)) for name, file in settings.companions.items())
        if settings.baseline not in settings.arms:
            raise SettingsError(f"baseline: {settings.baseline!r} is not among the arms: {', '.join(settings.arms)}")
        strange = sorted(set(settings.probe_arms or ()) - set(settings.arms))
        if strange:
            raise SettingsError(f"probe_arms: {', '.join(strange)} not among the arms: {', '.join(settings.arms)}")
        for arm in settings.arms:
            self._check_arm(arm)

    def _companion(self, name: str, file: Path) -> Study:
        """The study of another family of models, with its results and its data beside those of this one."""
        values = {**read_mapping(file), "results": f"{self.results}/{name}"}
        if self.settings.data_root is not None:
            values["data_root"] = self.settings.data_root
        if values.get("companions"):
            raise SettingsError(f"{file}: a companion has companions of its own; allowed: none")
        return Study(validate(StudySettings, values, str(file)))

    @property
    def all(self) -> tuple[Study, ...]:
        """This study and its companions."""
        return (self, *self.companions)

    def _check_arm(self, arm: str) -> None:
        run = self.run(arm, self.settings.seeds[0])
        unknown = set(self.finetune_checkpoints(arm)) - set(run.training.checkpoints)
        if unknown:
            raise SettingsError(
                f"experiment {arm}: finetune_checkpoints: {', '.join(sorted(unknown))} not among "
                f"{', '.join(run.training.checkpoints)}"
            )
        if isinstance(run.data, ImageDataSettings) or isinstance(run.model, VisionSettings):
            return
        lengths = {"data": run.data.sequence_length}
        if run.model.family == "bert":
            lengths["finetune"] = self.settings.finetune.sequence_length
        for group, length in lengths.items():
            if length > run.model.max_positions:
                raise SettingsError(
                    f"{group}.sequence_length {length} exceeds model.max_positions {run.model.max_positions}"
                )
        if run.data.vocabulary is None and run.data.vocab_size > run.model.vocab_size:
            raise SettingsError(
                f"data.vocab_size {run.data.vocab_size} does not fit model.vocab_size {run.model.vocab_size}"
            )

    def run(self, arm: str, seed: int) -> RunSettings:
        """The settings of one pre-training run; complete, but for the steps of an arm with a budget (see Budget).

        An arm is resolved once: its runs differ by their seeds alone, and a plan asks for thousands of them.
        """
        if (arm, seed) not in self._runs:
            if arm not in self._arms:
                self._arms[arm] = self._resolve(arm, seed)
            if seed < 0:  # a copy is not validated
                raise SettingsError(f"{self._origin(arm)}: seed: allowed: 0 or more, got {seed}")
            self._runs[arm, seed] = self._arms[arm].model_copy(update={"seed": seed})
        return self._runs[arm, seed]

    def _origin(self, arm: str) -> str:
        return f"scale {self.settings.scale}, experiment {arm}"

    def _resolve(self, arm: str, seed: int) -> RunSettings:
        """The settings of an arm: those of the scale, of its experiments, and what follows from other arms."""
        chain = experiment_chain(arm, self._experiments)
        merged: dict[str, Any] = {**self.settings.settings.model_dump(), "drop": {}}
        for experiment in chain:
            merged = merge(merged, {"model": experiment.model, "training": experiment.training})
            merged["drop"] = experiment.drop or merged["drop"]
        about = {"scale": self.settings.scale, "arm": arm, "label": chain[-1].label, "seed": seed}
        origin = self._origin(arm)
        run = validate(RunSettings, {**about, **merged}, origin)
        changes: dict[str, Any] = {}
        if match := chain[-1].match_depth:
            changes |= self._match(run, match, origin)
        if budget := chain[-1].budget:
            changes |= self._budget(run, budget, origin)
        return validate(RunSettings, run.model_copy(update=changes).model_dump(), origin)

    def _match(self, run: RunSettings, match: DepthMatch, origin: str) -> dict[str, Any]:
        """What changes in a run so that it keeps as many layers on average as another arm."""
        other = self._other(match.arm, run.seed, origin)
        depth = mean_depth(other.drop, other.training.num_steps, other.model.num_layers)
        if match.by == "num_layers":
            if isinstance(run.model, VisionSettings):
                raise SettingsError(f"{origin}: match_depth.by num_layers: allowed for models of text")
            model = run.model.model_copy(update={"num_layers": max(1, round(depth))})
            return {"model": model, "matched_depth": match.arm}
        try:
            drop = match_depth(run.drop, depth, run.training.num_steps, run.model.num_layers)
        except ValueError as error:
            raise SettingsError(f"{origin}: match_depth: {error}") from None
        return {"drop": drop, "matched_depth": match.arm}

    def _budget(self, run: RunSettings, budget: BudgetOf, origin: str) -> dict[str, Any]:
        """The budget of a run, and a first guess of its steps: those of the other arm."""
        other = self._other(budget.arm, run.seed, origin)
        steps = other.training.checkpoint_steps()
        if budget.checkpoint not in steps:
            raise SettingsError(f"{origin}: budget.checkpoint: allowed: {', '.join(steps)}")
        until, layers = steps[budget.checkpoint], other.model.num_layers
        kept = mean_depth(other.drop, other.training.num_steps, layers, until)
        whole = Budget(
            arm=budget.arm, checkpoint=budget.checkpoint, model=other.model, num_steps=until, kept_layers=kept
        )
        return {"budget": whole, "training": run.training.model_copy(update={"num_steps": until})}

    def _other(self, arm: str, seed: int, origin: str) -> RunSettings:
        """The run that another one is matched to."""
        chain = experiment_chain(arm, self._experiments)
        if chain[-1].match_depth or chain[-1].budget:
            raise SettingsError(f"{origin}: {arm} is itself matched to another arm; allowed: an arm that is not")
        return self.run(arm, seed)

    def data(self) -> DataSettings | ImageDataSettings:
        """The data settings, which all arms share, with the folder and the hashes that the preparation alone needs."""
        data, study = self.run(self.settings.baseline, self.settings.seeds[0]).data, self.settings
        own = {"root": study.data_root, "hash": study.data_hash, "glue_hash": study.glue_hash}
        given = {key: value for key, value in own.items() if value is not None and key in type(data).model_fields}
        return data.model_copy(update=given)

    def calibration_job(self) -> CalibrationJob:
        """One run of every arm, for the calibration of their model shapes."""
        runs = [self.run(arm, self.settings.seeds[0]) for arm in self.settings.arms]
        return CalibrationJob(runs=tuple(runs), calibration=self.settings.calibration)

    @property
    def prepared(self) -> str:
        """Name of the folder of prepared data that the runs are trained on."""
        return "images" if self.data().kind == "images" else "corpus"

    @property
    def impl(self) -> ImplSettings:
        """How the runs are executed, the same for all arms."""
        return self.run(self.settings.baseline, self.settings.seeds[0]).impl

    def finetune_checkpoints(self, arm: str) -> tuple[str, ...]:
        """Names of the checkpoints of an arm that are fine-tuned."""
        names: tuple[str, ...] = (self.run(arm, self.settings.seeds[0]).training.final_checkpoint,)
        for experiment in reversed(experiment_chain(arm, self._experiments)):
            if experiment.finetune_checkpoints is not None:
                names = experiment.finetune_checkpoints
                break
        only = self.settings.finetune_checkpoints
        return names if only is None else tuple(name for name in names if name in only)

    def pretrain_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every pre-training run."""
        return [(arm, seed) for seed in self.settings.seeds for arm in self.settings.arms]

    def result_set(self) -> ResultSet:
        """The runs of this study and of its companions, finished or to be."""
        return ResultSet(self.results, tuple(study.study_runs() for study in self.all))

    def study_runs(self) -> StudyRuns:
        """The runs of this study alone."""
        return StudyRuns(
            [f"{self.runs}/pretrain/{arm}/seed{seed}/summary.json" for arm, seed in self.pretrain_runs()],
            [
                f"{self.runs}/finetune/{arm}/seed{seed}/{checkpoint}/{group}/summary.json"
                for arm, seed, checkpoint, group in self.finetune_runs()
            ],
            [f"{self.runs}/probe/{arm}/seed{seed}/summary.json" for arm, seed in self.probe_runs()],
            [f"{self.runs}/lambada/{arm}/seed{seed}/summary.json" for arm, seed in self.lambada_runs()],
            f"{self.runs}/calibration/summary.json",
            self.settings.baseline,
        )

    @property
    def family(self) -> str:
        """Family of models, the same for all arms."""
        return self.run(self.settings.baseline, self.settings.seeds[0]).model.family

    def finetune_runs(self) -> list[tuple[str, int, str, str]]:
        """(arm, seed, checkpoint, group) of every fine-tuning job; GLUE is for BERT alone."""
        if self.family != "bert":
            return []
        return [
            (arm, seed, checkpoint, group)
            for arm, seed in self.pretrain_runs()
            for checkpoint in self.finetune_checkpoints(arm)
            for group in self.settings.finetune.groups
        ]

    def lambada_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run that is scored on LAMBADA: all runs of a GPT whose data have passages."""
        data = self.data()
        if self.family != "gpt" or not isinstance(data, DataSettings):
            return []
        passages = {"miniature": data.miniature.lambada_passages, "files": data.lambada, "hub": data.hub.lambada}
        return self.pretrain_runs() if passages[data.source] else []

    def probe_runs(self) -> list[tuple[str, int]]:
        """(arm, seed) of every run whose checkpoints are probed; the probes are for BERT alone."""
        if self.family != "bert":
            return []
        arms = self.settings.arms if self.settings.probe_arms is None else self.settings.probe_arms
        return [(arm, seed) for seed in self.settings.seeds for arm in arms]


# Cached, because several arms are matched to the same one, and a plan asks for all of them again.
mean_depth = cache(mean_expected_depth)


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with ``changes`` laid over it, mapping by mapping."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


@cache
def experiment_chain(name: str, folder: Path = EXPERIMENTS_FOLDER) -> list[Experiment]:
    """The experiment and its ancestors, root first."""
    chain: list[Experiment] = []
    seen: list[str] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise SettingsError(f"experiments {' -> '.join([*seen, current])}: `base` runs in a circle")
        seen.append(current)
        path = folder / f"{current}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
            raise SettingsError(f"{path}: no such experiment; allowed: {known}")
        chain.insert(0, validate(Experiment, read_yaml(path), str(path)))
        current = chain[0].base
    return chain


def read_yaml(path: Path) -> Any:
    """A YAML or JSON file, safely loaded."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # a folder, or bytes that are not UTF-8
        raise SettingsError(f"{path}: not readable as YAML: {error}") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, origin: str) -> Any:
    """Plain YAML, safely loaded."""
    try:
        line = _not_plain(text)
        values = yaml.safe_load(text) if line is None else None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2026-99-99, which looks like a date
        raise SettingsError(f"{origin}: not readable as YAML: {' '.join(str(error).split())}") from None
    if line is not None:
        raise SettingsError(
            f"{origin}: line {line}: a tag, an anchor or alias within an anchored value, or more than {MAX_DEPTH} "
            "values within each other; allowed: plain YAML"
        )
    return values


def _not_plain(text: str) -> int | None:
    """The line of what is not plain YAML: tags name types; anchors within anchors make a short text a huge value."""
    anchors: list[bool] = []  # of the mappings and lists that are open
    # libyaml's parser where there is one: the text is read twice
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionEndEvent):
            anchors.pop()
        elif isinstance(event, yaml.NodeEvent):
            nested = event.anchor is not None and any(anchors)
            if nested or getattr(event, "tag", None) or len(anchors) > MAX_DEPTH:
                return event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.CollectionStartEvent):
                anchors.append(event.anchor is not None)
    return None


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: allowed: a mapping of keys to values")
    return values


def validate(model: type[Model], values: Any, origin: str) -> Model:
    """Check values against a settings class; every problem in one message, with its path and what is allowed."""
    _check_plain(values, origin)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{origin}: {explain(model, error)}") from None


def _check_plain(values: Any, origin: str) -> None:
    """Refuse what no setting can be, whatever its class: numbers beyond 64 bits, NUL in a text, values without end."""
    left: list[tuple[str, int, Any]] = [("", 0, values)]
    count = 0
    while left:
        where, depth, value = left.pop()
        count += 1
        if count > MAX_VALUES:
            raise SettingsError(f"{origin}: more than {MAX_VALUES} values")
        if isinstance(value, int) and abs(value) >= 2**63:
            raise SettingsError(f"{origin}: {where}: a number beyond 64 bits")
        if isinstance(value, str) and "\0" in value:
            raise SettingsError(f"{origin}: {where}: a text with the character NUL")
        if isinstance(value, Mapping | list | tuple):
            if depth > MAX_DEPTH:
                raise SettingsError(f"{origin}: {where[:200]}: values nested more than {MAX_DEPTH} deep")
            parts = value.items() if isinstance(value, Mapping) else enumerate(value)
            left += [(f"{where}.{key}".lstrip("."), depth + 1, part) for key, part in parts]


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """The problems of values that do not fit a class, each with its path and what is allowed there; MAX_PROBLEMS."""
    problems = error.errors(include_url=False)
    more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return "; ".join([_explain(model, problem) for problem in problems[:MAX_PROBLEMS]] + more)


def _explain(model: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("<")) or "(top level)"
    if problem["type"] == "extra_forbidden":
        owner = _model_at(model, problem["loc"][:-1])
        allowed = ", ".join(owner.model_fields) if owner else "none"
        return f"{where}: unknown key; allowed here: {allowed}"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    if problem["type"] == "missing":
        return f"{where}: missing"
    given = repr(problem["input"])
    given = given if len(given) <= MAX_SHOWN else f"{given[:MAX_SHOWN]}..."
    return f"{where}: {message}, got {given}" if problem["loc"] else message


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The settings class at a place in another one; the tags of ``text_or_images`` choose among several."""
    candidates = [model]
    for part in location:
        if part in ("<text>", "<images>"):
            candidates = candidates[:1] if part == "<text>" else candidates[1:]
        elif isinstance(part, str):
            field = candidates[0].model_fields.get(part) if candidates else None
            candidates = [] if field is None else _classes(field.annotation)
    return candidates[0] if candidates else None


def _classes(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in a type, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _classes(part)]


def load_study(source: Mapping[str, Any] | Path) -> Study:
    """A study from a scale file, or from the mapping that Snakemake made of one."""
    values, origin = (read_yaml(source), str(source)) if isinstance(source, Path) else (dict(source), "configuration")
    return Study(validate(StudySettings, values, origin))


def load_recorded(values: Mapping[str, Any]) -> RecordedSettings:
    """The recorded runs that a mapping names."""
    return validate(RecordedSettings, dict(values), "configuration")


def read_settings(model: type[Model], text_or_path: str) -> Model:
    """Settings from a JSON text, or from a JSON or YAML file."""
    if not text_or_path.lstrip().startswith("{"):
        return validate(model, read_yaml(Path(text_or_path)), text_or_path)
    try:
        values = json.loads(text_or_path)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"settings: not readable as JSON: {error}") from None
    return validate(model, values, "settings")


def study_schema() -> dict[str, Any]:
    """JSON schema of a scale file, or of a file that names recorded runs; Snakemake validates against it."""
    schema = TypeAdapter(StudySettings | RecordedSettings).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
