"""Run folders read back: what is missing is named, and costs on the four axes are what was recorded."""

import hashlib
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pldrepro.analysis import comparisons
from pldrepro.analysis.results import Evidence
from pldrepro.config.data import MiniatureSettings
from pldrepro.errors import RecordError
from pldrepro.runs.folder import load_finetune, load_pretrain, log_path
from tests.support import runs
from tests.support.runs import load_evidence


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("study")
    pretrain = [runs.write_pretrain(root, arm, seed) for arm in runs.ARMS for seed in (1, 2)]
    return {"pretrain": pretrain, "calibration": runs.write_calibration(root)}


@pytest.fixture(scope="module")
def evidence(study: dict[str, Any]) -> Evidence:
    return load_evidence(**study)


def edit(path: Path, change: Any) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def test_a_run_that_is_not_there_or_not_complete_names_its_folder_and_log(tmp_path: Path) -> None:
    folder = tmp_path / "demo" / "runs" / "pretrain" / "pld" / "seed1"
    with pytest.raises(RecordError, match=r"runs/pretrain/pld/seed1: .*demo/logs/pretrain/pld/seed1.log"):
        load_pretrain(folder)
    folder.mkdir(parents=True)
    with pytest.raises(RecordError, match=r"seed1: .*logs/pretrain/pld/seed1.log"):
        load_pretrain(folder)


@pytest.mark.parametrize(
    ("folder", "log"),
    [
        ("runs/calibration", "logs/calibrate.log"),
        ("runs/pretrain/pld/seed1", "logs/pretrain/pld/seed1.log"),
        ("runs/finetune/pld/seed1/ckp87/glue", "logs/finetune/pld/seed1-ckp87-glue.log"),
    ],
)
def test_logs_are_where_the_workflow_puts_them(folder: str, log: str) -> None:
    assert log_path(Path("results/demo") / folder) == Path("results/demo") / log


def test_a_damaged_summary_is_named(tmp_path: Path) -> None:
    folder = runs.write_pretrain(tmp_path, "pld", 1)
    edit(folder / "summary.json", lambda values: values.pop("flops"))
    with pytest.raises(RecordError, match=r"summary.json: flops: "):
        load_pretrain(folder)
    (folder / "summary.json").write_text("{")
    with pytest.raises(RecordError, match=r"summary\.json"):
        load_pretrain(folder)


def test_a_finetune_job_without_predictions_is_named(tmp_path: Path) -> None:
    folder = runs.write_finetune(tmp_path, "pld", 1, tasks=["rte"])
    (folder / "predictions.safetensors").unlink()
    with pytest.raises(RecordError, match=r"ckp186/glue/predictions.safetensors: missing"):
        load_finetune(folder)


def test_the_summary_stands_for_its_folder(study: dict[str, Any]) -> None:
    assert load_pretrain(study["pretrain"][0] / "summary.json").folder == study["pretrain"][0]


def test_arms_keep_their_order_and_seeds_are_paired(study: dict[str, Any]) -> None:
    evidence = load_evidence(study["pretrain"][::-1])
    assert evidence.arms == ["pld", "preln_higher", "baseline"]
    assert [(a.seed, b.seed) for a, b in evidence.pairs("pld", "baseline")] == [(1, 1), (2, 2)]


def test_what_cannot_be_compared_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="role baseline"):
        load_evidence(study["pretrain"], tags={})
    with pytest.raises(RecordError, match="no pre-training runs"):
        load_evidence([])
    with pytest.raises(RecordError, match="baseline, seed 1"):
        load_evidence([study["pretrain"][0], study["pretrain"][0]])
    other = runs.write_pretrain(tmp_path, "pld", 1, scale="demo")
    with pytest.raises(RecordError, match="demo, smoke"):
        load_evidence([study["pretrain"][0], other])


def test_a_full_run_costs_its_steps_at_full_depth(evidence: Evidence) -> None:
    run = evidence.runs("baseline")[0]
    # 400 steps of (2 + 4 x 3) ms
    assert evidence.cost(run, "reference_time") == pytest.approx(5.6)
    assert evidence.cost(run, "samples") == 3200
    assert evidence.cost(run, "reference_time", "ckp87") == pytest.approx(5.6 * 180 / 400)


def test_a_dropping_run_is_priced_by_the_layers_it_kept(evidence: Evidence) -> None:
    for run in evidence.runs("pld"):
        for checkpoint in runs.SHARES:
            recorded = run.summary.checkpoints[checkpoint].reference_seconds
            assert evidence.cost(run, "reference_time", checkpoint) == pytest.approx(recorded)


