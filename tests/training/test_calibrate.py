"""Calibration: tau(k) for every k of every model shape, interleaved, without its warm-up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pldrepro.config.run import CalibrationJob, RunSettings
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.schema import Device
from pldrepro.runs.step_times import load_calibration
from pldrepro.training import calibrate as module
from pldrepro.training.calibrate import Shape, calibrate
from pldrepro.training.pretrain import pretrain

Make = Callable[..., RunSettings]


def job(*runs: RunSettings, rounds: int = 3, warmup_rounds: int = 1) -> CalibrationJob:
    return CalibrationJob.model_validate(
        {"runs": runs, "calibration": {"rounds": rounds, "warmup_rounds": warmup_rounds}}
    )


def test_a_real_calibration_prices_a_real_run(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    post = tiny_run(arm="baseline", model={"norm": "post", "num_layers": 2}, drop={"dialect": "none"})
    calibrate(job(tiny_run(), post, tiny_run(seed=2)), tmp_path / "calibration", progress=False)
    calibration = load_calibration(tmp_path / "calibration")
    assert [(shape.norm, shape.num_layers) for shape in calibration.shapes] == [("pre", 4), ("post", 2)]
    for shape in calibration.shapes:
        assert len(shape.median) == shape.num_layers + 1
        assert all(0 < low <= tau <= high for low, tau, high in zip(shape.low, shape.median, shape.high, strict=True))
        assert set(shape.n) == {3}
        assert (shape.micro_batch_size, shape.sequence_length) == (4, 24)
    summary = tmp_path / "calibration" / "summary.json"
    assert calibration.summary.device == Device(type="cpu", threads=1)
    pretrain(tiny_run(), corpus, tmp_path / "run", summary, progress=False)
    run = load_pretrain(tmp_path / "run")
    shape_of_run = calibration.shape_of(run)
    assert shape_of_run == calibration.shapes[0]
    assert shape_of_run.price(run.summary.passes_by_kept_layers) == pytest.approx(run.summary.reference_seconds)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The steps taken, on a clock where a step takes 2 s + 3 s x kept layers, ten times as much in the first round."""
    taken: list[tuple[str, int]] = []
    now = [0.0]

    def step(shape: Shape, kept: int) -> None:
        name = (shape.run.model.norm, kept)
        now[0] += (2.0 + 3.0 * kept) * (1 if name in taken else 10)
        taken.append(name)

    monkeypatch.setattr(Shape, "step", step)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return taken


def test_medians_and_fit_are_those_of_the_clock(tiny_run: Make, tmp_path: Path, steps: list[Any]) -> None:
    calibrate(job(tiny_run()), tmp_path, progress=False)
    (shape,) = load_calibration(tmp_path).shapes
    assert shape.median == shape.low == shape.high == pytest.approx((2, 5, 8, 11, 14))
    assert (shape.fit.intercept, shape.fit.slope, shape.fit.r2) == pytest.approx((2, 3, 1))
    assert shape.layer_share == pytest.approx(12 / 14)
    assert shape.price({1: 2, 4: 1}) == pytest.approx(24)


def test_shapes_and_depths_take_turns(tiny_run: Make, tmp_path: Path, steps: list[Any]) -> None:
    pre = tiny_run(model={"num_layers": 1})
    calibrate(job(pre, tiny_run(model={"num_layers": 1, "norm": "post"}), warmup_rounds=2), tmp_path, progress=False)
    assert steps == [("pre", 0), ("pre", 1), ("post", 0), ("post", 1)] * 5


@pytest.mark.parametrize("next_sentence", [True, False])
def test_a_step_trains_the_first_k_layers(tiny_run: Make, next_sentence: bool) -> None:
    shape = Shape(tiny_run(training={"next_sentence": next_sentence}), torch.device("cpu"))
    assert shape.batch.input_ids.shape == (4, 24)
    before = [block.qkv.weight.detach().clone() for block in shape.model.bert.blocks]
    shape.step(1)
    moved = [not torch.equal(w, b.qkv.weight) for w, b in zip(before, shape.model.bert.blocks, strict=True)]
    assert moved == [True, False, False, False]
    assert all(parameter.grad is None for parameter in shape.model.parameters())
