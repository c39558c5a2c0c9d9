"""The commit of a record: of the checkout, or what a copy without history is told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pldrepro.runs import provenance as module
from pldrepro.runs.provenance import COMMIT_VARIABLE, commit

TOLD = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """A repository with one commit that tracks the package, and a folder in it."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    (tmp_path / "pldrepro").mkdir()
    (tmp_path / "pldrepro/__init__.py").touch()
    for command in (["init", "-q"], ["add", "pldrepro"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "copy").mkdir()
    return tmp_path


def test_a_checkout_says_its_own_commit(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, TOLD)
    monkeypatch.setattr(module, "REPOSITORY", history)
    found = commit()
    assert len(found) == 40
    assert found != TOLD


def test_a_copy_in_another_repository_says_what_it_is_told(history: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPOSITORY", history / "copy")
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    assert commit() == "unknown"
    monkeypatch.setenv(COMMIT_VARIABLE, TOLD)
    assert commit() == TOLD


def test_a_repository_that_does_not_track_the_package_is_not_asked(
    history: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `pip install --target .` in the folder of another project."""
    monkeypatch.setattr(module, "REPOSITORY", history)
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    subprocess.run(["git", "-C", str(history), "rm", "-q", "--cached", "pldrepro/__init__.py"], check=True)
    assert (history / "pldrepro/__init__.py").exists()
    assert commit() == "unknown"
