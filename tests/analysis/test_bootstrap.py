"""The paired bootstrap over examples."""

import numpy as np
import pytest

from pldrepro.analysis import bootstrap, glue_metrics
from tests.support.predictions import METRICS as NAMES
from tests.support.predictions import predictions_of as data


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
    values = glue_metrics.metric_values("accuracy", predictions, labels)
    assert test.estimate.value == pytest.approx(values[:3].mean() - values[3:].mean())


def test_runs_from_one_model_count_with_their_median() -> None:
    predictions, labels = data("accuracy", runs=6)
    values = [float(value) for value in glue_metrics.metric_values("accuracy", predictions, labels)]
    test = bootstrap.paired_bootstrap(
        "accuracy", predictions[:5], predictions[5:], labels, groups=([3, 2], [1]), resamples=20
    )
    expected = (np.median(values[:3]) + np.mean(values[3:5])) / 2 - values[5]
    assert test.estimate.value == pytest.approx(expected)
    assert np.median(values[:3]) != pytest.approx(np.mean(values[:3]))


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
