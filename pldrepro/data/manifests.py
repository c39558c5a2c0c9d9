"""Manifests of prepared data: one class for each."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pldrepro.records import Count, Positive, Recorded, Share


class Prepared(Recorded):
    """What the manifests of all prepared data hold."""

    hash: str


class TokensRecord(Recorded):
    """A split of a prepared corpus."""

    tokens: Positive
    sha256: str


class CorpusSplits(Recorded):
    """The splits of a prepared corpus."""

    train: TokensRecord
    validation: TokensRecord


class PassagesRecord(Recorded):
    """The LAMBADA passages beside a corpus."""

    sha256: str


class CorpusManifest(Recorded):
    """manifest.json of a prepared corpus."""

    vocab_size: Positive
    dtype: Literal["uint16", "uint32"]
    special_tokens: dict[str, Count]
    splits: CorpusSplits
    lambada: PassagesRecord | None = None
    hash: str


class ExamplesRecord(Recorded):
    """A split of a prepared GLUE task."""

    examples: Count
    sha256: str


class GlueManifest(Recorded):
    """manifest.json of prepared GLUE tasks."""

    tasks: dict[str, dict[str, ExamplesRecord]]
    missing: dict[str, dict[str, str]]
    hash: str


class ImagesRecord(Recorded):
    """A split of prepared images."""

    images: Positive


class ImagesSplits(Recorded):
    """The splits of prepared images."""

    train: ImagesRecord
    validation: ImagesRecord


class ImagesManifest(Recorded):
    """manifest.json of prepared images."""

    image_size: Annotated[int, Field(ge=1, le=10_000)]
    classes: Annotated[list[str], Field(min_length=2)]
    mean: Annotated[list[Share], Field(min_length=3, max_length=3)]
    std: Annotated[list[Share], Field(min_length=3, max_length=3)]
    splits: ImagesSplits
    hash: str
