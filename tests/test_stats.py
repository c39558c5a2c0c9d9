"""Intervals over seeds: known values, silence at n = 1, and invariants."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
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


def test_an_error_that_all_seeds_share_widens_the_interval() -> None:
    # t half width 2.4841, normal half width 1.96 x 2: together hypot(2.4841, 3.92) = 4.641.
    estimate = stats.mean_interval([1, 2, 3], shared_error=2.0)
    assert estimate.high == pytest.approx(2 + 4.641, abs=1e-3)
    assert "the error that the seeds share" in estimate.method


def test_p_is_that_of_the_t_test() -> None:
    values = [0.3, 0.9, 1.1, 0.2]
    assert stats.p_value(values) == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue, rel=1e-6)
    assert stats.p_value([-value for value in values]) == stats.p_value(values)
    assert stats.p_value([1.0]) is None
    assert stats.p_value([1.0, -1.0]) == 1
    assert stats.p_value([1.0, 1.0]) == pytest.approx(1e-15)


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=8), st.floats(0, 3), st.sampled_from([2, 9, math.inf]))
def test_p_is_the_level_at_which_the_interval_ends_at_0(values: list[float], error: float, freedom: float) -> None:
    p = stats.p_value(values, error, freedom)
    assert p is not None
    assume(1e-9 < p < 0.999)
    estimate = stats.mean_interval(values, 1 - p, error, freedom)
    nearer = estimate.low if estimate.value > 0 else estimate.high
    assert nearer == pytest.approx(0, abs=1e-5 * max(1, abs(estimate.value)))
    assert stats.p_value(values, 2 * error + 0.1, freedom) >= p


def test_few_degrees_of_freedom_widen_a_shared_error() -> None:
    # Normal 1.96 against t(2) 4.3027.
    estimate = stats.mean_interval([1, 1, 1], shared_error=2.0, shared_freedom=2)
    assert estimate.high == pytest.approx(1 + 2 * 4.3027, abs=1e-3)
    assert stats.half_width(2.0, math.inf) == pytest.approx(3.92, abs=1e-3)


def test_bootstrap_over_pairs_ignores_what_they_share() -> None:
    first, second = ([101.0, 202.0, 303.0, 404.0], [100.0, 200.0, 300.0, 400.0])
    estimate = stats.bootstrap_difference(first, second, resamples=500)
    assert estimate.value == 2.5
    assert estimate.low is not None
    assert estimate.high is not None
    assert 1 <= estimate.low < 2.5 < estimate.high <= 4
    assert (estimate.n, estimate.method) == (4, "95% paired percentile bootstrap")
    with pytest.raises(ValueError, match="4 and 3"):
        stats.bootstrap_difference(first, second[:3])


def test_standard_deviation_with_its_chi_square_interval() -> None:
    # s = 1, n = 3: sqrt(2 / 7.3778) and sqrt(2 / 0.050636) from a printed chi-square table.
    estimate = stats.deviation_interval([1, 2, 3])
    assert estimate is not None
    assert (estimate.value, estimate.n) == (1, 3)
    assert estimate.low == pytest.approx(0.5207, abs=1e-4)
    assert estimate.high == pytest.approx(6.2847, abs=1e-3)
    assert stats.deviation_interval([1.0]) is None


def test_a_ratio_of_standard_deviations_of_pairs() -> None:
    # Uncorrelated pairs with n = 4: K = 1 + t(2)^2 = 1 + 4.3027^2 = 19.513, so the factor is sqrt(39.00) = 6.245.
    estimate = stats.paired_deviation_ratio([2.0, 2.0, -2.0, -2.0], [1.0, -1.0, 1.0, -1.0])
    assert estimate is not None
    assert estimate.value == pytest.approx(2)
    assert (estimate.low, estimate.high) == (pytest.approx(2 / 6.245, abs=1e-3), pytest.approx(2 * 6.245, abs=1e-2))
    tied = stats.paired_deviation_ratio([1.0, 2.0, 4.0], [10.0, 20.0, 40.0])
    assert tied is not None
    assert (tied.low, tied.value, tied.high) == (pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))


def test_a_ratio_of_standard_deviations_needs_spread_and_three_pairs() -> None:
    two = stats.paired_deviation_ratio([1.0, 3.0], [1.0, 2.0])
    assert two is not None
    assert (two.value, two.low, two.high) == (2, None, None)
    assert stats.paired_deviation_ratio([1.0], [2.0]) is None
    assert stats.paired_deviation_ratio([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None
    assert stats.paired_deviation_ratio([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]) is None


def test_a_share_and_its_exact_interval() -> None:
    # Clopper and Pearson's own chart, and the rule of three: 0 of 10 allows 30.85 %.
    assert stats.share_interval(0, 10).high == pytest.approx(0.3085, abs=1e-4)
    half = stats.share_interval(5, 10)
    assert (half.low, half.value, half.high) == (pytest.approx(0.1871, abs=1e-4), 0.5, pytest.approx(0.8129, abs=1e-4))
    assert (stats.share_interval(0, 10).low, stats.share_interval(10, 10).high) == (0, 1)
    for count, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match="a share needs"):
            stats.share_interval(count, n)


def test_variance_parts_of_a_worked_example() -> None:
    # Groups (1, 3) and (7, 9): MSW = 2, MSB = 2 (2 - 5)^2 + 2 (8 - 5)^2 = 36, between (36 - 2) / 2 = 17.
    parts = stats.variance_parts([[1.0, 3.0], [7.0, 9.0]])
    assert (parts.between, parts.within) == (17, 2)
    assert (parts.num_groups, parts.num_values, parts.within_freedom) == (2, 4, 2)
    deviation = parts.within_deviation()
    assert deviation is not None
    assert (deviation.value, deviation.n) == (pytest.approx(math.sqrt(2)), 4)


def test_variance_parts_of_groups_of_unequal_size() -> None:
    # Groups (1, 3, 5) and (9): MSW = 8 / 2 = 4; grand mean 4.5; MSB = 3 x 2.25 + 20.25 = 27; n0 = 4 - 10 / 4 = 1.5.
    parts = stats.variance_parts([[1.0, 3.0, 5.0], [9.0]])
    assert parts.within == 4
    assert parts.between == pytest.approx((27 - 4) / 1.5)


def test_variance_parts_that_cannot_be_told_apart_are_none() -> None:
    one_member = stats.variance_parts([[1.0], [2.0], [3.0]])
    assert (one_member.between, one_member.within, one_member.within_deviation()) == (None, None, None)
    one_group = stats.variance_parts([[1.0, 3.0]])
    assert (one_group.between, one_group.within) == (None, 2)
    for nothing in ([], [[]], [[1.0], []]):
        with pytest.raises(ValueError, match="no values"):
            stats.variance_parts(nothing)


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=4), min_size=1, max_size=4), st.floats(-10, 10))
def test_variance_parts_are_not_negative_and_do_not_see_a_shift(groups: list[list[float]], shift: float) -> None:
    parts = stats.variance_parts(groups)
    moved = stats.variance_parts([[value + shift for value in group] for group in groups])
    for value, again in ((parts.between, moved.between), (parts.within, moved.within)):
        assert (value is None) == (again is None)
        if value is not None:
            assert value >= 0
            assert again == pytest.approx(value, rel=1e-6, abs=1e-4)


def test_a_ratio_of_deviations_within_groups() -> None:
    # Freedoms 2 and 2: F(0.975) = 39, so the limits of the ratio 3 are 3 / sqrt(39) and 3 sqrt(39).
    wide = stats.variance_parts([[0.0, 6.0], [0.0, 6.0]])
    narrow = stats.variance_parts([[0.0, 2.0], [0.0, 2.0]])
    ratio = stats.deviation_ratio(wide, narrow)
    assert ratio is not None
    assert ratio.value == pytest.approx(3)
    assert (ratio.low, ratio.high) == (pytest.approx(3 / math.sqrt(39)), pytest.approx(3 * math.sqrt(39)))
    for nothing in (stats.variance_parts([[1.0], [2.0]]), stats.variance_parts([[1.0, 1.0]])):
        assert stats.deviation_ratio(wide, nothing) is None
        assert stats.deviation_ratio(nothing, wide) is None


def test_holms_adjustment() -> None:
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.9]) == [1, 1]
    assert stats.holm([0.2]) == [0.2]
    assert stats.holm([]) == []
    for wrong in ([1.1], [-0.1], [math.nan]):
        with pytest.raises(ValueError, match=r"0\.\.1|finite"):
            stats.holm(wrong)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_holm_is_never_below_the_raw_p_keeps_its_order_and_follows_a_permutation(p: list[float], rng: Random) -> None:
    adjusted = stats.holm(p)
    assert all(raw <= after <= min(1, len(p) * max(p)) + 1e-12 for raw, after in zip(p, adjusted, strict=True))
    by_raw = [after for _, after in sorted(zip(p, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)
    assert min(adjusted) == min(1.0, len(p) * min(p))
    order = rng.sample(range(len(p)), len(p))
    assert stats.holm([p[i] for i in order]) == [adjusted[i] for i in order]
