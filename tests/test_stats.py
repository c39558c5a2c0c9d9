"""Intervals over seeds: known values, silence at n = 1, and invariants."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from pldrepro import stats

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=8)
positive = st.lists(st.floats(1e-2, 1e3), min_size=2, max_size=8)


def test_t_interval_of_one_two_three() -> None:
    estimate = stats.mean_interval([1, 2, 3])
    assert estimate.value == 2
    assert estimate.low == pytest.approx(-0.4841, abs=1e-4)
    assert estimate.high == pytest.approx(4.4841, abs=1e-4)
    assert (estimate.n, estimate.method) == (3, "mean, 95% t interval")


@given(values)
def test_t_interval_is_scipys(data: list[float]) -> None:
    spread = np.std(data, ddof=1) / math.sqrt(len(data))
    estimate = stats.mean_interval(data)
    if spread > 0:
        expected = scipy_stats.t.interval(0.95, len(data) - 1, loc=np.mean(data), scale=spread)
        assert (estimate.low, estimate.high) == pytest.approx(expected, abs=1e-6)


def test_one_seed_has_no_interval() -> None:
    for estimate in (
        stats.mean_interval([5.0]),
        stats.paired_difference([5.0], [2.0]),
        stats.paired_ratio([5.0], [2.0]),
        stats.bootstrap_interval([5.0]),
    ):
        assert (estimate.low, estimate.high, estimate.n, estimate.method) == (None, None, 1, "one seed")


def test_the_t_interval_covers_the_truth_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        estimate = stats.mean_interval(rng.normal(7.0, 2.0, size=3).tolist())
        assert estimate.low is not None
        assert estimate.high is not None
        hits += estimate.low <= 7.0 <= estimate.high
    assert 930 <= hits <= 970


def test_paired_difference_ignores_what_the_pairs_share() -> None:
    estimate = stats.paired_difference([101.0, 202.0, 303.0], [100.0, 200.0, 300.0])
    assert estimate.value == 2
    assert estimate.low == pytest.approx(-0.4841, abs=1e-4)
    assert estimate.method.startswith("paired mean difference")


def test_paired_ratio_is_the_geometric_mean_of_the_ratios() -> None:
    estimate = stats.paired_ratio([2.0, 8.0], [1.0, 1.0])
    assert estimate.value == pytest.approx(4.0)


@given(positive, st.floats(0.1, 10))
def test_a_constant_ratio_is_found_and_inverts(data: list[float], factor: float) -> None:
    scaled = [factor * value for value in data]
    there, back = stats.paired_ratio(scaled, data), stats.paired_ratio(data, scaled)
    assert there.value == pytest.approx(factor)
    assert there.low == pytest.approx(factor)
    assert there.value * back.value == pytest.approx(1)


def test_a_falling_function_swaps_the_limits() -> None:
    ratio = stats.paired_ratio([0.7, 0.8, 0.75], [1.0, 1.0, 1.0])
    saving = ratio.map(lambda value: 100 * (1 - value))
    assert saving.low is not None
    assert saving.high is not None
    assert saving.low < saving.value < saving.high
    assert saving.value == pytest.approx(25.11, abs=0.01)


def test_unequal_pairs_and_impossible_ratios_are_refused() -> None:
    with pytest.raises(ValueError, match="3 and 2"):
        stats.paired_difference([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match="positive"):
        stats.paired_ratio([1.0, 0.0], [1.0, 1.0])


def test_an_interval_of_times_stays_positive() -> None:
    estimate = stats.geometric_interval([10.0, 40.0])
    assert estimate.value == pytest.approx(20)
    assert estimate.low is not None
    assert estimate.low > 0
    assert estimate.method.startswith("geometric mean")


def test_averages() -> None:
    assert stats.median([3.0, 1.0, 2.0]) == 2
    assert stats.median([4.0, 1.0]) == 2.5
    assert stats.geometric_mean([1.0, 4.0]) == pytest.approx(2)
    with pytest.raises(ValueError, match="positive values, got -1"):
        stats.geometric_mean([2.0, -1.0])


@pytest.mark.parametrize("data", [[], [1.0, math.nan], [1.0, math.inf]])
def test_nothing_and_what_is_not_finite_are_refused(data: list[float]) -> None:
    with pytest.raises(ValueError, match=r"no values|finite"):
        stats.mean_interval(data)


def test_bootstrap_repeats_itself_and_stays_inside_the_data() -> None:
    data = [1.0, 2.0, 4.0, 8.0]
    first, second = (stats.bootstrap_interval(data, np.median, seed=3, resamples=500) for _ in range(2))
    assert first == second
    assert first.value == 3
    assert first.low is not None
    assert first.high is not None
    assert 1 <= first.low <= first.value <= first.high <= 8


def test_seeds_that_would_settle_it() -> None:
    # mean 2, standard deviation 1: half widths 8.98, 2.48, 1.59 at n = 2, 3, 4.
    assert stats.seeds_needed([1, 2, 3], 0) == 4
    assert stats.seeds_needed([1, 2, 3], 2) is None
    assert stats.seeds_needed([1], 0) is None


def test_an_error_that_all_seeds_share_widens_the_interval() -> None:
    # t half width 2.4841, normal half width 1.96 x 2: together hypot(2.4841, 3.92) = 4.641.
    estimate = stats.mean_interval([1, 2, 3], shared_error=2.0)
    assert estimate.high == pytest.approx(2 + 4.641, abs=1e-3)
    assert "calibration" in estimate.method
