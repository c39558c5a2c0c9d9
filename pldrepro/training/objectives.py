"""What each family of models is trained on: its model, its batches and its loss, behind one interface.

MaskedLanguage (BERT), NextToken (GPT) and Classification (SwinV2, ViT). The training loop, the calibration and the
analysis of sensitivity know only this interface. Losses are natural logarithms [nats].

Shape legend: B samples, S tokens, M masked positions, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.model import ModelSettings, VisionSettings
from pldrepro.config.run import RunSettings
from pldrepro.costs.flops import masked_positions
from pldrepro.data.batches.causal import CausalBatch, CausalBatchSampler
from pldrepro.data.batches.images import ImageBatch, ImageBatchSampler
from pldrepro.data.batches.masked import MaskedBatch, MaskedBatchSampler
from pldrepro.data.batches.rows import IGNORED, Batch
from pldrepro.data.corpus import Corpus, open_corpus
from pldrepro.data.images import Images, open_images
from pldrepro.errors import SettingsError
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.models.checkpoints.bert import save_bert
from pldrepro.models.checkpoints.gpt2 import save_gpt
from pldrepro.models.gpt import Gpt
from pldrepro.models.losses import Head, Sums
from pldrepro.policy.drop import Gate
from pldrepro.training.device import autocast, on_device

if TYPE_CHECKING:  # it imports transformers: 4 seconds
    from pldrepro.models.vision import VisionModel

Data = Corpus | Images
Gates = Sequence[Gate]
BatchSampler = MaskedBatchSampler | CausalBatchSampler | ImageBatchSampler
AnyModel = TypeVar("AnyModel", bound=nn.Module)
AnyData = TypeVar("AnyData", Corpus, Images)
AnyBatch = TypeVar("AnyBatch", bound=Batch)


@dataclass(frozen=True)
class LossSums:
    """Sums over the samples of a batch: of the loss over its predictions, of what was right, of an auxiliary loss."""

    loss: Tensor  # () over all predictions [nats]
    correct: dict[str, Tensor]  # metric -> () number of right predictions; empty in training
    auxiliary: Tensor  # () over all samples [nats], 0 where there is none


class Objective(ABC, Generic[AnyModel, AnyData, AnyBatch]):
    """The model, batches and loss of a run's family, on a device: of one kind of model, of data and of batches."""

    counted: tuple[str, ...] = ("accuracy",)  # metrics that ``sums`` counts in evaluation

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        self.run, self.device = run, device

    @abstractmethod
    def build(self) -> AnyModel:
        """The model with the initial weights of the run's seed, on the CPU; it has ``blocks`` and takes gates."""

    @abstractmethod
    def open(self, folder: Path) -> AnyData:
        """The prepared data; data that do not suit the model are a SettingsError."""

    @abstractmethod
    def training(self, data: AnyData) -> BatchSampler:
        """The training batches, in an order that depends on the run's seed."""

    @abstractmethod
    def validation(self, data: AnyData) -> AnyBatch:
        """What all arms and seeds are validated on, in one batch."""

    @abstractmethod
    def random(self, size: int) -> AnyBatch:
        """A training batch of random content, for the measurement of step times."""

    @abstractmethod
    def count(self, batch: AnyBatch) -> int:
        """Predictions in a batch that count for the loss."""

    @abstractmethod
    def sums(self, model: AnyModel, batch: AnyBatch, gates: Gates) -> LossSums:
        """One forward pass."""

    @abstractmethod
    def save(self, model: AnyModel, data: AnyData, folder: Path, scales: Sequence[float]) -> None:
        """Write a checkpoint in the layout of transformers."""

    def loss(self, model: AnyModel, part: AnyBatch, whole: AnyBatch, gates: Gates) -> tuple[Tensor, Tensor]:
        """A micro-batch's share of the training loss of its batch, with and without the auxiliary loss [nats]."""
        sums = self.sums(model, part, gates)
        main = sums.loss / self.count(whole)
        return main + sums.auxiliary / len(whole), main

    def compile(self, model: AnyModel) -> None:
        """Compile the blocks of a model, and what follows them."""
        cast("Any", model).compile_blocks()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return on_device(array, self.device)

    def _autocast(self) -> Any:
        return autocast(self.run.impl, self.device)


def open_objective(run: RunSettings, device: torch.device) -> Objective:
    """The objective of a run's family."""
    if isinstance(run.model, VisionSettings):
        return Classification(run, device)
    return NextToken(run, device) if run.model.family == "gpt" else MaskedLanguage(run, device)


def blocks_of(model: nn.Module) -> Sequence[nn.Module]:
    """The residual blocks of a model, in order of depth."""
    return cast("Sequence[nn.Module]", model.blocks)


