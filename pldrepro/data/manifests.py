"""Manifests of prepared data: one class for each, which its preparation writes and its readers get.

A manifest has the SHA-256 of every array and, as its ``seal``, that of its own values. Readers compare both: what was
changed since it was prepared is a DataError that names the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field

from pldrepro.errors import DataError
from pldrepro.records import (
    Count,
    File,
    FileEntry,
    Positive,
    Recorded,
    Sealed,
    Share,
    read_sealed,
    write_sealed,
)

Split = Literal["train", "validation"]


class Prepared(Sealed):
    """What the manifests of all prepared data hold."""

    hash: str

    def described(self) -> dict[str, Any]:
        """The values that say what the data are, for the provenance of what is made from them."""
        return self.model_dump(mode="json", exclude_none=True, exclude={"seal", "files"})


PreparedKind = TypeVar("PreparedKind", bound=Prepared)


def write_prepared(folder: Path, manifest: PreparedKind) -> PreparedKind:
    """Write the manifest of prepared data; returns it as it was written."""
    return write_sealed(folder / "manifest.json", manifest)


def read_prepared(folder: Path, kind: type[PreparedKind], verb: str) -> PreparedKind:
    """The manifest of prepared data; RecordError where it is missing or damaged."""
    return read_sealed(folder / "manifest.json", kind, f"; run `{verb}` again")


def check_prepared(folder: Path, files: Mapping[str, FileEntry], verb: str) -> None:
    """Compare prepared files with what a manifest says; a DataError that names the first that differs."""
    for name, entry in files.items():
        if not entry.describes(folder / name):
            raise DataError(
                f"{folder / name}: missing, or not what the manifest says (its size or SHA-256 differs); run "
                f"`{verb}` again"
            )


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
    files: dict[File, FileEntry] = Field({}, description="of the tokenizer; in earlier versions none")


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


class ItemsEntry(Recorded):
    """The items of a paradigm of minimal pairs, or of a cloze contrast."""

    name: str
    items: Positive
    judges: bool = Field(description="its score counts in the task's")
    reason: str = Field("", description="why it does not judge")
    unigram: Share | None = Field(None, description="share of the pairs that a unigram model of the training text gets")
    trigram: Share | None = Field(None, description="the same of a trigram model")
    longer: float | None = Field(None, description="tokens by which acceptable sentences are longer, mean")


class TaskEntry(Recorded):
    """A set of minimal pairs, or all cloze contrasts; items in the order of the arrays."""

    items: Annotated[list[ItemsEntry], Field(min_length=1)]
    sha256: str


class ContrastsManifest(Prepared):
    """manifest.json of prepared minimal pairs and cloze contrasts."""

    tasks: dict[str, TaskEntry]
    missing: dict[str, str] = Field({}, description="task, or cloze contrast -> why the data have none")
    corpus: str = Field(description="hash of the corpus whose vocabulary and held-out text were used")


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
