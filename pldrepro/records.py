"""The run folder: the only thing that training and analysis share. No torch here.

A pre-training run, ``<results>/runs/pretrain/<arm>/seed<seed>/``::

    settings.json      the resolved RunSettings
    provenance.json    commit, versions, device, data manifest
    metrics.jsonl      one line per logged training step and per validation
    checkpoints/NAME/  a model that plain transformers can load
    resume/            state to continue from; undeclared, removed at the end
    summary.json       written last and atomically: the run is complete

A fine-tuning run, ``<results>/runs/finetune/<arm>/seed<seed>/<checkpoint>/<group>/``, has settings, provenance,
``results.jsonl`` (one line per task, learning rate, seed and split), ``predictions.safetensors`` and the summary.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "transformers", "datasets", "evaluate", "snakemake")


class RecordError(RuntimeError):
    """A run folder that is missing, incomplete or damaged; the message names the run."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that replaces it when the block ends well, and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def append_jsonl(path: Path, value: Any) -> None:
    """Append one JSON line and flush it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(value, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All lines of a JSON-lines file; a damaged line is a RecordError with its number."""
    lines = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    lines.append(json.loads(line))
                except json.JSONDecodeError as error:
                    raise RecordError(f"{path}: line {number} is damaged: {error}") from None
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file") from None
    return lines


def provenance(device: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """Where a record comes from: commit, versions, machine, device, and what the caller adds."""
    return {
        "commit": commit(),
        "versions": {"python": platform.python_version(), **_versions()},
        "platform": platform.platform(),
        "processor": _processor(),
        "cpu_count": os.cpu_count(),
        "device": device,
        "argv": sys.argv[1:2],
        **extra,
    }


def commit() -> str:
    """The commit of the code, with "+changes" when tracked files differ from it; "unknown" outside a checkout."""
    try:
        head = subprocess.run(
            ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        status = subprocess.run(
            ["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if status.strip() else "")


def _versions() -> dict[str, str]:
    versions = {}
    for package in RECORDED_PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
