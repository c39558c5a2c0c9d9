"""Calibration: tau(k) for every k of every model shape, interleaved, without its warm-up."""

import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pldrepro.__main__ import main
from pldrepro.config.run import CalibrationJob, RunSettings
from pldrepro.errors import RecordError
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.schema import Device
from pldrepro.runs.step_times import load_calibration
from pldrepro.training import calibrate as module
from pldrepro.training.calibrate import Shape, calibrate, calibrate_in_processes, together
from pldrepro.training.pretrain import pretrain

Make = Callable[..., RunSettings]


def job(*runs: RunSettings, rounds: int = 3, warmup_rounds: int = 1, processes: int = 1) -> CalibrationJob:
    calibration = {"rounds": rounds, "warmup_rounds": warmup_rounds, "processes": processes}
    return CalibrationJob.model_validate({"runs": runs, "calibration": calibration})


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


def test_several_processes_are_one_calibration(tiny_run: Make, tmp_path: Path, steps: list[Any]) -> None:
    calibrate(job(tiny_run(model={"num_layers": 1})), tmp_path, progress=False)
    one = load_calibration(tmp_path).summary
    (shape,) = one.shapes
    slow = shape.model_copy(update={"seconds": [[4 * seconds for seconds in times] for times in shape.seconds]})
    (both,) = together([one, one.model_copy(update={"shapes": [slow]})]).shapes
    assert both.processes == 2
    assert both.seconds == [*shape.seconds, *slow.seconds]
    assert both.median == pytest.approx((4, 10))  # 2 and 8 s, 5 and 20 s
    # t(1) x s / sqrt(2) of ln 2 and ln 8, whose mean is ln 4
    assert math.log(both.high[0] / 4) == pytest.approx(12.7062 * math.log(4) / 2, rel=1e-4)
    assert math.log(both.low[0] / 4) == pytest.approx(-12.7062 * math.log(4) / 2, rel=1e-4)
    assert (both.fit.intercept, both.fit.slope) == pytest.approx((4, 6))


def test_processes_measure_one_after_another(
    tiny_run: Make, tmp_path: Path, steps: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    original = module.subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if command[0] != sys.executable:
            return original(command, **options)
        assert main(command[3:]) == 0
        started.append(command[-1])
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(module.subprocess, "run", run)
    three = job(tiny_run(model={"num_layers": 1}), processes=3)
    assert main(["run", "calibrate", "--settings", three.model_dump_json(), "--out", str(tmp_path)]) == 0
    assert started == [str(tmp_path / f"process{number}") for number in (1, 2, 3)]
    (shape,) = load_calibration(tmp_path).shapes
    assert (shape.processes, len(shape.seconds), set(shape.n)) == (3, 9, {9})
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(RecordError):
        calibrate_in_processes(three, tmp_path)


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
