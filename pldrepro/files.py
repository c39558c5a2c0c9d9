"""Files that are whole or absent: atomic writing, JSON, hashes."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pldrepro.errors import RecordError

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = "config"  # folder of the YAML files; they name each other by paths from the folder above it
_roots: list[Path] = [REPOSITORY]


def shipped(path: Path) -> Path:
    """A file or folder that comes with the suite: below the current folder, or where the package was checked out.

    An installed package has no such files: there, those next to a file that was named on the command line.
    """
    found = [path, *(root / path for root in _roots)]
    return next((one for one in found if one.exists()), path)


def look_around(path: Path) -> None:
    """Look for the files of the suite also in the folder ``config`` that a file is in."""
    _roots.extend(folder.parent for folder in path.absolute().parents if folder.name == CONFIG)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path next to ``path`` that replaces it when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # by a process that was killed
        abandoned.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with _naming(path.parent):
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
    except SafetensorError as error:  # how a full disk looks to the writer of tensors
        raise RecordError(f"{path}: not written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """A full disk does not say which: its error gets the name of what was written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            error.filename = str(place)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; a value that is not finite is refused."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or damaged file is a RecordError that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: damaged JSON: {error}") from None


def sha256(path: Path) -> str:
    """Digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def append_jsonl(path: Path, value: Any) -> bytes:
    """Append one JSON line and flush it; returns what was appended."""
    line = (json.dumps(value, allow_nan=False) + "\n").encode()
    with _naming(path), path.open("ab") as file:
        file.write(line)
    return line
