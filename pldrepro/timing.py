"""Clocks: what a run cost, measured and in reference time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


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


def reference_seconds(steps_by_kept_layers: Mapping[Any, int], tau: Mapping[str, Mapping[str, float]]) -> float:
    """Price of a run in reference time: the sum over its micro steps of tau(k), k its number of kept layers [s].

    ``tau`` is the calibration of the run's model shape, k -> {"median": seconds, ...}; a k that was not
    calibrated is a ValueError. Source: reference system time of "No Train No Gain" (arXiv 2307.06440).
    """
    missing = [str(k) for k in steps_by_kept_layers if str(k) not in tau]
    if missing:
        raise ValueError(f"calibration has no step time for {', '.join(missing)} kept layers")
    return sum(count * tau[str(k)]["median"] for k, count in steps_by_kept_layers.items())


def find_shape(calibration: Mapping[str, Any], model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The calibrated shape that equals these model settings; a ValueError when there is none."""
    for shape in calibration["shapes"]:
        if shape["model"] == dict(model):
            return shape
    raise ValueError("the calibration holds no step times for this model shape; run `calibrate` again")
