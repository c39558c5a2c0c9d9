"""Clocks: what runs outside a stopwatch costs nothing, and a run is priced by its recorded kept layers."""

import pytest

from pldrepro import timing
from pldrepro.timing import Stopwatch, find_shape, reference_seconds

TAU = {"0": {"median": 1.0}, "1": {"median": 1.5}, "2": {"median": 2.25}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets; every reading takes its value."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_only_the_blocks_are_counted(clock: list[float]) -> None:
    watch = Stopwatch()
    for _ in range(3):
        with watch.running():
            clock[0] += 2.0
        clock[0] += 100.0
    assert watch.seconds == 6.0


def test_a_watch_goes_on_from_earlier_seconds(clock: list[float]) -> None:
    watch = Stopwatch(10.0)
    with watch.running():
        clock[0] += 1.0
    assert watch.seconds == 11.0


def test_a_block_that_fails_is_counted_too(clock: list[float]) -> None:
    watch = Stopwatch()

    def interrupted() -> None:
        with watch.running():
            clock[0] += 3.0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert watch.seconds == 3.0


def test_queued_work_is_waited_for_at_both_ends(clock: list[float]) -> None:
    def finish_queue() -> None:
        clock[0] += 5.0

    watch = Stopwatch(synchronize=finish_queue)
    with watch.running():
        clock[0] += 1.0
    assert watch.seconds == 6.0  # the work queued in the block, not that queued before it


def test_reference_seconds() -> None:
    assert reference_seconds({0: 2, 2: 4}, TAU) == 11.0
    assert reference_seconds({"1": 3}, TAU) == 4.5
    assert reference_seconds({}, TAU) == 0.0


def test_a_depth_that_was_not_calibrated_is_an_error() -> None:
    with pytest.raises(ValueError, match="no step time for 3 kept layers"):
        reference_seconds({1: 1, 3: 1}, TAU)


def test_find_shape() -> None:
    calibration = {"shapes": [{"model": {"norm": "post"}, "tau": 1}, {"model": {"norm": "pre"}, "tau": 2}]}
    assert find_shape(calibration, {"norm": "pre"})["tau"] == 2
    with pytest.raises(ValueError, match="no step times for this model shape; run `calibrate` again"):
        find_shape(calibration, {"norm": "mid"})
