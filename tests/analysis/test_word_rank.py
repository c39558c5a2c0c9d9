"""LAMBADA's rank as a score: its floor, its gain with the passages' error, its target and SBLD's claims on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pldrepro import stats
from pldrepro.analysis import claims, time_to_target, word_rank
from pldrepro.analysis.claim_estimators import ESTIMATORS
from pldrepro.analysis.floors import rank_floor
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.config.experiment import arm_tags, experiments_folder
from pldrepro.errors import RecordError
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PAPERS = load_papers()
TAGS = arm_tags(experiments_folder("gpt"))
SEEDS = (1, 2, 3)
LEVEL = [0.8, 0.6, 0.8, 0.6]  # of the baseline: 70 %
BETTER = [0.9, 0.7, 0.9, 0.6]  # 77.5 %


def study(
    root: Path, monkeypatch: pytest.MonkeyPatch, *, sbld: Sequence[float] = BETTER,
    scratch: Sequence[float] | None = (0.4, 0.4, 0.5, 0.5), prior: Sequence[float] = LEVEL,
) -> Evidence:  # fmt: skip
    """A study of GPT; SBLD stands 20 points lower at checkpoint 100 than at its end."""
    monkeypatch.setitem(runs.MORE_ARMS, "scratch", runs.ARMS["baseline"])
    finals = {"baseline": LEVEL, "sbld": sbld, "pld_at_sbld": prior, **({"scratch": scratch} if scratch else {})}
    pretrain, found = [], []
    for seed in SEEDS:
        for arm, ranks in finals.items():
            early = {"ckp100": [rank - 0.2 for rank in ranks]} if arm == "sbld" else {}
            pretrain.append(runs.write_pretrain(root, arm, seed, family="gpt"))
            found.append(runs.write_lambada(root, arm, seed, {**early, "ckp186": ranks}))
    return load_evidence(pretrain, calibration=runs.write_calibration(root, "gpt"), lambada=found, tags=TAGS)


def test_a_gain_is_paired_by_seed_and_has_the_error_of_the_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = word_rank.gain(study(tmp_path, monkeypatch), "sbld", "baseline")
    assert found is not None
    assert found.effects == pytest.approx((7.5,) * 3)
    # Differences of 10, 10, 10 and 0 points: standard deviation 5, of the mean of four 2.5.
    assert found.shared_error == pytest.approx(2.5)
    assert found.estimate.low == pytest.approx(7.5 - stats.NORMAL * 2.5)
    assert word_rank.gain(study(tmp_path / "again", monkeypatch), "sbld", "pld") is None


def test_the_baselines_rank_is_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = study(tmp_path, monkeypatch)
    # From 57.5 at step 200 to 77.5 at step 400: 70 at 325.
    assert word_rank.reach(evidence, "sbld", "samples").costs[1] == (3200.0, pytest.approx(8 * 325))
    rows = time_to_target.time_to_target(evidence, PAPERS["pld"])
    row = rows[(rows["quantity"] == "speedup_to_lambada_rank") & (rows["arm"] == "sbld")].iloc[0]
    assert row["measured"] == pytest.approx(400 / 325)
    found = ESTIMATORS["sbld_rank_convergence"](evidence)
    assert (found.condition, found.bound) == (None, False)
    behind = ESTIMATORS["sbld_rank_convergence"](study(tmp_path / "worse", monkeypatch, sbld=[0.5, 0.4, 0.4, 0.3]))
    assert behind.condition is not None
    assert (behind.condition.state, behind.bound) == ("fails", True)
    assert "short of it at the end: 30.0 [" in behind.note


def test_the_ranks_of_a_study_of_gpt_are_shown_with_a_study_of_bert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain = [runs.write_pretrain(tmp_path / "bert", arm, seed) for arm in ("baseline", "pld") for seed in SEEDS]
    calibration = runs.write_calibration(tmp_path / "bert")
    for scratch, words in ((None, "Not judged, and no target: the baseline's final LAMBADA rank"), ((0.4,) * 4, "")):
        gpt = study(tmp_path / str(scratch), monkeypatch, scratch=scratch)
        evidence = replace(load_evidence(pretrain, calibration=calibration), others=(gpt,))
        tables = shown("time_to_target", evidence)
        assert len(tables) == (3 if scratch is None else 4)  # of BERT the loss and its steps, of GPT the loss, the rank
        if words:
            assert words in "\n".join(tables[2].notes)
        else:
            assert "LAMBADA rank" in tables[3].title


@pytest.mark.parametrize(
    ("scratch", "reason"),
    [((0.4, 0.4, 0.5, 0.5), ""), (LEVEL, "from scratch"), (None, "role scratch")],
)
def test_a_rank_judges_above_its_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scratch: Sequence[float] | None, reason: str
) -> None:
    evidence = study(tmp_path, monkeypatch, scratch=scratch)
    assert reason in rank_floor(evidence)
    assert bool(rank_floor(evidence)) == bool(reason)
    assert ("lambada_rank" in time_to_target.targets(evidence)) == (not reason)
    verdicts = claims.claims(evidence, PAPERS).set_index("claim")["verdict"]
    names = ["sbld.accuracy_lambada_rank", "sbld.over_prior_lambada_rank", "sbld.convergence_lambada_rank"]
    assert set(verdicts[names]) == ({"not measured at this scale"} if reason else {"reproduced"})


def test_a_baseline_at_chance_is_at_the_floor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.analysis.test_word_rank.LEVEL", [0.5, 0.5, 0.51, 0.49])
    assert "chance" in rank_floor(study(tmp_path, monkeypatch, scratch=(0.3,) * 4))


def test_records_without_the_ranks_of_passages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = study(tmp_path, monkeypatch)
    (tmp_path / "runs/lambada/sbld/seed2/predictions.safetensors").unlink()
    with pytest.raises(RecordError, match="sbld/seed2"):
        word_rank.gain(evidence, "sbld", "baseline")
