"""The plan of a study, against numbers worked by hand and recorded runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pldrepro.__main__ import main
from pldrepro.config.study import Study, load_study
from pldrepro.costs.flops import parameter_count, run_flops
from pldrepro.costs.plan import (
    AssumedDevice,
    Price,
    ReferenceCard,
    checkpoint_bytes,
    data_bytes,
    expected_passes,
    finetune_flops,
    glue_examples,
    kept_layers_chances,
    load_card,
    load_device,
    planned_steps,
    resume_bytes,
    training_flops,
)
from pldrepro.costs.plan_text import finetune_count, render_plan, time_text
from pldrepro.costs.stages import SENTENCE_TOKENS, asked_checkpoints, contrast_flops, stage_jobs, study_prices
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import mean_expected_depth
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.record import unpack_runs
from pldrepro.runs.step_times import load_calibration

DEVICE = AssumedDevice(peak=1e12, utilisation=0.5, note="a card")
RECORDED = Path("results/recorded")


@pytest.fixture(scope="module")
def paper() -> Study:
    return load_study(Path("config/paper.yaml"))


@pytest.fixture(scope="module")
def smoke() -> Study:
    return load_study(Path("config/smoke.yaml"))


@pytest.fixture(scope="module")
def card() -> ReferenceCard:
    found = load_device("cpu-1-core")
    assert isinstance(found, ReferenceCard)
    return found


# ---- an arm ----


def test_the_papers_own_settings(paper: Study) -> None:
    baseline, pld = paper.run("baseline", 1), paper.run("pld", 1)
    assert planned_steps(baseline) == 200_000
    # A block of H 768 at 128 tokens: 3 x (2 x 128 x 12 x 768^2 + 4 x 128^2 x 768) FLOPs, twelve of them; and the head.
    blocks = 200_000 * 4096 * 12 * 3 * (2 * 128 * 12 * 768**2 + 4 * 128**2 * 768)
    assert 1 < training_flops(baseline) / blocks < 1.05
    assert 0.75 < training_flops(pld) / training_flops(baseline) < 0.82
    assert DEVICE.training(baseline).seconds == pytest.approx(training_flops(baseline) / 0.5e12)


def test_a_checkpoint_of_bert_base_has_four_bytes_for_each_of_its_110_million_parameters(paper: Study) -> None:
    run = paper.run("baseline", 1)
    assert parameter_count(run.model) == pytest.approx(110e6, rel=0.002)
    assert checkpoint_bytes(run) == 8 * 4 * parameter_count(run.model)  # eight of them stay
    assert resume_bytes(run) == 3 * 4 * parameter_count(run.model)  # weights and two moments


def test_an_arm_with_a_budget_costs_what_plds_checkpoint_does(paper: Study) -> None:
    pld, baseline = paper.run("pld", 1), paper.run("baseline_at_pld", 1)
    assert training_flops(baseline) == pytest.approx(training_flops(pld), rel=1e-4)
    assert planned_steps(baseline) < 160_000


# ---- fine-tuning ----


def test_fine_tuning_runs_are_checkpoints_times_tasks_times_rates_times_seeds(paper: Study) -> None:
    # 3 seeds x (11 arms with one checkpoint, and the baseline and PLD with five) x 8 tasks x 6 rates x 5 seeds
    assert finetune_count(paper) == 3 * (11 + 10) * 8 * 6 * 5


def test_fine_tuning_passes_every_example_of_every_task(paper: Study, smoke: Study) -> None:
    assert sum(train for train, _ in glue_examples(paper).values()) == 949_098
    run = paper.run("baseline", 1)
    # A block of H 768 at 128 tokens: 3 x (2 x 128 x 12 x 768^2 + 4 x 128^2 x 768) FLOPs, twelve of them.
    example = 12 * 3 * (2 * 128 * 12 * 768**2 + 4 * 128**2 * 768)
    assert finetune_flops(paper, run) == pytest.approx(6 * 5 * (5 * 949_098 + 69_640 / 3) * example)
    assert glue_examples(smoke)["rte"] == (64, 64)
    assert glue_examples(smoke)["mnli"] == (64, 128)


def test_an_unknown_task_is_named_with_those_there_are(tmp_path: Path) -> None:
    values = yaml.safe_load(Path("config/smoke.yaml").read_text("utf-8"))
    path = tmp_path / "odd.yaml"
    path.write_text(
        yaml.safe_dump({**values, "finetune": {"groups": {"glue": ["rte", "wnli"]}, "sequence_length": 48}}), "utf-8"
    )
    with pytest.raises(SettingsError, match=r"finetune.groups: .*wnli"):
        study_prices(load_study(path), DEVICE)


def test_prices_are_of_all_seeds_arms_and_checkpoints(smoke: Study) -> None:
    prices = study_prices(smoke, DEVICE)
    runs = [smoke.run(arm, 1) for arm in smoke.settings.arms]
    assert prices["pre-training"].seconds == pytest.approx(2 * sum(map(training_flops, runs)) / 0.5e12)
    # Two checkpoints of the baseline and PLD and one of the others.
    tuned = sum(n * finetune_flops(smoke, run) for n, run in zip((2, 1, 1, 2, 1), runs, strict=True))
    assert prices["fine-tuning"].seconds == pytest.approx(2 * tuned / 0.5e12)
    assert list(study_prices(load_study(Path("config/smoke_gpt.yaml")), DEVICE)) == ["calibration", "pre-training"]


def test_a_run_without_steps_costs_nothing_but_its_fine_tuning(smoke: Study, card: ReferenceCard) -> None:
    scratch = smoke.run("scratch", 1)
    assert training_flops(scratch) == 0
    assert {device.training(scratch).seconds for device in (DEVICE, card)} == {0}
    assert finetune_flops(smoke, scratch) == finetune_flops(smoke, smoke.run("baseline", 1))


# ---- short stages ----


def test_every_stage_has_its_jobs(smoke: Study) -> None:
    # Two processes in turn, five arms and two seeds, two early runs, two arms that are asked.
    assert stage_jobs(smoke) == {
        "calibration": 1, "measured in turn": 2, "pre-training": 10, "probed early": 2, "fine-tuning": 14,
        "contrasts": 4,
    }  # fmt: skip
    assert list(study_prices(smoke, DEVICE)) == list(stage_jobs(smoke))


def test_what_is_short_is_priced_by_its_share_of_the_steps_of_a_run(smoke: Study, card: ReferenceCard) -> None:
    prices = study_prices(smoke, DEVICE)
    # 2 processes of 3 + 6 rounds, of 40 steps; 4 of the 40 steps of runs with three layers.
    arms = [smoke.run(arm, 1) for arm in ("baseline", "preln_higher", "pld")]
    in_turn = 18 / 40 * sum(map(training_flops, arms)) / 0.5e12
    assert prices["measured in turn"].seconds == pytest.approx(in_turn)
    probed = 4 / 40 * sum(training_flops(smoke.early_run(arm, 1)) for arm in ("baseline", "preln")) / 0.5e12
    assert prices["probed early"].seconds == pytest.approx(probed)
    # Two shapes, 2 processes of 2 + 3 rounds, three numbers of layers, 16 sequences: at one layer of two on average.
    shapes = [smoke.run(arm, 1) for arm in ("baseline", "preln_higher")]
    calibration = sum(2 * 5 * 3 * run_flops(run).of(1, 16) for run in shapes) / 0.5e12
    assert prices["calibration"].seconds == pytest.approx(calibration)
    assert study_prices(smoke, card)["measured in turn"].extrapolated


def test_contrasts_cost_their_forward_passes(smoke: Study) -> None:
    run = smoke.run("pld", 1)
    # Two contrasts, 50 items of either word, 24 tokens each, one of them predicted.
    flops = 2 * 24 * (4 * 32**2 + 2 * 32 * 64) + 4 * 24**2 * 32
    assert contrast_flops(smoke, run) == pytest.approx(200 * 2 * flops, rel=0.2)
    assert contrast_flops(smoke, run) > 200 * 2 * flops
    assert asked_checkpoints(smoke, run) == len(run.training.checkpoint_steps())
    mini = load_study(Path("config/mini.yaml"))
    assert asked_checkpoints(mini, mini.run("pld", 1)) == 4
    # An encoder passes each token of 23 x 200 pairs; the decoder of mini_gpt each sentence once.
    pairs = mini.contrasts.model_copy(update={"cloze": ()})
    only = load_study({**mini.settings.model_dump(), "contrasts": pairs.model_dump(), "companions": {}})
    data = {"sequence_length": SENTENCE_TOKENS}
    forward = run_flops(only.run("pld", 1).model_copy(update={"data": only.data().model_copy(update=data)})).of(4) / 3
    assert contrast_flops(only, only.run("pld", 1)) == pytest.approx(23 * 200 * 2 * SENTENCE_TOKENS * forward, rel=0.35)


# ---- reference cards ----


def test_a_full_depth_run_costs_its_passes_at_the_whole_depth(card: ReferenceCard, tmp_path: Path) -> None:
    run = load_pretrain(unpack_runs(RECORDED / "simple/pretrain/preln", tmp_path)[0]).settings
    tau = load_calibration(RECORDED / "simple/calibration").shapes[1]
    assert (tau.norm, tau.num_layers) == ("pre", 4)
    assert card.training(run) == Price(pytest.approx(4000 * tau.median[4]), extrapolated=False)


@pytest.mark.parametrize(
    ("folder", "arms"),
    [
        ("simple", ("baseline", "preln_higher", "pld")),
        ("simple-gpt", ("baseline", "pld", "sbld", "sbld_random")),
        ("images", ("baseline", "pld")),
    ],
)
def test_a_card_prices_a_run_as_the_finished_one_is_priced(
    card: ReferenceCard, folder: str, arms: tuple[str, ...], tmp_path: Path
) -> None:
    calibration = load_calibration(RECORDED / folder / "calibration")
    for arm in arms:
        done = load_pretrain(unpack_runs(RECORDED / folder / "pretrain" / arm, tmp_path / arm)[0])
        priced = calibration.shape_of(done).price(done.summary.passes_by_kept_layers, done.summary.passes_by_layer)
        # What was drawn differs a little from what was expected.
        assert card.training(done.settings).seconds == pytest.approx(priced, rel=0.01), arm


def test_what_was_not_calibrated_is_scaled_by_flops_and_marked(card: ReferenceCard) -> None:
    mini = load_study(Path("config/mini.yaml")).run("preln", 1)
    other = mini.model_copy(update={"model": mini.model.model_copy(update={"ffn_size": 512})})
    price = card.training(other)
    assert price.extrapolated
    expected = card.training(mini).seconds * training_flops(other) / training_flops(mini)
    # The nearest shape is one of 4 layers, PreLN or PostLN, whose step times differ by a few percent.
    assert price.seconds == pytest.approx(expected, rel=0.03)
    assert time_text(Price(7200.0, extrapolated=True)) == "~2 h"
    assert time_text(Price(3600.0 * 32_918)) == "3.76 years"


def test_layers_are_kept_independently() -> None:
    assert kept_layers_chances([0.5, 0.5]) == [0.25, 0.5, 0.25]
    assert kept_layers_chances([1.0, 0.25]) == [0.0, 0.75, 0.25]


@pytest.mark.parametrize("arm", ["pld", "random", "pld_no_train_no_gain", "stacking", "sbld"])
def test_expected_passes_add_up(arm: str) -> None:
    run = load_study(Path("config/demo_full.yaml")).run(arm, 1)
    by_kept_layers, by_layer = expected_passes(run)
    steps = run.training.num_steps
    assert sum(by_kept_layers) == pytest.approx(steps)
    kept = sum(k * passes for k, passes in enumerate(by_kept_layers))
    assert sum(by_layer) == pytest.approx(kept)
    if run.drop.empty_draw == "run_all":
        assert by_kept_layers[0] == 0
    else:
        # the plan samples 1,000 of the steps
        assert kept / steps == pytest.approx(mean_expected_depth(run.drop, steps, 4), rel=1e-3)


# ---- data on the disk ----


def test_data_of_the_papers(paper: Study) -> None:
    size = data_bytes(paper.data())
    assert size is not None
    assert 5e9 < size < 5e10
    images = load_study(Path("config/paper_images.yaml"))
    assert data_bytes(images.data()) == (1_281_167 + 50_000) * (3 * 256 * 256 + 8)
    assert data_bytes(load_study(Path("config/mini_images.yaml")).data()) is None


# ---- devices ----


@pytest.mark.parametrize("name", ["cpu-2-cores", "v100", "a100", "h100"])
def test_shipped_devices(name: str) -> None:
    device = load_device(name)
    assert isinstance(device, AssumedDevice)
    assert device.peak > 0
    assert 0 < device.utilisation <= 1
    assert "assumed" in device.describe()


def test_a_card_names_what_was_measured() -> None:
    card = load_card([RECORDED / "simple-gpt/calibration"])
    assert card.describe() == "measured: cpu, 1 thread; 1 shapes in results/recorded/simple-gpt/calibration"


def test_an_unknown_device_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"device 'tpu' .*cpu-2-cores, v100.*, cpu-1-core"):
        load_device("tpu")
    path = tmp_path / "devices.yaml"
    path.write_text("mine: {peak: fast, utilisation: 1, note: x, price: 3}")
    with pytest.raises(SettingsError, match=r"mine: peak: .*; price: "):
        load_device("mine", path)
    path.write_text("reference_cards: {mine: []}")
    with pytest.raises(SettingsError, match=r"reference_cards: cards\.mine: "):
        load_device("mine", path)


# ---- what is printed ----


def test_render_names_every_arm_and_device_and_counts_the_runs(smoke: Study, card: ReferenceCard) -> None:
    text = render_plan([smoke], {"card": DEVICE, "measured": card})
    assert "5 arms x 2 seeds = 10 pre-training runs, 14 fine-tuning jobs" in text
    for one in smoke.all:
        for arm in one.settings.arms:
            assert f"\n{arm} " in text
    for stage, jobs in (
        ("calibration", 3),
        ("measured in turn", 2),
        ("pre-training", 17),
        ("fine-tuning", 14),
        ("total", 42),
    ):
        assert re.search(rf"^{stage} +{jobs} ", text, re.MULTILINE)
    assert "card: assumed: 1 TFLOP/s peak, 50% of it (a card)" in text
    runs = [smoke.run(arm, 1) for arm in smoke.settings.arms]
    weights = [4 * (1 if run.arm == "scratch" else 7) * 2 * parameter_count(run.model) for run in runs]
    alone = render_plan([load_study({**smoke.settings.model_dump(), "companions": {}})], {"card": DEVICE})
    assert f"checkpoints that stay     {sum(weights) / 1e6:.3g} MB" in alone


@pytest.mark.parametrize("name", ["paper", "gpu", "demo", "mini", "demo_full"])
def test_a_plan_fits_a_hundred_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    devices = ["v100", "a100", "h100", "cpu-1-core"]
    assert main(["study", "plan", "--configfile", f"config/{name}.yaml", "--device", *devices]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 100


def test_several_files_are_planned_together(capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"config/{name}.yaml" for name in ("smoke", "smoke_gpt")]
    folder = str(RECORDED / "simple-gpt/calibration")
    assert main(["study", "plan", "--configfile", *files, "--config", "seeds=[3]", "--calibration", folder]) == 0
    text = capsys.readouterr().out
    assert "measured-1" in text
    assert re.search(
        r"^pre-training +16 ", text, re.MULTILINE
    )  # 5 of one seed, 4 and 3 of the companions, 4 of the second
