"""Known answers by seeded simulation: what is planted is found at the stated power, what is not at the stated rate."""

from collections.abc import Callable

import numpy as np
import pytest

from pldrepro import stats
from pldrepro.analysis import bootstrap, power
from pldrepro.stats import Estimate

# Three standard errors of a share p of n simulations.
MARGIN = 3


def margin(p: float, n: int) -> float:
    return MARGIN * float(np.sqrt(p * (1 - p) / n))


def covers(estimate: Estimate | None, truth: float) -> bool:
    assert estimate is not None
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def found(estimate: Estimate) -> bool:
    return not covers(estimate, 0.0)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_paired_t_interval_finds_a_planted_difference_at_the_stated_power(n: int) -> None:
    rng, simulations, effect, spread = np.random.default_rng(n), 800, 1.0, 0.6
    shared = rng.normal(50, 20, (simulations, n))
    noise = rng.normal(0, spread / np.sqrt(2), (2, simulations, n))
    hits = [
        found(stats.paired_difference(first.tolist(), second.tolist()))
        for first, second in zip(shared + effect + noise[0], shared + noise[1], strict=True)
    ]
    expected = power.power(n, effect, spread)
    assert np.mean(hits) == pytest.approx(expected, abs=margin(expected, simulations))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_paired_t_interval_is_wrong_about_nothing_5_times_in_100(n: int) -> None:
    rng, simulations = np.random.default_rng(n), 800
    draws = rng.normal(0, 1, (2, simulations, n)) + rng.normal(0, 5, (simulations, n))
    wrong = [found(stats.paired_difference(a.tolist(), b.tolist())) for a, b in zip(*draws, strict=True)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=margin(0.05, simulations))


def test_a_study_of_the_advised_size_finds_the_difference_that_it_was_planned_for() -> None:
    planned = power.pairs_for_power([-0.2, 0.8, 1.8])
    assert planned == 15
    data = np.random.default_rng(0).normal(0.8, 1.0, (800, planned))
    assert np.mean([found(stats.mean_interval(row.tolist())) for row in data]) == pytest.approx(0.82, abs=0.045)


@pytest.mark.parametrize(("ratio", "level"), [(0.3, 0.05), (1, 0.0167), (3, 0.0167), (30, 0.0167), (3, 0.005)])
def test_an_error_that_few_processes_tell_is_wrong_no_more_often_than_the_level(ratio: float, level: float) -> None:
    """``ratio``: true error of three processes' mean over that of three seeds' mean."""
    rng, simulations = np.random.default_rng(7), 4000
    seeds, processes = rng.normal(0, 1, (simulations, 3)), rng.normal(0, ratio, (simulations, 3))
    wrong = 0
    for own, shared in zip(seeds, processes, strict=True):
        error = float(shared.std(ddof=1)) / np.sqrt(3)
        wrong += found(stats.mean_interval((own + shared.mean()).tolist(), 1 - level, error, 2))
    assert wrong / simulations <= level + margin(level, simulations)
    if ratio == 30:
        assert wrong / simulations == pytest.approx(level, abs=margin(level, simulations))


@pytest.mark.parametrize(("error", "freedom"), [(0.2, 2), (0.2, np.inf), (0.05, 9)])
def test_power_with_a_shared_error_is_nearly_that_of_simulations(error: float, freedom: float) -> None:
    rng, simulations, n = np.random.default_rng(3), 2000, 6
    hits = 0
    for _ in range(simulations):
        own = error * (np.sqrt(rng.chisquare(freedom) / freedom) if np.isfinite(freedom) else 1.0)
        values = 0.6 + rng.normal(0, 0.4, n) + rng.normal(0, error)
        hits += found(stats.mean_interval(values.tolist(), 0.95, own, freedom))
    assert hits / simulations == pytest.approx(power.power(n, 0.6, 0.4, 0.95, error, freedom), abs=0.1)


def test_the_bootstrap_over_seeds_is_too_narrow_with_few_of_them() -> None:
    rng = np.random.default_rng(0)

    def coverage(n: int) -> float:
        zeros = [0.0] * n
        data = rng.normal(0, 1, (200, n))
        return float(np.mean([covers(stats.bootstrap_difference(row, zeros, resamples=200), 0.0) for row in data]))

    assert coverage(3) < 0.85
    assert coverage(40) > 0.88


@pytest.mark.parametrize("sizes", [[3] * 25, [1, 5] * 12], ids=["equal", "ragged"])
def test_variance_parts_are_recovered(sizes: list[int]) -> None:
    rng, simulations = np.random.default_rng(0), 400
    parts = [
        stats.variance_parts([(rng.normal(0, 2) + rng.normal(0, 1, size)).tolist() for size in sizes])
        for _ in range(simulations)
    ]
    between, within = [part.between for part in parts], [part.within for part in parts]
    assert np.mean(between) == pytest.approx(4, abs=0.2)
    assert np.mean(within) == pytest.approx(1, abs=0.05)


