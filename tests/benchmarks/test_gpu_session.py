"""The session on a GPU, tiny and on the CPU: every slice writes its record, and a cut one goes on."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from benchmarks import gpu_session
from pldrepro.config.study import load_study, read_study
from pldrepro.data.corpus import prepare_corpus
from pldrepro.data.glue import prepare_glue
from pldrepro.files import read_json
from pldrepro.runs.folder import load_finetune, load_pretrain
from pldrepro.runs.step_times import load_calibration


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a GLUE of the smoke study."""
    folder = tmp_path_factory.mktemp("data")
    study = load_study({**read_study(Path("config/smoke.yaml")), "companions": {}})
    prepare_corpus(study.data(), folder / "corpus", workers=1, progress=False)  # type: ignore[arg-type]
    prepare_glue(study.data(), ("rte",), 24, folder / "corpus", folder / "glue", progress=False)  # type: ignore[arg-type]
    return folder


def test_every_slice_leaves_its_record(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["--quick", "--out", str(tmp_path), "--data", str(data)]
    assert gpu_session.main(["text", *fixed, "--seconds", "0"]) == 75
    assert "the same command goes on" in capsys.readouterr().out
    assert gpu_session.main([*gpu_session.SLICES, *fixed]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == list(gpu_session.SLICES)

    ceiling = read_json(tmp_path / "ceiling.json")
    assert ceiling["matrix_flops"] == max(ceiling["matrix_flops_by_size"].values())
    for mode in ("eager", "compiled"):
        assert [shape.norm for shape in load_calibration(tmp_path / f"calibration-{mode}").shapes] == ["pre", "post"]
        found = read_json(tmp_path / "utilisation.json")[mode]["pre"]
        assert 0 < found["share_of_ceiling"] < 1
        assert found["micro_batch_size"] in (4, 8)
    beside = read_json(tmp_path / "beside.json")
    assert set(beside["seconds"]) == {
        f"{who}, {mode}" for who in ("ours", "transformers") for mode in gpu_session.MODES
    }
    assert set(beside["ratios"]) == {"eager", "compiled"}
    arms = read_study(Path("config/gpu_speed.yaml"))["arms"]
    for arm in arms:
        assert load_pretrain(tmp_path / f"gpu_speed/runs/pretrain/{arm}/seed2").summary.train_seconds > 0
    for arm in ("baseline", "preln_higher", "pld", "sbld"):
        assert load_pretrain(tmp_path / f"gpu_text/runs/pretrain/{arm}/seed1").summary.steps == 12
        assert load_finetune(tmp_path / f"gpu_text/runs/finetune/{arm}/seed1/ckp186/small").summary.runs == 1
    with tarfile.open(tmp_path / "records.tar") as archive:
        names = archive.getnames()
    assert "gpu_text/runs/finetune/pld/seed1/ckp186/small/predictions.safetensors" in names
    assert not [name for name in names if "model.safetensors" in name or "manifest.json" in name]

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name == "summary.json"}
    assert gpu_session.main(["calibrate", "speed", "text", "glue", *fixed]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_slice_that_fails_says_so_and_the_next_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_session.main(["speed", "ceiling", "--quick", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert "ValueError: --data: missing; allowed: a folder with corpus/manifest.json" in printed.err
    assert "speed: FAILED" in printed.out
    assert "ceiling: done" in printed.out
