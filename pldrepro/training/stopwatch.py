"""The clock that measures what a run costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _nothing() -> None:
    return None


class Stopwatch:
    """Seconds spent inside its ``running`` blocks and nowhere else.

    ``synchronize`` waits for the device, so that work that was only queued is counted where it belongs.
    """

    def __init__(self, seconds: float = 0.0, synchronize: Callable[[], None] = _nothing) -> None:
        self.seconds = seconds
        self._synchronize = synchronize

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of this block."""
        self._synchronize()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._synchronize()
            self.seconds += time.perf_counter() - start
