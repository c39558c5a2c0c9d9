"""The plan of a study, against numbers worked by hand, recorded runs and what Snakemake would do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from pldrepro.__main__ import main
from pldrepro.config.study import Study, load_study
from pldrepro.costs.flops import parameter_count
from pldrepro.costs.plan import (
    GLUE_EXAMPLES,
    Device,
    Price,
    ReferenceCard,
    count_jobs,
    data_bytes,
    expected_passes,
    finetune_count,
    finetune_flops,
    glue_examples,
    hours_text,
    kept_layers_chances,
    load_card,
    load_device,
    plan_arm,
    render_plan,
    rule_prices,
    study_disk,
    sum_prices,
)
from pldrepro.errors import SettingsError
from pldrepro.files import read_json
from pldrepro.policy.drop import mean_expected_depth
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.step_times import load_calibration
from tests.support.repository import copy_repository, planned

DEVICE = Device(peak=1e12, utilisation=0.5, note="a card")
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
    baseline, pld = (plan_arm(paper.run(arm, 1), DEVICE) for arm in ("baseline", "pld"))
    assert baseline.steps == 200_000
    assert baseline.tokens == 200_000 * 4096 * 128
    assert (baseline.kept_depth, baseline.num_layers) == (12, 12)
    assert pld.kept_depth == pytest.approx(9.28, abs=0.01)
    assert 0.75 < pld.flops / baseline.flops < 0.82
    assert baseline.hours == pytest.approx(baseline.flops / 0.5e12 / 3600)


def test_a_checkpoint_of_bert_base_has_four_bytes_for_each_of_its_110_million_parameters(paper: Study) -> None:
    plan = plan_arm(paper.run("baseline", 1), DEVICE)
    assert plan.parameters == parameter_count(paper.run("baseline", 1).model)
    assert plan.parameters == pytest.approx(110e6, rel=0.002)
    assert plan.checkpoint_bytes == 8 * 4 * plan.parameters  # eight of them stay
    assert plan.resume_bytes == 3 * 4 * plan.parameters  # weights and two moments


def test_an_arm_with_a_budget_costs_what_plds_checkpoint_does(paper: Study) -> None:
    pld, baseline = (plan_arm(paper.run(arm, 1), DEVICE) for arm in ("pld", "baseline_at_pld"))
    assert baseline.flops == pytest.approx(pld.flops, rel=1e-4)
    assert baseline.steps < 160_000


# ---- jobs ----


def test_fine_tuning_runs_are_checkpoints_times_tasks_times_rates_times_seeds(paper: Study) -> None:
    # 3 seeds x (15 arms with one checkpoint, and the baseline and PLD with five) x 8 tasks x 6 rates x 5 seeds
    assert finetune_count(paper) == 3 * (10 + 10) * 8 * 6 * 5


@pytest.mark.parametrize("name", ["smoke", "paper", "paper_gpt", "paper_images"])
def test_jobs_are_those_of_a_dry_run(name: str, tmp_path: Path) -> None:
    path = f"config/{name}.yaml"
    jobs = planned(copy_repository(tmp_path), "--configfile", path)
    assert dict(count_jobs(load_study(Path(path)))) == jobs


def test_jobs_of_the_paper(paper: Study) -> None:
    jobs = count_jobs(paper)
    assert (jobs["pretrain"], jobs["settings"], jobs["probe"], jobs["finetune"]) == (51, 51, 51, 300)
    assert (jobs["corpus"], jobs["glue"], jobs["calibrate"], jobs["lambada"]) == (1, 1, 1, 0)


# ---- hours by rule ----


def test_fine_tuning_passes_every_example_of_every_task(paper: Study, smoke: Study) -> None:
    assert sum(train for train, _ in glue_examples(paper).values()) == 949_098
    run = paper.run("baseline", 1)
    # A block of H 768 at 128 tokens: 3 x (2 x 128 x 12 x 768^2 + 4 x 128^2 x 768) FLOPs, twelve of them.
    example = 12 * 3 * (2 * 128 * 12 * 768**2 + 4 * 128**2 * 768)
    assert finetune_flops(paper, run) == pytest.approx(6 * 5 * (5 * 949_098 + 69_640 / 3) * example)
    assert glue_examples(smoke)["rte"] == (64, 64)
    assert glue_examples(smoke)["mnli"] == (64, 128)


def test_the_sizes_of_glue_are_those_of_the_recorded_data() -> None:
    tasks = read_json(RECORDED / "cpu-mini/glue-manifest.json")["tasks"]
    for name, splits in tasks.items():
        examples = {split: part["examples"] for split, part in splits.items() if "examples" in part}
        train = examples.pop("train")
        assert (train, sum(examples.values())) == GLUE_EXAMPLES[name], name


def test_an_unknown_task_is_named_with_those_there_are(tmp_path: Path) -> None:
    values = yaml.safe_load(Path("config/smoke.yaml").read_text("utf-8"))
    path = tmp_path / "odd.yaml"
    path.write_text(
        yaml.safe_dump({**values, "finetune": {"groups": {"glue": ["rte", "wnli"]}, "sequence_length": 48}}), "utf-8"
    )
    with pytest.raises(SettingsError, match=r"finetune.groups: no such task: wnli; allowed: rte, mrpc"):
        rule_prices(load_study(path), DEVICE)


def test_the_sum_is_over_companions_and_seeds(smoke: Study) -> None:
    whole = rule_prices(smoke, DEVICE)
    files = [Path(f"config/{name}.yaml") for name in ("smoke", "smoke_gpt", "smoke_images")]
    settings = [{**yaml.safe_load(file.read_text("utf-8")), "companions": {}} for file in files]
    alone = [rule_prices(load_study(one), DEVICE) for one in settings]
    assert [sorted(part) for part in alone] == [
        ["calibrate", "finetune", "pretrain", "probe"], ["calibrate", "lambada", "pretrain"], ["calibrate", "pretrain"],
    ]  # fmt: skip
    added = sum_prices(alone)
    assert {rule: price.seconds for rule, price in whole.items()} == pytest.approx(
        {rule: price.seconds for rule, price in added.items()}
    )
    one_seed = {**smoke.settings.model_dump(), "seeds": (1,), "companions": {}}
    assert 2 * rule_prices(load_study(one_seed), DEVICE)["pretrain"].seconds == pytest.approx(
        alone[0]["pretrain"].seconds
    )


def test_training_is_nearly_all_of_a_long_run(paper: Study) -> None:
    trained = sum(plan_arm(paper.run(arm, 1), DEVICE).price.seconds for arm in paper.settings.arms)
    validated = rule_prices(paper, DEVICE)["pretrain"].seconds / 3 - trained
    assert 0 < validated < 1e-5 * trained


# ---- reference cards ----


def test_a_full_depth_run_costs_its_passes_at_the_whole_depth(card: ReferenceCard) -> None:
    run = load_study(Path("config/mini.yaml")).run("preln", 1)
    tau = load_calibration(RECORDED / "cpu-mini-ablation/calibration").shapes[1]
    assert (tau.norm, tau.num_layers) == ("pre", 4)
    assert card.training(run) == Price(pytest.approx(5000 * tau.median[4]), extrapolated=False)


@pytest.mark.parametrize(
    ("scale", "folder", "arms"),
    [
        ("mini", "cpu-mini-ablation", ("baseline", "random", "time_only", "shallow", "pld")),
        ("mini_gpt", "cpu-mini-gpt", ("baseline", "pld", "sbld", "sbld_random")),
        ("mini_images", "cpu-mini-images", ("baseline", "pld")),
    ],
)
def test_a_card_prices_a_run_as_the_finished_one_is_priced(
    card: ReferenceCard, scale: str, folder: str, arms: tuple[str, ...]
) -> None:
    study, calibration = load_study(Path(f"config/{scale}.yaml")), load_calibration(RECORDED / folder / "calibration")
    for arm in arms:
        done = load_pretrain(RECORDED / folder / f"pretrain/{arm}/seed1")
        priced = calibration.shape_of(done).price(done.summary.passes_by_kept_layers, done.summary.passes_by_layer)
        # What was drawn differs a little from what was expected.
        assert card.training(study.run(arm, 1)).seconds == pytest.approx(priced, rel=0.01), arm


def test_what_was_not_calibrated_is_scaled_by_flops_and_marked(card: ReferenceCard) -> None:
    mini = load_study(Path("config/mini.yaml")).run("preln", 1)
    other = mini.model_copy(update={"model": mini.model.model_copy(update={"ffn_size": 512})})
    price = card.training(other)
    assert price.extrapolated
    expected = card.training(mini).seconds * plan_arm(other, DEVICE).flops / plan_arm(mini, DEVICE).flops
    # The nearest shape is one of 4 layers, PreLN or PostLN, whose step times differ by a few percent.
    assert price.seconds == pytest.approx(expected, rel=0.03)
    assert hours_text(Price(7200.0, extrapolated=True)) == "~2"
    assert hours_text(Price(3600.0 * 12345)) == "12,345"


def test_layers_are_kept_independently() -> None:
    assert kept_layers_chances([0.5, 0.5]) == [0.25, 0.5, 0.25]
    assert kept_layers_chances([1.0, 0.25]) == [0.0, 0.75, 0.25]


@pytest.mark.parametrize("arm", ["pld", "random", "pld_no_train_no_gain", "stacking", "sbld"])
def test_expected_passes_add_up(arm: str) -> None:
    run = load_study(Path("config/demo_full.yaml")).run(arm, 1)
    by_kept_layers, by_layer = expected_passes(run)
    assert sum(by_kept_layers) == pytest.approx(1000)
    kept = sum(k * passes for k, passes in enumerate(by_kept_layers))
    assert sum(by_layer) == pytest.approx(kept)
    if run.drop.if_all_dropped == "run_all":
        assert by_kept_layers[0] == 0
    else:
        assert kept / 1000 == pytest.approx(mean_expected_depth(run.drop, 1000, 4))


# ---- disk ----


def test_disk_of_the_smoke_study(smoke: Study) -> None:
    disk = study_disk(smoke)
    families = [
        (one, [4 * parameter_count(one.run(arm, 1).model) * len(one.settings.seeds) for arm in one.settings.arms])
        for one in smoke.all
    ]
    assert disk.checkpoints == 7 * sum(families[0][1]) + 2 * (sum(families[1][1]) + sum(families[2][1]))
    assert disk.resume == 3 * sum(sum(sizes) for _, sizes in families)
    # Two checkpoints of the baseline and PLD and one of the others, in two seeds, for each of eight tasks.
    assert disk.models == sum(8 * n * size for n, size in zip((2, 1, 2, 1), families[0][1], strict=True))
    assert disk.data is not None
    # 64 predictions, two splits of MNLI; one learning rate and seed, and the labels; scores of STS-B have 4 bytes.
    # And of three runs of a GPT two checkpoints, each with 20 passages.
    assert disk.predictions == 2 * 6 * 2 * 64 * (8 * 8 + 4) + 3 * 2 * 20 * 9


def test_data_of_the_papers(paper: Study) -> None:
    size = data_bytes(paper)
    assert size is not None
    assert 5e9 < size < 5e10
    images = data_bytes(load_study(Path("config/paper_images.yaml")))
    assert images == (1_281_167 + 50_000) * (3 * 256 * 256 + 8)
    assert data_bytes(load_study(Path("config/mini_images.yaml"))) is None


# ---- devices ----


@pytest.mark.parametrize("name", ["cpu-2-cores", "v100", "a100", "h100"])
def test_shipped_devices(name: str) -> None:
    device = load_device(name)
    assert isinstance(device, Device)
    assert device.peak > 0
    assert 0 < device.utilisation <= 1
    assert "assumed" in device.describe()


def test_a_card_names_what_was_measured() -> None:
    card = load_card([RECORDED / "cpu-mini-gpt/calibration"])
    assert card.describe() == "measured: cpu, 1 thread; 1 shapes in results/recorded/cpu-mini-gpt/calibration"


def test_an_unknown_device_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"device 'tpu' is not in .*; allowed: cpu-2-cores, v100.*, cpu-1-core"):
        load_device("tpu")
    path = tmp_path / "devices.yaml"
    path.write_text("mine: {peak: fast, utilisation: 1, note: x, price: 3}")
    with pytest.raises(SettingsError, match=r"mine: peak: Input should be a valid number.*; price: unknown key"):
        load_device("mine", path)
    path.write_text("reference_cards: {mine: []}")
    with pytest.raises(SettingsError, match=r"reference_cards: cards\.mine: "):
        load_device("mine", path)


# ---- what is printed ----


def test_render_names_every_arm_rule_and_device(smoke: Study, card: ReferenceCard) -> None:
    text = render_plan([smoke], {"card": DEVICE, "measured": card})
    assert "4 arms x 2 seeds = 8 pre-training runs, 12 fine-tuning jobs" in text
    for one in smoke.all:
        for arm in one.settings.arms:
            assert f"\n{arm} " in text
    for rule, jobs in count_jobs(smoke).items():
        assert re.search(rf"^{rule} +{jobs} ", text, re.MULTILINE)
    assert re.search(r"^total, device hours +64 ", text, re.MULTILINE)
    assert "card: assumed: 1 TFLOP/s peak, 50% of it (a card)" in text
    assert max(map(len, text.splitlines())) < 100


@pytest.mark.parametrize("name", ["paper", "gpu", "demo", "mini", "demo_full"])
def test_a_plan_fits_a_hundred_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    devices = ["v100", "a100", "h100", "cpu-1-core"]
    assert main(["plan", "--configfile", f"config/{name}.yaml", "--device", *devices]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 100


def test_several_files_are_planned_together(capsys: pytest.CaptureFixture[str]) -> None:
    files = [f"config/{name}.yaml" for name in ("smoke", "smoke_gpt")]
    folder = str(RECORDED / "cpu-mini-gpt/calibration")
    assert main(["plan", "--configfile", *files, "--config", "seeds=[3]", "--calibration", folder]) == 0
    text = capsys.readouterr().out
    assert "measured-1" in text
    assert re.search(r"^pretrain +13 ", text, re.MULTILINE)  # 4 of one seed, 3 and 3 of the companions, 3 of the second
