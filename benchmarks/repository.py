"""A copy of what Snakemake needs of the repository: to measure or test the workflow in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PARTS = ("Snakefile", "config", "docs", "pldrepro", "profiles", "workflow")


def copy_repository(folder: Path) -> Path:
    """Copy the workflow, the package and the configuration into a folder; returns the folder."""
    for part in PARTS:
        source = REPOSITORY / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    return folder
