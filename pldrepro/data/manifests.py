"""Manifests of prepared data: one class for each, which its preparation writes and its readers get."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pldrepro.records import Count, Positive, Recorded, Share, Versioned

Split = Literal["train", "validation"]


class Prepared(Recorded, Versioned):
    """What the manifests of all prepared data hold."""

    hash: str


class TokensEntry(Recorded):
    """A split of a prepared corpus; bytes: of UTF-8 text."""

    documents: Count = 0
    tokens: Positive
    bytes: Count = 0
    sha256: str


class PassagesEntry(Recorded):
    """The LAMBADA passages of a corpus."""

    passages: Count = 0
    word_tokens: Count = 0
    sha256: str


class CorpusManifest(Prepared):
    """manifest.json of a prepared corpus."""

    source: dict[str, Any] = {}
    tokenizer: Literal["wordpiece", "bpe"] = "wordpiece"
    vocab_size: Positive
    dtype: Literal["uint16", "uint32"]
    special_tokens: dict[str, Count]
    settings: dict[str, Any] = Field({}, description="what shapes the corpus, without the paths of this machine")
    splits: Annotated[dict[Split, TokensEntry], Field(min_length=2)]
    lambada: PassagesEntry | None = None


class ExamplesEntry(Recorded):
    """A split of a prepared GLUE task."""

    examples: Count
    cut: Count | None = Field(None, description="examples longer than the sequence length; none: not counted")
    sha256: str


class GlueManifest(Prepared):
    """manifest.json of prepared GLUE tasks."""

    source: str = ""
    tasks: dict[str, dict[str, ExamplesEntry]]
    missing: dict[str, dict[str, str]] = Field(description="task -> split -> why the source has none")
    sequence_length: Positive | None = None
    corpus: str | None = Field(None, description="hash of the corpus whose vocabulary was used")


class ImagesEntry(Recorded):
    """A split of prepared images."""

    images: Positive
    images_by_class: list[Count] = []
    pixels_sha256: str = ""
    labels_sha256: str = ""


class ImagesManifest(Prepared):
    """manifest.json of prepared images."""

    source: dict[str, Any] = {}
    image_size: Annotated[int, Field(ge=1, le=10_000)]
    classes: Annotated[list[str], Field(min_length=2)]
    mean: Annotated[list[Share], Field(min_length=3, max_length=3)]
    std: Annotated[list[Share], Field(min_length=3, max_length=3)]
    splits: Annotated[dict[Split, ImagesEntry], Field(min_length=2)]
