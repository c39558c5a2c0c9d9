"""GLUE's metrics against scikit-learn and scipy, over resamples, where undefined, and of a constant prediction."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from pldrepro.analysis import glue_metrics
from tests.support.predictions import METRICS as NAMES
from tests.support.predictions import predictions_of as data

REFERENCES = {
    "accuracy": metrics.accuracy_score,
    "f1": metrics.f1_score,
    "matthews": metrics.matthews_corrcoef,
    "pearson": lambda labels, predictions: stats.pearsonr(predictions, labels).statistic,
    "spearman": lambda labels, predictions: stats.spearmanr(predictions, labels).statistic,
}


def test_every_metric_has_a_reference_and_every_task_a_metric() -> None:
    assert set(NAMES) == set(glue_metrics.METRICS) == set(REFERENCES)
    assert {name for names in glue_metrics.TASK_METRICS.values() for name in names} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_is_a_copy_of_an_example(name: str) -> None:
    predictions, labels = data(name)
    draws = np.random.default_rng(1).integers(0, 60, (25, 60))
    weights = np.stack([np.bincount(draw, minlength=60) for draw in draws], axis=1).astype(float)
    values = glue_metrics.METRICS[name](predictions, labels, weights)
    assert values.shape == (2, 25)
    for run, row in zip(predictions, values, strict=True):
        expected = [REFERENCES[name](labels[draw], run[draw]) for draw in draws]
        assert row == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_metrics_are_scikit_learns_and_scipys(name: str) -> None:
    predictions, labels = data(name)
    expected = [REFERENCES[name](labels, run) for run in predictions]
    assert glue_metrics.metric_values(name, predictions, labels) == pytest.approx(expected, abs=1e-6)


def test_metrics_of_a_worked_example() -> None:
    # TP 2, FN 1, FP 1, TN 2.
    labels, predictions = np.array([1, 1, 1, 0, 0, 0]), np.array([[1, 1, 0, 1, 0, 0]])
    assert glue_metrics.metric_values("accuracy", predictions, labels) == pytest.approx([4 / 6])
    assert glue_metrics.metric_values("f1", predictions, labels) == pytest.approx([4 / 6])
    assert glue_metrics.metric_values("matthews", predictions, labels) == pytest.approx([3 / 9])
    scores, ranks = np.array([[1.0, 2.0, 4.0]]), np.array([1.0, 3.0, 2.0])
    assert glue_metrics.metric_values("spearman", scores, ranks) == pytest.approx([0.5])
    assert glue_metrics.metric_values("pearson", scores, ranks) == pytest.approx([1 / np.sqrt(2 * 14 / 3)])


@pytest.mark.parametrize("name", ["f1", "matthews", "pearson", "spearman"])
def test_what_is_undefined_is_0(name: str) -> None:
    mixed = np.arange(7) % 2 * 1.0
    for value in (0.0, 0.1, 0.7):  # the mean of seven times 0.1 is not 0.1 in every order of adding
        constant = np.full(7, value)
        for predictions, labels in ((constant, mixed), (mixed, constant)):
            for count in (1.0, 3.0, 7.0):
                weights = np.full((7, 1), count)
                assert glue_metrics.METRICS[name](predictions[np.newaxis], labels, weights).tolist() == [[0]]
    alone = np.array([[3.0], [0.0], [0.0], [0.0]])  # a resample of one example, three times
    assert np.isfinite(
        glue_metrics.METRICS[name](np.array([[0.1, 0.2, 0.7, 1.0]]), np.array([0.3, 0, 1, 1]), alone)
    ).all()


def test_what_a_constant_prediction_gets() -> None:
    labels = np.array([1, 1, 1, 0])
    assert glue_metrics.constant_value("accuracy", labels) == 0.75
    assert glue_metrics.constant_value("f1", labels) == pytest.approx(6 / 7)
    assert glue_metrics.constant_value("f1", 1 - labels) == pytest.approx(2 / 5)
    assert glue_metrics.constant_value("matthews", labels) == 0
    assert glue_metrics.constant_value("spearman", np.array([0.5, 2.5, 5.0], np.float32)) == 0
