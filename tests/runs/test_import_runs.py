"""Run folders from elsewhere: what belongs to the study is taken, what does not is refused with the reason."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pldrepro.__main__ import main
from pldrepro.config.base import merge
from pldrepro.config.study import Study, load_study
from pldrepro.data.contrasts import prepare_contrasts
from pldrepro.data.corpus import prepare_corpus
from pldrepro.data.glue import prepare_glue
from pldrepro.errors import RecordError
from pldrepro.evaluation.early import probe_early
from pldrepro.evaluation.probe import probe
from pldrepro.evaluation.score_contrasts import score_contrasts
from pldrepro.files import read_json, write_json
from pldrepro.runs.import_runs import join
from pldrepro.training.finetune import finetune
from pldrepro.training.interleave import interleave
from pldrepro.training.pretrain import pretrain
from tests.support.runs import resealed

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = Path("pretrain/pld/seed1")
ASKED = Path("contrasts/pld/seed1")
TUNED = Path("finetune/pld/seed1/ckp186/one")


def study_at(results: Path, **changes: Any) -> Study:
    """The smoke study of two arms and one seed, with its results in a folder."""
    values = yaml.safe_load((REPOSITORY / "config/smoke.yaml").read_text())
    settings = values["settings"]
    settings["training"]["num_steps"] = 20
    tuning = {**values["finetune"], "groups": {"one": ["rte"]}, "epochs": 0.5}
    few = {"arms": ["baseline", "pld"], "seeds": [1], "companions": {}, "finetune": tuning}
    few |= {"finetune_checkpoints": ["ckp186"], "probe_arms": None, "contrast_arms": None, "results": str(results)}
    return load_study({**values, **few, **changes})


def prepare(study: Study) -> None:
    data = Path(study.results) / "data"
    prepare_corpus(study.data(), data / "corpus", workers=1, progress=False)  # type: ignore[arg-type]
    prepare_glue(study.data(), ("rte",), 48, data / "corpus", data / "glue", progress=False)  # type: ignore[arg-type]
    prepare_contrasts(study.contrasts, study.data(), data / "corpus", data / "contrasts")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of another machine: one pre-training run, fine-tuned and probed."""
    study = study_at(tmp_path_factory.mktemp("elsewhere"))
    prepare(study)
    data, runs = Path(study.results) / "data", Path(study.runs)
    pretrain(study.run("pld", 1), data / "corpus", runs / RUN, progress=False)
    finetune(runs / RUN, "ckp186", study.settings.finetune, "one", data / "glue", runs / TUNED, progress=False)
    probe(runs / RUN, data / "corpus", study.settings.probe, runs / "probe/pld/seed1", progress=False)
    score_contrasts(runs / RUN, study.contrasts, data / "corpus", data / "contrasts", runs / ASKED, progress=False)
    return Path(study.results)


@pytest.fixture
def here(elsewhere: Path, tmp_path: Path) -> Study:
    """The same study on this machine, with its data and nothing else."""
    shutil.copytree(elsewhere / "data", tmp_path / "here/data")
    return study_at(tmp_path / "here")


@pytest.fixture
def theirs(elsewhere: Path, tmp_path: Path) -> Path:
    """A copy of the other machine's runs, to be changed."""
    return Path(shutil.copytree(elsewhere / "runs", tmp_path / "theirs"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the locks, which an import leaves."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def reasons(study: Study, source: Path) -> dict[str, str | None]:
    return {one.run: one.reason for one in join(study, source)}


def test_runs_of_the_study_are_taken_and_found_complete(here: Study, elsewhere: Path) -> None:
    outcomes = join(here, elsewhere)
    assert [(one.run, one.reason, one.is_new) for one in outcomes] == [
        (str(RUN), None, True), (str(TUNED), None, True), ("probe/pld/seed1", None, True),
        (str(ASKED), None, True),
    ]  # fmt: skip
    assert contents(Path(here.runs)) == contents(elsewhere / "runs")
    before = (Path(here.runs) / RUN / "metrics.jsonl").stat().st_mtime_ns
    (Path(here.runs) / RUN / "summary.json").unlink()  # the workflow runs the job again
    pretrain(here.run("pld", 1), Path(here.results) / "data/corpus", Path(here.runs) / RUN, progress=False)
    assert (Path(here.runs) / RUN / "metrics.jsonl").stat().st_mtime_ns == before
    assert contents(Path(here.runs)) == contents(elsewhere / "runs")


def test_a_second_time_changes_nothing(here: Study, elsewhere: Path) -> None:
    join(here, elsewhere / "runs")
    assert [(one.reason, one.is_new) for one in join(here, elsewhere)] == [(None, False)] * 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arms": ["baseline", "random"]}, "pld, seed 1, is no run of smoke"),
        ({"seeds": [2]}, "pld, seed 1, is no run of smoke"),
        ({"model": {"hidden_size": 64}}, "differs from the study in model.hidden_size"),
        ({"training": {"num_steps": 21}}, "differs from the study in training.num_steps"),
        ({"impl": {"micro_batch_size": 8}}, "differs from the study in impl.micro_batch_size"),
    ],
)
def test_other_settings_are_refused(elsewhere: Path, here: Study, changes: dict[str, Any], reason: str) -> None:
    settings = here.settings.model_dump(mode="json")
    for group in set(changes) & {"model", "training", "impl"}:
        settings["settings"][group] |= changes.pop(group)
    found = reasons(load_study({**settings, **changes}), elsewhere)
    assert reason in (found[str(RUN)] or "")
    assert None not in found.values()  # what was made from it is refused with it
    assert not (Path(here.runs) / RUN).exists()


