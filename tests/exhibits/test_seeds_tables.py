"""Spread over seeds, its parts, failed fine-tuning and tests on predictions, from synthetic runs with known answers."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from pldrepro.analysis import floors, glue_scores
from pldrepro.analysis.fits import fits, is_trained
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.errors import RecordError
from pldrepro.exhibits import tables
from tests.support import runs
from tests.support.runs import load_evidence, resealed
from tests.support.tables import shown

PAPERS = load_papers()
PLD = PAPERS["pld"]
NAMES = ("seeds", "variance", "stability", "glue_tests")
LOSSES = {
    "baseline": (3.0, 3.1, 3.2, 3.3),
    "preln_higher": (2.8, 2.9, 3.0, 3.1),
    "pld": (2.5, 2.9, 2.7, 3.1),
}


def study(
    root: Path, *, seeds: int = 4, errors: Mapping[str, float] | None = None, finetune_seeds: int = 2, **options: Any
) -> Evidence:
    """Runs with the losses of LOSSES, fine-tuned at their final checkpoint."""
    errors = errors or {"baseline": 0.3, "preln_higher": 0.1, "pld": 0.1}
    pretrain, finetune = [], []
    for arm, losses in LOSSES.items():
        for seed, loss in enumerate(losses[:seeds], start=1):
            pretrain.append(runs.write_pretrain(root, arm, seed, final_loss=loss))
            finetune.append(
                runs.write_finetune(
                    root, arm, seed, errors=errors[arm], finetune_seeds=range(1, finetune_seeds + 1), **options
                )
            )
    glue_scores.write_scores(finetune, root / "scores.csv")
    return load_evidence(pretrain, finetune, scores=root / "scores.csv")


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.analysis.significance.RESAMPLES", 400)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return study(tmp_path_factory.mktemp("study"))


def tidy(name: str, evidence: Evidence) -> pd.DataFrame:
    return tables.TABLES[name][0](evidence, PLD)


def cell(frame: pd.DataFrame, **keys: str) -> Any:
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1
    return frame.iloc[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_has_a_key_of_its_own_and_every_line_its_columns(evidence: Evidence, name: str) -> None:
    frame = tidy(name, evidence)
    assert not frame.duplicated(["arm", "checkpoint", "quantity", "statistic", "against"]).any()
    assert {"measured", "low", "high", "n", "unit", "method", "note"} <= set(frame)
    for table in shown(name, evidence):
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.headers)}


# ---- seeds ----


def test_spread_over_seeds_and_what_would_settle_a_difference(evidence: Evidence) -> None:
    loss = tidy("seeds", evidence).query("quantity == 'validation_loss'")
    mean = cell(loss, arm="pld", statistic="mean")
    assert (mean["measured"], mean["n"], mean["checkpoint"]) == (pytest.approx(2.8), 4, "ckp186")
    deviation = cell(loss, arm="pld", statistic="deviation")
    assert deviation["measured"] == pytest.approx(np.sqrt(0.2 / 3))
    assert deviation["low"] < deviation["measured"] < deviation["high"]
    # Differences to the baseline: -0.5, -0.2, -0.5, -0.2, so mean -0.35 and standard deviation 0.1732.
    difference = cell(loss, arm="pld", statistic="difference", against="baseline")
    assert difference["measured"] == pytest.approx(-0.35)
    assert difference["high"] == pytest.approx(-0.35 + 3.1824 * 0.173205 / 2, abs=1e-4)
    assert cell(loss, arm="pld", statistic="pairs_for_power", against="baseline")["measured"] == 5
    ratio = cell(loss, arm="pld", statistic="deviation_ratio", against="preln_higher")
    assert ratio["measured"] == pytest.approx(2)
    assert ratio["low"] < 1 < ratio["high"]
    assert set(loss[loss["arm"] == "preln_higher"]["against"]) == {"", "baseline"}


def test_a_difference_that_is_the_same_in_all_seeds_needs_two_of_them(evidence: Evidence) -> None:
    loss = tidy("seeds", evidence).query("quantity == 'validation_loss'")
    needed = cell(loss, arm="preln_higher", statistic="pairs_for_power", against="baseline")
    assert needed["measured"] == 2


def test_spreads_are_compared_without_a_side(evidence: Evidence) -> None:
    loss, glue = shown("seeds", evidence)
    assert loss.title.startswith("Over seeds: final validation loss [nats]")
    ratio = cell(tidy("seeds", evidence).query("quantity == 'validation_loss'"), arm="pld", statistic="deviation_ratio",
                 against="baseline")  # fmt: skip
    assert f"{ratio['measured']:.2f} [" in loss.notes[-1]
    assert "no side is judged" in loss.notes[-1]
    assert {row[0] for row in glue.rows} == {"PostLN baseline", "PreLN, higher learning rate", "PLD", ""}


def test_the_bootstrap_over_seeds_is_shown_from_six_seeds_on(tmp_path: Path, evidence: Evidence) -> None:
    assert "difference_bootstrap" not in set(tidy("seeds", evidence)["statistic"])
    pretrain = [
        runs.write_pretrain(tmp_path, arm, seed, final_loss=loss + 0.01 * seed**2)
        for arm, loss in (("baseline", 3.0), ("pld", 2.5))
        for seed in range(1, 7)
    ]
    row = cell(tidy("seeds", load_evidence(pretrain)), arm="pld", statistic="difference_bootstrap")
    assert row["measured"] == pytest.approx(-0.5)
    assert row["n"] == 6


# ---- variance ----


def with_scores(evidence: Evidence, rows: list[tuple[str, int, str, float, int, float]]) -> Evidence:
    """The same runs with other scores: (arm, seed, value name, learning rate, fine-tuning seed, value)."""
    frame = [
        {"arm": arm, "label": runs.ARMS[arm]["label"], "seed": seed, "checkpoint": "ckp186", "learning_rate": rate,
         **dict(zip(("task", "split", "metric"), glue_scores.VALUES[name], strict=True)),
         "finetune_seed": finetune_seed, "value": value, "n": 200}
        for arm, seed, name, rate, finetune_seed, value in rows
    ]  # fmt: skip
    return dataclasses.replace(evidence, scores=pd.DataFrame(frame))


def test_variance_is_parted_at_the_selected_learning_rate(evidence: Evidence) -> None:
    values = {1: (61.0, 63.0), 2: (67.0, 69.0)}
    rows = [
        ("pld", seed, "rte_accuracy", 1e-4, one, value) for seed, vs in values.items() for one, value in enumerate(vs)
    ]
    worse = [("pld", seed, "rte_accuracy", 1e-5, one, 10.0 * one) for seed in values for one in (0, 1)]
    frame = tidy("variance", with_scores(evidence, rows + worse))
    between, within = cell(frame, statistic="between_pretraining"), cell(frame, statistic="between_finetuning")
    assert (between["measured"], between["n"], between["unit"]) == (17, 2, "%²")
    assert (within["measured"], within["n"]) == (pytest.approx(2), 4)
    assert within["low"] < 2 < within["high"]
    (table,) = shown("variance", with_scores(evidence, rows + worse))
    assert table.rows[0][:3] == ("RTE", "PLD", "4.12")
    assert table.rows[0][3].startswith("1.41 [")


def test_one_fine_tuning_seed_parts_nothing_and_says_so(tmp_path: Path) -> None:
    evidence = study(tmp_path, seeds=2, finetune_seeds=1)
    frame = tidy("variance", evidence)
    assert frame["measured"].isna().all()
    (table,) = shown("variance", evidence)
    assert table.notes[-1] == "One fine-tuning seed: the parts cannot be told apart (all values)."
    assert {row[2:] for row in table.rows} == {("–", "–", "–", "–")}


# ---- stability ----


def test_spread_and_failures_of_fine_tuning(evidence: Evidence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "task_floor", lambda *_: "")
    rows = [
        *(("pld", seed, "cola_matthews", 1e-4, one, value) for seed in (1, 2) for one, value in enumerate((0.0, 6.0))),
        *(("pld", seed, "cola_matthews", 1e-5, one, -9.0) for seed in (1, 2) for one in (0, 1)),
        *(("preln_higher", seed, "cola_matthews", 1e-4, one, 5.0 + one) for seed in (1, 2) for one in (0, 1)),
    ]
    frame = tidy("stability", with_scores(evidence, rows))
    pld = frame[frame["arm"] == "pld"]
    assert set(pld["quantity"]) == {"cola_matthews"}
    assert cell(pld, statistic="deviation")["measured"] == pytest.approx(np.sqrt(18))
    assert cell(pld, statistic="range")["measured"] == 6
    assert cell(pld, statistic="constant")["measured"] == 0
    assert cell(pld, statistic="failed")["measured"] == 50  # 0 is not above 0
    assert cell(pld, statistic="failed")["n"] == 4
    assert cell(pld, statistic="failed_all")["measured"] == 75
    ratio = cell(pld, statistic="deviation_ratio")
    assert (ratio["measured"], ratio["against"]) == (pytest.approx(6), "preln_higher")
    other = frame[frame["arm"] == "preln_higher"]
    assert cell(other, statistic="failed")["measured"] == 0
    assert "deviation_ratio" not in set(other["statistic"])


def test_a_run_that_predicts_the_majority_class_has_failed(tmp_path: Path) -> None:
    evidence = study(tmp_path, seeds=2, tasks=["rte", "mrpc"])
    labels = {}
    for folder in (run.folder for run in evidence.finetune if run.summary.arm == "pld"):
        arrays = load_file(folder / "predictions.safetensors")
        labels = {task: arrays[f"labels/{task}/dev"] for task in ("rte", "mrpc")}
        major = {"rte": round(labels["rte"].mean()), "mrpc": 1}
        changed = {key: np.full_like(array, major[key.split("/")[1]]) if key.startswith("predictions/") else array
                   for key, array in arrays.items()}  # fmt: skip
        save_file(changed, folder / "predictions.safetensors")
        resealed(folder)
    scores = glue_scores.score([run.folder for run in evidence.finetune])
    frame = tidy("stability", dataclasses.replace(evidence, scores=scores))
    for name, constant in (
        ("rte_accuracy", 100 * max(labels["rte"].mean(), 1 - labels["rte"].mean())),
        ("mrpc_f1", 200 * labels["mrpc"].mean() / (1 + labels["mrpc"].mean())),
    ):
        pld, other = (frame[(frame["arm"] == arm) & (frame["quantity"] == name)] for arm in ("pld", "preln_higher"))
        assert cell(pld, statistic="constant")["measured"] == pytest.approx(constant)
        assert cell(pld, statistic="failed")["measured"] == 100
        assert cell(other, statistic="failed")["measured"] == 0


def test_without_predictions_failures_are_not_measured(evidence: Evidence) -> None:
    alone = dataclasses.replace(evidence, finetune=())
    frame = tidy("stability", alone)
    assert frame[frame["statistic"] == "failed"]["measured"].isna().all()
    assert frame[frame["statistic"] == "deviation"]["measured"].notna().all()
    (table,) = shown("stability", alone)
    assert "No labels: no fine-tuning runs were given." in table.notes


# ---- tests on predictions ----


def test_differences_are_tested_task_by_task_and_adjusted_over_tasks(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "task_floor", lambda *_: "")
    frame = tidy("glue_tests", evidence)
    assert set(frame["against"]) == {"baseline", "preln_higher"}
    for against in ("baseline", "preln_higher"):
        part = frame[frame["against"] == against]
        assert list(dict.fromkeys(part["quantity"])) == list(glue_scores.PRIMARY.values())
        p = part[part["statistic"] == "p"].set_index("quantity")["measured"]
        adjusted = part[part["statistic"] == "p_holm"].set_index("quantity")["measured"]
        assert (adjusted >= p).all()
        assert adjusted.min() == pytest.approx(min(1.0, 8 * p.min()))
    # 10 % against 30 % of wrong guesses is seen in 200 examples x 8 runs; 10 % against 10 % of other runs is not there.
    assert (frame[(frame["against"] == "baseline") & (frame["statistic"] == "p_holm")]["measured"] < 0.05).all()
    twin = frame[(frame["against"] == "preln_higher") & (frame["statistic"] == "examples")]
    assert twin["measured"].tolist() == [0] * 8


def test_a_task_at_the_floor_has_no_test_no_ratio_and_does_not_count(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "task_floor", lambda _, task: "too low" if task == "cola" else "")
    frame = tidy("glue_tests", evidence)
    part = frame[frame["against"] == "baseline"]
    low = part[part["quantity"] == "cola_matthews"]
    assert low[low["statistic"].isin(["p", "p_holm"])]["measured"].isna().all()
    assert cell(low, statistic="examples")["note"] == "no test of CoLA: too low"
    p, adjusted = (part[part["statistic"] == name].set_index("quantity")["measured"] for name in ("p", "p_holm"))
    assert adjusted.min() == pytest.approx(min(1.0, 7 * p.min()))
    ratios = tidy("stability", evidence)
    ratios = ratios[(ratios["statistic"] == "deviation_ratio") & (ratios["arm"] == "pld")].set_index("quantity")
    assert np.isnan(ratios.loc["cola_matthews", "measured"])
    assert ratios.loc["rte_accuracy", "measured"] > 0


def test_glue_scores_at_the_floor_are_observations(evidence: Evidence) -> None:
    frame = tidy("seeds", evidence)  # without a model from scratch
    glue = frame[(frame["quantity"] == "glue_nine") & (frame["against"] != "")]
    assert set(glue["statistic"]) == {"difference"}
    assert glue["note"].str.startswith("the differences are observations").all()
    losses = frame[(frame["quantity"] == "validation_loss") & (frame["against"] != "")]
    assert {"pairs_for_power", "deviation_ratio"} <= set(losses["statistic"])


def test_a_tested_difference_is_that_of_the_scores(evidence: Evidence) -> None:
    frame = tidy("glue_tests", evidence)
    assert evidence.scores is not None
    means = evidence.scores.groupby(["arm", "task", "split", "metric"])["value"].mean()
    for name in glue_scores.PRIMARY.values():
        expected = means[("pld", *glue_scores.VALUES[name])] - means[("baseline", *glue_scores.VALUES[name])]
        for axis, n in (("examples", 200), ("seeds", 4)):
            row = cell(frame, quantity=name, statistic=axis, against="baseline")
            assert (row["measured"], row["n"]) == (pytest.approx(expected, abs=1e-4), n)
            assert row["low"] < row["measured"] < row["high"]


def test_predictions_at_other_learning_rates_are_left_out(tmp_path: Path) -> None:
    evidence = study(tmp_path, seeds=2, tasks=["rte"], rates=(1e-5, 1e-4))
    before = tidy("glue_tests", evidence)
    selected = glue_scores.cells(evidence.selected_scores).set_index(["arm", "seed"])["learning_rate"]
    for run in evidence.finetune:
        path = run.folder / "predictions.safetensors"
        arrays = load_file(path)
        rate = selected[run.summary.arm, run.summary.seed]
        for key in arrays:
            if key.startswith("predictions/") and float(key.split("/")[3]) != rate:
                arrays[key] = 1 - arrays[key]
        save_file(arrays, path)
    pd.testing.assert_frame_equal(before, tidy("glue_tests", evidence))


def test_runs_with_other_development_sets_are_refused(tmp_path: Path) -> None:
    evidence = study(tmp_path, seeds=2, tasks=["rte"])
    path = next(run.folder for run in evidence.finetune if run.summary.arm == "pld") / "predictions.safetensors"
    arrays = load_file(path)
    arrays["labels/rte/dev"] = 1 - arrays["labels/rte/dev"]
    save_file(arrays, path)
    with pytest.raises(RecordError, match="rte: "):
        tidy("glue_tests", evidence)
    for run in evidence.finetune:
        if run.summary.arm == "pld":
            save_file(arrays, run.folder / "predictions.safetensors")
    with pytest.raises(RecordError, match="rte: pld and baseline"):
        tidy("glue_tests", evidence)


def test_only_seeds_that_both_arms_have_are_compared(tmp_path: Path) -> None:
    evidence = study(tmp_path, seeds=3, tasks=["rte"])
    fewer = tuple(run for run in evidence.finetune if (run.summary.arm, run.summary.seed) != ("baseline", 2))
    frame = tidy("glue_tests", dataclasses.replace(evidence, finetune=fewer))
    assert cell(frame, statistic="seeds", against="baseline")["n"] == 2
    assert cell(frame, statistic="seeds", against="preln_higher")["n"] == 3


# ---- what is missing ----


@pytest.mark.parametrize("name", NAMES)
def test_one_seed_has_values_without_intervals_over_seeds(tmp_path: Path, name: str) -> None:
    evidence = study(tmp_path, seeds=1, finetune_seeds=1)
    frame = tidy(name, evidence)
    over_examples = frame["statistic"].isin(["examples", "failed", "failed_all"])
    assert frame[~over_examples]["low"].isna().all()
    tables.write_table(name, evidence, PAPERS, tmp_path / name)
    assert len(pd.read_csv(tmp_path / f"{name}.csv")) == len(frame)
    for table in shown(name, evidence):
        assert table.rows


@pytest.mark.parametrize("name", NAMES)
def test_missing_tasks_leave_the_others(tmp_path: Path, name: str) -> None:
    evidence = study(tmp_path, seeds=2, tasks=["rte", "sst2"])
    text = " ".join(note for table in shown(name, evidence) for note in table.notes)
    if name == "stability":
        assert "Not fine-tuned in this study: MRPC, CoLA, STS-B." in text
    if name == "glue_tests":
        assert "Without predictions of both arms: MRPC, STS-B, CoLA, QNLI, QQP, MNLI." in text
    assert all(table.rows for table in shown(name, evidence))


def test_without_the_small_tasks_stability_says_so(tmp_path: Path) -> None:
    (table,) = shown("stability", study(tmp_path, seeds=1, tasks=["sst2"]))
    assert (table.rows, table.notes) == (
        (), ("None of the small tasks (RTE, MRPC, CoLA, STS-B) was fine-tuned in this study.",),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_without_fine_tuning_a_table_says_what_is_missing(tmp_path: Path, name: str) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, seed) for arm in runs.ARMS for seed in (1, 2)]
    evidence = load_evidence(pretrain)
    tables.write_table(name, evidence, PAPERS, tmp_path / name)
    table = shown(name, evidence)[-1]
    assert table.rows == ()
    assert "fine-tuned" in table.notes[-1]


def test_without_pld_there_is_no_answer_about_it(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, "baseline", seed) for seed in (1, 2)]
    evidence = load_evidence(pretrain)
    assert shown("glue_tests", evidence)[0].notes == ("No arm of role pld in this study.",)
    assert shown("stability", evidence)[0].rows == ()
    assert "not measured" in shown("seeds", evidence)[0].notes[-1]


def test_scores_without_predictions_cannot_be_tested(evidence: Evidence) -> None:
    (table,) = shown("glue_tests", dataclasses.replace(evidence, finetune=()))
    assert table.rows == ()
    assert "without the fine-tuning runs" in table.notes[0]


# ---- whether fine-tuning trained ----


def test_fits_that_did_not_beat_a_constant_are_told(tmp_path: Path) -> None:
    found = study(tmp_path, seeds=2, finetune_seeds=3, train_losses=(0.2, 0.5, 0.9))
    frame = tidy("fits", found)
    numbers = {
        statistic: cell(frame, arm="pld", quantity="cola_matthews", statistic=statistic)["measured"]
        for statistic in ("train_loss", "constant_loss", "failed", "cut_train", "untrained_dev")
    }
    assert numbers == pytest.approx(
        {"train_loss": 0.5, "constant_loss": 0.7, "failed": 100 / 3, "cut_train": 2, "untrained_dev": 50}
    )
    assert cell(frame, arm="pld", quantity="cola_matthews", statistic="failed")["n"] == 6
    assert len(fits(found)) == 3 * 2 * 3 * 8  # arms, seeds, fine-tuning seeds, tasks
    assert is_trained(fits(found), "pld", "ckp186", "cola") is True


def test_a_median_of_failed_fits_is_that_of_no_trained_model(tmp_path: Path) -> None:
    found = fits(study(tmp_path, seeds=1, train_losses=(0.2, 0.7)))
    assert is_trained(found, "pld", "ckp186", "cola") is False
    assert is_trained(found, "pld", "ckp100", "cola") is None


def test_records_that_do_not_know_the_constant_say_nothing(evidence: Evidence) -> None:
    assert fits(evidence).empty
    assert tidy("fits", evidence).empty
    assert len(shown("fits", evidence)[0].notes) == 1
