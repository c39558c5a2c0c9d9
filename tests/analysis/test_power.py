"""Numbers of seeds: those of the tables, and none where no number is enough."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nct

from pldrepro import stats
from pldrepro.analysis.power import pairs_for_power, power, smallest_seen


@pytest.mark.parametrize(("effect", "pairs"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_pairs_for_80_percent_power_are_those_of_the_tables(effect: float, pairs: int) -> None:
    # Cohen's and G*Power's numbers for the paired two-sided t test at 0.05.
    assert pairs_for_power([effect - 1, effect, effect + 1]) == pairs
    assert power(pairs - 1, effect, 1.0) < 0.8 <= power(pairs, effect, 1.0)


def test_power_has_its_limits() -> None:
    assert power(5, 0.0, 1.0) == pytest.approx(0.05)
    assert power(5, 0.0, 1.0, confidence=0.9) == pytest.approx(0.1)
    assert power(10, 10.0, 1.0) == pytest.approx(1)
    assert power(34, -0.5, 1.0) == power(34, 0.5, 1.0)
    for n, spread in ((1, 1.0), (5, 0.0)):
        with pytest.raises(ValueError, match="power needs"):
            power(n, 1.0, spread)


def beyond(n: int, noncentrality: float) -> float:
    limit = stats.t_limit(0.025, n - 1)
    return float(sum(nct.sf(limit, n - 1, sign * noncentrality) for sign in (1, -1)))


@given(st.integers(2, 1000), st.floats(-8, 4))
def test_power_is_that_of_the_noncentral_t(n: int, exponent: float) -> None:
    assert power(n, 10**exponent, math.sqrt(n)) == pytest.approx(beyond(n, 10**exponent), abs=1e-12)


@pytest.mark.parametrize("n", [2, 10])
def test_power_is_a_number_where_the_distribution_function_is_none(n: int) -> None:
    """scipy.special's is nan at some noncentralities from 8 to 18 with one degree of freedom, 38 to 43 with nine."""
    for tenth in range(60, 600, 5):
        assert power(n, tenth / 10, math.sqrt(n)) == pytest.approx(beyond(n, tenth / 10), abs=1e-12)


@given(st.integers(2, 50), st.floats(0.01, 5), st.floats(0.1, 5))
def test_power_grows_with_pairs_and_effect_and_falls_with_spread(n: int, effect: float, spread: float) -> None:
    found = power(n, effect, spread)
    assert 0.05 <= found <= 1
    slack = 1e-9
    assert power(n + 1, effect, spread) >= found - slack
    assert power(n, 1.1 * effect, spread) >= found - slack
    assert power(n, effect, 1.1 * spread) <= found + slack


def test_pairs_for_power_say_when_there_is_no_number() -> None:
    assert pairs_for_power([1.0]) is None
    assert pairs_for_power([-1.0, 1.0]) is None
    assert pairs_for_power([2.0, 2.0]) == 2
    assert pairs_for_power([0.0, 0.0]) is None
    data = [-0.5, 0.5, 1.5]
    assert pairs_for_power(data, target=0.95) == 54


def test_an_error_that_the_pairs_share_can_leave_no_number_of_them_enough() -> None:
    effects = [1.0, 0.2, 0.6]
    assert pairs_for_power(effects) == 6
    assert pairs_for_power(effects, shared_error=0.1) == 7
    assert pairs_for_power(effects, shared_error=0.2) == 30
    assert pairs_for_power(effects, shared_error=2.0) is None
    # 80 % power of a normal test needs an effect of 2.8 standard errors
    assert pairs_for_power([0.6, 0.6], shared_error=0.21) == 2
    assert pairs_for_power([0.6, 0.6], shared_error=0.22) is None
    assert pairs_for_power([0.6, 0.6], least_spread=0.4) == 6


@pytest.mark.parametrize(("n", "error"), [(3, 0.0), (10, 0.0), (5, 0.2)])
def test_the_smallest_effect_seen_has_80_percent_power(n: int, error: float) -> None:
    effect = smallest_seen(n, 0.6, shared_error=error)
    assert power(n, effect, 0.6, shared_error=error) == pytest.approx(0.8)
    # More than half an interval, which is found every second time.
    half = stats.half_width(0.6 / n**0.5, n - 1)
    assert effect > half
