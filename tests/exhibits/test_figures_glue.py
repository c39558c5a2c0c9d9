"""Figures 8 to 10, fair budgets and overfitting: what is drawn is what was measured, and what is missing is said."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pldrepro.analysis import glue_curves
from pldrepro.analysis.glue_scores import PRIMARY
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits import figures
from pldrepro.exhibits.figures import budgets, glue
from tests.support import runs
from tests.support.runs import load_evidence

PAPERS = load_papers()
PLD = PAPERS["pld"]
LOSSES = {
    "baseline": 3.0, "preln_higher": 2.75, "pld": 2.5, "pld_theta30": 2.9, "cosine": 2.6,
    "baseline_at_ckp100": 3.3, "baseline_at_pld": 3.02, "preln_higher_at_pld": 2.78,
    "epochs1_pld": 2.6, "epochs1_dropout": 2.7, "epochs1_neither": 2.5,
    "epochs40_pld": 2.8, "epochs40_dropout": 2.85, "epochs40_neither": 2.95,
}  # fmt: skip
GLUE = {
    ("baseline", "ckp186"): 80.0, ("preln_higher", "ckp186"): 81.0, ("pld", "ckp87"): 79.0, ("pld", "ckp100"): 81.0,
    ("pld", "ckp186"): 85.0,
}  # fmt: skip
NAMES = ("figure8", "figure9", "figure10", "fair_budgets", "overfitting")
SEEDS = (1, 2)


def study(root: Path, arms: dict[str, float], rates: dict[float, float]) -> Evidence:
    pretrain = [runs.write_pretrain(root, arm, seed, final_loss=loss) for arm, loss in arms.items() for seed in SEEDS]
    levels = {(arm, seed, at): level + seed for (arm, at), level in GLUE.items() if arm in arms for seed in SEEDS}
    scores = runs.write_scores(root / "scores.csv", levels, rates=rates, finetune_seeds=(1, 2))
    return load_evidence(pretrain, calibration=runs.write_calibration(root), scores=scores)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return study(tmp_path_factory.mktemp("study"), LOSSES, {1e-5: -4.0, 5e-5: 0.0, 1e-4: -1.0})


@pytest.fixture(scope="module")
def drawn(evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    for name in NAMES:
        figures.write_figure(name, evidence, PAPERS, folder / name)
    return folder


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_has_all_its_files(drawn: Path, name: str) -> None:
    assert sorted(path.name for path in drawn.glob(f"{name}.*")) == [
        f"{name}.{suffix}" for suffix in ("csv", "pdf", "png", "svg", "txt")
    ]
    assert len(pd.read_csv(drawn / f"{name}.csv")) > 4
    caption = (drawn / f"{name}.txt").read_text()
    assert "n = 2 pre-training seeds per arm" in caption
    assert "95 % t interval" in caption


@pytest.mark.parametrize("name", NAMES)
def test_without_the_runs_a_figure_says_what_is_missing(tmp_path: Path, name: str) -> None:
    figures.write_figure(name, load_evidence([runs.write_pretrain(tmp_path, "baseline", 1)]), PAPERS, tmp_path / name)
    assert (tmp_path / f"{name}.txt").read_text().startswith("Not measured here: no ")


def row(frame: pd.DataFrame, **keys: object) -> pd.Series:
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, keys
    return frame.iloc[0]


# ---- along the checkpoints ----


def test_every_task_and_the_glue_score_have_a_panel(evidence: Evidence) -> None:
    data = glue_curves.checkpoint_data(evidence)
    assert data["quantity"].unique().tolist() == [*PRIMARY.values(), "glue"]
    found = row(data, arm="pld", checkpoint="ckp100", quantity="rte_accuracy")
    # The best rate of the grid adds nothing; the seeds add 1 and 2.
    assert (found["mean"], found["lowest"], found["highest"], found["n"]) == pytest.approx((82.5, 82, 83, 2))
    assert found["share"] == pytest.approx(100 / 186)
    assert row(data, arm="pld", checkpoint="ckp186", quantity="glue")["mean"] == pytest.approx(86.5)


def test_a_baseline_with_its_final_score_alone_is_a_line_across(evidence: Evidence) -> None:
    figure, _, _ = glue.figure8(evidence, PLD)
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() == "PostLN baseline, at its end"]
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([81.5])
    assert "PostLN baseline, at its end" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_reported_scores_are_drawn_where_they_fit_and_always_said(evidence: Evidence, tmp_path: Path) -> None:
    figure, _, caption = glue.figure8(evidence, PLD)
    crosses = [line for line in figure.axes[-1].get_lines() if line.get_label() == "PLD, reported"]
    assert [line.get_ydata().tolist() for line in crosses] == [[81.6, 82.3, 83.2]]
    assert "(crosses): ckp87 81.6†, ckp100 82.3†, ckp186 83.2†, against 82.1 of its baseline." in caption
    assert "† reported value not checked against the paper itself." in caption
    pretrain = [runs.write_pretrain(tmp_path, arm, 1) for arm in ("baseline", "pld")]
    levels = {("baseline", 1, "ckp186"): 40.0, ("pld", 1, "ckp87"): 41.0, ("pld", 1, "ckp186"): 42.0}
    low = load_evidence(pretrain, scores=runs.write_scores(tmp_path / "scores.csv", levels))
    figure, _, caption = glue.figure8(low, PLD)
    assert "PLD, reported" not in [line.get_label() for line in figure.axes[-1].get_lines()]
    assert "(off the scale of the last panel): ckp87 81.6†, ckp186 83.2†" in caption


# ---- over the grid ----


def test_the_grid_is_medians_over_fine_tuning_seeds_then_means(evidence: Evidence) -> None:
    data = glue_curves.rate_data(evidence)
    found = [row(data, arm="baseline", quantity="mean", learning_rate=rate)["mean"] for rate in (1e-5, 5e-5, 1e-4)]
    assert found == pytest.approx([77.5, 81.5, 80.5])
    assert set(data["quantity"]) == {*PRIMARY.values(), "mean"}
    # PLD's early checkpoints do not belong to it.
    assert row(data, arm="pld", quantity="cola_matthews", learning_rate=5e-5)["mean"] == pytest.approx(86.5)


def test_a_median_is_not_moved_by_one_failed_fine_tuning(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, "baseline", 1)]
    path = runs.write_scores(tmp_path / "scores.csv", {("baseline", 1, "ckp186"): 80.0}, finetune_seeds=(1, 2, 3))
    scores = pd.read_csv(path)
    scores.loc[scores["finetune_seed"] == 2, "value"] = 0.0
    scores.to_csv(path, index=False)
    data = glue_curves.rate_data(load_evidence(pretrain, scores=path))
    assert set(data["mean"]) == {80.0}


def test_the_caption_says_how_far_the_scores_fall_over_the_grid(evidence: Evidence) -> None:
    _, _, caption = glue.figure9(evidence, PLD)
    assert "Best rate minus worst, mean of the tasks: PostLN baseline 4.0; PreLN, higher learning rate 4.0" in caption


def test_a_grid_of_one_rate_is_not_drawn(tmp_path: Path) -> None:
    evidence = study(tmp_path, {"baseline": 3.0, "pld": 2.5}, {1e-3: 0.0})
    _, data, caption = glue.figure9(evidence, PLD)
    assert "the grid of learning rates has one rate, 0.001, so that nothing is said about robustness" in caption
    assert data.empty


def test_the_baseline_and_pld_are_drawn_before_others(evidence: Evidence) -> None:
    arms = [f"arm{number}" for number in range(9)]
    assert glue.drawn(evidence, ["cosine", "pld", *arms, "baseline"]) == ["baseline", "pld", "cosine"]


# ---- theta_bar ----


def test_theta_bar_compares_arms_that_differ_in_nothing_else(evidence: Evidence) -> None:
    assert evidence.theta_arms == {"pld_theta30": 0.3, "pld": 0.5}
    figure, data, caption = budgets.figure10(evidence, PLD)
    assert set(data["theta_bar"]) == {0.3, 0.5, 1.0}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["theta_bar 0.3", "theta_bar 0.5 (PLD)", "theta_bar 1 (no dropping)"]
    assert "Not in this study: pld_theta10, pld_theta70, pld_theta90." in caption


# ---- budgets ----


def test_decayed_runs_are_points_at_their_end_in_their_sources_colour(evidence: Evidence) -> None:
    figure, data, caption = budgets.fair_budgets(evidence, PLD)
    ends = data[data["kind"] == "end"]
    assert ends.groupby("arm")["validation_loss"].mean().to_dict() == pytest.approx(
        {"baseline_at_ckp100": 3.3, "baseline_at_pld": 3.02, "preln_higher_at_pld": 2.78}
    )
    assert ends[ends["arm"] == "baseline_at_pld"]["reference_time"].tolist() == pytest.approx([4.76, 4.76])
    colours = {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}
    points = {bars.get_label(): bars.lines[0].get_color() for bars in figure.axes[0].containers}
    assert points["PostLN, decayed at PLD's end"] == colours["PostLN baseline"]
    assert points["PreLN, decayed at PLD's end"] == colours["PreLN, higher learning rate"]
    assert "Not in this study, fully decayed" not in caption
    assert [text.get_text() for text in figure.axes[0].texts] == ["PLD ckp100", "PLD ckp186"]


def test_what_was_not_decayed_is_named(tmp_path: Path) -> None:
    evidence = study(tmp_path, {arm: LOSSES[arm] for arm in ("baseline", "preln_higher", "pld")}, {1e-4: 0.0})
    _, data, caption = budgets.fair_budgets(evidence, PLD)
    assert set(data["kind"]) == {"curve"}
    assert "Not in this study, fully decayed: PostLN baseline, PreLN, higher learning rate." in caption


def test_overfitting_is_three_lines_over_the_epochs(evidence: Evidence) -> None:
    figure, data, _ = budgets.overfitting(evidence, PLD)
    part = data[(data["treatment"] == "pld") & (data["quantity"] == "minus_neither")]
    assert dict(zip(part["epochs"], part["measured"], strict=True)) == pytest.approx({1: 0.1, 40: -0.15})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "40"]
    assert len(figure.axes[0].containers) == 6
    assert len(figure.axes[1].containers) == 2


def test_a_missing_treatment_is_named(tmp_path: Path) -> None:
    evidence = study(tmp_path, {arm: LOSSES[arm] for arm in ("baseline", "epochs1_pld", "epochs40_pld")}, {1e-4: 0.0})
    figure, _, caption = budgets.overfitting(evidence, PLD)
    assert "Not in this study: dropout, neither." in caption
    assert not figure.axes[1].containers
