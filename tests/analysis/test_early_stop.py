"""The speedup at a checkpoint, taken apart: its factors multiply to it, and the first is set by the checkpoint."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from pldrepro.analysis import comparisons, similar
from pldrepro.analysis.early_stop import CHECKPOINT, WHOLE, Stretch, early_stop, stretches
from pldrepro.analysis.finding import SHOWN, Finding
from pldrepro.analysis.results import Evidence
from pldrepro.stats import Estimate
from tests.support import runs
from tests.support.runs import load_evidence

ARMS = ("baseline", "preln_higher", "pld")


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    root: Path = tmp_path_factory.mktemp("runs")
    pretrain = [
        runs.write_pretrain(root, arm, seed) for arm in ("baseline", "preln_higher", "pld") for seed in (1, 2, 3)
    ]
    return load_evidence(pretrain, calibration=runs.write_calibration(root))


def test_the_factors_multiply_to_the_speedup(evidence: Evidence) -> None:
    *parts, whole = early_stop(evidence)
    assert [(one.part, one.arm, one.note) for one in parts] == [
        ("stop", "", "stopping early"),
        ("preln_higher_lr", "preln_higher", "PreLN and the higher learning rate"),
        ("pld", "pld", "dropping layers"),
    ]
    speedup = comparisons.speedup(evidence, "pld", "reference_time", CHECKPOINT)
    assert speedup is not None
    assert whole.estimate is not None
    assert whole.estimate.value == pytest.approx(speedup.estimate.value)
    assert prod(one.estimate.value for one in parts if one.estimate) == pytest.approx(whole.estimate.value)
    steps = [evidence.runs("pld")[0].summary.checkpoints[name].step for name in ("ckp186", CHECKPOINT)]
    assert parts[0].estimate is not None
    assert parts[0].estimate.value == pytest.approx(steps[0] / steps[1])


def test_what_readers_are_told_are_the_same_factors(evidence: Evidence) -> None:
    (stop, *changes, _) = early_stop(evidence)
    assert stop.estimate is not None
    own = prod(one.estimate.value for one in changes if one.estimate)
    text = similar.made_of(evidence)
    assert text.startswith(f"of this factor {stop.estimate.value:.2f} x is the earlier end (checkpoint 100 instead of ")
    assert f" and {own:.2f} x [" in text


def factor(part: str, value: float, low: float | None, high: float | None, n: int) -> Finding:
    return Finding("early_stop", part, SHOWN, Estimate(value, low, high, n, "paired mean ratio"))


def test_each_factor_goes_on_where_the_one_before_it_ends_and_the_whole_from_the_start() -> None:
    parts = [
        factor("stop", 2.0, 2.0, 2.0, 3), factor("pld", 1.5, 1.0, 2.0, 3), factor("more", 0.5, 0.1, 9.0, 2),
        factor(WHOLE, 1.5, 1.25, 1.75, 3),
    ]  # fmt: skip
    assert stretches(parts) == [
        Stretch(1.0, 2.0, 2.0, 2.0), Stretch(2.0, 3.0, 2.0, 4.0), Stretch(3.0, 1.5, None, None),
        Stretch(1.0, 1.5, 1.25, 1.75),
    ]  # fmt: skip


def test_without_pld_there_is_nothing_to_take_apart(evidence: Evidence) -> None:
    others = tuple(run for run in evidence.pretrain if run.arm != "pld")
    assert early_stop(replace(evidence, pretrain=others)) == []
