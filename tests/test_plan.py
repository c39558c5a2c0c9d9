"""The plan of a study, against numbers worked by hand."""

from pathlib import Path

import pytest

from pldrepro.config import SettingsError, load_study
from pldrepro.flops import parameter_count
from pldrepro.plan import Device, finetune_count, load_device, plan_arm, render_plan

DEVICE = Device(peak=1e12, utilisation=0.5, note="a card")


def test_the_papers_own_settings() -> None:
    paper = load_study(Path("config/paper.yaml"))
    baseline, pld = (plan_arm(paper.run(arm, 1), DEVICE) for arm in ("baseline", "pld"))
    assert baseline.steps == 200_000
    assert baseline.tokens == 200_000 * 4096 * 128
    assert (baseline.kept_depth, baseline.num_layers) == (12, 12)
    assert pld.kept_depth == pytest.approx(9.28, abs=0.01)
    assert 0.75 < pld.flops / baseline.flops < 0.82
    # 4 bytes for each parameter of eight checkpoints, and of a resume state of weights and two moments.
    assert baseline.disk_bytes == 44 * parameter_count(paper.run("baseline", 1).model)
    assert baseline.hours == pytest.approx(baseline.flops / 0.5e12 / 3600)


def test_an_arm_with_a_budget_costs_what_plds_checkpoint_does() -> None:
    paper = load_study(Path("config/paper.yaml"))
    pld, baseline = (plan_arm(paper.run(arm, 1), DEVICE) for arm in ("pld", "baseline_at_pld"))
    assert baseline.flops == pytest.approx(pld.flops, rel=1e-4)
    assert baseline.steps < 160_000


def test_render_names_every_arm_and_the_sums() -> None:
    study = load_study(Path("config/smoke.yaml"))
    text = render_plan(study, "card", DEVICE)
    assert "4 arms x 2 seeds = 8 pre-training runs, 12 fine-tuning jobs" in text
    for arm in study.settings.arms:
        assert f"\n{arm} " in text
    assert "device card: 1 TFLOP/s peak, 50% of it assumed (a card)" in text
    assert text.splitlines()[-1].startswith("all seeds: ")


def test_fine_tuning_runs_are_checkpoints_times_tasks_times_rates_times_seeds() -> None:
    paper = load_study(Path("config/paper.yaml"))
    # 3 seeds x (10 arms with one checkpoint + the baseline and PLD with five) x 8 tasks x 6 rates x 5 seeds
    assert finetune_count(paper) == 3 * (10 + 10) * 8 * 6 * 5


@pytest.mark.parametrize("name", ["cpu-2-cores", "v100", "a100", "h100"])
def test_shipped_devices(name: str) -> None:
    device = load_device(name)
    assert device.peak > 0
    assert 0 < device.utilisation <= 1


def test_an_unknown_device_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"device 'tpu' is not in .*; allowed: cpu-2-cores, v100"):
        load_device("tpu")
    path = tmp_path / "devices.yaml"
    path.write_text("mine: {peak: fast, utilisation: 1, note: x, price: 3}")
    with pytest.raises(SettingsError, match=r"mine: peak: Input should be a valid number.*; price: unknown key"):
        load_device("mine", path)
