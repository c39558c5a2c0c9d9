"""SBLD's tables and figures from synthetic runs of GPT and of images, and PLD's exhibits on such runs."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from pldrepro.analysis import curves, keep, layer_sensitivity
from pldrepro.analysis.claim_estimators import ESTIMATORS, PLD_ESTIMATORS
from pldrepro.analysis.keep import recorded_ranks
from pldrepro.analysis.moved import compare_exhibit
from pldrepro.analysis.reported import load_papers, paper_of
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import accuracy_change, accuracy_gain
from pldrepro.analysis.tidy import COLUMNS, KEYS
from pldrepro.exhibits import figures, tables
from pldrepro.exhibits.figures import costs, lay_out, sbld
from pldrepro.exhibits.figures.style import shared_legend
from pldrepro.policy.drop import DropSettings
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PAPERS = load_papers()
SBLD = PAPERS["sbld"]
LOSSES = {"baseline": 3.0, "pld": 3.02, "sbld": 2.98}
LAMBADA = {
    arm: {"lambada_accuracy": accuracy, "lambada_perplexity": 40.0}
    for arm, accuracy in {"baseline": 0.25, "pld": 0.24, "sbld": 0.26, "sbld_random": 0.2}.items()
}
TOP = {arm: {"accuracy": 0.5, "top5": 0.8} for arm in ("baseline", "pld")} | {"sbld": {"accuracy": 0.52, "top5": 0.79}}
FEW = ("baseline", "pld", "sbld")


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return runs.sbld_study(tmp_path_factory.mktemp("gpt"), "gpt", losses=LOSSES, scores=LAMBADA)


@pytest.fixture(scope="module")
def swin(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return runs.sbld_study(tmp_path_factory.mktemp("swin"), "swinv2", arms=FEW, losses=LOSSES, scores=TOP)


@pytest.fixture(scope="module")
def both(gpt: Evidence, swin: Evidence) -> Evidence:
    return replace(gpt, others=(swin,))


def value(frame: pd.DataFrame, arm: str, quantity: str, axis: str = "") -> Any:
    part = frame[(frame["arm"] == arm) & (frame["quantity"] == quantity) & (frame["cost_axis"] == axis)]
    assert len(part) == 1
    return part.iloc[0]


# ---- tables ----


def test_sbld_is_compared_with_the_mean_over_the_random_rankings_of_its_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = {"label": "random ranking 2", "drop": {"dialect": "sbld", "ranking": "random", "ranking_seed": 1}}
    monkeypatch.setitem(runs.SBLD_ARMS, "sbld_random2", again)
    losses = {"baseline": 3.0, "sbld": 2.9, "sbld_random": 3.0, "sbld_random2": 3.4}
    study = runs.sbld_study(tmp_path, "gpt", arms=tuple(losses), losses=losses)
    row = value(tables.sbld_table1(study, SBLD), "sbld", "validation_loss_minus_random")
    assert (row["measured"], row["n"]) == (pytest.approx(-0.3), 2)


def test_table_1_has_losses_and_accuracies_with_paired_differences(both: Evidence) -> None:
    frame = tables.sbld_table1(both, SBLD)
    # Seeds 1 and 2 add 0.01 of a nat and 0.1 of a point each.
    expected = {
        "validation_loss": 2.995, "validation_loss_minus_baseline": -0.02, "validation_loss_minus_pld": -0.04,
        "perplexity": math.exp(2.995), "lambada_accuracy": 26.15, "lambada_accuracy_minus_baseline": 1.0,
        "lambada_accuracy_minus_pld": 2.0, "lambada_accuracy_change": 3.97616, "lambada_perplexity": 40.0015,
    }  # fmt: skip
    for quantity, number in expected.items():
        row = value(frame, "sbld", quantity)
        assert row["measured"] == pytest.approx(number, rel=1e-5), quantity
        assert row["n"] == 2


def test_reported_numbers_stand_beside_sbld_on_gpt_alone(both: Evidence) -> None:
    first, second = (tables.TABLES[name][0](both, SBLD) for name in ("sbld_table1", "sbld_table2"))
    reported = first[first["reported"].notna()]
    assert set(
        zip(reported["arm"], reported["quantity"], reported["cost_axis"], reported["reported"], strict=True)
    ) == {
        ("sbld", "saved_over_baseline", "reference_time", 19.67),
        ("sbld", "saved_over_baseline", "measured_time", 19.67),
        ("sbld", "lambada_accuracy_change", "", 1.65),
    }
    assert second["reported"].isna().all()
    rows = {row[0]: row for row in shown("sbld_table1", both)[1].rows}
    assert rows["SBLD (our reading)"][3] == "19.67"
    assert rows["PLD"][3] == "–"


def test_the_analysis_is_charged_to_the_arms_that_make_one(tmp_path: Path) -> None:
    study = runs.sbld_study(tmp_path, "gpt", arms=FEW, seeds=(1,))
    charged = value(tables.sbld_table1(study, SBLD), "sbld", "saved_over_baseline", "reference_time")["measured"]
    share = value(tables.sbld_table1(study, SBLD), "sbld", "analysis_share", "reference_time")["measured"]
    summary = study.runs("sbld")[0].folder / "summary.json"
    summary.write_text(json.dumps({**json.loads(summary.read_text()), "analysis_passes": 0}))
    again = load_evidence([run.folder for run in study.pretrain], calibration=tmp_path / "gpt/runs/calibration")
    free = value(tables.sbld_table1(again, SBLD), "sbld", "saved_over_baseline", "reference_time")["measured"]
    # 10 passes at full depth beside the 400 of the baseline's run.
    assert free - charged == pytest.approx(2.5)
    assert share == pytest.approx(100 * 0.025 / (1 - charged / 100))
    assert value(tables.sbld_table1(again, SBLD), "sbld", "analysis_share", "reference_time")["n"] == 0
    assert value(tables.sbld_table1(again, SBLD), "pld", "analysis_share", "measured_time")["n"] == 0


def test_table_2_has_top_1_and_top_5_and_no_lambada(both: Evidence) -> None:
    frame = tables.sbld_table2(both, SBLD)
    assert value(frame, "sbld", "accuracy")["measured"] == pytest.approx(52.15)
    assert value(frame, "sbld", "accuracy_minus_pld")["measured"] == pytest.approx(2.0)
    assert value(frame, "sbld", "top5_minus_baseline")["measured"] == pytest.approx(-1.0)
    assert not frame["quantity"].str.contains("lambada").any()
    first, second = shown("sbld_table2", both)
    assert "SwinV2" in first.title
    assert [row[0] for row in first.rows] == ["no dropping", "PLD", "SBLD (our reading)"]
    (absent,) = (note for note in first.notes if note.startswith("Not in this study: "))
    assert {"sbld_random", "sbld_depth", "sbld_reversed"} <= set(re.findall(r"[a-z_]+", absent))
    assert second.rows[2][1] == "3.00 / 2.92"


def test_a_set_without_the_study_says_so(gpt: Evidence, swin: Evidence) -> None:
    assert tables.sbld_table2(gpt, SBLD).empty
    (table,) = shown("sbld_table2", gpt)
    assert table.rows == ()
    assert table.notes == ("Not measured here: no study of SwinV2 or ViT in this set (GPT).",)
    (table,) = shown("sbld_table1", swin)
    assert table.notes == ("Not measured here: no study of GPT in this set (SwinV2).",)


def test_without_lambada_the_losses_are_left(tmp_path: Path) -> None:
    study = runs.sbld_study(tmp_path, "gpt", arms=FEW, seeds=(1,), losses=LOSSES)
    table, _ = shown("sbld_table1", study)
    assert table.rows[2][1:8] == ("2.990", "−0.020", "−0.040", "–", "19.9", "–", "–")
    assert "The data of this study have no LAMBADA passages: no accuracy to compare." in table.notes


def test_a_model_that_gets_nothing_right_has_no_relative_change(tmp_path: Path) -> None:
    pretrain = [
        runs.write_pretrain(tmp_path, arm, 1, family="gpt", scores={"lambada_accuracy": accuracy})
        for arm, accuracy in (("baseline", 0.0), ("sbld", 0.01))
    ]
    study = load_evidence(pretrain, lambada=sorted((tmp_path / "runs/lambada").glob("*/*")))
    assert accuracy_change(study, "sbld", "baseline", "lambada_accuracy") is None
    gain = accuracy_gain(study, "sbld", "baseline", "lambada_accuracy")
    assert gain is not None
    assert gain.estimate.value == pytest.approx(1.0)


def test_the_new_tables_can_be_compared_between_two_folders(both: Evidence, tmp_path: Path) -> None:
    tables.write_table("sbld_table1", both, PAPERS, tmp_path / "sbld_table1")
    path = tmp_path / "sbld_table1.csv"
    found = compare_exhibit(path, path)
    assert set(found["happened"]) == {""}
    assert len(found) > 50


def test_sbld_is_an_arm_of_plds_tables_on_bert_and_of_none_of_its_own_figures(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, seed) for arm in (*runs.ARMS, "sbld") for seed in (1, 2)]
    study = load_evidence(pretrain, calibration=runs.write_calibration(tmp_path))
    assert study.undropped_twin("sbld") == "preln_higher"
    assert sbld.studies(study) == []
    for name in ("table3", "time_to_target", "memory", "seeds"):
        assert any("SBLD (our reading)" in row[0] for table in shown(name, study) for row in table.rows)


# ---- figures ----


def test_sensitivity_by_layer_has_scores_ranks_and_lists(gpt: Evidence) -> None:
    data = layer_sensitivity.sensitivity_data(gpt)
    part = data[(data["arm"] == "sbld") & (data["seed"] == 1)]
    assert part["score"].tolist() == pytest.approx([0.4, 0.1, 0.3, 0.2], abs=1e-5)
    assert part["rank"].tolist() == [1, 4, 2, 3]
    assert part["list"].tolist() == ["block", "allow", "neutral", "neutral"]
    assert set(data["arm"]) == {"sbld", "sbld_reversed", "pld_by_sensitivity"}
    reverse = data[(data["arm"] == "sbld_reversed") & (data["seed"] == 1)]
    assert reverse["rank"].tolist() == [4, 1, 3, 2]


@pytest.mark.parametrize(("rank", "expected"), [(1, "block"), (2, "neutral"), (6, "neutral"), (7, "allow")])
def test_the_lists_of_8_layers(rank: int, expected: str) -> None:
    assert layer_sensitivity.list_of(DropSettings(dialect="sbld"), rank, 8) == expected


def test_keep_probabilities_follow_the_recorded_ranks(gpt: Evidence) -> None:
    data = keep.keep_map(gpt, "sbld")
    start, end = (data[data["step"] == step].set_index("layer")["keep_probability"] for step in (0, 399))
    assert start.tolist() == [1, 1, 1, 1]
    # At theta 0.5 the mean keep of 4 layers is 1 - 0.5 x 5/8; the weights of ranks 1, 4, 2, 3 are 0, 2, 1/2, 3/4.
    assert end.mean() == pytest.approx(0.6875, abs=1e-6)
    assert end.tolist() == pytest.approx([1, 1 - 1.25 * 2 / 3.25, 1 - 1.25 / 6.5, 1 - 1.25 * 0.75 / 3.25], abs=1e-5)
    kept = data.groupby("layer")["kept"].first()
    assert kept[1] == 1
    mean = sum(run.summary.mean_kept_layers for run in gpt.runs("sbld")) / 2
    assert kept.sum() == pytest.approx(mean)


def test_ranks_that_are_measured_again_count_from_there(gpt: Evidence) -> None:
    run = gpt.runs("sbld")[0]
    (line,) = run.sensitivity
    lines = [
        line.model_copy(update={"step": step, "ranks": ranks}) for step, ranks in ((4, [1, 2, 3, 4]), (9, [4, 3, 2, 1]))
    ]
    run = replace(run, metrics=lines)
    assert [recorded_ranks(run, step) for step in (3, 4, 8, 9)] == [None, (1, 2, 3, 4), (1, 2, 3, 4), (4, 3, 2, 1)]
    assert recorded_ranks(gpt.runs("sbld_depth")[0], 0) == (1, 2, 3, 4)
    drawn = recorded_ranks(gpt.runs("sbld_random")[0], 0)
    assert drawn is not None
    assert sorted(drawn) == [1, 2, 3, 4]


def test_the_analysis_shifts_the_loss_curve(gpt: Evidence) -> None:
    data = curves.loss_data(gpt, ["sbld", "sbld_random"])
    times = data[data["seed"] == 1].set_index(["arm", "step"])["reference_time"]
    # The first 20 steps are at full depth, 14 ms each; the analysis that follows costs SBLD 10 of them.
    assert (times["sbld", 20], times["sbld_random", 20]) == pytest.approx((0.28, 0.28))
    assert times["sbld", 40] - times["sbld_random", 40] == pytest.approx(0.14, abs=0.02)


@pytest.mark.parametrize("name", ["sbld_sensitivity", "sbld_keep", "sbld_loss"])
def test_a_figure_is_written_with_its_data_and_caption(both: Evidence, tmp_path: Path, name: str) -> None:
    figures.write_figure(name, both, PAPERS, tmp_path / name)
    assert (tmp_path / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert set(pd.read_csv(tmp_path / f"{name}.csv")["family"]) == {"gpt", "swinv2"}
    caption = (tmp_path / f"{name}.txt").read_text(encoding="utf-8")
    assert "n = 2" in caption
    assert "Measured on" not in caption


def test_at_most_six_arms_are_drawn_and_the_others_are_in_the_data(both: Evidence) -> None:
    figure, data, caption = sbld.sbld_loss(both, SBLD)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "no dropping", "PLD", "SBLD (our reading)", "SBLD, reversed ranking", "SBLD, random ranking",
        "PLD's schedule by sensitivity",
    ]  # fmt: skip
    plt.close(figure)
    assert set(data[data["family"] == "gpt"]["arm"]) == {"baseline", "pld", *runs.SBLD_ARMS}
    assert "Only in the data file: SBLD, ranking by depth; PWEGD by depth." in caption


def test_measures_again_are_fainter_lines(tmp_path: Path) -> None:
    study = runs.sbld_study(tmp_path, "gpt", arms=FEW, seeds=(1,), drop={"sensitivity": {"refresh_share": 0.5}})
    figure, data, caption = sbld.sbld_sensitivity(study, SBLD)
    assert data[data["layer"] == 1][["refresh", "step"]].to_numpy().tolist() == [[0, 20], [1, 220]]
    lines = [line for line in figure.axes[0].lines if line.get_linestyle() == "-"]
    assert [line.get_alpha() for line in lines] == [None, 0.35]
    assert "Fainter lines: measured again later" in caption
    plt.close(figure)


def test_without_sbld_its_figures_say_so(tmp_path: Path) -> None:
    study = load_evidence([runs.write_pretrain(tmp_path, arm, 1) for arm in ("baseline", "pld")])
    captions = [figures.FIGURES[f"sbld_{name}"](study, SBLD)[2] for name in ("sensitivity", "keep", "loss")]
    plt.close("all")
    assert captions == [
        "Not measured here: no SBLD arm with an analysis of sensitivity in this set.",
        "Not measured here: no SBLD arm in this set.",
        "Not measured here: no study of GPT or of images in this set.",
    ]


# ---- PLD's exhibits on other models ----


@pytest.fixture(scope="module", params=["gpt", "swinv2", "vit"])
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A set whose first study is not of BERT: no fine-tuning, no probes, no scores."""
    return runs.sbld_study(tmp_path_factory.mktemp("alone"), request.param, arms=FEW)