def test_runs_can_be_priced_for_another_machine(study: dict[str, Any], tmp_path: Path) -> None:
    slower = shutil.copytree(study["calibration"], tmp_path / "calibration")

    def double(values: dict[str, Any]) -> None:
        for shape in values["shapes"]:
            shape["fit"].update(intercept=2 * runs.INTERCEPT, slope=2 * runs.SLOPE)
            for point in shape["tau"].values():
                point["median"] *= 2

    edit(slower / "summary.json", double)
    here, there = (load_evidence(study["pretrain"], calibration=c) for c in (study["calibration"], slower))
    for run, again in zip(here.runs("pld"), there.runs("pld"), strict=True):
        for checkpoint in ("ckp87", "ckp186"):
            one, two = here.cost(run, "reference_time", checkpoint), there.cost(again, "reference_time", checkpoint)
            assert one is not None
            assert two == pytest.approx(2 * one)


def test_a_calibration_of_another_shape_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    other = shutil.copytree(study["calibration"], tmp_path / "calibration")
    edit(other / "summary.json", lambda values: [shape.update(micro_batch_size=1) for shape in values["shapes"]])
    with pytest.raises(RecordError, match=r"calibration: .*baseline, seed 1"):
        load_evidence(study["pretrain"], calibration=other)


def test_settings_that_take_no_time_need_no_new_calibration(study: dict[str, Any], tmp_path: Path) -> None:
    other = shutil.copytree(study["calibration"], tmp_path / "calibration")
    edit(other / "summary.json", lambda values: [shape["model"].update(init_std=0.5) for shape in values["shapes"]])
    assert load_evidence(study["pretrain"], calibration=other).calibration is not None


def test_without_a_calibration_the_recorded_price_counts(study: dict[str, Any]) -> None:
    evidence = load_evidence(study["pretrain"])
    run = evidence.runs("pld")[0]
    assert evidence.cost(run, "reference_time") == run.summary.reference_seconds
    assert comparisons.linear_saving(evidence, "pld") is None


def test_an_arm_saves_nothing_against_itself(evidence: Evidence) -> None:
    for axis in ("flops", "reference_time", "measured_time"):
        paired = comparisons.saving_per_sample(evidence, "baseline", axis)
        assert paired is not None
        assert (paired.estimate.value, paired.estimate.low, paired.estimate.high) == pytest.approx((0, 0, 0))


def test_the_saving_in_reference_time_is_the_linear_prediction_when_tau_is_linear(evidence: Evidence) -> None:
    saving, predicted = (
        comparisons.saving_per_sample(evidence, "pld", "reference_time"),
        comparisons.linear_saving(evidence, "pld"),
    )
    assert saving is not None
    assert predicted is not None
    assert saving.estimate.value == pytest.approx(predicted.value, abs=0.05)
    assert comparisons.linear_saving(evidence, "preln_higher") is None  # it drops nothing, so nothing is predicted


def test_a_slow_machine_shows_in_measured_time_alone(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, "baseline", 1), runs.write_pretrain(tmp_path, "pld", 1, slowdown=3.0)]
    evidence = load_evidence(pretrain, calibration=runs.write_calibration(tmp_path))
    measured, reference = (comparisons.speedup(evidence, "pld", axis) for axis in ("measured_time", "reference_time"))
    assert measured is not None
    assert reference is not None
    assert reference.estimate.value == pytest.approx(3 * measured.estimate.value)
    assert reference.estimate.low is None


def test_a_loss_is_first_reached_between_two_validations(evidence: Evidence) -> None:
    run = evidence.runs("baseline")[0]
    # The loss falls linearly from 6 to 3 over 3,200 samples.
    assert evidence.first_at(run, 4.5, "samples") == pytest.approx(1600)
    assert evidence.first_at(run, 4.4321, "samples") == pytest.approx(3200 * 1.5679 / 3)
    assert evidence.first_at(run, 2.9, "samples") is None
    assert evidence.first_at(run, 5.99, "samples") == 160


def test_the_twin_differs_by_dropping_alone(evidence: Evidence) -> None:
    assert evidence.undropped_twin("pld") == "preln_higher"
    assert evidence.undropped_twin("baseline") is None


@pytest.mark.parametrize(
    ("changed", "twin"),
    [(MiniatureSettings(train_examples=9), "preln_higher"), (MiniatureSettings(num_documents=99), None)],
)
def test_more_glue_examples_do_not_part_twins_and_another_corpus_does(
    evidence: Evidence, changed: MiniatureSettings, twin: str | None
) -> None:
    runs = []
    for run in evidence.pretrain:
        data = run.settings.data.model_copy(update={"miniature": changed} if run.arm == "pld" else {})
        runs.append(replace(run, settings=run.settings.model_copy(update={"data": data})))
    assert replace(evidence, pretrain=tuple(runs)).undropped_twin("pld") == twin


def test_the_error_of_tau_counts_between_shapes_and_cancels_within_one(evidence: Evidence) -> None:
    # tau has an interval of +-5 %, a standard error of 2.55 %; two independent full steps: 3.61 %.
    assert comparisons.price_error(evidence, "preln_higher", "baseline") == (pytest.approx(0.0361, abs=1e-4), math.inf)
    assert comparisons.price_error(evidence, "preln_higher", "preln_higher")[0] == 0
    assert 0 < comparisons.price_error(evidence, "pld", "preln_higher")[0] < 0.025
    between = comparisons.saving_per_sample(evidence, "preln_higher", "reference_time")
    within = comparisons.saving_per_sample(evidence, "preln_higher", "reference_time", against="preln_higher")
    assert between is not None
    assert within is not None
    assert between.estimate.low == pytest.approx(-7.33, abs=0.01)
    assert within.estimate.low == pytest.approx(0)