def in_epochs(run: RunSettings, num_sequences: int) -> int:
    """Sequences that a run trains on: all of them, or the first ones of the corpus that make its number of epochs."""
    training = run.training
    if training.epochs is None:
        return num_sequences
    sequences = round(training.num_steps * training.batch_size / training.epochs)
    if not 1 <= sequences <= num_sequences:
        raise SettingsError(
            f"training.epochs {training.epochs:g}: {sequences} sequences an epoch; allowed here: 1 to "
            f"{num_sequences}, what the corpus holds"
        )
    return sequences


class TextObjective(Objective[AnyModel, Corpus, AnyBatch]):
    """What the objectives on text share: a Transformer's settings, and a corpus whose vocabulary fits it."""

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        super().__init__(run, device)
        assert isinstance(run.model, ModelSettings)  # RunSettings pairs model and data
        assert isinstance(run.data, DataSettings)
        self.model, self.length = run.model, run.data.sequence_length
        self.head = Head(compile=False)
        self.residual_dtype = torch.bfloat16 if run.impl.residual == "bfloat16" else None

    def compile(self, model: AnyModel) -> None:
        super().compile(model)
        self.head = Head(compile=True)

    def open(self, folder: Path) -> Corpus:
        corpus = open_corpus(folder)
        if corpus.vocab_size > self.model.vocab_size:
            raise SettingsError(
                f"{folder}: its vocabulary of {corpus.vocab_size} does not fit model.vocab_size {self.model.vocab_size}"
            )
        return corpus


def _sums(sums: Sums) -> LossSums:
    """With the name of what is counted."""
    return LossSums(sums.loss, {} if sums.correct is None else {"accuracy": sums.correct}, sums.auxiliary)


class MaskedLanguage(TextObjective[BertForPreTraining, MaskedBatch]):
    """Masked-language modelling, with next-sentence prediction as the auxiliary loss where the settings say so."""

    def build(self) -> BertForPreTraining:
        model = BertForPreTraining(self.model)
        initialise(model, self.run.seed)
        model.blocks.residual_dtype = self.residual_dtype
        return model

    def training(self, data: Corpus) -> MaskedBatchSampler:
        everything = self.maker(data, data.train, self.run.seed)
        tokens = data.train[: in_epochs(self.run, everything.num_sequences) * everything.body]
        return everything if self.run.training.epochs is None else self.maker(data, tokens, self.run.seed)

    def validation(self, data: Corpus) -> MaskedBatch:
        return self.maker(data, data.validation, 0).validation_batch(self.run.training.validation_sequences)

    def maker(self, corpus: Corpus, tokens: np.ndarray, seed: int) -> MaskedBatchSampler:
        """The batches of some tokens of a corpus."""
        return MaskedBatchSampler(
            tokens=tokens,
            sequence_length=self.length,
            num_masked=masked_positions(self.run.training, self.length),
            vocab_size=corpus.vocab_size,
            special_tokens=corpus.special_tokens,
            next_sentence=self.run.training.next_sentence,
            seed=seed,
        )

    def random(self, size: int) -> MaskedBatch:
        draw = np.random.default_rng(0).integers
        shape, masked = (size, self.length), (size, masked_positions(self.run.training, self.length))
        next_sentence = self.run.training.next_sentence
        return MaskedBatch(
            input_ids=draw(self.model.vocab_size, size=shape),
            token_types=draw(2, size=shape) if next_sentence else None,
            positions=draw(self.length, size=masked),
            labels=draw(self.model.vocab_size, size=masked),
            is_random_next=draw(2, size=size) if next_sentence else None,
        )

    def count(self, batch: MaskedBatch) -> int:
        return int((batch.labels != IGNORED).sum())

    def inputs(self, batch: MaskedBatch) -> dict[str, Any]:
        """The arguments of the model, but for the gates."""
        return {
            "input_ids": self._tensor(batch.input_ids),
            "token_types": None if batch.token_types is None else self._tensor(batch.token_types),
            "positions": self._tensor(batch.positions),
        }

    def labels(self, batch: MaskedBatch) -> tuple[Tensor, Tensor | None]:
        """What is to be predicted: tokens (B, M), and whether the second segment is a random one (B,)."""
        others = batch.is_random_next
        return self._tensor(batch.labels), None if others is None else self._tensor(others)

    def sums(self, model: BertForPreTraining, batch: MaskedBatch, gates: Gates) -> LossSums:
        inputs, labels = self.inputs(batch), self.labels(batch)  # copied before the device has work to wait for
        with self._autocast():
            hidden = model.bert(inputs["input_ids"], inputs["token_types"], None, gates)
            return _sums(self.head.masked(model, hidden, inputs["positions"], *labels, not model.training))

    def save(self, model: BertForPreTraining, data: Corpus, folder: Path, scales: Sequence[float]) -> None:
        save_bert(model, self.model, folder, data.tokenizer_folder, scales=scales)


