"""The session on a GPU, tiny and on the CPU: every part leaves its record, fails alone, and a killed one goes on."""

from __future__ import annotations

import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_session import __main__ as module
from benchmarks.gpu_session import card, parcel, steps, studies
from benchmarks.gpu_session.__main__ import SLICES, main
from benchmarks.gpu_session.parcel import check_validation, finished_files, pack, prepare
from benchmarks.gpu_session.session import LOG, Session
from pldrepro.analysis.claims import claims
from pldrepro.analysis.glue_scores import write_scores
from pldrepro.analysis.inputs import read_evidence
from pldrepro.analysis.reported import load_papers
from pldrepro.config.recorded import load_recorded
from pldrepro.config.study import load_study, read_study
from pldrepro.data.contrasts import prepare_contrasts
from pldrepro.data.corpus import prepare_corpus
from pldrepro.data.glue import prepare_glue
from pldrepro.errors import SettingsError
from pldrepro.exhibits.tables import TABLES, build
from pldrepro.files import read_json, write_json, write_text
from pldrepro.runs.folder import load_contrasts, load_finetune, load_pretrain, load_probe
from pldrepro.runs.import_runs import join
from pldrepro.runs.step_times import load_calibration, load_interleave
from tests.support.runs import read_jsonl, resealed