def test_other_data_are_refused(elsewhere: Path, tmp_path: Path) -> None:
    settings = study_at(tmp_path / "here").settings.model_dump(mode="json")
    settings["settings"]["data"]["miniature"]["num_documents"] += 5
    study = load_study(settings)
    prepare(study)
    assert "differs from the study in data.miniature, corpus" in (reasons(study, elsewhere)[str(RUN)] or "")


def test_data_that_are_not_prepared_are_asked_for(elsewhere: Path, tmp_path: Path) -> None:
    found = reasons(study_at(tmp_path / "here"), elsewhere)
    assert "data/corpus/manifest.json: no such file; prepare the data here first" in (found[str(RUN)] or "")


def test_other_settings_of_what_is_made_from_it_are_refused(elsewhere: Path, here: Study) -> None:
    values = here.settings.model_dump(mode="json")
    values["finetune"]["epochs"] = 3
    values["probe"]["sequences"] = 16
    values["contrasts"]["max_cloze"] = 40
    found = reasons(load_study(values), elsewhere)
    assert found[str(RUN)] is None
    assert "differs from the study in finetune" in (found[str(TUNED)] or "")
    assert "differs from the study in probe" in (found["probe/pld/seed1"] or "")
    assert "differs from the study in contrasts" in (found[str(ASKED)] or "")


def test_contrasts_on_other_items_are_refused(elsewhere: Path, here: Study) -> None:
    place = Path(here.results) / "data/contrasts/manifest.json"
    write_json(place, {**read_json(place), "hash": "0" * 64, "seal": None})
    assert "differs from the study in items" in (reasons(here, elsewhere)[str(ASKED)] or "")


# ---- runs that are made from no checkpoint ----

EARLY, IN_TURN = Path("early/preln/seed1"), Path("interleave/process2")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, elsewhere: Path) -> Path:
    """The results of another machine: a run probed early in training, and a process that measured steps in turn."""
    study = study_at(tmp_path_factory.mktemp("measured"))
    runs = Path(study.runs)
    probe_early(study.early_run("preln", 1), elsewhere / "data/corpus", runs / EARLY, progress=False)
    interleave(study.interleave_job(), 2, runs / IN_TURN, progress=False)
    return Path(study.results)


def test_runs_probed_early_and_steps_measured_in_turn_are_taken(here: Study, measured: Path) -> None:
    assert reasons(here, measured) == {str(EARLY): None, str(IN_TURN): None}
    assert contents(Path(here.runs)) == contents(measured / "runs")


@pytest.mark.parametrize(
    ("changes", "early", "in_turn"),
    [
        ({"early": {"shares": [0.1]}}, "differs from the study in early", None),
        ({"early": {"model": {"num_layers": 4}}}, "differs from the study in model.num_layers", None),
        ({"early": {"arms": ["baseline"]}}, "preln, seed 1, is no early job of smoke", None),
        ({"interleave": {"rounds": 7}}, None, "differs from the study in interleave"),
        ({"interleave": {"arms": ["pld", "baseline"]}}, None, "differs from the study in interleave"),
        ({"interleave": {"processes": 1}}, None, "process 2 is no interleave job of smoke"),
        ({"settings": {"training": {"num_steps": 21}}}, "in training.num_steps", "baseline: training.num_steps"),
    ],
)
def test_others_of_them_are_refused(
    here: Study, measured: Path, changes: dict[str, Any], early: str | None, in_turn: str | None
) -> None:
    values = merge(here.settings.model_dump(mode="json", exclude_none=True), changes)
    found = reasons(load_study(values), measured)
    for place, reason in ((EARLY, early), (IN_TURN, in_turn)):
        if reason is None:
            assert found[str(place)] is None
        else:
            assert reason in (found[str(place)] or "")


def test_an_early_run_on_other_data_is_refused(here: Study, measured: Path) -> None:
    place = Path(here.results) / "data/corpus/manifest.json"
    write_json(place, {**read_json(place), "hash": "0" * 64, "seal": None})
    assert "differs from the study in corpus" in (reasons(here, measured)[str(EARLY)] or "")