@pytest.mark.parametrize("name", list(tables.TABLES))
def test_every_table_can_be_set_for_every_family(alone: Evidence, name: str) -> None:
    frame, shown = tables.build(name, alone, PAPERS)
    assert list(frame) == list(COLUMNS)
    assert not frame.duplicated(list(KEYS)).any()
    for table in shown:
        assert table.rows or table.notes
        assert all(len(row) == len(table.headers) for row in table.rows)
        if not name.startswith("sbld"):
            assert table.notes[-1].endswith("what the paper reports is of BERT.")


@pytest.mark.parametrize("name", list(figures.FIGURES))
def test_every_figure_can_be_drawn_for_every_family(alone: Evidence, name: str) -> None:
    figure, data, caption = figures.FIGURES[name](alone, paper_of(name, PAPERS))
    plt.close(figure)
    assert caption
    assert data.empty == caption.startswith("Not measured here")
    assert "masked" not in caption


def test_every_measure_finds_something_or_says_why_not(alone: Evidence) -> None:
    for name, measure in ESTIMATORS.items():
        found = measure(alone)
        assert found.paired is not None or found.note, name
    assert [name for name in PLD_ESTIMATORS if ESTIMATORS[name](alone).paired is not None] == [
        "time_saving", "flops_saving", "speedup_equal_samples", "speedup_to_baseline_loss",
        "sample_saving_to_baseline_loss", "flops_at_the_limit",
    ]  # fmt: skip


