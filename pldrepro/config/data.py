"""Where text and images come from, and how they become arrays."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pldrepro.config.base import Strict, text_or_images
from pldrepro.records import Sha256


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
    """The generated language: see pldrepro.data.sources.miniature."""

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
    hash: Sha256 | None = Field(None, description="data_hash of the study, used by the preparation only")
    glue_hash: Sha256 | None = Field(None, description="glue_hash of the study, used by the preparation only")
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

    @property
    def without_glue(self) -> DataSettings:
        """With the defaults of what says where GLUE comes from: runs that differ only there read the same corpus."""
        whole = DataSettings()
        glue, hub, miniature = ("glue", "glue_hash"), ("glue_path", "glue_revision"), ("train_examples", "dev_examples")
        return self.model_copy(
            update={
                **{name: getattr(whole, name) for name in glue},
                "hub": self.hub.model_copy(update={name: getattr(whole.hub, name) for name in hub}),
                "miniature": self.miniature.model_copy(
                    update={name: getattr(whole.miniature, name) for name in miniature}
                ),
            }
        )


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
    """Generated images: see pldrepro.data.sources.shapes."""

    train_images: int = Field(4000, ge=8)
    validation_images: int = Field(512, ge=8)


class ImageDataSettings(Strict):
    """Where labelled images come from; in training each is shifted by up to an eighth of a side and may be mirrored."""

    kind: Literal["images"]
    source: Literal["shapes", "files", "hub"] = "shapes"
    root: str | None = Field(None, description="files: the folder that train and validation start from")
    train: str | None = Field(None, description="files: a folder or .zip below root with <class>/<image> entries")
    validation: str | None = Field(None, description="files: a folder or .zip of other images, with the same classes")
    hash: Sha256 | None = Field(None, description="data_hash of the study, used by the preparation only")
    hub: HubImages | None = None
    shapes: ShapesSettings = ShapesSettings()
    image_size: int = Field(32, ge=4, description="pixels of a side; other images are resized and cropped to it")

    @property
    def without_glue(self) -> ImageDataSettings:
        """As they are: nothing in them is of GLUE."""
        return self


AnyData = Annotated[
    Annotated[DataSettings, Tag("<text>")] | Annotated[ImageDataSettings, Tag("<images>")],
    Discriminator(text_or_images("kind")),
]
