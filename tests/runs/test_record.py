"""Finished runs as records: what is archived, what is left out, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pldrepro.__main__ import main
from pldrepro.archives import read_archive, write_archive
from pldrepro.config.recorded import load_recorded
from pldrepro.errors import RecordError
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.manifest import read_manifest
from pldrepro.runs.record import record_runs, unpack_runs
from tests.support import runs

Files = dict[str, bytes]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two pre-training runs, one with weights in its manifest, an interleaved process and a calibration."""
    run = runs.write_pretrain(tmp_path, "pld", 1)
    (run / "checkpoints/ckp186").mkdir(parents=True)
    (run / "checkpoints/ckp186/model.safetensors").write_bytes(b"weights")
    runs.resealed(run)
    runs.write_pretrain(tmp_path, "baseline", 1)
    runs.write_interleave(tmp_path, 1, {"baseline": [1.0, 1.1], "pld": [0.9, 0.8]})
    runs.write_calibration(tmp_path)
    return tmp_path / "runs"


def contents(folder: Path) -> Files:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_each_run_is_one_archive_and_the_calibration_a_folder(study: Path, tmp_path: Path) -> None:
    new = record_runs(study, tmp_path / "records")
    archives = ["interleave/process1.tar.xz", "pretrain/baseline/seed1.tar.xz", "pretrain/pld/seed1.tar.xz"]
    assert sorted(str(path.relative_to(tmp_path / "records")) for path in new) == archives
    assert {path.name for path in (tmp_path / "records").iterdir()} == {"calibration", "interleave", "pretrain"}


def test_the_models_are_left_out_and_the_manifest_says_so(study: Path, tmp_path: Path) -> None:
    record_runs(study, tmp_path / "records")
    assert "model.safetensors" not in str(list(read_archive(tmp_path / "records/pretrain/pld/seed1.tar.xz")))
    unpack_runs(tmp_path / "records", tmp_path / "again")
    manifest = read_manifest(tmp_path / "again/pretrain/pld/seed1")
    assert manifest.left_out == ["checkpoints/ckp186/model.safetensors"]
    assert manifest.files == read_manifest(study / "pretrain/pld/seed1").files
    again, before = (load_pretrain(root / "pretrain/pld/seed1") for root in (tmp_path / "again", study))
    assert again.summary == before.summary


def test_a_run_without_models_comes_back_as_it_was(study: Path, tmp_path: Path) -> None:
    record_runs(study, tmp_path / "records")
    unpack_runs(tmp_path / "records", tmp_path / "again")
    for place in ("pretrain/baseline/seed1", "interleave/process1"):
        assert contents(tmp_path / "again" / place) == contents(study / place)
    assert contents(tmp_path / "records/calibration") == contents(study / "calibration")


def test_what_is_recorded_already_stays_as_it_is(study: Path, tmp_path: Path) -> None:
    first = record_runs(study, tmp_path / "records")
    before = contents(tmp_path / "records")
    runs.write_pretrain(tmp_path, "pld", 2)
    assert [path.name for path in record_runs(study, tmp_path / "records")] == ["seed2.tar.xz"]
    assert {name: content for name, content in contents(tmp_path / "records").items() if name in before} == before
    assert len(first) == 3


@pytest.mark.parametrize("place", ["pretrain/pld/seed1", "calibration"])
def test_another_run_at_the_same_place_is_refused(study: Path, tmp_path: Path, place: str) -> None:
    record_runs(study, tmp_path / "records")
    settings = study / place / ("metrics.jsonl" if "pld" in place else "summary.json")
    settings.write_text(settings.read_text("utf-8").replace("0.0", "0.1", 1), "utf-8")
    (study / place / "manifest.json").unlink()
    runs.resealed(study / place)
    with pytest.raises(RecordError, match=f"{Path(place).name}.*delete"):
        record_runs(study, tmp_path / "records")


def test_a_damaged_run_is_not_recorded(study: Path, tmp_path: Path) -> None:
    (study / "pretrain/pld/seed1/metrics.jsonl").write_text("{}", "utf-8")
    with pytest.raises(RecordError, match=r"metrics\.jsonl"):
        record_runs(study, tmp_path / "records")


@pytest.mark.parametrize("make", [record_runs, unpack_runs])
def test_a_folder_without_runs_is_refused_by_name(make: Callable[[Path, Path], object], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="nothing"):
        make(tmp_path / "nothing", tmp_path / "out")


@pytest.mark.parametrize("files", [{"settings.json": b"{}"}, {"summary.json": b"{"}, {"summary.json": b"\xff"}])
def test_an_archive_without_a_readable_summary_is_refused_by_name(files: dict[str, bytes], tmp_path: Path) -> None:
    archive = tmp_path / "records/pretrain/baseline/seed1.tar.xz"
    write_archive(archive, files)
    values = {"scale": "recorded", "description": "-", "recorded": {"x": [str(tmp_path / "records")]}}
    with pytest.raises(RecordError, match=str(archive)):
        load_recorded(values).result_sets()


def test_recorded_sets_are_read_from_archives_as_from_folders(study: Path, tmp_path: Path) -> None:
    record_runs(study, tmp_path / "records")
    found = {}
    for name in ("runs", "records"):
        values = {"scale": "recorded", "description": "-", "recorded": {"x": [str(tmp_path / name)]}}
        settings = load_recorded({**values, "results": str(tmp_path / "rebuilt")})
        found[name] = settings.result_sets()[0].studies[0]
        for one in settings.packed():
            assert main(["study", "unpack", one.source, "--out", one.folder]) == 0
    plain, packed = found["runs"], found["records"]
    for stage in ("pretrain", "interleaved"):
        pairs = zip(getattr(plain, stage), getattr(packed, stage), strict=True)
        assert all(Path(first).read_bytes() == Path(second).read_bytes() for first, second in pairs)
    assert packed.pretrain[0].startswith(str(tmp_path / "rebuilt/x/records/1/pretrain"))
    assert packed.family == "bert"


def test_two_folders_of_one_name_are_unpacked_apart(study: Path, tmp_path: Path) -> None:
    for name in ("text", "speed"):
        record_runs(study, tmp_path / name / "runs")
    values = {"scale": "recorded", "description": "-", "results": str(tmp_path / "rebuilt")}
    settings = load_recorded(
        {**values, "recorded": {"x": [str(tmp_path / name / "runs") for name in ("text", "speed")]}}
    )
    assert [one.folder for one in settings.packed()] == [str(tmp_path / f"rebuilt/x/records/{at}") for at in (1, 2)]
    first, second = settings.result_sets()[0].studies
    assert not set(first.pretrain) & set(second.pretrain)