def test_a_process_under_another_number_is_refused(here: Study, measured: Path, tmp_path: Path) -> None:
    shutil.copytree(measured / "runs" / IN_TURN, tmp_path / "renamed/interleave/process1")
    (reason,) = reasons(here, tmp_path / "renamed").values()
    assert "is no interleave job" in (reason or "")


def test_processes_of_two_machines_do_not_mix(here: Study, measured: Path) -> None:
    first = Path(here.runs) / "interleave/process1"
    shutil.copytree(measured / "runs" / IN_TURN, first)
    device = read_json(first / "summary.json")["device"] | {"name": "another"}
    write_json(first / "summary.json", read_json(first / "summary.json") | {"process": 1, "device": device})
    resealed(first)
    assert "allowed: one machine" in (reasons(here, measured)[str(IN_TURN)] or "")


# ---- damage ----


def damage_weights(run: Path) -> None:
    path = run / "checkpoints/ckp186/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\7")


def change_settings(run: Path) -> None:
    write_json(run / "settings.json", {**read_json(run / "settings.json"), "seed": 2})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (damage_weights, r"checkpoints/ckp186/model.safetensors: not the file that"),
        (change_settings, "settings.json: not the file that"),
        (lambda run: (run / "metrics.jsonl").unlink(), "metrics.jsonl: missing, though"),
        (lambda run: (run / "manifest.json").unlink(), "no manifest.json; the run is not complete"),
    ],
)
def test_damaged_runs_are_refused(here: Study, theirs: Path, damage: Callable[[Path], None], reason: str) -> None:
    damage(theirs / RUN)
    found = reasons(here, theirs)
    assert reason in (found[str(RUN)] or "")
    assert "the pre-training run that this was made from is not here" in (found[str(TUNED)] or "")


def test_settings_of_another_version_are_refused(here: Study, theirs: Path) -> None:
    values = read_json(theirs / RUN / "settings.json")
    values["training"]["a_new_one"] = 1
    write_json(theirs / RUN / "settings.json", values)
    resealed(theirs / RUN)
    assert "training.a_new_one: unknown key" in (reasons(here, theirs)[str(RUN)] or "")


@pytest.mark.parametrize("kind", ["finetune", "probe"])
def test_settings_of_another_version_of_what_is_made_from_it_are_refused(
    here: Study, theirs: Path, elsewhere: Path, kind: str
) -> None:
    join(here, elsewhere / "runs")
    place = {"finetune": TUNED, "probe": Path("probe/pld/seed1")}[kind]
    shutil.rmtree(Path(here.runs) / kind)
    values = read_json(theirs / place / "settings.json")
    write_json(theirs / place / "settings.json", {**values, kind: {**values[kind], "a_new_one": 1}})
    resealed(theirs / place)
    reason = reasons(here, theirs)[str(place)] or ""
    assert f"{place}/settings.json: {kind}.a_new_one: unknown key" in reason


def test_weights_of_another_run_are_refused(here: Study, theirs: Path, elsewhere: Path) -> None:
    join(here, elsewhere / "runs")
    shutil.rmtree(Path(here.runs) / "finetune")
    values = read_json(theirs / TUNED / "settings.json")
    write_json(theirs / TUNED / "settings.json", {**values, "inputs": {**values["inputs"], "weights": "0" * 64}})
    resealed(theirs / TUNED)
    assert "differs from the study in weights" in (reasons(here, theirs)[str(TUNED)] or "")


def test_a_run_that_is_here_is_not_replaced(here: Study, theirs: Path, elsewhere: Path) -> None:
    join(here, elsewhere)
    values = read_json(theirs / RUN / "provenance.json")
    write_json(theirs / RUN / "provenance.json", {**values, "commit": "another"})
    resealed(theirs / RUN)
    assert "holds another finished run already" in (reasons(here, theirs)[str(RUN)] or "")
    assert contents(Path(here.runs)) == contents(elsewhere / "runs")


def test_an_unfinished_run_that_is_here_is_not_replaced(here: Study, elsewhere: Path) -> None:
    (Path(here.runs) / RUN / "resume").mkdir(parents=True)
    assert "holds an unfinished run; delete it" in (reasons(here, elsewhere)[str(RUN)] or "")


def test_a_folder_without_runs_is_an_error(here: Study, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no run folder; allowed: a results folder"):
        join(here, tmp_path)


def test_the_command_names_what_it_did_and_fails_when_it_refused(
    here: Study, theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(here.settings.model_dump(mode="json")))
    damage_weights(theirs / RUN)
    assert main(["study", "import", str(theirs), "--configfile", str(tmp_path / "study.yaml")]) == 1
    printed = capsys.readouterr()
    assert f"{RUN}: refused: {theirs}/{RUN}/checkpoints/ckp186/model.safetensors: not the file" in printed.out
    assert "4 of 4 run folders refused; the others are here" in printed.err