def test_what_slows_both_shapes_in_a_round_cancels(study: dict[str, Any], tmp_path: Path) -> None:
    folder = shutil.copytree(study["calibration"], tmp_path / "calibration")
    slowness = [1.0, 1.5, 0.9, 2.0, 1.2, 1.1, 3.0]

    def add_rounds(values: dict[str, Any]) -> None:
        for shape in values["shapes"]:
            tau = [shape["tau"][str(kept)]["median"] for kept in range(runs.LAYERS + 1)]
            shape["seconds"] = [[slow * seconds for seconds in tau] for slow in slowness]

    def only_one_shape_is_slow(values: dict[str, Any]) -> None:
        values["shapes"][0]["seconds"] = [values["shapes"][1]["seconds"][0]] * len(slowness)

    edit(folder / "summary.json", add_rounds)
    assert comparisons.price_error(load_evidence(study["pretrain"], calibration=folder), "pld", "baseline")[0] < 1e-12
    edit(folder / "summary.json", only_one_shape_is_slow)
    assert comparisons.price_error(load_evidence(study["pretrain"], calibration=folder), "pld", "baseline")[0] > 0.1


# ---- what is made from a checkpoint belongs to a run that is here ----


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [("checkpoint", "ckp187", "ckp187"), ("arm", "other", "other"), ("seed", 9, "seed 9"), ("scale", "mini", "seed 1")],
)
def test_a_fine_tuning_of_no_run_here_is_refused(
    study: dict[str, Any], tmp_path: Path, key: str, value: Any, named: str
) -> None:
    folder = runs.write_finetune(tmp_path, "pld", 1, tasks=["rte"])
    for name in ("summary.json", "settings.json"):
        edit(folder / name, lambda values: values.update({key: value}))
    with pytest.raises(RecordError, match=f"glue: .*{named}"):
        load_evidence(study["pretrain"], [folder])


def test_settings_and_summary_of_a_fine_tuning_are_of_one_job(study: dict[str, Any], tmp_path: Path) -> None:
    folder = runs.write_finetune(tmp_path, "pld", 1, tasks=["rte"])
    edit(folder / "summary.json", lambda values: values.update(checkpoint="ckp87"))
    with pytest.raises(RecordError, match=r"glue: .*checkpoint"):
        load_evidence(study["pretrain"], [folder])


def test_a_fine_tuning_that_is_given_twice_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    folder = runs.write_finetune(tmp_path, "pld", 1, tasks=["rte"])
    again = shutil.copytree(folder, tmp_path / "again")
    with pytest.raises(RecordError, match="again are both"):
        load_evidence(study["pretrain"], [folder, again])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda values: values["finetune"].update(epochs=1), "epochs"),
        (lambda values: values["finetune"].update(seeds=[1, 2], batch_size=7), "seeds, batch_size"),
        (lambda values: values["inputs"].update(glue="b"), "examples"),
    ],
)
def test_fine_tunings_that_were_made_in_two_ways_are_refused(
    study: dict[str, Any], tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    first, other = (runs.write_finetune(tmp_path, arm, 1, tasks=["rte"]) for arm in ("baseline", "pld"))
    for folder in (first, other):
        edit(folder / "settings.json", lambda values: values["inputs"].update(glue="a"))
    assert load_evidence(study["pretrain"], [first, other]).finetune
    edit(other / "settings.json", change)
    with pytest.raises(RecordError, match=f"pld/.*glue: not fine-tuned as .*baseline/.*: {named}$"):
        load_evidence(study["pretrain"], [first, other])


def test_what_was_made_from_other_weights_is_refused(study: dict[str, Any], tmp_path: Path) -> None:
    """As when a run was trained again after it had been evaluated."""
    tuned = runs.write_finetune(tmp_path, "pld", 1, tasks=["rte"])
    run = next(path for path in study["pretrain"] if path.parts[-2:] == ("pld", "seed1"))
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "checkpoints/ckp186").mkdir(parents=True)
    (copy / "checkpoints/ckp186/model.safetensors").write_bytes(b"weights")
    given = [copy if path == run else path for path in study["pretrain"]]
    own = hashlib.sha256(b"weights").hexdigest()
    edit(tuned / "settings.json", lambda values: values["inputs"].update(weights=own))
    assert load_evidence(given, [tuned]).finetune
    edit(tuned / "settings.json", lambda values: values["inputs"].update(weights="0" * 64))
    with pytest.raises(RecordError, match="glue: made from other weights"):
        load_evidence(given, [tuned])
