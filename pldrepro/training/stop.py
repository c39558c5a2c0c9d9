"""Stopping in time: signals and time limits, seen between two steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """What may stop a run at its next step: a time limit, and within ``watching`` SIGTERM and SIGUSR1.

    Schedulers send one of them some time before they kill a job.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, max_seconds: float | None = None) -> None:
        self.max_seconds, self.started = max_seconds, time.monotonic()
        self.signal: signal.Signals | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of the signals instead of ending by them."""
        earlier = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        self.signal = signal.Signals(number)

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self.signal is not None:
            return f"by {self.signal.name}"
        if self.max_seconds is not None and time.monotonic() - self.started >= self.max_seconds:
            return f"after {self.max_seconds:g} s"
        return None
