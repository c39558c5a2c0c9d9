"""Time measured in turn: savings of made-up seconds, and the interval over processes."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pldrepro import stats
from pldrepro.analysis import comparisons, in_turn
from pldrepro.analysis.claim_estimators import speedup_equal_samples, time_saving
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import find
from pldrepro.analysis.training_cost import table1
from pldrepro.records import read_record
from pldrepro.runs.step_times import CalibrationSummary, load_calibration
from pldrepro.stats import group_interval
from tests.support import runs
from tests.support.runs import load_evidence

SECONDS = {"baseline": [10.0, 10.0, 12.0, 8.0], "preln_higher": [10.0, 10.0, 12.0, 8.0], "pld": [8.0, 8.0, 9.0, 7.0]}


def study(root: Path, *processes: dict[str, list[float]]) -> Evidence:
    pretrain = [runs.write_pretrain(root, arm, seed) for arm in runs.ARMS for seed in (1, 2)]
    measured = [runs.write_interleave(root, number, one) for number, one in enumerate(processes, start=1)]
    return load_evidence(pretrain, calibration=runs.write_calibration(root), interleaved=measured)


def test_the_saving_is_that_of_the_mean_seconds(tmp_path: Path) -> None:
    evidence = study(tmp_path, SECONDS, SECONDS, SECONDS)
    found = in_turn.saving(evidence, "pld", "baseline")
    assert found is not None
    assert found.estimate.value == pytest.approx(20)
    assert (found.estimate.n, found.effects) == (3, pytest.approx((math.log(0.8),) * 3))
    faster = in_turn.speedup(evidence, "pld", "baseline")
    assert faster is not None
    assert faster.estimate.value == pytest.approx(1.25)
    assert in_turn.saving(evidence, "random", "baseline") is None
    # equal processes: the rounds' own error is left, as t(2) of three
    half = 4.302653 * in_turn.round_error(SECONDS["pld"], SECONDS["baseline"]) / math.sqrt(3)
    assert found.estimate.low == pytest.approx(100 * (1 - 0.8 * math.exp(half)), rel=1e-6)


def test_arms_that_slow_down_together_have_no_error() -> None:
    assert in_turn.round_error([1.0, 2.0, 5.0], [2.0, 4.0, 10.0]) == pytest.approx(0, abs=1e-12)
    assert in_turn.round_error([1.0, 2.0, 5.0], [2.0, 10.0, 4.0]) > 0.1


def test_processes_that_differ_set_the_interval(tmp_path: Path) -> None:
    slow = {**SECONDS, "pld": [9.0, 9.0, 10.0, 8.0]}
    found = in_turn.saving(study(tmp_path, SECONDS, slow), "pld", "baseline")
    assert found is not None
    logs = math.log(0.8), math.log(0.9)
    assert found.estimate.value == pytest.approx(100 * (1 - math.sqrt(0.8 * 0.9)))
    half = 12.7062 * (logs[1] - logs[0]) / 2  # t(1) s / sqrt(2)
    assert found.estimate.low == pytest.approx(100 * (1 - math.exp(np.mean(logs) + half)), rel=1e-4)


def test_one_process_has_no_interval(tmp_path: Path) -> None:
    found = in_turn.saving(study(tmp_path, SECONDS), "pld", "baseline")
    assert found is not None
    assert (found.estimate.value, found.estimate.low, found.estimate.n) == (pytest.approx(20), None, 1)


def test_it_is_the_first_evidence_on_time_and_reference_time_the_second(tmp_path: Path) -> None:
    evidence = study(tmp_path / "with", SECONDS, SECONDS)
    for measure, expected in ((time_saving, 20), (speedup_equal_samples, 1.25)):
        found = measure(evidence)
        assert found.paired is not None
        assert found.paired.estimate.value == pytest.approx(expected)
        assert "reference time: " in found.note
        assert found.basis.startswith("steps measured in turn; n counts the 2 processes")
    frame = table1(evidence, load_papers()["pld"])
    shown = find(frame, arm="pld", checkpoint="ckp186", quantity="saving_per_sample", cost_axis="measured_in_turn")
    assert shown is not None
    assert shown.value == pytest.approx(20)
    without = study(tmp_path / "without")
    alone = time_saving(without)
    reference = comparisons.saving_per_sample(without, "pld", "reference_time")
    assert alone.paired is not None
    assert reference is not None
    assert alone.paired.estimate == reference.estimate
    assert "which more seeds do not narrow" in alone.basis


@given(
    st.lists(st.tuples(st.floats(0.05, 0.4), st.floats(0.001, 0.5)), min_size=2, max_size=5),
    st.integers(0, 9),
)
def test_p_is_below_5_percent_where_the_interval_excludes_no_effect(
    processes: list[tuple[float, float]], seed: int
) -> None:
    draw = np.random.default_rng(seed)
    seconds = [
        ((1 - saved) * np.exp(draw.normal(0, noise, 6)), np.exp(draw.normal(0, noise, 6))) for saved, noise in processes
    ]
    summaries = [
        SimpleNamespace(summary=SimpleNamespace(seconds={"pld": pld.tolist(), "baseline": base.tolist()}.__getitem__))
        for pld, base in seconds
    ]
    found = in_turn.saving(cast("Evidence", SimpleNamespace(interleaved=summaries)), "pld", "baseline")
    assert found is not None
    assert found.p is not None
    assert found.estimate.low is not None
    assert found.estimate.high is not None
    assume(abs(found.p - 0.05) > 1e-9)
    assert (found.p < 0.05) == (not found.estimate.low <= 0 <= found.estimate.high)


def test_processes_that_agree_by_chance_are_not_significant() -> None:
    values, errors = [0.20, 0.205, 0.21], [0.15] * 3
    interval = group_interval(values, errors)
    assert (interval.low, interval.high) == (pytest.approx(-0.168, abs=1e-3), pytest.approx(0.578, abs=1e-3))
    assert Paired(interval, tuple(values), least_spread=stats.root_mean_square(errors)).p == pytest.approx(
        0.1416, abs=1e-3
    )


# ---- the interval over groups ----


@pytest.mark.parametrize(("between", "within"), [(0.0, 0.02), (0.03, 0.0), (0.03, 0.02), (0.01, 0.03)])
@pytest.mark.parametrize("processes", [2, 3, 5])
def test_the_interval_covers_a_process_effect(between: float, within: float, processes: int) -> None:
    draw = np.random.default_rng(1)
    covered = []
    for _ in range(1000):
        values = draw.normal(0, between, processes) + draw.normal(0, within, processes)
        found = group_interval(values.tolist(), [within] * processes)
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= 0 <= found.high)
    # 0.95 where all error is between the processes, more where it is within; 3.5 standard errors of a share of 1,000
    assert np.mean(covered) > 0.95 - 0.024
    if not within:
        assert np.mean(covered) < 0.95 + 0.024


def test_a_calibration_of_one_process_misses_what_processes_differ_by(tmp_path: Path) -> None:
    """Coverage of the price ratio's true value, by three processes and by the rounds of one of them alone."""
    draw, truth = np.random.default_rng(2), math.log(0.5)
    hits = {1: 0, 3: 0}
    evidence = study(tmp_path)
    path = tmp_path / "runs/calibration/summary.json"
    summary = read_record(path, CalibrationSummary)
    rounds, trials = 8, 150
    for _ in range(trials):
        effect = np.repeat(draw.normal(0, 0.03, 3), rounds)
        noise = draw.normal(0, 0.02, (2, 3 * rounds))
        times = {"post": np.exp(noise[0]), "pre": np.exp(truth + effect + noise[1])}
        for processes in hits:
            count = processes * rounds
            shapes = [
                shape.model_copy(
                    update={
                        "processes": processes,
                        "seconds": np.repeat(times[shape.norm][:count, None], runs.LAYERS + 1, axis=1).tolist(),
                    }
                )
                for shape in summary.shapes
            ]
            changed = summary.model_copy(update={"shapes": shapes})
            assert evidence.calibration is not None
            object.__setattr__(evidence.calibration, "summary", changed)
            half = stats.half_width(*comparisons.price_error(evidence, "pld", "baseline"))
            parts = [np.median(times[norm][:count].reshape(processes, -1), axis=1) for norm in ("pre", "post")]
            found = float(np.log(parts[0] / parts[1]).mean())
            hits[processes] += abs(found - truth) <= half
    assert hits[3] / trials > 0.9
    assert hits[1] / trials < 0.7


def test_records_of_one_process_stay_readable() -> None:
    recorded = Path(__file__).resolve().parents[2] / "results/recorded/images/calibration"
    assert {shape.processes for shape in load_calibration(recorded).shapes} == {1}
