"""The manifest of a run folder: what it lists, what comes back from it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pldrepro.config.run import RunSettings
from pldrepro.errors import RecordError
from pldrepro.files import read_json, write_json
from pldrepro.records import SCHEMA_VERSION, Recorded, Versioned
from pldrepro.runs.manifest import begin, complete, entries, is_complete, is_same_job, verified
from tests.support.runs import PROVENANCE

Make = Callable[..., RunSettings]


class Summary(Recorded, Versioned):
    """Of a made-up job."""

    arm: str
    seeds: list[int]
    loss: float = 0.0


SUMMARY = Summary(arm="pld", seeds=[1, 2], loss=0.1 + 0.2)
WRITTEN = {"schema_version": SCHEMA_VERSION, "arm": "pld", "seeds": [1, 2], "loss": 0.1 + 0.2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete job of two files of its own and one that does not belong to it."""
    begun = begin(tmp_path, SUMMARY, PROVENANCE)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/a.bin").write_bytes(b"\0\1")
    (tmp_path / "stray.txt").write_text("left by somebody")
    complete(tmp_path, SUMMARY, begun | entries(tmp_path, ["models/*"]))
    return tmp_path


def test_a_complete_job_lists_its_files_and_no_other(folder: Path) -> None:
    files = read_json(folder / "manifest.json")["files"]
    assert list(files) == ["models/a.bin", "provenance.json", "settings.json"]
    assert files["models/a.bin"] == {
        "bytes": 2,
        "sha256": "b413f47d13ee2fe6c845b2ee141af81de858df4ec549a58b7970bb96645bc8d2",
    }
    assert is_complete(folder)


def test_a_summary_that_was_removed_comes_back(folder: Path) -> None:
    before = (folder / "summary.json").read_bytes()
    (folder / "summary.json").unlink()
    assert is_complete(folder)
    assert (folder / "summary.json").read_bytes() == before
    assert read_json(folder / "summary.json") == WRITTEN


def test_without_summary_and_manifest_nothing_is_complete(folder: Path) -> None:
    begin(folder, SUMMARY, PROVENANCE)
    assert not is_complete(folder)
    assert not (folder / "summary.json").exists()
    begin(folder, SUMMARY, PROVENANCE)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: (f / "models/a.bin").write_bytes(b"\0\2"),
            r"models/a\.bin: not the file that .*manifest\.json list",
        ),
        (lambda f: (f / "models/a.bin").write_bytes(b"\0"), r"models/a\.bin: not the file that .*manifest\.json lists"),
        (lambda f: (f / "models/a.bin").unlink(), r"models/a\.bin: missing, though .*manifest\.json lists it"),
        (lambda f: (f / "manifest.json").write_text("{}"), r"manifest\.json: files: missing; summary: missing"),
        (lambda f: (f / "manifest.json").write_text('{"files": '), r"manifest\.json: damaged JSON"),
        (
            lambda f: write_json(
                f / "manifest.json", {"files": {"../x": {"bytes": 1, "sha256": "0" * 64}}, "summary": {}}
            ),
            r"\.\./x: allowed: files of this folder",
        ),
        (lambda f: write_json(f / "manifest.json", {"files": {}, "summary": {}}), "does not list settings.json"),
    ],
)
def test_a_file_that_is_not_the_one_listed_is_named(folder: Path, damage: object, message: str) -> None:
    (folder / "summary.json").unlink()
    damage(folder)  # type: ignore[operator]
    with pytest.raises(RecordError, match=message):
        is_complete(folder)
    assert not (folder / "summary.json").exists()


def test_verified_gives_the_summary(folder: Path) -> None:
    assert verified(folder) == WRITTEN


def test_the_same_job_has_the_same_settings(folder: Path) -> None:
    assert is_same_job(folder, SUMMARY)
    assert not is_same_job(folder, SUMMARY.model_copy(update={"seeds": [1]}))
    assert not is_same_job(folder / "elsewhere", SUMMARY)
