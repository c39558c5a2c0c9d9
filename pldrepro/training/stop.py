"""Stopping in time: signals and time limits, seen between two steps."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stop:
    """What may stop a run at its next step: a time limit, and within ``watching`` a signal.

    Schedulers send SIGTERM or SIGUSR1 some time before they kill a job, a terminal SIGINT (Ctrl-C) and, when it is
    closed, SIGHUP. A second SIGINT ends the run at once. What ``nohup`` or a background job ignores stays ignored.
    """

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
    OF_TERMINALS = (signal.SIGINT, signal.SIGHUP)

    def __init__(self, max_seconds: float | None = None) -> None:
        self.max_seconds, self.started = max_seconds, time.monotonic()
        self.signal: signal.Signals | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of the signals instead of ending by them."""
        ignored = {number for number in self.OF_TERMINALS if signal.getsignal(number) is signal.SIG_IGN}
        earlier = {number: signal.signal(number, self._note) for number in self.SIGNALS if number not in ignored}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: object) -> None:
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    @property
    def reason(self) -> str | None:
        """Why to stop, or None."""
        if self.signal is not None:
            return f"by {self.signal.name}"
        if self.max_seconds is not None and time.monotonic() - self.started >= self.max_seconds:
            return f"after {self.max_seconds:g} s"
        return None
