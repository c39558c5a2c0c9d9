"""A PWEGD schedule from a pilot pair of runs: a curve that is known is found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from pldrepro.analysis.fit_schedule import fit_pwegd, fitted_schedule, pilot_variance
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import DropSettings, pwegd
from pldrepro.runs.folder import PretrainRun
from pldrepro.runs.schema import AnyLine, PretrainSummary, TrainLine, ValidationLine
from tests.support.runs import PROVENANCE, run_settings


@pytest.mark.parametrize(("weights", "beta"), [((0.0, 1.0), 20.0), ((1.0,), 100.0), ((0.2, 0.0, 0.8), 8.0)])
def test_a_known_curve_is_found_again(weights: tuple[float, ...], beta: float) -> None:
    times = np.linspace(0.01, 1, 60)
    curve = [sum(a * t**j for j, a in enumerate(weights)) * np.exp(-beta * t) for t in times]
    found, rate = fit_pwegd(list(times), [3 * value for value in curve])
    for t in times:
        assert pwegd(tuple(found), rate, t) == pytest.approx(pwegd(weights, beta, t), abs=0.03)


def run(losses: dict[int, float], steps: int) -> PretrainRun:
    spent = {"samples": 1, "flops": 1.0, "train_seconds": 1.0}
    lines: list[AnyLine] = [ValidationLine(kind="validation", step=1, loss=9.0, **spent)]
    lines += [TrainLine(kind="train", step=step, loss=loss, main_loss=loss, **spent) for step, loss in losses.items()]
    summary = PretrainSummary.model_construct(steps=steps)
    return PretrainRun(Path("run"), run_settings("pld", 1), summary, PROVENANCE, lines)  # type: ignore[arg-type]


def test_the_variance_is_the_mean_squared_difference_of_each_share() -> None:
    # twentieths of 40 steps: steps 1 and 2 are the first of them, 3 and 4 the second
    first = run({1: 5.0, 2: 4.0, 3: 3.0, 40: 2.0}, 40)
    second = run({1: 5.0, 2: 6.0, 3: 3.5, 4: 1.0, 40: 2.0}, 40)
    times, variances = pilot_variance(first, second)
    assert times == pytest.approx([1.5 / 40, 3 / 40, 1.0])
    assert variances == pytest.approx([2.0, 0.25, 0.0])


def test_the_fitted_schedule_is_a_setting() -> None:
    steps = range(1, 101)
    first = run(dict.fromkeys(steps, 2.0), 100)
    second = run({step: 2 + (step / 100 * np.exp(-10 * step / 100)) ** 0.5 for step in steps}, 100)
    text = fitted_schedule(first, second)
    assert text.startswith("drop: {dialect: sbld, pwegd_weights: [")
    settings = DropSettings.model_validate(yaml.safe_load(text)["drop"])
    assert settings.allocation == "by_rank"
    assert settings.pwegd_beta == pytest.approx(10, rel=0.2)


def test_runs_that_are_no_pair_are_refused() -> None:
    with pytest.raises(SettingsError, match="not a pair of runs with the same steps"):
        pilot_variance(run({1: 1.0}, 10), run({1: 1.0}, 20))
    with pytest.raises(SettingsError, match="at least 4 points and a difference"):
        fit_pwegd([0.1, 0.2, 0.3, 0.4], [0.0] * 4)
