"""What claims come down to: effects worked by hand on made-up runs and probes."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from pldrepro.analysis import claim_estimators
from pldrepro.analysis.claim_estimators import ESTIMATORS, PLD_ESTIMATORS, SBLD_ESTIMATORS, missing_arm
from pldrepro.analysis.comparisons import difference
from pldrepro.analysis.measurement import Measurement, at_most
from pldrepro.analysis.probe_claims import lesion
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.similar import SIMILAR_POINTS
from pldrepro.costs.flops import StepFlops
from tests.support import runs
from tests.support.runs import load_evidence

PROBED = ("baseline", "preln_higher")


def study(root: Path, losses: dict[str, float], probed: tuple[str, ...] = (), **scored: float) -> Evidence:
    """Arms with these final losses, seeds 1 and 2; ``scored``: arm__checkpoint -> level of every GLUE value."""
    pretrain = [
        runs.write_pretrain(root, arm, seed, final_loss=loss + 0.01 * seed)
        for arm, loss in losses.items()
        for seed in (1, 2)
    ]
    probes, early = (
        [write(root, arm, seed) for arm in probed for seed in (1, 2)] for write in (runs.write_probe, runs.write_early)
    )
    return load_evidence(pretrain, probes=probes, early=early)


def value(measurement: Measurement) -> float:
    assert measurement.paired is not None, measurement.note
    return measurement.paired.estimate.value


def state(measurement: Measurement) -> str:
    """Of the condition of a claim, by its own interval."""
    assert measurement.condition is not None
    return measurement.condition.state


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    losses = {"baseline": 3.0, "preln_higher": 2.8, "pld": 2.5}
    return study(tmp_path_factory.mktemp("probed"), losses, PROBED)


def test_postln_gradients_fall_by_half_from_layer_to_layer(probed: Evidence) -> None:
    found = claim_estimators.vanishing_gradients(probed)
    assert value(found) == pytest.approx(2**11)  # of the twelve layers of the early runs, not of the study's four
    for step in (2, 4, 8):
        assert f"step {step}: 2048.00 / 2048.00 and 1.00 / 1.00" in found.basis
    assert state(found) == "holds"


@pytest.mark.parametrize("measure", [claim_estimators.vanishing_gradients, claim_estimators.gradient_preserving])
def test_finished_checkpoints_say_nothing_of_gradients_early_in_training(
    tmp_path: Path, measure: Callable[[Evidence], Measurement]
) -> None:
    pretrain = [runs.write_pretrain(tmp_path, arm, 1) for arm in PROBED]
    probes = [runs.write_probe(tmp_path, arm, 1) for arm in PROBED]
    assert measure(load_evidence(pretrain, probes=probes)).paired is None
    one = [runs.write_early(tmp_path, "baseline", 1)]
    assert measure(load_evidence(pretrain, probes=probes, early=one)).paired is None


@pytest.mark.parametrize(
    ("differences", "premise"),
    [((-1.0, -1.1), "holds"), ((1.0, 1.1), "fails"), ((-1.0, 1.0), "open"), ((1.0,), "open")],
)
def test_a_condition_holds_fails_or_is_open_by_the_interval(differences: tuple[float, ...], premise: str) -> None:
    assert at_most(difference((value, 0.0) for value in differences)).state == premise


def test_gradient_preserving_ratios_of_0_8_and_1(probed: Evidence) -> None:
    assert value(claim_estimators.gradient_preserving(probed)) == pytest.approx(-math.log(0.8))


def test_angles_of_20_over_the_layer_fall_by_9_degrees(probed: Evidence) -> None:
    # Layers 1 to 4: 20, 10, 6.67 and 5 degrees.
    found = claim_estimators.upper_layers_refine(probed)
    assert value(found) == pytest.approx((20 + 10) / 2 - (20 / 3 + 5) / 2)
    # without layer 1: 10 - 5.83
    assert "first block, which reads the embeddings: 4.2 / 4.2 degrees" in found.basis
    assert "the upper half turns its input by 6.8 / 7.8 degrees a layer" in found.basis


def test_a_lesion_costs_one_nat_a_layer_in_postln_and_less_in_preln(probed: Evidence) -> None:
    # Draws keep no layer, layer 1, layer 2, both: 4, 3, 3, 2 nats, against 2.083, 1.083, 1.583, 0.583.
    found = lesion(probed)
    assert found is not None
    assert found.estimate.value == pytest.approx(3 - 4 / 3)
    assert (
        "removed at random from the finished models instead, PostLN minus PreLN: 1.67 / 1.67 nats"
        in claim_estimators.random_dropping(probed).note
    )


def test_training_with_random_dropping_is_compared_with_the_same_model_undropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {"baseline": 3.0, "preln": 2.9, "pld": 2.5, "postln_random50": 4.0, "preln_random50": 3.2}
    for arm, norm in (("postln_random50", "post"), ("preln_random50", "pre")):
        drop = {"schedule": "constant", "allocation": "uniform", "theta_bar": 0.5}
        monkeypatch.setitem(runs.MORE_ARMS, arm, {"label": arm, "norm": norm, "rate": "baseline", "drop": drop})
    found = claim_estimators.random_dropping(study(tmp_path / "all", losses))
    assert value(found) == pytest.approx(1.0 - 0.3)
    assert "postln_random50 minus PostLN baseline: 1.00 / 1.00 nats" in found.note
    del losses["preln_random50"]
    assert claim_estimators.random_dropping(study(tmp_path / "some", losses)).paired is None


PROBES = ("vanishing_gradients", "gradient_preserving", "upper_layers_refine")


@pytest.mark.parametrize("name", PROBES)
def test_without_probes_nothing_is_measured(tmp_path: Path, name: str) -> None:
    found = ESTIMATORS[name](study(tmp_path, {"baseline": 3.0, "pld": 2.5}))
    assert found.paired is None
    assert "probed" in found.note


def test_flops_at_the_limit_are_those_of_the_kept_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The made-up runs count 1e6 for a step and 1e6 for each kept layer of it.
    cost = StepFlops(1e6 / runs.BATCH, (1e6 / runs.BATCH,) * runs.LAYERS)
    monkeypatch.setattr(claim_estimators, "run_flops", lambda _: cost)
    found = claim_estimators.flops_at_the_limit(study(tmp_path, {"baseline": 3.0, "pld": 2.5}))
    # 3.25 of 4 layers at theta 0.5.
    assert value(found) == pytest.approx(100 * 0.75 / 5, abs=2)


@pytest.mark.parametrize(("higher", "pld", "premise"), [(3.5, 2.5, "holds"), (3.5, 3.2, "fails"), (2.9, 2.5, "holds")])
def test_the_baseline_at_the_higher_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, higher: float, pld: float, premise: str
) -> None:
    arm = {"label": "PostLN, higher", "norm": "post", "rate": "higher", "drop": {}}
    monkeypatch.setitem(runs.ARMS, "baseline_higher", arm)
    found = claim_estimators.hurt_by_higher_rate(
        study(tmp_path, {"baseline": 3.0, "baseline_higher": higher, "pld": pld})
    )
    assert value(found) == pytest.approx(higher - 3)
    assert state(found) == premise


def test_a_smaller_theta_bar_is_compared_with_plds(tmp_path: Path) -> None:
    found = claim_estimators.small_theta_bar(study(tmp_path, {"baseline": 3.0, "pld": 2.5, "pld_theta30": 2.9}))
    assert value(found) == pytest.approx(0.4)
    assert "theta_bar 0.3 minus 0.5" in found.basis


def scored(root: Path, levels: dict[tuple[str, str], float]) -> Evidence:
    """The baseline and PLD with this level [%] of every GLUE value at these checkpoints."""
    pretrain = [runs.write_pretrain(root, arm, seed) for arm in ("baseline", "pld") for seed in (1, 2)]
    by_run = {(arm, seed, point): level + 0.1 * seed for (arm, point), level in levels.items() for seed in (1, 2)}
    return load_evidence(pretrain, scores=runs.write_scores(root / "scores.csv", by_run))


# 70 % of 100 examples has a standard error of 4.6 points.
@pytest.mark.parametrize(("final", "premise"), [(95.0, "holds"), (72.0, "open"), (45.0, "fails")])
def test_rising_scores_must_pass_the_baseline(tmp_path: Path, final: float, premise: str) -> None:
    levels = {("baseline", "ckp186"): 70.0, ("pld", "ckp87"): 60.0, ("pld", "ckp186"): final}
    one = {at: level for at, level in levels.items() if at != ("pld", "ckp87")}
    assert claim_estimators.rising_scores(scored(tmp_path / "one", one)).paired is None
    two = claim_estimators.rising_scores(scored(tmp_path / "two", levels))
    found = claim_estimators.rising_scores(scored(tmp_path / "three", {**levels, ("pld", "ckp100"): 59.0}))
    assert value(found) == value(two) == pytest.approx(final - 60)
    assert state(found) == state(two) == premise
    assert "ckp87 to ckp100: −1.0 / −1.0 points" in found.note


def test_comparable_is_a_gain_measured_from_minus_the_margin(tmp_path: Path) -> None:
    evidence = scored(tmp_path, {("baseline", "ckp186"): 70.0, ("pld", "ckp186"): 69.5})
    gain, found = claim_estimators.glue_gain_final(evidence).paired, claim_estimators.glue_comparable(evidence).paired
    assert gain is not None
    assert found is not None
    assert found.estimate == gain.estimate
    assert gain.effects == pytest.approx((-0.5, -0.5))
    assert found.effects == pytest.approx((0.5, 0.5))
    (claim,) = [claim for claim in load_papers()["pld"].claims if claim.id == "glue_comparable"]
    assert claim.null_value == -SIMILAR_POINTS


def test_what_dropping_costs_postln_is_compared_with_what_it_costs_preln(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = {"schedule": "constant", "allocation": "uniform", "theta_bar": 0.5}
    for name, norm in (("postln_random50", "post"), ("preln_random50", "pre")):
        monkeypatch.setitem(runs.ARMS, name, {"label": name, "norm": norm, "rate": "baseline", "drop": half})
    losses = {"baseline": 3.0, "preln": 2.8, "pld": 2.5, "preln_random50": 3.0, "postln_random50": 4.0}
    found = claim_estimators.postln_dropping(study(tmp_path, losses))
    assert value(found) == pytest.approx(1.0 - 0.2)
    assert ": 0.200 / 0.200 nats" in found.note
    as_dear = study(tmp_path / "as_dear", {**losses, "preln_random50": 3.8})
    assert value(claim_estimators.postln_dropping(as_dear)) == pytest.approx(0)
    without = claim_estimators.postln_dropping(study(tmp_path / "without", {"baseline": 3.0, "postln_random50": 4.0}))
    assert without.paired is None
    assert ": 1.000 / 1.000 nats" in without.note
    alone = claim_estimators.postln_dropping(study(tmp_path / "alone", {"baseline": 3.0, "pld": 2.5}))
    assert alone.paired is None


def test_one_rate_says_nothing_of_robustness(tmp_path: Path) -> None:
    found = claim_estimators.robust_over_rates(
        scored(tmp_path, {("baseline", "ckp186"): 70.0, ("pld", "ckp186"): 71.0})
    )
    assert (found.paired, found.note) == (None, "fine-tuning ran at one learning rate")


def test_every_measure_that_a_claim_names_exists_and_none_is_idle() -> None:
    named = {claim.measure for paper in load_papers().values() for claim in paper.claims if claim.measure}
    assert named == set(ESTIMATORS)


@pytest.mark.parametrize("name", sorted(PLD_ESTIMATORS))
def test_a_study_of_the_baseline_and_pld_alone_breaks_no_measure(tmp_path: Path, name: str) -> None:
    measure: Callable[[Evidence], Measurement] = ESTIMATORS[name]
    found = measure(study(tmp_path, {"baseline": 3.0, "pld": 2.5}))
    assert found.paired is not None or found.note


def test_a_measure_needs_the_arm_that_it_is_about(tmp_path: Path) -> None:
    evidence = study(tmp_path, {"baseline": 3.0, "pld": 2.5})
    assert {missing_arm(evidence, name) for name in PLD_ESTIMATORS} == {""}
    assert {missing_arm(evidence, name) for name in SBLD_ESTIMATORS} == {"no arm of role sbld in this study"}
