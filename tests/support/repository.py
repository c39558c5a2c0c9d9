"""Snakemake in a copy of the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.repository import copy_repository

SNAKEMAKE = (sys.executable, "-m", "snakemake")

__all__ = ["SNAKEMAKE", "copy_repository", "environment", "planned", "snakemake"]


def environment(folder: Path) -> dict[str, str]:
    """Of a process that is to use the copy of the package in a folder."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
    }


def snakemake(folder: Path, *arguments: str, command: Sequence[str] = SNAKEMAKE) -> str:
    """Run Snakemake in a copy of the repository and return what it printed."""
    called = [*command, *arguments]
    done = subprocess.run(called, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def planned(folder: Path, *arguments: str) -> dict[str, int]:
    """Rule -> number of jobs that a dry run would do."""
    text = snakemake(folder, "--cores", "2", "-n", *arguments)
    table = re.search(r"^job +count\n-+ +-+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
    return {} if table is None else {line.split()[0]: int(line.split()[1]) for line in table.group(1).splitlines()}