def test_without_a_pre_training_effect_its_part_is_0_about_half_the_time() -> None:
    data = np.random.default_rng(0).normal(0, 1, (1000, 6, 4))
    between = np.array([stats.variance_parts(values.tolist()).between for values in data])
    assert 0.5 < np.mean(between == 0) < 0.65
    assert between.mean() < 0.1


def deviation(rng: np.random.Generator) -> tuple[Estimate | None, float]:
    return stats.deviation_interval(rng.normal(5, 3, 4)), 3.0


def deviation_of_pairs(rng: np.random.Generator) -> tuple[Estimate | None, float]:
    shared = rng.normal(0, 2, 5)
    return stats.paired_deviation_ratio(2 * (shared + rng.normal(0, 1, 5)), shared + rng.normal(0, 1, 5)), 2.0


def deviation_within(rng: np.random.Generator) -> tuple[Estimate | None, float]:
    first, second = (stats.variance_parts(rng.normal(0, s, (3, 3)) + rng.normal(0, 9, (3, 1))) for s in (2, 1))
    return stats.deviation_ratio(first, second), 2.0


@pytest.mark.parametrize("make", [deviation, deviation_of_pairs, deviation_within])
def test_intervals_of_spread_cover_the_truth_95_times_in_100(
    make: Callable[[np.random.Generator], tuple[Estimate | None, float]],
) -> None:
    rng, simulations = np.random.default_rng(0), 800
    hits = [covers(*make(rng)) for _ in range(simulations)]
    assert np.mean(hits) == pytest.approx(0.95, abs=margin(0.05, simulations))


def test_the_exact_interval_of_a_share_covers_it_at_least_95_times_in_100() -> None:
    counts = np.random.default_rng(0).binomial(12, 0.2, 800)
    assert np.mean([covers(stats.share_interval(int(count), 12), 0.2) for count in counts]) > 0.95 - margin(0.05, 800)


@pytest.mark.parametrize("planted", [0, 4])
def test_holm_lets_a_false_discovery_into_5_of_100_families_at_most(planted: int) -> None:
    simulations, tasks = 2000, 8
    p = np.random.default_rng(0).uniform(0, 1, (simulations, tasks))
    p[:, :planted] = 1e-6
    false = [min(stats.holm(row)[planted:]) <= 0.05 for row in p]
    assert np.mean(false) == pytest.approx(0.05, abs=margin(0.05, simulations))
    assert np.mean(p[:, planted:].min(axis=1) <= 0.05) > 0.15  # what they would be without it


# ---- the paired bootstrap over examples ----


def simulated(
    metric: str, rng: np.random.Generator, n: int, gain: float, simulations: int, runs: int = 1
) -> list[bootstrap.BootstrapTest]:
    """Tests of two arms on n examples of a set that is drawn anew every time; ``gain``: how much better the first is.

    Labels are balanced classes or, for a correlation, normal; both arms share what makes an example hard.
    """
    results = []
    for simulation in range(simulations):
        hard = rng.normal(0, 1, n)
        if metric == "spearman":
            labels = rng.normal(0, 1, n)
            first, second = (
                labels + hard + rng.normal(0, scale, (runs, n)) for scale in (1 - gain, 1.0)
            )  # fmt: skip
        else:
            labels = rng.integers(0, 2, n)
            first, second = (
                np.where(0.6 * hard + 0.8 * rng.normal(0, 1, (runs, n)) < 0.8 + shift, labels, 1 - labels)
                for shift in (gain, 0.0)
            )
        results.append(bootstrap.paired_bootstrap(metric, first, second, labels, resamples=400, seed=simulation))
    return results


@pytest.mark.parametrize("metric", ["accuracy", "matthews", "spearman"])
def test_the_bootstrap_over_examples_is_wrong_about_nothing_5_times_in_100(metric: str) -> None:
    simulations = 150 if metric == "spearman" else 400
    tests = simulated(metric, np.random.default_rng(1), 60 if metric == "spearman" else 300, 0.0, simulations)
    by_interval = np.mean([found(test.estimate) for test in tests])
    by_p = np.mean([test.p <= 0.05 for test in tests])
    assert by_interval == pytest.approx(0.05, abs=margin(0.05, simulations))
    assert by_p == pytest.approx(by_interval, abs=0.02)


def test_the_bootstrap_over_examples_finds_a_planted_difference_at_the_power_of_its_spread() -> None:
    simulations = 400
    tests = simulated("accuracy", np.random.default_rng(2), 400, 0.25, simulations)
    values = np.array([test.estimate.value for test in tests])
    expected = power.power(10_000, float(values.mean()), 100 * float(values.std(ddof=1)))
    assert 0.6 < expected < 0.95
    assert np.mean([test.p <= 0.05 for test in tests]) == pytest.approx(expected, abs=margin(expected, simulations))


def test_more_runs_of_an_arm_narrow_what_the_examples_leave_open() -> None:
    one, four = (
        np.mean([(t.estimate.high or 0) - (t.estimate.low or 0) for t in simulated(
            "accuracy", np.random.default_rng(3), 200, 0.0, 50, runs=runs)])
        for runs in (1, 4)
    )  # fmt: skip
    assert four < 0.7 * one
