"""Typed records: the base class of everything that a file holds, and reading and writing with validation.

Each file has one class, which its writer constructs, its reader returns and the analysis computes with.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pldrepro.errors import RecordError, explain
from pldrepro.files import read_json, sha256, write_json

SCHEMA_VERSION = 2  # of the files written today; 1: the files from before it was written

Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
Cost = Annotated[float, Field(gt=0, le=1e30)]
Spent = Annotated[float, Field(ge=0, le=1e30, description="a cost that may be nothing yet")]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
MAX_LOSS = 700  # nats; its exponential is finite
Loss = Annotated[float, Field(ge=0, le=MAX_LOSS, description="nats")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
File = Annotated[str, Field(pattern=r"^/?[^/\x00]{1,255}(/+[^/\x00]{1,255})*/?$", max_length=2000)]
Kept = Annotated[int, Field(ge=0, le=9999, description="a number of kept layers")]


class Recorded(BaseModel):
    """Base of what records hold: immutable; no type is converted but an integer to a number, every number is finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, validate_by_name=True)

    def dump(self) -> dict[str, Any]:
        """As plain JSON values, without what is None."""
        return self.model_dump(mode="json", exclude_none=True)


class Versioned(BaseModel):
    """Base of the records that are a whole file."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION)] = 1


class FileEntry(Recorded):
    """What a file was when it was written, as a manifest lists it."""

    bytes: Count
    sha256: Sha256

    @classmethod
    def of(cls, path: Path) -> Self:
        """The entry of a file as it is now."""
        return cls(bytes=path.stat().st_size, sha256=sha256(path))

    def describes(self, path: Path) -> bool:
        """Whether a file is there and is still what it was; one of another size is not read."""
        return path.is_file() and path.stat().st_size == self.bytes and sha256(path) == self.sha256


Unknown = Literal["ignore", "forbid"]
Kind = TypeVar("Kind", bound=BaseModel)
VersionedKind = TypeVar("VersionedKind", bound=Versioned)


def read_record(path: Path, kind: type[Kind], hint: str = "", *, unknown: Unknown = "ignore") -> Kind:
    """The record in a JSON file; one that is missing or not what its class says is a RecordError with file and key.

    ``unknown``: keys that the class does not have, of settings that are no more; forbid where they could matter.
    """
    return _parsed(_content(path, hint), kind, f"{path}", hint, unknown)


def read_record_lines(path: Path, kind: type[Kind], hint: str = "") -> list[Kind]:
    """The records of a JSON-lines file; a RecordError names the line, too."""
    lines = _content(path, hint).splitlines()
    return [_parsed(line, kind, f"{path}: line {number}", hint) for number, line in enumerate(lines, start=1)]


def write_record(path: Path, record: VersionedKind) -> VersionedKind:
    """Write a record atomically, with today's schema version; returns it as it was written."""
    record = stamped(record)
    write_json(path, record.model_dump(mode="json"))
    return record


class Sealed(Recorded, Versioned):
    """Base of the manifests, which hold the SHA-256 of their own values, too."""

    seal: Sha256 | None = Field(None, description="SHA-256 of the other values; none: of an earlier version")


SealedKind = TypeVar("SealedKind", bound=Sealed)


def write_sealed(path: Path, record: SealedKind) -> SealedKind:
    """Write a manifest atomically, sealed and with today's schema version; returns it as it was written."""
    return write_record(path, sealed(record))


def sealed(record: SealedKind) -> SealedKind:
    """A manifest with today's schema version and the SHA-256 of its values."""
    record = stamped(record)
    return record.model_copy(update={"seal": _seal(record.model_dump(mode="json"))})


def read_sealed(path: Path, kind: type[SealedKind], hint: str = "") -> SealedKind:
    """The manifest in a file; one that is missing, not what its class says, or not as written is a RecordError."""
    record = read_record(path, kind, hint)
    if record.seal not in (None, _seal(read_json(path))):
        raise RecordError(f"{path}: not as it was written (its seal differs){hint}")
    return record


def _seal(values: dict[str, Any]) -> str:
    text = json.dumps({key: value for key, value in values.items() if key != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def stamped(record: VersionedKind) -> VersionedKind:
    """A record with today's schema version."""
    return record.model_copy(update={"schema_version": SCHEMA_VERSION})


def _content(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise RecordError(f"{path}: {reason}{hint}") from None


def _parsed(content: bytes, kind: type[Kind], where: str, hint: str, unknown: Unknown = "ignore") -> Kind:
    try:
        return kind.model_validate_json(content, extra=unknown)
    except ValidationError as error:
        damaged = "damaged JSON: " if error.errors()[0]["type"] == "json_invalid" else ""
        raise RecordError(f"{where}: {damaged}{explain(kind, error)}{hint}") from None
