"""Known answers by seeded simulation, of the rule, conditions, the adjustment and the time to a target: how often is a
verdict wrong where the truth is known?
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from pldrepro import stats
from pldrepro.analysis.cases import Case, judge
from pldrepro.analysis.comparisons import difference, ratio
from pldrepro.analysis.interpolation import first_at_or_below
from pldrepro.analysis.measurement import Measurement, at_most, until_reached
from pldrepro.analysis.reach import Reach
from pldrepro.analysis.reported import Claim, load_papers
from pldrepro.analysis.verdicts import VERDICTS, Family, verdict

PAPER = load_papers()["pld"]
FAVOURABLE = ("reproduced", "exceeded", "same direction")
SIMULATIONS = 200


def margin(share: float, simulations: int = SIMULATIONS) -> float:
    """Three standard errors of a share."""
    return 3 * float(np.sqrt(share * (1 - share) / simulations))


def claim(null: float = 0.0) -> Claim:
    return Claim(
        id="one", statement="it is so", unit="x" if null else "nats", direction="higher", null_value=null, where="here",
        exhibit="table1", provenance="verified", measure="time_saving",
    )  # fmt: skip


def case(effect: Sequence[float], excess: Sequence[float] | None = None) -> Case:
    condition = None if excess is None else at_most(difference((value, 0.0) for value in excess))
    paired = difference((value, 0.0) for value in effect)
    return Case(PAPER, claim(), Measurement(paired, condition=condition), leader="one")


def shares(found: Sequence[str]) -> dict[str, float]:
    counts = Counter("favourable" if name in FAVOURABLE else name for name in found)
    return {name: count / len(found) for name, count in counts.items()}


# ---- the rule ----

REPEATS = 1000
SPREADS = (0.02, 0.1, 0.3, 1.0)  # of the effect between seeds, in units of the reported effect


@cache
def rates(effect: float, n: int, spread: float = 0.1) -> dict[str, float]:
    """How often each verdict comes out where the true effect is a multiple of the reported one, for a single claim."""
    about = claim().model_copy(update={"reported": 24.0})
    data = 24 * np.random.default_rng([n, round(100 * effect)]).normal(effect, spread, (REPEATS, n))
    counts = Counter(verdict(stats.mean_interval(row.tolist()), about) for row in data)
    assert set(counts) <= set(VERDICTS)
    return {name: counts[name] / REPEATS for name in VERDICTS}


@pytest.mark.parametrize("effect", [2.0, 1.0, 0.5, 0.0])
def test_two_seeds_never_give_a_direction(effect: float) -> None:
    assert rates(effect, 2)["inconclusive"] == 1


@pytest.mark.parametrize(("n", "least"), [(3, 0.55), (5, 0.95), (10, 0.98)])
def test_a_true_effect_of_the_reported_size_is_reproduced(n: int, least: float) -> None:
    found = rates(1.0, n)
    assert found["reproduced"] > least
    assert found["contradicted"] == 0


@pytest.mark.parametrize(("n", "least"), [(3, 0.55), (5, 0.95), (10, 0.98)])
def test_an_effect_of_twice_the_reported_size_exceeds_it(n: int, least: float) -> None:
    found = rates(2.0, n, 0.2)
    assert found["exceeded"] > least
    assert found["reproduced"] + found["contradicted"] == 0


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("spread", SPREADS)
def test_a_size_that_the_paper_reports_is_called_exceeded_1_time_in_40_at_most_whatever_the_noise(
    n: int, spread: float
) -> None:
    assert rates(1.0, n, spread)["exceeded"] < 0.025 + margin(0.025, REPEATS)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("spread", [*SPREADS, 0.2, 0.5])
def test_half_the_reported_effect_is_called_reproduced_1_time_in_40_at_most_whatever_the_noise(
    n: int, spread: float
) -> None:
    # To be close it would have to be off by 1/3 of the reported effect, which is as much as half the interval may be.
    found = rates(0.5, n, spread)
    assert found["reproduced"] + found["exceeded"] < 0.025 + margin(0.025, REPEATS)


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("spread", SPREADS)
def test_no_effect_is_given_a_direction_5_times_in_100_and_never_a_size(n: int, spread: float) -> None:
    found = rates(0.0, n, spread)
    assert found["inconclusive"] == pytest.approx(0.95, abs=margin(0.05, REPEATS))
    assert found["reproduced"] + found["exceeded"] < 0.01


@pytest.mark.parametrize("n", [3, 5, 10])
def test_a_small_effect_is_the_same_direction_once_it_is_seen(n: int) -> None:
    found = rates(0.5, n, 0.05)
    assert found["same direction"] > 0.9
    assert found["same direction"] + found["inconclusive"] > 0.99


@pytest.mark.parametrize(
    ("effect", "expected"), [(0.75, "same direction"), (0.9, "reproduced"), (1.1, "reproduced"), (1.3, "exceeded")]
)
def test_without_noise_the_verdict_tells_how_far_the_truth_is_from_the_reported_size(
    effect: float, expected: str
) -> None:
    """The tolerance is a sixth on both sides, however sure it is that the truth is not the reported value."""
    assert rates(effect, 10, 0.02)[expected] > 0.99


@pytest.mark.parametrize("n", [3, 10])
@pytest.mark.parametrize("effect", [0.9, 1.0, 1.1, 2.0])
def test_more_noise_never_makes_a_size_more_often_known(effect: float, n: int) -> None:
    """Nor the better of the three words: "exceeded" has no other precision than "reproduced"."""
    found = [rates(effect, n, spread) for spread in SPREADS]
    sized = [one["reproduced"] + one["exceeded"] for one in found]
    assert sized == sorted(sized, reverse=True)
    assert sized[0] > 0.95
    assert sized[-1] < 0.5


# ---- conditions ----


def with_condition(effect: float, excess: float, n: int) -> dict[str, float]:
    """How often each verdict comes out for a true effect and a true excess, in units of their spread over seeds."""
    draws = np.random.default_rng([n, round(10 * effect), round(10 * excess) + 100]).normal(0, 1, (SIMULATIONS, 2, n))
    cases = [case((effect + one).tolist(), (excess + two).tolist()) for one, two in draws]
    return shares([judge(one, Family.of([one.test])).verdict for one in cases])


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("excess", [0.0, 0.5, 3.0])
def test_a_claim_whose_condition_is_not_met_is_rarely_called_so(n: int, excess: float) -> None:
    found = with_condition(8.0, excess, n)
    assert found.get("favourable", 0) <= 0.025 + margin(0.025)
    if not excess:  # met, if barely: that it fails must not be said either
        assert found.get("premise fails", 0) <= 0.025 + margin(0.025)


@pytest.mark.parametrize("excess", [(-9.0,), (-9.0, -8.5), (9.0, 8.5)])
def test_a_condition_that_too_few_seeds_test_leaves_the_claim_open(excess: tuple[float, ...]) -> None:
    one = case([8.0, 8.1, 7.9, 8.0], excess)
    assert judge(one, Family.of([one.test])).verdict == "inconclusive"


@pytest.mark.parametrize("n", [3, 5, 10])
def test_without_an_effect_a_condition_that_is_met_gives_no_more_directions(n: int) -> None:
    found = with_condition(0.0, -8.0, n)
    assert found.get("favourable", 0) + found.get("contradicted", 0) <= 0.05 + margin(0.05)
    assert found.get("premise fails", 0) == 0


def test_more_seeds_find_an_effect_whose_condition_is_met_and_a_condition_that_is_not() -> None:
    met, broken = ([with_condition(1.5, excess, n) for n in (3, 5, 10)] for excess in (-1.5, 1.5))
    for found, name in ((met, "favourable"), (broken, "premise fails")):
        rates = [one.get(name, 0) for one in found]
        assert rates == sorted(rates)
        assert rates[-1] > 0.9
    assert all(one.get("contradicted", 0) == 0 for one in met)


# ---- the adjustment ----


def test_of_all_verdicts_of_a_set_one_is_false_5_times_in_100_at_most() -> None:
    """Ten claims on five seeds: four have no effect, two conditions that are barely met, four are so."""
    draws, wrong, naive, simulations = np.random.default_rng(5), 0, 0, 100
    truth = [(0.0, None)] * 4 + [(3.0, 0.0)] * 2 + [(3.0, None)] * 4
    for _ in range(simulations):
        noise = draws.normal(0, 1, (len(truth), 2, 5))
        cases = [
            case((effect + one).tolist(), None if excess is None else (excess + two).tolist())
            for (effect, excess), (one, two) in zip(truth, noise, strict=True)
        ]
        family = Family.of(one.test for one in cases)
        false = cases[:6]
        wrong += any(judge(one, family).verdict != "inconclusive" for one in false)
        naive += any(one.test is not None and one.test.p <= 0.05 for one in false)
    assert wrong / simulations <= 0.05 + margin(0.05, simulations)
    assert naive / simulations > 0.15


# ---- the time to a target ----

POINTS = 24  # validations of a run


def to_target(worse: float, n: int, noise: float, faster: float = 1.0) -> list[tuple[str, int]]:
    """Verdicts on "reaches the baseline's final loss sooner", and in how many of n runs it was touched.

    Losses fall from 4 to 1 nats, more slowly at the end; ``worse``: nats that the arm is above the baseline, whose
    curve it follows ``faster`` times as fast; ``noise``: of every validation [nats].
    """
    draws = np.random.default_rng([n, round(1000 * worse), round(1000 * noise), round(10 * faster)])
    time, found = np.linspace(0, 1, POINTS + 1), []

    def losses(share: np.ndarray) -> np.ndarray:
        return np.asarray(1 + 3 * np.exp(-5 * share) + draws.normal(0, noise, (n, len(share))))

    def first(curves: np.ndarray, levels: np.ndarray) -> list[float | None]:
        pairs = zip(curves, levels, strict=True)
        return [first_at_or_below(zip(time, curve, strict=True), level) for curve, level in pairs]

    for _ in range(SIMULATIONS):
        bases, arms = losses(time), losses(faster * time) + worse
        targets = bases[:, -1]
        own, there = first(bases, targets), first(arms, targets)
        costs = {seed: (own[seed], 1.0 if one is None else one) for seed, one in enumerate(there)}
        touched = sum(one is not None for one in there)
        paired, gap = ratio(costs.values()), difference(zip(arms[:, -1], targets, strict=True))
        one = Case(PAPER, claim(1.0), until_reached(paired, Reach(costs, touched), gap, ""), leader="one")
        found.append((judge(one, Family.of([one.test])).verdict, touched))
    return found


def test_touching_the_target_by_chance_does_not_save_an_arm_that_ends_above_it() -> None:
    found = to_target(0.05, 10, 0.03)
    touched = [one for one in found if one[1]]
    assert len(touched) > 0.5 * SIMULATIONS
    assert shares([verdict for verdict, _ in touched])["premise fails"] > 0.8
    assert shares([verdict for verdict, _ in found]).get("favourable", 0) == 0


@pytest.mark.parametrize("n", [3, 5, 10])
def test_an_arm_that_is_as_good_as_the_baseline_is_rarely_called_faster(n: int) -> None:
    found = shares([verdict for verdict, _ in to_target(0.0, n, 0.02)])
    assert found.get("favourable", 0) <= 0.05 + margin(0.05)
    assert found.get("premise fails", 0) <= 0.05 + margin(0.05)


def test_an_arm_that_is_faster_is_found() -> None:
    assert shares([verdict for verdict, _ in to_target(0.0, 5, 0.01, faster=1.5)])["favourable"] > 0.9
