"""Metrics over resamples against those of the scores, what a constant prediction gets, and the paired bootstrap."""

import numpy as np
import pytest

from pldrepro.analysis import bootstrap, glue_metrics

NAMES = list(bootstrap.METRICS)


def data(name: str, n: int = 60, runs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (runs, n) with ties, and labels (n,)."""
    rng = np.random.default_rng(0)
    if name in ("pearson", "spearman"):
        labels = rng.integers(0, 11, n).astype(np.float32) / 2
        return (labels + rng.normal(0, 1, (runs, n))).round(1).astype(np.float32), labels
    labels = rng.integers(0, 3 if name == "accuracy" else 2, n)
    return np.where(rng.random((runs, n)) < 0.3, rng.integers(0, 2, (runs, n)), labels), labels


def test_every_metric_of_the_scores_is_here() -> None:
    assert set(NAMES) == set(glue_metrics.FUNCTIONS)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_is_a_copy_of_an_example(name: str) -> None:
    predictions, labels = data(name)
    draws = np.random.default_rng(1).integers(0, 60, (25, 60))
    weights = np.stack([np.bincount(draw, minlength=60) for draw in draws], axis=1).astype(float)
    values = bootstrap.METRICS[name](predictions, labels, weights)
    assert values.shape == (2, 25)
    for run, row in zip(predictions, values, strict=True):
        expected = [glue_metrics.FUNCTIONS[name](run[draw], labels[draw]) for draw in draws]
        assert row == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_development_set_itself_has_the_score(name: str) -> None:
    predictions, labels = data(name)
    expected = [glue_metrics.FUNCTIONS[name](run, labels) for run in predictions]
    assert bootstrap.metric_values(name, predictions, labels) == pytest.approx(expected, abs=1e-6)


def test_metrics_of_a_worked_example() -> None:
    # TP 2, FN 1, FP 1, TN 2.
    labels, predictions = np.array([1, 1, 1, 0, 0, 0]), np.array([[1, 1, 0, 1, 0, 0]])
    assert bootstrap.metric_values("accuracy", predictions, labels) == pytest.approx([4 / 6])
    assert bootstrap.metric_values("f1", predictions, labels) == pytest.approx([4 / 6])
    assert bootstrap.metric_values("matthews", predictions, labels) == pytest.approx([3 / 9])
    scores, ranks = np.array([[1.0, 2.0, 4.0]]), np.array([1.0, 3.0, 2.0])
    assert bootstrap.metric_values("spearman", scores, ranks) == pytest.approx([0.5])
    assert bootstrap.metric_values("pearson", scores, ranks) == pytest.approx([1 / np.sqrt(2 * 14 / 3)])


@pytest.mark.parametrize("name", ["f1", "matthews", "pearson", "spearman"])
def test_what_is_undefined_is_0_as_in_the_scores(name: str) -> None:
    mixed = np.arange(7) % 2 * 1.0
    for value in (0.0, 0.1, 0.7):  # the mean of seven times 0.1 is not 0.1 in every order of adding
        constant = np.full(7, value)
        for predictions, labels in ((constant, mixed), (mixed, constant)):
            for count in (1.0, 3.0, 7.0):
                weights = np.full((7, 1), count)
                assert bootstrap.METRICS[name](predictions[np.newaxis], labels, weights).tolist() == [[0]]
            assert glue_metrics.FUNCTIONS[name](predictions, labels) == 0
    alone = np.array([[3.0], [0.0], [0.0], [0.0]])  # a resample of one example, three times
    assert np.isfinite(bootstrap.METRICS[name](np.array([[0.1, 0.2, 0.7, 1.0]]), np.array([0.3, 0, 1, 1]), alone)).all()


def test_what_a_constant_prediction_gets() -> None:
    labels = np.array([1, 1, 1, 0])
    assert bootstrap.constant_value("accuracy", labels) == 0.75
    assert bootstrap.constant_value("f1", labels) == pytest.approx(6 / 7)
    assert bootstrap.constant_value("f1", 1 - labels) == pytest.approx(2 / 5)
    assert bootstrap.constant_value("matthews", labels) == 0
    assert bootstrap.constant_value("spearman", np.array([0.5, 2.5, 5.0], np.float32)) == 0


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_against_itself_differs_in_no_resample(name: str) -> None:
    predictions, labels = data(name)
    test = bootstrap.paired_bootstrap(name, predictions, predictions, labels, resamples=50)
    assert (test.estimate.value, test.estimate.low, test.estimate.high, test.p) == (0, 0, 0, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_test_turns_around_with_its_arms_and_repeats_itself(name: str) -> None:
    (better, worse), labels = data(name)
    better = np.where(np.arange(60) < 15, labels, better)
    there, again, back = (
        bootstrap.paired_bootstrap(name, first[np.newaxis], second[np.newaxis], labels, resamples=4000)
        for first, second in ((better, worse), (better, worse), (worse, better))
    )
    assert there == again
    assert there.estimate.n == 60
    assert there.estimate.value == pytest.approx(-back.estimate.value)
    assert there.estimate.low is not None
    assert back.estimate.high is not None
    # Other draws, as the distinct examples stand in another order.
    assert there.estimate.low == pytest.approx(-back.estimate.high, abs=0.05)
    assert there.p == pytest.approx(back.p, abs=0.05)


def test_the_metric_is_averaged_over_the_runs_of_an_arm() -> None:
    predictions, labels = data("accuracy", runs=5)
    test = bootstrap.paired_bootstrap("accuracy", predictions[:3], predictions[3:], labels, resamples=20)
    values = bootstrap.metric_values("accuracy", predictions, labels)
    assert test.estimate.value == pytest.approx(values[:3].mean() - values[3:].mean())


def test_resamples_of_distinct_examples_spread_like_resamples_of_all() -> None:
    predictions, labels = data("accuracy", n=200)
    correct = (predictions == labels).astype(float)
    draws = np.random.default_rng(0).integers(0, 200, (4000, 200))
    expected = np.quantile((correct[0] - correct[1])[draws].mean(axis=1), [0.025, 0.975])
    estimate = bootstrap.paired_bootstrap("accuracy", predictions[:1], predictions[1:], labels).estimate
    assert (estimate.low, estimate.high) == (
        pytest.approx(expected[0], abs=0.006),
        pytest.approx(expected[1], abs=0.006),
    )


def test_the_smallest_p_is_that_of_the_number_of_resamples() -> None:
    labels = np.arange(50) % 2
    test = bootstrap.paired_bootstrap("accuracy", labels[np.newaxis], 1 - labels[np.newaxis], labels, resamples=99)
    assert test.p == pytest.approx(0.02)
    assert test.estimate.value == 1


def test_predictions_that_do_not_fit_the_labels_are_refused() -> None:
    labels = np.arange(4) % 2
    for wrong in (labels, labels[np.newaxis, :3], np.empty((0, 4))):
        with pytest.raises(ValueError, match=r"shape \(runs, 4\)"):
            bootstrap.paired_bootstrap("accuracy", wrong, labels[np.newaxis], labels)
