"""Where a record comes from: commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from pldrepro.data.manifests import Prepared
from pldrepro.files import REPOSITORY
from pldrepro.runs.schema import DataManifest, Device, Provenance

COMMIT_VARIABLE = "PLDREPRO_COMMIT"  # set where a copy runs without its history
RECORDED_PACKAGES = ("torch", "numpy", "safetensors", "tokenizers", "transformers", "datasets", "evaluate", "snakemake")


def provenance(
    device: Device, *, corpus: Prepared | None = None, glue: Prepared | None = None, seeds: Sequence[int] | None = None
) -> Provenance:
    """Where a record comes from: commit, versions, machine, device, and the data and seeds that it was made with."""
    return Provenance(
        commit=commit(),
        versions={"python": platform.python_version(), **_versions()},
        platform=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
        cpu_count=os.cpu_count(),
        device=device,
        argv=sys.argv[1:3],
        corpus=_copy(corpus),
        glue=_copy(glue),
        seeds=None if seeds is None else list(seeds),
    )


def _copy(manifest: Prepared | None) -> DataManifest | None:
    return None if manifest is None else DataManifest.model_validate(manifest.described())


def commit() -> str:
    """The commit of the code, with "+changes" when tracked files differ from it.

    Outside a checkout: what the environment variable PLDREPRO_COMMIT says, else "unknown". A repository that this
    package was copied or installed into, and that does not track it, is not asked.
    """
    if not (REPOSITORY / ".git").exists() or _git("ls-files", "--error-unmatch", "pldrepro/__init__.py") is None:
        return os.environ.get(COMMIT_VARIABLE) or "unknown"
    head, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    return "unknown" if head is None else head + ("+changes" if changes else "")


def _git(*arguments: str) -> str | None:
    """What git says of the repository; None where it cannot be asked, or says no."""
    command = ["git", "-C", str(REPOSITORY), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None


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