class NextToken(TextObjective[Gpt, CausalBatch]):
    """Language modelling from left to right."""

    def build(self) -> Gpt:
        model = Gpt(self.model)
        initialise(model, self.run.seed)
        model.blocks.residual_dtype = self.residual_dtype
        return model

    def training(self, data: Corpus) -> CausalBatchSampler:
        everything = CausalBatchSampler(data.train, self.length, self.run.seed)
        if self.run.training.epochs is None:
            return everything
        sequences = in_epochs(self.run, everything.num_sequences)
        return CausalBatchSampler(data.train[: sequences * self.length + 1], self.length, self.run.seed)

    def validation(self, data: Corpus) -> CausalBatch:
        return CausalBatchSampler(data.validation, self.length, 0).validation_batch(
            self.run.training.validation_sequences
        )

    def random(self, size: int) -> CausalBatch:
        tokens = np.random.default_rng(0).integers(self.model.vocab_size, size=(size, self.length + 1))
        return CausalBatch(tokens[:, :-1].copy(), tokens[:, 1:].copy())

    def count(self, batch: CausalBatch) -> int:
        return int(batch.labels.size)

    def sums(self, model: Gpt, batch: CausalBatch, gates: Gates) -> LossSums:
        input_ids, labels = self._tensor(batch.input_ids), self._tensor(batch.labels)
        with self._autocast():
            hidden = model.hidden(input_ids, gates)
            return _sums(self.head.next_token(hidden, model.word_embeddings.weight, labels, not model.training))

    def save(self, model: Gpt, data: Corpus, folder: Path, scales: Sequence[float]) -> None:
        save_gpt(model, self.model, folder, data.tokenizer_folder, scales=scales)


class Classification(Objective["VisionModel", Images, ImageBatch]):
    """Supervised classification of images: cross-entropy, top-1 (``accuracy``) and top-5 accuracy."""

    counted = ("accuracy", "top5")

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        super().__init__(run, device)
        assert isinstance(run.model, VisionSettings)  # RunSettings pairs model and data
        assert isinstance(run.data, ImageDataSettings)
        self.model = run.model
        # Of each channel over the training images, once they are open.
        self.mean: tuple[float, ...] = (0.5, 0.5, 0.5)
        self.std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def build(self) -> VisionModel:
        from pldrepro.models.vision import VisionModel, initialise_vision  # it imports transformers: 4 seconds

        model = VisionModel(self.model)
        initialise_vision(model, self.run.seed)
        return model

    def open(self, folder: Path) -> Images:
        images = open_images(folder)
        if (images.image_size, len(images.classes)) != (self.model.image_size, self.model.num_classes):
            raise SettingsError(
                f"{folder}: {len(images.classes)} classes, images of {images.image_size} pixels; the model has "
                f"num_classes {self.model.num_classes}, image_size {self.model.image_size}"
            )
        self.mean, self.std = images.mean, images.std
        return images

    def training(self, data: Images) -> ImageBatchSampler:
        count = in_epochs(self.run, len(data.train_labels))
        return ImageBatchSampler(data.train_pixels[:count], data.train_labels[:count], self.run.seed, augment=True)

    def validation(self, data: Images) -> ImageBatch:
        maker = ImageBatchSampler(data.validation_pixels, data.validation_labels, 0, augment=False)
        return maker.validation_batch(self.run.training.validation_sequences)

    def random(self, size: int) -> ImageBatch:
        draw, side = np.random.default_rng(0).integers, self.model.image_size
        pixels = draw(256, size=(size, side, side, 3)).astype(np.uint8)
        return ImageBatch(pixels, draw(self.model.num_classes, size=size))

    def count(self, batch: ImageBatch) -> int:
        return len(batch)

    def sums(self, model: VisionModel, batch: ImageBatch, gates: Gates) -> LossSums:
        from pldrepro.models.vision import normalise

        labels, pixels = self._tensor(batch.labels), self._tensor(batch.pixels)
        with self._autocast():
            logits = model(normalise(pixels, self.mean, self.std), gates)
            loss = functional.cross_entropy(logits, labels, reduction="sum")
        correct = {}
        if not model.training:
            right = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels[:, None]
            correct = {"accuracy": right[:, 0].sum(), "top5": right.sum()}
        return LossSums(loss, correct, torch.zeros((), device=self.device))

    def save(self, model: VisionModel, data: Images, folder: Path, scales: Sequence[float]) -> None:
        from pldrepro.models.checkpoints.vision import save_vision

        save_vision(model, self.model, folder, scales=scales)
