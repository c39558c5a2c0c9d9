"""Steps measured in turn: the order of the arms, the gates of their policies, and what is written."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from pldrepro.config.run import InterleaveJob, RunSettings
from pldrepro.errors import RecordError
from pldrepro.policy.drop import draw_gates
from pldrepro.runs.step_times import load_interleave
from pldrepro.training import interleave as module
from pldrepro.training.calibrate import Shape
from pldrepro.training.interleave import interleave, step_gates

Make = Callable[..., RunSettings]
NONE = {"dialect": "none"}


def job(*runs: RunSettings, rounds: int = 6) -> InterleaveJob:
    arms = [run.arm for run in runs]
    return InterleaveJob.model_validate({"runs": runs, "interleave": {"arms": arms, "rounds": rounds}})


@pytest.fixture
def three(tiny_run: Make) -> tuple[RunSettings, ...]:
    post = tiny_run(arm="baseline", model={"norm": "post"}, drop=NONE)
    return post, tiny_run(arm="preln", drop=NONE), tiny_run()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """The steps taken, on a clock where a step takes 1 s and 1 s for each layer kept in each micro-batch."""
    taken: list[tuple[str, float]] = []
    now = [0.0]

    def update(shape: Shape, gates: Any) -> None:
        kept = sum(gate.keep for part in gates for gate in part)
        now[0] += 1 + kept
        taken.append((shape.run.arm, kept))

    monkeypatch.setattr(Shape, "update", update)
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return taken


def test_in_six_rounds_each_arm_has_each_place_and_each_predecessor_twice(
    three: tuple[RunSettings, ...], tmp_path: Path, steps: list[tuple[str, float]]
) -> None:
    interleave(job(*three), 1, tmp_path, progress=False)
    arms = [arm for arm, _ in steps][9:]  # three rounds of three arms warm up
    rounds = [tuple(arms[at : at + 3]) for at in range(0, 18, 3)]
    assert all(sorted(one) == ["baseline", "pld", "preln"] for one in rounds)
    assert set(Counter((arm, place) for one in rounds for place, arm in enumerate(one)).values()) == {2}
    pairs = Counter(pair for one in rounds for pair in pairwise(one))
    assert len(pairs) == 6
    assert set(pairs.values()) == {2}


def test_seconds_are_those_of_the_clock_without_the_warm_up(
    three: tuple[RunSettings, ...], tmp_path: Path, steps: list[tuple[str, float]]
) -> None:
    interleave(job(*three), 2, tmp_path, progress=False)
    summary = load_interleave(tmp_path).summary
    assert (summary.process, [arm.arm for arm in summary.arms]) == (2, ["baseline", "preln", "pld"])
    # two micro-batches of four layers
    assert summary.seconds("baseline") == summary.seconds("preln") == [9.0] * 6
    taken = [kept for arm, kept in steps if arm == "pld"][3:]
    assert summary.seconds("pld") == [1 + kept for kept in taken]
    assert summary.arms[2].kept_layers == [kept / 2 for kept in taken]
    assert summary.seconds("shallow") is None


def test_gates_are_the_policys_in_the_middle_of_each_part_of_the_run(tiny_run: Make) -> None:
    shape = Shape(tiny_run(), torch.device("cpu"))
    for round_, step in enumerate((2, 6, 10, 14)):  # of 16 steps
        gates = step_gates(shape, 3, round_, 4)
        assert gates == [
            draw_gates(shape.run.drop, seed=3, step=step, micro_step=micro, num_steps=16, num_layers=4)
            for micro in (0, 1)
        ]


def test_a_real_process_trains_all_and_a_finished_one_is_left_alone(
    three: tuple[RunSettings, ...], tmp_path: Path
) -> None:
    interleave(job(*three, rounds=2), 1, tmp_path, progress=False)
    first = load_interleave(tmp_path).summary
    assert all(seconds > 0 for arm in first.arms for seconds in arm.seconds)
    interleave(job(*three, rounds=2), 1, tmp_path, progress=False)
    assert load_interleave(tmp_path).summary == first
    interleave(job(*three, rounds=3), 1, tmp_path, progress=False)
    assert len(load_interleave(tmp_path).summary.arms[0].seconds) == 3
    (tmp_path / "summary.json").unlink()
    with pytest.raises(RecordError):
        load_interleave(tmp_path)


def test_an_update_is_one_optimizer_step_of_all_its_micro_batches(tiny_run: Make) -> None:
    shape = Shape(tiny_run(), torch.device("cpu"))
    calls = []
    shape.optimizer.register_step_post_hook(lambda *_: calls.append(1))
    before = [block.qkv.weight.detach().clone() for block in shape.model.bert.blocks]
    off = [draw_gates(tiny_run(drop=NONE).drop, seed=1, step=0, micro_step=0, num_steps=1, num_layers=4)] * 2
    shape.update(off)
    assert calls == [1]
    assert not any(torch.equal(w, b.qkv.weight) for w, b in zip(before, shape.model.bert.blocks, strict=True))
    assert all(parameter.grad is None for parameter in shape.model.parameters())
