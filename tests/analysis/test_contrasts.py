"""Scores without fine-tuning, from hits that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pldrepro import stats
from pldrepro.analysis import contrasts, time_to_target
from pldrepro.analysis.floors import contrast_floor
from pldrepro.analysis.needs import lacking
from pldrepro.analysis.reported import Needs, load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.errors import RecordError
from pldrepro.exhibits import tables
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PLD = load_papers()["pld"]
# Paradigms "one" and "two" judge, "counts" does not. The baseline has 50 and 100 %, so 75; PLD 75 and 100 %, so 87.5.
ONE = {"baseline": [1.0, 0.0, 1.0, 0.0], "pld": [1.0, 1.0, 1.0, 0.0]}
TWO = [1.0, 1.0, np.nan]
HALF = {"one": [0.5] * 4, "two": [0.5, 0.5, np.nan], "counts": [1.0, 1.0]}


def hits(arm: str) -> dict[str, list[float]]:
    return {"one": ONE[arm], "two": TWO, "counts": [0.0, 0.0]}


def untrained(root: Path) -> tuple[list[Path], list[Path]]:
    """The model from scratch with two seeds, at chance: its runs and their contrasts."""
    folders = [runs.write_untrained(root, seed) for seed in (1, 2)]
    return folders, [runs.write_contrasts(root, "scratch", seed, {"ckp186": HALF}) for seed in (1, 2)]


def study(root: Path) -> Evidence:
    """The baseline and PLD with two seeds each, and the model from scratch; PLD is at chance at ckp100."""
    pretrain, found = untrained(root)
    for arm in ONE:
        for seed in (1, 2):
            pretrain.append(runs.write_pretrain(root, arm, seed))
            found.append(runs.write_contrasts(root, arm, seed, {"ckp100": HALF, "ckp186": hits(arm)}))
    return load_evidence(pretrain, calibration=runs.write_calibration(root), contrasts=found)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return study(tmp_path_factory.mktemp("contrasts"))


def test_a_score_is_the_mean_of_the_paradigms_that_judge(evidence: Evidence) -> None:
    assert contrasts.scores(evidence) == ["zorro"]
    assert contrasts.values(evidence, "zorro") == {
        (arm, seed, checkpoint): value
        for arm, final in (("baseline", 75.0), ("pld", 87.5))
        for seed in (1, 2)
        for checkpoint, value in (("ckp100", 50.0), ("ckp186", final))
    } | {("scratch", seed, "ckp186"): 50.0 for seed in (1, 2)}
    assert contrasts.finals(evidence, "zorro", "pld") == {1: 87.5, 2: 87.5}
    assert contrasts.finals(evidence, "blimp", "pld") == {}
    frame = contrasts.frame(evidence)
    assert set(frame["items"]) == {6}  # one was too long, two do not judge
    assert set(frame["chance"]) == {50.0}
    assert len(frame) == 10


def test_the_gain_is_paired_by_seed_and_its_items_by_item(evidence: Evidence) -> None:
    gain = contrasts.gain(evidence, "zorro", "pld", "baseline")
    assert gain is not None
    assert gain.effects == (12.5, 12.5)
    # The seeds agree, so that the interval is that of the items.
    assert gain.estimate.high == pytest.approx(12.5 + stats.NORMAL * 12.5)
    # Of paradigm "one" the differences are 0, 1, 0, 0: variance 1/4, of the mean 1/16; of "two" 0.
    assert contrasts.item_error(evidence, "zorro", "pld", "baseline") == pytest.approx(100 * (1 / 16) ** 0.5 / 2)
    assert contrasts.item_error(evidence, "zorro", "pld", "preln") is None


def test_the_baselines_score_is_reached_between_two_checkpoints(evidence: Evidence) -> None:
    found = contrasts.reach(evidence, "zorro", "pld", "samples")
    # From 50 at step 200 to 87.5 at step 400: 75 at two thirds of the way.
    steps = 200 + 200 * 25 / 37.5
    assert found.reached == 2
    assert found.costs == {seed: (3200.0, pytest.approx(8 * steps)) for seed in (1, 2)}
    frame = time_to_target.time_to_target(evidence, PLD)
    row = frame[(frame["quantity"] == "speedup_to_zorro") & (frame["arm"] == "pld") & (frame["cost_axis"] == "samples")]
    assert row["measured"].tolist() == [pytest.approx(400 / steps)]
    assert row["reported"].isna().all()


def test_an_arm_that_never_gets_there_has_a_bound_without_an_interval(tmp_path: Path) -> None:
    pretrain, found = untrained(tmp_path)
    for arm, final in (("baseline", hits("pld")), ("pld", hits("baseline"))):
        for seed in (1, 2):
            pretrain.append(runs.write_pretrain(tmp_path, arm, seed))
            found.append(runs.write_contrasts(tmp_path, arm, seed, {"ckp186": final}))
    frame = time_to_target.time_to_target(load_evidence(pretrain, contrasts=found), PLD)
    row = frame[(frame["quantity"] == "total_to_zorro") & (frame["cost_axis"] == "samples")].iloc[0]
    assert (row["measured"], row["note"]) == (pytest.approx(1.0), time_to_target.AT_MOST)
    assert np.isnan(row["low"])


def test_a_baseline_at_chance_sets_no_target(tmp_path: Path) -> None:
    pretrain, found = untrained(tmp_path)
    for arm, final in (("baseline", HALF), ("pld", hits("pld"))):
        pretrain += [runs.write_pretrain(tmp_path, arm, seed) for seed in (1, 2)]
        found += [runs.write_contrasts(tmp_path, arm, seed, {"ckp186": final}) for seed in (1, 2)]
    evidence = load_evidence(pretrain, contrasts=found)
    assert "chance" in contrast_floor(evidence, "zorro")
    assert set(time_to_target.targets(evidence)) == {"loss"}
    reasons = time_to_target.not_judged(evidence)
    assert set(reasons) == {"the baseline's final GLUE score", "the baseline's final score on Zorro"}
    assert time_to_target.time_to_target(evidence, PLD)["quantity"].str.contains("zorro|glue").sum() == 0
    *_, steps = shown("time_to_target", evidence)
    for name, reason in reasons.items():
        assert f"Not judged, and no step: {name}; {reason}." in steps.notes


def test_a_score_judges_where_chance_and_the_model_from_scratch_are_beaten(evidence: Evidence, tmp_path: Path) -> None:
    assert contrast_floor(evidence, "zorro") == ""
    assert lacking(Needs(floor="minimal_pairs"), evidence) == []
    assert lacking(Needs(floor="cloze"), evidence)  # nobody asked
    pretrain = [runs.write_pretrain(tmp_path, "baseline", seed) for seed in (1, 2)]
    found = [runs.write_contrasts(tmp_path, "baseline", seed, {"ckp186": hits("baseline")}) for seed in (1, 2)]
    alone = load_evidence(pretrain, contrasts=found)
    assert "role scratch" in contrast_floor(alone, "zorro")
    pretrain += [runs.write_untrained(tmp_path, seed) for seed in (1, 2)]
    found += [runs.write_contrasts(tmp_path, "scratch", seed, {"ckp186": hits("baseline")}) for seed in (1, 2)]
    assert "from scratch" in contrast_floor(load_evidence(pretrain, contrasts=found), "zorro")


def test_the_table_shows_scores_and_paradigms(evidence: Evidence) -> None:
    scores, paradigms = shown("contrasts", evidence)
    assert [row[:2] for row in scores.rows] == [
        ("no pre-training", "50.0 / 50.0"),
        ("PostLN baseline", "75.0 / 75.0"),
        ("PLD", "87.5 / 87.5"),
    ]
    assert [row[:2] for row in paradigms.rows] == [("one", "yes"), ("two", "yes"), ("counts", "no")]
    assert paradigms.rows[1][paradigms.headers.index("left out")] == "1"
    assert any("counts (word counts)" in note for note in paradigms.notes)
    frame = tables.TABLES["contrasts"][0](evidence, PLD)
    assert not frame.duplicated(["family", "arm", "checkpoint", "quantity", "statistic", "against", "condition"]).any()


def test_without_contrasts_the_table_says_so(tmp_path: Path) -> None:
    alone = load_evidence([runs.write_pretrain(tmp_path, "baseline", 1)])
    assert contrasts.scores(alone) == []
    assert contrasts.gain(alone, "zorro", "baseline", "baseline") is None
    (table,) = shown("contrasts", alone)
    assert table.rows == ()


def test_contrasts_of_no_run_here_are_refused(tmp_path: Path) -> None:
    pretrain = [runs.write_pretrain(tmp_path, "baseline", 1)]
    stray = runs.write_contrasts(tmp_path, "pld", 1, {"ckp186": HALF})
    with pytest.raises(RecordError):
        load_evidence(pretrain, contrasts=[stray])
    early = runs.write_contrasts(tmp_path, "baseline", 1, {"ckp100": HALF})
    with pytest.raises(RecordError):  # without the last checkpoint
        load_evidence(pretrain, contrasts=[early])
