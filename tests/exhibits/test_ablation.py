"""Table 3: the paper's rows and the study's own, each with what it cost, and what is compared at equal cost."""

from pathlib import Path

import pandas as pd
import pytest

from pldrepro.analysis import ablation
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits import tables
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PLD = load_papers()["pld"]
LOSSES = {"baseline": 3.0, "preln_higher": 2.75, "pld": 2.5, "random": 2.6, "cosine": 2.55}
GLUE = {"baseline": 70.0, "preln_higher": 72.0, "pld": 74.0, "random": 73.0}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    root = tmp_path_factory.mktemp("study")
    pretrain = [
        runs.write_pretrain(root, arm, seed, final_loss=loss + 0.01 * seed)
        for arm, loss in LOSSES.items() for seed in (1, 2)
    ]  # fmt: skip
    levels = {(arm, seed, "ckp186"): level + seed for arm, level in GLUE.items() for seed in (1, 2)}
    scores = runs.write_scores(root / "scores.csv", levels)
    return load_evidence(pretrain, calibration=runs.write_calibration(root), scores=scores)


@pytest.fixture(scope="module")
def frame(evidence: Evidence) -> pd.DataFrame:
    return tables.table3(evidence, PLD)


def number(frame: pd.DataFrame, arm: str, quantity: str) -> pd.Series:
    (row,) = frame[(frame["arm"] == arm) & (frame["quantity"] == quantity)].to_dict("records")
    return pd.Series(row)


def test_the_papers_rows_come_first_in_its_order(evidence: Evidence) -> None:
    arms = [line.arm for line in ablation.configurations(evidence, PLD)]
    assert arms == ["baseline", "preln", "preln_higher", "shallow", "random", "time_only", "pld", "cosine"]


def test_a_row_has_its_loss_and_what_it_is_above_plds_and_the_baselines(frame: pd.DataFrame) -> None:
    loss = number(frame, "random", "validation_loss")
    assert loss["measured"] == pytest.approx(2.615)
    assert number(frame, "random", "loss_minus_pld")["measured"] == pytest.approx(0.1)
    assert number(frame, "random", "loss_minus_baseline")["measured"] == pytest.approx(-0.4)
    assert number(frame, "pld", "loss_minus_pld")["n"] == 0


def test_cost_is_relative_to_plds_run(evidence: Evidence, frame: pd.DataFrame) -> None:
    assert number(frame, "pld", "relative_time")["measured"] == pytest.approx(1)
    costs = [[evidence.cost(run, "reference_time") for run in evidence.runs(arm)] for arm in ("baseline", "pld")]
    ratio = (costs[0][0] / costs[1][0] * costs[0][1] / costs[1][1]) ** 0.5
    assert number(frame, "baseline", "relative_time")["measured"] == pytest.approx(ratio)
    assert ratio > 1.1


def test_reported_and_measured_stand_below_each_other(evidence: Evidence, frame: pd.DataFrame) -> None:
    glue = number(frame, "preln_higher", "glue_paper")
    assert (glue["reported"], glue["reported_where"], glue["provenance"]) == (82.6, "Table 3", "unverified")
    assert glue["measured"] == pytest.approx(73.5)
    _, table = shown("table3", evidence)
    lines = [row for row in table.rows if row[0] == "PreLN, higher learning rate"]
    assert [line[1] for line in lines] == ["reported", "measured"]
    assert lines[0][table.headers.index("GLUE (paper)")] == "82.6†"
    assert lines[1][table.headers.index("GLUE (paper)")] == "73.0 / 74.0"


def test_what_the_paper_has_and_the_study_lacks_is_a_line_of_dashes(evidence: Evidence, frame: pd.DataFrame) -> None:
    assert number(frame, "shallow", "rte_accuracy")["reported"] == 66.0
    assert number(frame, "shallow", "rte_accuracy")["n"] == 0
    for table in shown("table3", evidence):
        row = next(row for row in reversed(table.rows) if row[0] == "Shallow PreLN, higher learning rate")
        assert set(row[2:-1]) == {"–"}
        assert row[-1] == "0"


def test_an_arm_that_was_not_fine_tuned_keeps_its_cost_and_is_named(evidence: Evidence) -> None:
    cost, glue = shown("table3", evidence)
    assert "cosine schedule" in [row[0] for row in cost.rows]
    assert "cosine schedule" not in [row[0] for row in glue.rows]
    assert "Trained, but not fine-tuned: cosine schedule." in glue.notes


def test_the_notes_say_what_is_compared_at_equal_cost(evidence: Evidence) -> None:
    cost, _ = shown("table3", evidence)
    row = next(row for row in cost.rows if row[0] == "random drop")
    assert row[cost.headers.index("depth matched to")] == "PLD"
    equal, unequal = cost.notes[0].split("Not at equal cost: ")
    assert "random drop (3." in equal
    assert "PostLN baseline (4.00); PreLN, higher learning rate (4.00); cosine schedule (3." in unequal
    assert "Not in this study: PreLN, same learning rate; Shallow" in cost.notes[1]


def test_records_from_before_depth_matching_count_as_not_matched(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, 1) for arm in ("baseline", "pld")]
    evidence = load_evidence(pretrain)
    assert evidence.matched_depth("pld") is None
    cost, glue = shown("table3", evidence)
    assert "as nearly as whole layers allow): none." in cost.notes[0]
    assert "Trained, but not fine-tuned: PostLN baseline; PLD." in glue.notes


def test_a_study_without_pld_has_no_differences_to_it(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, "baseline", 1)]
    evidence = load_evidence(pretrain, calibration=runs.write_calibration(tmp_path))
    frame = tables.table3(evidence, PLD)
    assert number(frame, "baseline", "relative_time")["n"] == 0
    assert number(frame, "baseline", "kept_layers")["measured"] == 4
