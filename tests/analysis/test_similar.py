"""Similar scores without fine-tuning: the choice of items counts, and SBLD against what went before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from pldrepro import stats
from pldrepro.analysis import claims, similar
from pldrepro.analysis.claim_estimators import ESTIMATORS
from pldrepro.analysis.measurement import Measurement
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.config.arm import ArmTags
from pldrepro.config.experiment import arm_tags, experiments_folder
from tests.support import runs
from tests.support.runs import load_evidence

PAPERS = load_papers()
SEEDS = (1, 2, 3)
ITEMS = 2000
Hits = Mapping[str, Mapping[str, Sequence[float]]]


def first(right: int) -> list[float]:
    """The first ``right`` of 2,000 items are right."""
    return [1.0] * right + [0.0] * (ITEMS - right)


def study(
    root: Path, pld: Mapping[str, Sequence[float]], *, task: str = "zorro", scratch: Sequence[float] | None = None
) -> Evidence:
    """The baseline right in the first 1,600 of 2,000 items, PLD as given by checkpoint, the same for three seeds."""
    hits: dict[str, Hits] = {
        "baseline": {"ckp186": {"one": first(1600)}},
        "pld": {name: {"one": own} for name, own in pld.items()},
    }
    pretrain = [runs.write_pretrain(root, arm, seed) for arm in hits for seed in SEEDS]
    found = [runs.write_contrasts(root, arm, seed, own, task=task) for arm, own in hits.items() for seed in SEEDS]
    if scratch is not None:
        pretrain += [runs.write_untrained(root, seed) for seed in SEEDS]
        about = {"ckp186": {"one": scratch}}
        found += [runs.write_contrasts(root, "scratch", seed, about, task=task) for seed in SEEDS]
    tags = arm_tags(experiments_folder("bert")) | {"scratch": ArmTags(role="scratch")}
    return load_evidence(pretrain, calibration=runs.write_calibration(root), contrasts=found, tags=tags)


@pytest.mark.parametrize(
    ("task", "measure"), [("zorro", similar.minimal_pairs_comparable), ("cloze", similar.cloze_comparable)]
)
def test_comparable_counts_from_the_margin_and_has_the_error_of_the_items(
    tmp_path: Path, task: str, measure: Callable[[Evidence], Measurement]
) -> None:
    found = measure(study(tmp_path, {"ckp186": first(1590)}, task=task)).paired
    assert found is not None
    assert found.estimate.value == pytest.approx(-0.5)
    assert found.effects == pytest.approx((0.5,) * 3)
    # 10 of 2,000 differences are -1, the others 0.
    error = 100 * (0.005 * 0.995 / (ITEMS - 1)) ** 0.5
    assert found.shared_error == pytest.approx(error)
    assert found.estimate.low == pytest.approx(-0.5 - stats.NORMAL * error)
    (claim,) = [one for one in PAPERS["pld"].claims if one.measure == measure.__name__]
    assert claim.null_value == -similar.SIMILAR_POINTS


@pytest.mark.parametrize(
    ("early", "premise"),
    [
        (first(1595), "holds"),
        (first(1500), "fails"),
        # As many right as the baseline, but others: with so few items it is open whether PLD is 1 point below.
        ([0.0] * 400 + [1.0] * 1600, "open"),
    ],
)
def test_a_similar_score_is_a_premise_that_few_items_leave_open(
    tmp_path: Path, early: Sequence[float], premise: str
) -> None:
    evidence = study(tmp_path, {"ckp100": early, "ckp186": first(1700)})
    found = similar.speedup_at_similar_minimal_pairs(evidence)
    assert found.condition is not None
    assert found.condition.state == premise
    assert found.paired == similar.comparisons.speedup(evidence, "pld", "reference_time", "ckp100")


def test_what_was_not_scored_is_not_measured(tmp_path: Path) -> None:
    evidence = study(tmp_path, {"ckp186": first(1700)})
    assert similar.speedup_at_similar_minimal_pairs(evidence).paired is None  # not at checkpoint 100
    assert similar.speedup_at_similar_cloze(evidence).paired is None
    assert similar.cloze_comparable(evidence).paired is None


def test_the_claims_have_verdicts_above_the_floor_only(tmp_path: Path) -> None:
    pld = {"ckp100": first(1595), "ckp186": first(1700)}
    names = ("pld.minimal_pairs_comparable", "pld.speedup_similar_minimal_pairs")
    found = {
        name: claims.claims(study(tmp_path / name, pld, scratch=scratch), PAPERS).set_index("claim")["verdict"]
        for name, scratch in (("above", first(1000)), ("at", first(1590)), ("without", None))
    }
    assert [found["above"][name] for name in names] == ["reproduced", "same direction"]
    for study_name in ("at", "without"):
        assert [found[study_name][name] for name in names] == ["not measured at this scale"] * 2


# ---- SBLD ----

ARMS = ("baseline", "sbld", "pld", "pld_at_sbld")


def test_sbld_against_prior_dropping_is_a_gain_over_pld_at_its_depth(tmp_path: Path) -> None:
    levels = {"baseline": 0.30, "pld": 0.10, "pld_at_sbld": 0.25, "sbld": 0.28}
    scores = {arm: {"lambada_accuracy": level} for arm, level in levels.items()}
    losses = {"pld_at_sbld": 3.1, "sbld": 3.05}
    found = ESTIMATORS["sbld_over_prior"](runs.sbld_study(tmp_path, "gpt", arms=ARMS, losses=losses, scores=scores))
    assert found.paired is not None
    assert found.paired.effects == pytest.approx((3.0, 3.0))
    assert "−0.050 / −0.050 nats" in found.note
    assert found.condition is None
    without = runs.sbld_study(tmp_path / "without", "gpt", arms=ARMS[:3], scores=scores)
    assert ESTIMATORS["sbld_over_prior"](without).paired is None  # PLD has a depth of its own
    unscored = runs.sbld_study(tmp_path / "unscored", "gpt", arms=ARMS)
    assert ESTIMATORS["sbld_over_prior"](unscored).paired is None


def test_sblds_convergence_is_charged_its_analysis(tmp_path: Path) -> None:
    losses = {"baseline": 3.0, "sbld": 2.5}
    evidence = runs.sbld_study(tmp_path, "gpt", arms=ARMS[:2], losses=losses, drop={"theta_bar": 1.0})
    found = ESTIMATORS["sbld_convergence"](evidence)
    assert found.paired is not None
    # Nothing is dropped: 3/3.5 of the 400 steps (seed s adds 0.01 s to both losses), and 10 passes of analysis.
    factors = [400 / (400 * (3 - 0.01 * seed) / (3.5 - 0.01 * seed) + 10) for seed in (1, 2)]
    assert found.paired.estimate.value == pytest.approx((factors[0] * factors[1]) ** 0.5)
    assert (found.condition, found.bound) == (None, False)


def test_a_loss_that_sbld_never_reaches_fails_the_premise(tmp_path: Path) -> None:
    evidence = runs.sbld_study(tmp_path, "gpt", arms=ARMS[:2], losses={"baseline": 3.0, "sbld": 3.4})
    found = ESTIMATORS["sbld_convergence"](evidence)
    assert found.condition is not None
    assert (found.condition.state, found.bound) == ("fails", True)


@pytest.mark.parametrize("measure", ["sbld_minimal_pairs_gain", "sbld_over_prior_minimal_pairs"])
def test_sbld_without_fine_tuning(tmp_path: Path, measure: str) -> None:
    right = {"baseline": 1600, "pld_at_sbld": 1600, "pld": 1000, "sbld": 1650}
    pretrain = [runs.write_pretrain(tmp_path, arm, seed, family="gpt") for arm in right for seed in SEEDS]
    contrasts = [
        runs.write_contrasts(tmp_path, arm, seed, {"ckp186": {"one": first(count)}})
        for arm, count in right.items()
        for seed in SEEDS
    ]
    evidence = load_evidence(pretrain, contrasts=contrasts)
    found = ESTIMATORS[measure](evidence)
    assert found.paired is not None
    assert found.paired.effects == pytest.approx((2.5,) * 3)
    assert found.paired.shared_error > 0
    assert ESTIMATORS[measure.replace("minimal_pairs", "cloze")](evidence).paired is None
    alone = load_evidence([folder for folder in pretrain if "pld_at_sbld" not in str(folder)], contrasts=[])
    assert ESTIMATORS[measure](alone).paired is None