def test_step_times_of_every_study_are_drawn(both: Evidence) -> None:
    figure, data, caption = costs.step_time(both, PAPERS["pld"])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["GPT", "SwinV2"]
    (legend,) = figure.legends
    assert [text.get_text().split(":")[0] for text in legend.get_texts()] == [
        "GPT, PreLN, 4 layers", "SwinV2, LayerNorm before the sum, 4 layers",
    ]  # fmt: skip
    plt.close(figure)
    assert data.groupby("family").size().to_dict() == {"gpt": 5, "swinv2": 5}
    assert "runs are priced by stage" in caption


def test_plds_figures_name_the_models_that_are_not_the_papers(gpt: Evidence, tmp_path: Path) -> None:
    figures.write_figure("figure7", gpt, PAPERS, tmp_path / "figure7")
    caption = (tmp_path / "figure7.txt").read_text(encoding="utf-8")
    assert "(next token, held-out data)" in caption
    assert caption.endswith("Measured on GPT; the paper's figure is of BERT.\n")


@pytest.mark.parametrize(("longest", "columns"), [(10, 3), (20, 2), (40, 1)])
def test_a_shared_legend_has_as_many_columns_as_fit(longest: int, columns: int) -> None:
    figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
    for name in "abcd":
        ax.plot([0, 1], label=name * longest)
    shared_legend(figure, [ax])
    lay_out(figure)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert len({round(text.get_window_extent().x0) for text in legend.get_texts()}) == columns
    plt.close(figure)


def test_a_figure_is_laid_out_once_for_its_three_files(
    gpt: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out: list[Figure] = []
    execute = ConstrainedLayoutEngine.execute

    def counted(engine: ConstrainedLayoutEngine, figure: Figure) -> Any:
        laid_out.append(figure)
        return execute(engine, figure)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", counted)
    figures.write_figure("sbld_keep", gpt, PAPERS, tmp_path / "sbld_keep")
    assert len(laid_out) == 1
