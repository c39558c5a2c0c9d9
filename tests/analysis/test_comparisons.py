"""Comparisons of two arms: their test and their interval never contradict each other."""

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from pldrepro.analysis.comparisons import Paired, difference, percent_less, ratio

SHARED = st.tuples(st.floats(0, 2), st.sampled_from([2, 9, math.inf]))


def agrees(paired: Paired | None, null: float) -> bool:
    assert paired is not None
    assert paired.p is not None
    assert paired.estimate.low is not None
    assert paired.estimate.high is not None
    assume(abs(paired.p - 0.05) > 1e-6)
    return (paired.p < 0.05) == (not paired.estimate.low <= null <= paired.estimate.high)


@given(st.lists(st.floats(-2, 5), min_size=2, max_size=6), SHARED)
def test_a_difference_is_significant_where_its_interval_excludes_0(
    effects: list[float], shared: tuple[float, float]
) -> None:
    assert agrees(difference([(effect, 0.0) for effect in effects], *shared), 0.0)


@given(st.lists(st.floats(0.2, 2), min_size=2, max_size=6), SHARED)
def test_a_ratio_and_a_saving_are_significant_where_their_intervals_exclude_no_effect(
    ratios: list[float], shared: tuple[float, float]
) -> None:
    pairs: list[tuple[float | None, float | None]] = [(value, 1.0) for value in ratios]
    assert agrees(ratio(pairs, shared_error=shared[0], shared_freedom=shared[1]), 1.0)
    assert agrees(ratio(pairs, percent_less, *shared), 0.0)


@given(st.lists(st.floats(-2, 5), min_size=2, max_size=6), SHARED)
def test_a_difference_turned_round_is_the_same_test(effects: list[float], shared: tuple[float, float]) -> None:
    one = difference([(effect, 0.0) for effect in effects], *shared)
    assert one is not None
    turned = one.turned()
    assert (turned.test, turned.p, turned.turned()) == (one.test, one.p, one)
    assert (turned.estimate.value, turned.estimate.low) == (-one.estimate.value, -(one.estimate.high or 0.0))


def test_seeds_are_counted_on_the_side_of_their_mean() -> None:
    found = [difference((one, 0.0) for one in values) for values in ((-3.0, -1.0, 0.5), (2.0, 0.0, -1.0), (0.0, 0.0))]
    assert [one.agree for one in found if one is not None] == [2, 1, 0]
    assert (cheaper := ratio([(0.8, 1.0), (0.9, 1.0), (1.1, 1.0)], percent_less)) is not None
    assert cheaper.agree == 2