EARLY = ".early.tar"
ARMS = ("baseline", "preln_higher", "pld", "sbld")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus and a GLUE of the smoke study."""
    folder = tmp_path_factory.mktemp("data")
    study = load_study({**read_study(Path("config/smoke.yaml")), "companions": {}})
    prepare_corpus(study.data(), folder / "corpus", workers=1, progress=False)  # type: ignore[arg-type]
    prepare_glue(study.data(), ("rte",), 24, folder / "corpus", folder / "glue", progress=False)  # type: ignore[arg-type]
    return folder


def session_in(out: Path, seconds: float = 60.0, **changes: Any) -> Session:
    """A quick session without slices."""
    deadline = time.monotonic() + seconds
    values = {"data": None, "seeds": (1,), "quick": True, "workers": 0, **changes}
    return Session(out=out, deadline=deadline, **values)


def states(out: Path) -> dict[str, str]:
    """What became of each part, the last time."""
    return {line["part"]: line["state"] for line in read_jsonl(out / LOG)}


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole session with one seed: asked for an archive while it runs (EARLY), killed, and continued."""
    out = tmp_path_factory.mktemp("session")
    options = ["--quick", "--out", str(out), "--data", str(data), "--seeds", "1", "--workers", "0"]
    command = [sys.executable, "-u", "-m", "benchmarks.gpu_session", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None
        for line in one.stdout:
            if line.startswith("gpu_text: baseline"):
                assert main(["pack", "--out", str(out)]) == 0
                (out / "records.tar").rename(out / EARLY)
                one.send_signal(signal.SIGKILL)
                break
    assert main(["run", *options]) == 0
    return out


def test_every_part_is_done_and_leaves_its_record(finished: Path) -> None:
    assert set(states(finished).values()) == {"done"}
    ceiling = read_json(finished / "ceiling.json")
    assert ceiling["matrix_flops"] == max(ceiling["matrix_flops_by_size"].values())
    for folder in ("calibration-eager", "gpu_speed/runs/calibration"):
        assert [shape.norm for shape in load_calibration(finished / folder).shapes] == ["pre", "post"]
    for name in ("tau-eager", "tau-compiled", "tau-gpt"):
        assert 0 < read_json(finished / f"utilisation-{name}.json")["pre"]["share_of_ceiling"] < 1
    assert list(read_json(finished / "peak.json")["variants"]) == ["compiled", "bfloat16 stream", "autotuned"]
    beside = read_json(finished / "beside.json")
    assert len(beside["seconds"]) == 4
    assert set(beside["ratios"]) == {"eager", "compiled"}
    for arm in read_study(Path("config/gpu_speed.yaml"))["arms"]:
        assert load_pretrain(finished / f"gpu_speed/runs/pretrain/{arm}/seed2").summary.train_seconds > 0
    for arm in ARMS:
        assert load_pretrain(finished / f"gpu_text/runs/pretrain/{arm}/seed1").summary.steps == 12
        assert load_finetune(finished / f"gpu_text/runs/finetune/{arm}/seed1/ckp186/small").summary.runs == 1
        scored = load_contrasts(finished / f"gpu_text/runs/contrasts/{arm}/seed1").summary
        assert list(scored.tasks) == ["cloze"]  # the data have no minimal pairs
        assert list(scored.checkpoints) == ["ckp100", "ckp186"]
    in_turn = [load_interleave(finished / f"gpu_speed/runs/interleave/process{number}") for number in (1, 2, 3)]
    assert {tuple(arm.arm for arm in one.summary.arms) for one in in_turn} == {("baseline", "preln_higher", "pld")}
    assert list(load_probe(finished / "gpu_text/runs/probe/pld/seed1").summary.checkpoints) == ["ckp186"]


def test_the_kernel_of_attention_that_was_measured_is_recorded_with_the_runs(finished: Path) -> None:
    chosen = read_json(finished / "attention.json")["chosen"]
    for study, case in (("gpu_text", "bert, dropout 0"), ("gpu_speed", "bert, dropout 0.1")):
        run = load_pretrain(finished / f"{study}/runs/pretrain/pld/seed1")
        assert run.settings.impl.attention == chosen[case]


def test_the_archive_has_records_and_no_weights(finished: Path) -> None:
    with tarfile.open(finished / "records.tar") as archive:
        names = archive.getnames()
    assert "gpu_text/runs/finetune/pld/seed1/ckp186/small/predictions.safetensors" in names
    assert {"ceiling.json", "attention.json", "peak.json", LOG} <= set(names)
    assert not [name for name in names if "model.safetensors" in name or "smoke/" in name]


def test_an_archive_that_is_asked_for_early_has_what_was_finished(finished: Path) -> None:
    with tarfile.open(finished / EARLY) as archive:
        names = archive.getnames()
    assert "gpu_text/runs/pretrain/baseline/seed1/summary.json" in names
    assert "gpu_speed/runs/interleave/process3/summary.json" in names
    assert "gpu_text/runs/pretrain/pld/seed1/summary.json" not in names


def test_the_archive_is_imported_into_a_study_and_shown_without_its_weights(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for path in finished.glob("records*.tar"):
        with tarfile.open(path) as archive:
            archive.extractall(home, filter="data")
    for name in ("gpu_text", "gpu_speed"):
        values = {**read_study(home / name / "study.yaml"), "results": str(tmp_path / name)}
        shutil.copytree(data, tmp_path / name / "data", dirs_exist_ok=True)
        study = load_study(values)
        if study.settings.contrasts is not None:
            corpus, items = (tmp_path / name / "data" / folder for folder in ("corpus", "contrasts"))
            prepare_contrasts(study.contrasts, studies.text_data(study), corpus, items)
        outcomes = join(study, home / name)
        assert [one for one in outcomes if one.reason or not one.is_new] == []
    kinds = {path.parts[0] for path in (Path(one.run) for one in join(load_study(values), home / "gpu_speed"))}
    assert kinds == {"pretrain", "interleave"}
    recorded = {"text": [str(home / "gpu_text/runs")], "speed": [str(home / "gpu_speed/runs")]}
    settings = load_recorded({"scale": "recorded", "description": "", "results": str(tmp_path), "recorded": recorded})
    papers = load_papers()
    for found in settings.result_sets():
        folder = Path(found.results)
        write_scores([Path(file).parent for file in found.finetune], folder / "scores.csv")
        write_text(folder / "index.json", found.listing)
        evidence = read_evidence(folder / "index.json")
        frame = claims(evidence, papers).set_index("claim")
        assert frame.loc["pld.time_per_sample", "n"] == (3 if folder.name == "speed" else 1)
        for name in TABLES:
            build(name, evidence, papers)


def test_a_later_session_adds_seeds_from_a_few_records_of_the_first(finished: Path, data: Path, tmp_path: Path) -> None:
    for name in ("attention.json", "ceiling.json", "gpu_text/steps.json", "gpu_text/runs/calibration/summary.json"):
        write_json(tmp_path / name, read_json(finished / name))
    resealed(tmp_path / "gpu_text/runs/calibration")
    options = ["--quick", "--out", str(tmp_path), "--data", str(data), "--seeds", "3", "--workers", "2"]
    assert main(["run", "text", "glue", *options]) == 0
    for arm in ARMS:
        first, second = (load_pretrain(out / f"gpu_text/runs/pretrain/{arm}/seed{seed}")
                         for out, seed in ((finished, 1), (tmp_path, 3)))  # fmt: skip
        assert first.summary.steps == second.summary.steps
        assert first.summary.reference_seconds is not None
        assert load_finetune(tmp_path / f"gpu_text/runs/finetune/{arm}/seed3/ckp186/small").summary.runs == 1


def test_what_is_finished_is_left_alone(finished: Path, data: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("summary.json")}
    assert main(["run", "--quick", "--out", str(finished), "--data", str(data), "--seeds", "1", "--workers", "0"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


# ---- parts ----


def test_a_part_that_fails_says_so_and_the_next_has_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make = steps.transformers_steps

    def broken(settings: Any, batch: Any, impl: Any) -> Any:
        if len(read_jsonl(tmp_path / LOG)) == 3:
            raise RuntimeError("no such kernel")
        return make(settings, batch, impl)

    monkeypatch.setattr(steps, "transformers_steps", broken)
    assert main(["run", "beside", "ceiling", "--quick", "--out", str(tmp_path)]) == 1
    assert states(tmp_path) == {
        "beside: ours, eager": "done",
        "beside: transformers, eager": "done",
        "beside: ours, compiled": "done",
        "beside: transformers, compiled": "FAILED",
        "beside": "done",
        "ceiling": "done",
        "attention": "done",
    }
    assert list(read_json(tmp_path / "beside.json")["ratios"]) == ["eager"]
    printed = capsys.readouterr()
    assert "beside: transformers, compiled: FAILED" in printed.out
    assert "RuntimeError: no such kernel" in printed.err
    assert [line for line in printed.out.splitlines() if line.startswith("beside: FAILED in")]


def test_an_arm_that_fails_does_not_stop_the_others(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain = studies.pretrain

    def broken(settings: Any, *arguments: Any, **options: Any) -> None:
        if settings.arm == "preln_higher":
            raise FloatingPointError("diverged")
        pretrain(settings, *arguments, **options)

    monkeypatch.setattr(studies, "pretrain", broken)
    options = ["--quick", "--out", str(tmp_path), "--data", str(data), "--seeds", "1", "--workers", "0"]
    assert main(["run", "text", "glue", "probe", *options]) == 1
    found = states(tmp_path)
    assert found.pop("gpu_text: preln_higher, seed 1") == "FAILED"
    assert set(found.values()) == {"done"}
    assert "glue: pld, seed 1, ckp186, small" in found
    assert not [part for part in found if "preln_higher" in part]


def test_nothing_is_begun_after_a_smoke_that_failed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(studies, "probe", lambda *_, **__: 1 / 0)
    assert main(["run", "--quick", "--out", str(tmp_path), "--data", str(data)]) == 1
    assert {part.split()[0] for part in states(tmp_path)} == {"smoke"}
    assert "smoke: FAILED" in capsys.readouterr().out


def test_the_deadline_is_kept_inside_of_a_slice(data: Path, tmp_path: Path) -> None:
    options = ["--quick", "--out", str(tmp_path), "--data", str(data), "--seconds", "0"]
    assert main(["run", "speed", *options]) == 75
    assert set(states(tmp_path).values()) == {"no time"}


def test_a_part_is_not_begun_without_the_time_it_needs(tmp_path: Path) -> None:
    begun: list[str] = []
    session = session_in(tmp_path, quick=True)
    session.quick = False
    assert not session.part("long", lambda: begun.append("long"), seconds=1000)
    assert session.part("short", lambda: begun.append("short"), seconds=1)
    assert (begun, session.cut, session.failed) == (["short"], ["long"], [])


def test_later_slices_keep_their_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, float] = {}
    for name, one in SLICES.items():
        noted = module.Slice(lambda session, name=name: given.update({name: session.left}), one.seconds)  # type: ignore[misc]
        monkeypatch.setitem(SLICES, name, noted)
    assert main(["run", "--quick", "--out", str(tmp_path), "--seconds", "1500"]) == 0
    total = sum(one.seconds for one in SLICES.values())
    assert given["smoke"] == pytest.approx(1500 - 20 - total + SLICES["smoke"].seconds, abs=1)
    assert given["glue"] == pytest.approx(1480, abs=5)  # no slice before it took any


# ---- kernels of attention ----


def test_the_fastest_kernel_is_chosen_and_one_that_is_refused_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    seconds = {"auto": 3.0, "cudnn": 1.0, "flash": 2.0, "efficient": 4.0, "math": 9.0}

    def measured(session: Session, shape: Any, dropout: float, causal: bool) -> float:
        if (asked[-1], dropout) == ("cudnn", 0.1):
            raise RuntimeError("no dropout")
        return seconds[asked[-1]]

    monkeypatch.setattr(card, "choose_attention", asked.append)
    monkeypatch.setattr(card, "attention_seconds", measured)
    card.attention(session_in(tmp_path))
    found = read_json(tmp_path / "attention.json")
    assert found["chosen"]["bert, dropout 0"] == "cudnn"
    assert found["chosen"]["bert, dropout 0.1"] == "flash"
    assert found["refused"] == {"bert, dropout 0.1, cudnn": "no dropout", "gpt, dropout 0.1, cudnn": "no dropout"}
    assert asked[-1] == "auto"


# ---- what travels ----


def test_an_archive_at_any_time_has_what_is_finished(tmp_path: Path) -> None:
    for name, files in {"done": ("settings", "provenance", "summary"), "begun": ("settings", "provenance")}.items():
        for file in files:
            write_json(tmp_path / "runs" / name / f"{file}.json", {})
    write_json(tmp_path / "ceiling.json", {})
    pack(tmp_path)
    pack(tmp_path)  # which does not take the archive itself
    with tarfile.open(tmp_path / "records.tar") as archive:
        assert archive.getnames() == ["ceiling.json", *(f"runs/done/{n}.json" for n in ("provenance", "settings", "summary"))]  # fmt: skip  # noqa: E501


def test_large_records_are_spread_over_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel, "PART_BYTES", 10_000)
    for number in range(5):
        (tmp_path / f"{number}.bin").write_bytes(bytes(6000))
    archives = pack(tmp_path)
    assert [path.name for path in archives] == ["records.tar", *(f"records-{number}.tar" for number in range(2, 6))]
    assert [path.name for path in finished_files(tmp_path)] == [f"{number}.bin" for number in range(5)]


def test_a_detached_session_needs_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "ceiling", "--quick", "--out", str(tmp_path), "--detach"]
    process = subprocess.run([sys.executable, "-m", "benchmarks.gpu_session", *arguments], check=True, text=True,
                             capture_output=True)  # fmt: skip
    number = int(process.stdout.split()[1].rstrip(","))
    assert os.getsid(number) == number
    for _ in range(6000):
        if (tmp_path / "records.tar").exists():
            break
        time.sleep(0.1)
    assert main(["status", "--out", str(tmp_path)]) == 0
    assert "ceiling: done" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smoke study under the name of a file."""
    path = tmp_path_factory.mktemp("study") / "tiny.yaml"
    text = Path("config/smoke.yaml").read_text("utf-8")
    text = text.replace("validation_sequences: 64", "validation_sequences: 32")
    path.write_text(text[: text.index("companions:")] + "results: results/tiny\n", "utf-8")
    return path


def test_a_parcel_has_data_commit_and_wheels_and_keeps_its_limit(
    tiny_study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["prepare", "--parcel", str(tmp_path), "--study", str(tiny_study)]) == 0
    assert " MB" in capsys.readouterr().out
    with lzma.open(tmp_path / "data.tar.xz") as file, tarfile.open(fileobj=file) as archive:
        names = set(archive.getnames())
    assert {"corpus/manifest.json", "glue/manifest.json"} <= names
    assert len((tmp_path / "commit").read_text().split("+")[0].strip()) == 40
    assert (tmp_path / "wheels.txt").read_text().startswith("pydantic==")
    with pytest.raises(SettingsError, match="--limit"):
        prepare(tmp_path, None, 0.1, tiny_study)


def test_a_corpus_with_less_held_out_text_than_the_study_validates_on_is_refused(data: Path, tiny_study: Path) -> None:
    run = load_study(tiny_study).run("baseline", 1)
    check_validation(run, data / "corpus")
    more = run.training.model_copy(update={"validation_sequences": 64})  # there are 59
    with pytest.raises(SettingsError, match="validation_sequences"):
        check_validation(run.model_copy(update={"training": more}), data / "corpus")
