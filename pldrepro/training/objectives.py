"""What each family of models is trained on: its model, its batches and its loss, behind one interface.

MaskedLanguage (BERT), NextToken (GPT) and Classification (SwinV2, ViT). The training loop, the calibration and the
analysis of sensitivity know this interface alone. Losses are natural logarithms [nats].

Shape legend: B samples, S tokens, M masked positions, V vocabulary, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.model import ModelSettings, VisionSettings
from pldrepro.config.run import RunSettings
from pldrepro.costs.flops import masked_positions
from pldrepro.data.batches.causal import CausalBatch, CausalBatchMaker
from pldrepro.data.batches.images import ImageBatch, ImageBatchMaker
from pldrepro.data.batches.masked import Batch, BatchMaker
from pldrepro.data.batches.rows import IGNORED, Rows
from pldrepro.data.corpus import Corpus, open_corpus
from pldrepro.data.images import Images, open_images
from pldrepro.errors import SettingsError
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.models.checkpoints.bert import save_pretraining
from pldrepro.models.checkpoints.gpt2 import save_gpt
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate
from pldrepro.training.device import autocast

Data = Corpus | Images
Gates = Sequence[Gate]
Maker = BatchMaker | CausalBatchMaker | ImageBatchMaker


@dataclass(frozen=True)
class Sums:
    """Sums over the samples of a batch: of the loss over its predictions, of what was right, of an auxiliary loss."""

    loss: Tensor  # () over all predictions [nats]
    correct: dict[str, Tensor]  # metric -> () number of right predictions; empty in training
    auxiliary: Tensor  # () over all samples [nats], 0 where there is none


class Objective(ABC):
    """The model, batches and loss of a run's family, on a device."""

    counted: tuple[str, ...] = ("accuracy",)  # metrics that ``sums`` counts in evaluation

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        self.run, self.device = run, device

    @abstractmethod
    def build(self) -> nn.Module:
        """The model with the initial weights of the run's seed, on the CPU; it has ``blocks`` and takes gates."""

    @abstractmethod
    def open(self, folder: Path) -> Data:
        """The prepared data; data that do not suit the model are a SettingsError."""

    @abstractmethod
    def training(self, data: Data) -> Maker:
        """The training batches, in an order that depends on the run's seed."""

    @abstractmethod
    def validation(self, data: Data) -> Rows:
        """What all arms and seeds are validated on, in one batch."""

    @abstractmethod
    def random(self, size: int) -> Rows:
        """A training batch of random content, for the measurement of step times."""

    @abstractmethod
    def count(self, batch: Rows) -> int:
        """Predictions in a batch that count for the loss."""

    @abstractmethod
    def sums(self, model: nn.Module, batch: Any, gates: Gates) -> Sums:
        """One forward pass."""

    @abstractmethod
    def save(self, model: nn.Module, data: Data, folder: Path, scales: Sequence[float]) -> None:
        """Write a checkpoint in the layout of transformers."""

    def loss(self, model: nn.Module, part: Rows, whole: Rows, gates: Gates) -> tuple[Tensor, Tensor]:
        """A micro-batch's share of the training loss of its batch, with and without the auxiliary loss [nats]."""
        sums = self.sums(model, part, gates)
        main = sums.loss / self.count(whole)
        return main + sums.auxiliary / len(whole), main

    def _tensor(self, array: np.ndarray | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(array).to(self.device, non_blocking=True)

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


class TextObjective(Objective):
    """What the objectives on text share: a Transformer's settings, and a corpus whose vocabulary fits it."""

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        super().__init__(run, device)
        assert isinstance(run.model, ModelSettings)
        assert isinstance(run.data, DataSettings)
        self.model, self.length = run.model, run.data.sequence_length

    def open(self, folder: Path) -> Corpus:
        corpus = open_corpus(folder)
        if corpus.vocab_size > self.model.vocab_size:
            raise SettingsError(
                f"{folder}: its vocabulary of {corpus.vocab_size} does not fit model.vocab_size {self.model.vocab_size}"
            )
        return corpus


class MaskedLanguage(TextObjective):
    """Masked-language modelling, with next-sentence prediction as the auxiliary loss where the settings say so."""

    def build(self) -> BertForPreTraining:
        model = BertForPreTraining(self.model)
        initialise(model, self.run.seed)
        return model

    def training(self, data: Data) -> BatchMaker:
        assert isinstance(data, Corpus)
        everything = self.maker(data, data.train, self.run.seed)
        tokens = data.train[: in_epochs(self.run, everything.num_sequences) * everything.body]
        return everything if self.run.training.epochs is None else self.maker(data, tokens, self.run.seed)

    def validation(self, data: Data) -> Batch:
        assert isinstance(data, Corpus)
        return self.maker(data, data.validation, 0).fixed(self.run.training.validation_sequences)

    def maker(self, corpus: Corpus, tokens: np.ndarray, seed: int) -> BatchMaker:
        """The batches of some tokens of a corpus."""
        return BatchMaker(
            tokens=tokens,
            sequence_length=self.length,
            num_masked=masked_positions(self.run.training, self.length),
            vocab_size=corpus.vocab_size,
            special_tokens=corpus.special_tokens,
            next_sentence=self.run.training.next_sentence,
            seed=seed,
        )

    def random(self, size: int) -> Batch:
        draw = np.random.default_rng(0).integers
        shape, masked = (size, self.length), (size, masked_positions(self.run.training, self.length))
        next_sentence = self.run.training.next_sentence
        return Batch(
            input_ids=draw(self.model.vocab_size, size=shape),
            token_types=draw(2, size=shape) if next_sentence else None,
            positions=draw(self.length, size=masked),
            labels=draw(self.model.vocab_size, size=masked),
            is_random_next=draw(2, size=size) if next_sentence else None,
        )

    def count(self, batch: Rows) -> int:
        assert isinstance(batch, Batch)
        return int((batch.labels != IGNORED).sum())

    def inputs(self, batch: Batch) -> dict[str, Any]:
        """The arguments of the model, but for the gates."""
        return {name: self._tensor(getattr(batch, name)) for name in ("input_ids", "token_types", "positions")}

    def sums(self, model: nn.Module, batch: Batch, gates: Gates) -> Sums:
        with self._autocast():
            logits, next_logits = model(**self.inputs(batch), gates=gates)
            return self.sums_of(logits, next_logits, batch, count=not model.training)

    def sums_of(self, logits: Tensor, next_logits: Tensor, batch: Batch, count: bool = False) -> Sums:
        """From (B*M, V) and (B, 2) logits; count: what was right, too."""
        labels = self._tensor(batch.labels.reshape(-1))
        assert labels is not None
        loss = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        auxiliary = torch.zeros((), device=self.device)
        if batch.is_random_next is not None:
            target = self._tensor(batch.is_random_next)
            assert target is not None
            auxiliary = functional.cross_entropy(next_logits, target, reduction="sum")
        return Sums(loss, {"accuracy": (logits.argmax(-1) == labels).sum()} if count else {}, auxiliary)

    def save(self, model: nn.Module, data: Data, folder: Path, scales: Sequence[float]) -> None:
        assert isinstance(model, BertForPreTraining)
        assert isinstance(data, Corpus)
        save_pretraining(model, self.model, folder, data.tokenizer_folder, scales=scales)


class NextToken(TextObjective):
    """Language modelling from left to right."""

    def build(self) -> Gpt:
        model = Gpt(self.model)
        initialise(model, self.run.seed)
        return model

    def training(self, data: Data) -> CausalBatchMaker:
        assert isinstance(data, Corpus)
        everything = CausalBatchMaker(data.train, self.length, self.run.seed)
        if self.run.training.epochs is None:
            return everything
        sequences = in_epochs(self.run, everything.num_sequences)
        return CausalBatchMaker(data.train[: sequences * self.length + 1], self.length, self.run.seed)

    def validation(self, data: Data) -> CausalBatch:
        assert isinstance(data, Corpus)
        return CausalBatchMaker(data.validation, self.length, 0).fixed(self.run.training.validation_sequences)

    def random(self, size: int) -> CausalBatch:
        tokens = np.random.default_rng(0).integers(self.model.vocab_size, size=(size, self.length + 1))
        return CausalBatch(tokens[:, :-1].copy(), tokens[:, 1:].copy())

    def count(self, batch: Rows) -> int:
        assert isinstance(batch, CausalBatch)
        return int(batch.labels.size)

    def sums(self, model: nn.Module, batch: CausalBatch, gates: Gates) -> Sums:
        labels = self._tensor(batch.labels.reshape(-1))
        assert labels is not None
        with self._autocast():
            logits = model(self._tensor(batch.input_ids), gates).flatten(0, 1)
            loss = functional.cross_entropy(logits, labels, reduction="sum")
        correct = {} if model.training else {"accuracy": (logits.argmax(-1) == labels).sum()}
        return Sums(loss, correct, torch.zeros((), device=self.device))

    def save(self, model: nn.Module, data: Data, folder: Path, scales: Sequence[float]) -> None:
        assert isinstance(model, Gpt)
        assert isinstance(data, Corpus)
        save_gpt(model, self.model, folder, data.tokenizer_folder, scales=scales)


class Classification(Objective):
    """Supervised classification of images: cross-entropy, top-1 (``accuracy``) and top-5 accuracy."""

    counted = ("accuracy", "top5")

    def __init__(self, run: RunSettings, device: torch.device) -> None:
        super().__init__(run, device)
        assert isinstance(run.model, VisionSettings)
        self.model = run.model
        # Of each channel over the training images, once they are open.
        self.mean: tuple[float, ...] = (0.5, 0.5, 0.5)
        self.std: tuple[float, ...] = (0.25, 0.25, 0.25)

    def build(self) -> nn.Module:
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

    def training(self, data: Data) -> ImageBatchMaker:
        assert isinstance(data, Images)
        assert isinstance(self.run.data, ImageDataSettings)
        count, augment = in_epochs(self.run, len(data.train_labels)), self.run.data.augment
        return ImageBatchMaker(data.train_pixels[:count], data.train_labels[:count], self.run.seed, augment)

    def validation(self, data: Data) -> ImageBatch:
        assert isinstance(data, Images)
        maker = ImageBatchMaker(data.validation_pixels, data.validation_labels, 0, augment=False)
        return maker.fixed(self.run.training.validation_sequences)

    def random(self, size: int) -> ImageBatch:
        draw, side = np.random.default_rng(0).integers, self.model.image_size
        pixels = draw(256, size=(size, side, side, 3)).astype(np.uint8)
        return ImageBatch(pixels, draw(self.model.num_classes, size=size))

    def count(self, batch: Rows) -> int:
        return len(batch)

    def sums(self, model: nn.Module, batch: ImageBatch, gates: Gates) -> Sums:
        from pldrepro.models.vision import normalise

        labels, pixels = self._tensor(batch.labels), self._tensor(batch.pixels)
        assert labels is not None
        assert pixels is not None
        with self._autocast():
            logits = model(normalise(pixels, self.mean, self.std), gates)
            loss = functional.cross_entropy(logits, labels, reduction="sum")
        correct = {}
        if not model.training:
            right = logits.topk(min(5, logits.shape[-1]), dim=-1).indices == labels[:, None]
            correct = {"accuracy": right[:, 0].sum(), "top5": right.sum()}
        return Sums(loss, correct, torch.zeros((), device=self.device))

    def save(self, model: nn.Module, data: Data, folder: Path, scales: Sequence[float]) -> None:
        from pldrepro.models.checkpoints.vision import save_vision
        from pldrepro.models.vision import VisionModel

        assert isinstance(model, VisionModel)
        save_vision(model, self.model, folder, scales=scales)
