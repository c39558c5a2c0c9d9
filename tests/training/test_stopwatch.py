"""The clock: what runs outside a stopwatch costs nothing."""

import pytest

from pldrepro.training import stopwatch
from pldrepro.training.stopwatch import Stopwatch


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that the test sets; every reading takes its value."""
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
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
