"""The clock that measures what a run costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds spent inside its ``running`` blocks and nowhere else."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time of this block; the caller sees to it that a device has done what was queued."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
