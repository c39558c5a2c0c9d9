"""The rule of a verdict: its definition and its invariants; how often it is right is in test_known_answers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pldrepro import stats
from pldrepro.analysis.comparisons import Paired, difference, percent_less, ratio
from pldrepro.analysis.reported import Claim
from pldrepro.analysis.verdicts import MIN_SEEDS, VERDICTS, Family, null_test, verdict
from pldrepro.stats import Estimate

number = st.floats(-100, 100)
width = st.floats(0, 100)
side = st.sampled_from(["higher", "lower"])
# Best last. Two conclusions against a claim's effect or for it are equally firm; what they say differs.
RANK = {"inconclusive": 0, "contradicted": 1, "same direction": 1, "reproduced": 2, "exceeded": 3}


def claim(reported: float | None = 24.0, null: float = 0.0, direction: Any = "higher") -> Claim:
    return Claim(
        id="faster", statement="it is faster", unit="%", direction=direction, null_value=null, where="here",
        exhibit="table1", provenance="verified", reported=reported, measure="time_saving",
    )  # fmt: skip


def found(low: float, high: float, about: Claim, *, n: int = 3, **more: Any) -> str:
    return verdict(Estimate((low + high) / 2, low, high, n, ""), about, **more)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (20.0, 28.0, "reproduced"),
        (16.0, 32.0, "reproduced"),
        (15.0, 33.0, "same direction"),  # half of it is 9, more than a third of 24
        (19.5, 20.5, "reproduced"),  # a sixth of 24 below what rounds to 24
        (18.0, 20.5, "same direction"),
        (24.6, 26.6, "reproduced"),  # wholly beyond it, but close to it: the same on both sides
        (21.4, 23.4, "reproduced"),
        (30.0, 36.0, "exceeded"),
        (40.0, 80.0, "exceeded"),  # half of it is 20, a third of the measured 60
        (39.0, 81.0, "same direction"),
        (24.6, 60.0, "same direction"),  # wholly beyond it, but too wide
        (24.4, 36.0, "same direction"),  # neither close to it nor all beyond it
        (10.0, 18.0, "same direction"),
        (-1.0, 30.0, "inconclusive"),
        (0.0, 30.0, "inconclusive"),
        (-9.0, -1.0, "contradicted"),
    ],
)
def test_the_definition(low: float, high: float, expected: str) -> None:
    assert found(low, high, claim()) == expected
    assert found(-high, -low, claim(-24.0, direction="lower")) == expected


# Verdict -> words of its definition, and the two sides of each border: of 24, which stands for 23.5 to 24.5.
BORDERS: dict[str, tuple[tuple[str, ...], list[tuple[str, str]]]] = {
    "reproduced": (
        ("within a sixth", "above or below it", "at most a third", "need not hold the reported value"),
        [
            (found(28.4, 28.6, claim()), found(28.42, 28.62, claim())),
            (found(19.4, 19.6, claim()), found(19.38, 19.58, claim())),
            (found(16.0, 32.0, claim()), found(15.9, 32.1, claim())),
            (found(1.0, 90.0, claim(None)), found(0.0, 90.0, claim(None))),
        ],
    ),
    "exceeded": (
        ("all of it is beyond the reported value", "by more than a sixth", "at most a third of the effect"),
        [
            (found(24.51, 36.0, claim()), found(24.5, 36.0, claim())),
            (found(28.42, 28.62, claim()), found(28.4, 28.6, claim())),
            (found(30.0, 60.0, claim()), found(29.9, 60.1, claim())),
        ],
    ),
    "same direction": (
        ("too far from the reported value", "the interval too wide", "says nothing of the size"),
        [
            (found(19.38, 19.58, claim()), found(19.4, 19.6, claim())),
            (found(15.9, 32.1, claim()), found(16.0, 32.0, claim())),
            (found(20.0, 28.0, claim(), sized=False), found(20.0, 28.0, claim())),
        ],
    ),
    "inconclusive": (
        ("fewer than 3 seeds (processes", "includes no effect", "after the adjustment"),
        [
            (found(20.0, 28.0, claim(), n=2), found(20.0, 28.0, claim())),
            (found(0.0, 48.0, claim()), found(0.01, 48.0, claim())),
            (found(20.0, 28.0, claim(), p=0.051), found(20.0, 28.0, claim(), p=0.05)),
        ],
    ),
    "contradicted": (
        ("on the other side of no effect, also after the adjustment",),
        [
            (found(-9.0, -0.01, claim()), found(-9.0, 0.0, claim())),
            (found(-9.0, -1.0, claim(), p=0.05), found(-9.0, -1.0, claim(), p=0.051)),
        ],
    ),
}


@pytest.mark.parametrize("name", BORDERS)
def test_the_printed_definition_is_that_of_the_code(name: Any) -> None:
    words, borders = BORDERS[name]
    assert all(some in VERDICTS[name] for some in words)
    for inside, outside in borders:
        assert inside == name
        assert outside != name


def together(*paired: Paired | None) -> list[float | None]:
    """p of each comparison, adjusted for all of them."""
    family = Family.of(map(null_test, paired))
    return [family.p(null_test(one)) for one in paired]


def test_what_is_judged_together_shares_one_error_rate() -> None:
    clear, near, few = (
        difference([(value, 0.0) for value in values]) for values in ([-1.0, -1.1, -0.9], [1.0, 0.5, 0.6], [1.0, 1.1])
    )
    assert clear is not None
    assert near is not None
    assert few is not None
    assert together(clear, None, few) == [clear.p, None, None]
    assert together(near, few, clear) == [near.p, None, 2 * (clear.p or 0)]
    assert near.p == pytest.approx(0.0443, abs=1e-3)
    family = Family.of(map(null_test, (near, few, clear)))
    assert (family.size, [family.decided(one) for one in (near, few, clear)]) == (2, [True, False, True])
    also_near = difference([(1.0, 0.0), (0.5, 0.0), (0.61, 0.0)])
    assert not Family.of(map(null_test, (near, also_near))).decided(near)


def test_further_tests_are_adjusted_for_all_and_change_no_claim() -> None:
    near, other, third = (
        difference([(value, 0.0) for value in values])
        for values in ([1.0, 0.5, 0.6], [1.0, 0.5, 0.61], [2.0, 1.0, 1.21])
    )
    family = Family.of([null_test(near)], further=map(null_test, (near, other, third)))
    assert near is not None
    assert (family.size, family.all) == (1, 3)
    assert family.p(null_test(near)) == near.p
    assert family.decided(near)
    for one in (other, third):
        assert one is not None
        assert family.p(null_test(one)) == pytest.approx(3 * min(near.p or 0, other.p or 0, third.p or 0))
        assert not family.decided(one)


def test_a_comparison_that_no_family_counts_is_not_judged_by_itself() -> None:
    one, other = (difference([(value, 0.0) for value in values]) for values in ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9]))
    assert one is not None
    with pytest.raises(KeyError):
        Family.of([null_test(other)]).decided(one)


def test_comparisons_that_rest_on_one_estimate_are_one_test() -> None:
    pairs = [(1.0, 2.0), (1.0, 1.5), (1.0, 1.6)]
    shorter, longer = ratio(pairs, percent_less), ratio([(b, a) for a, b in pairs])
    other = ratio([(1.0, 1.2), (1.0, 1.3), (1.0, 1.2)])
    assert shorter is not None
    assert other is not None
    assert together(shorter, longer, shorter) == [shorter.p] * 3
    first, second, third = together(shorter, other, longer)
    assert first == third == pytest.approx(max(2 * (other.p or 0), shorter.p or 0))
    assert second == pytest.approx(2 * (other.p or 0))
    sharper = replace(shorter, shared_error=0.01)  # the same effects with another error: another test
    assert together(shorter, sharper) != [shorter.p, sharper.p]


def test_a_ratio_is_judged_by_its_distance_from_1() -> None:
    # 1.3 is 1.25 to 1.35; a sixth of 0.3 is 0.05, a third 0.1.
    assert claim(1.3, 1.0).reported_interval == pytest.approx((1.25, 1.35))
    assert found(1.12, 1.30, claim(1.3, 1.0)) == "reproduced"
    assert found(1.10, 1.28, claim(1.3, 1.0)) == "same direction"
    assert found(1.12, 1.38, claim(1.3, 1.0)) == "same direction"


@pytest.mark.parametrize(("reported", "half"), [(24.0, 0.5), (19.67, 0.005), (0.2, 0.05), (53.0, 0.5), (2.5, 0.05)])
def test_a_reported_value_stands_for_what_rounds_to_it(reported: float, half: float) -> None:
    assert claim(reported).reported_interval == pytest.approx((reported - half, reported + half))


def test_a_direction_is_reproduced_when_it_is_established() -> None:
    assert found(1.0, 90.0, claim(None)) == "reproduced"
    assert found(-90.0, -1.0, claim(None)) == "contradicted"


def test_few_seeds_have_no_direction() -> None:
    assert MIN_SEEDS == 3
    assert found(20.0, 28.0, claim(), n=2) == "inconclusive"
    assert found(-28.0, -20.0, claim(), n=2) == "inconclusive"
    assert verdict(Estimate(24.0, None, None, 1, ""), claim()) == "inconclusive"


def test_the_adjustment_for_several_claims_can_leave_one_open() -> None:
    assert found(20.0, 28.0, claim(), p=0.04) == "reproduced"
    assert found(20.0, 28.0, claim(), p=0.06) == "inconclusive"
    assert found(-28.0, -20.0, claim(), p=0.06) == "inconclusive"


def test_a_scale_that_says_nothing_of_the_size_gives_a_direction() -> None:
    assert found(20.0, 28.0, claim(), sized=False) == "same direction"
    assert found(30.0, 33.0, claim(), sized=False) == "same direction"
    assert found(-9.0, -1.0, claim(), sized=False) == "contradicted"
    assert found(1.0, 2.0, claim(None), sized=False) == "reproduced"


def reports(value: float, null: float, direction: str) -> Claim:
    """A claim that reports an effect of this size, 0.01 at least, on the claimed side."""
    effect = max(abs(value), 0.01) * (1 if direction == "higher" else -1)
    return claim(null + effect, null, direction)


@given(number, width, number, number, side)
def test_a_mirrored_claim_has_the_same_verdict(
    value: float, half: float, effect: float, null: float, direction: str
) -> None:
    about, other = reports(effect, null, direction), "lower" if direction == "higher" else "higher"
    assert about.reported is not None
    mirrored = claim(-about.reported, -null, other)
    there, back = found(value - half, value + half, about), found(-value - half, -value + half, mirrored)
    assert there == back


share = st.floats(0, 1.5)  # of the reported effect


@given(st.floats(-0.5, 2), share, share, number, number, side)
@example(0.9, 0.02, 0.2, 24.0, 0.0, "higher")  # what does not hold the reported value, and with more noise holds it
def test_more_noise_never_gives_a_better_verdict(
    value: float, half: float, more: float, effect: float, null: float, direction: str
) -> None:
    about = reports(effect, null, direction)
    assert about.reported is not None
    whole = about.reported - null
    middle = null + value * whole

    def of(width: float) -> str:
        return found(middle - width * abs(whole), middle + width * abs(whole), about)

    assert RANK[of(half + more)] <= RANK[of(half)]


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=8), st.floats(-0.5, 2), share, st.floats(1, 5))
def test_more_spread_or_more_of_a_shared_error_never_gives_a_better_verdict(
    noise: list[float], value: float, error: float, factor: float
) -> None:
    about, mean, centred = claim(24.0), 24 * value, np.array(noise) - np.mean(noise)

    def of(scale: float) -> str:
        values = (mean + 24 * scale * centred).tolist()
        p = stats.p_value(values, 24 * scale * error)
        estimate = stats.mean_interval(values, shared_error=24 * scale * error)
        return verdict(Estimate(mean, estimate.low, estimate.high, estimate.n, ""), about, None if p is None else 4 * p)

    assert RANK[of(factor)] <= RANK[of(1.0)]


@given(number, width, number, number, st.floats(0, 50))
def test_more_effect_is_never_a_worse_direction(
    value: float, half: float, effect: float, null: float, more: float
) -> None:
    order = ["contradicted", "inconclusive"]
    about = reports(effect, null, "higher")
    before, after = (found(v - half, v + half, about) for v in (value, value + more))
    assert (order.index(after) if after in order else 2) >= (order.index(before) if before in order else 2)
