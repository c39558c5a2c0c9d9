"""Reported values and times as text, and what tables say of their intervals."""

from __future__ import annotations

from collections.abc import Sequence

from pldrepro.analysis.arms import DISTURBED, disturbed
from pldrepro.analysis.reported import Reported
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import DASH, number
from pldrepro.runs.schema import Device

INTERVAL_NOTE = (
    "Measured: mean over n pre-training seeds, [95 % t interval]; times and ratios: geometric mean, interval on the "
    "log scale; ratios are paired by seed and, in reference time, hold the calibration's own error. One seed has no "
    "interval. Of two seeds both values are shown (a / b): an interval would be 12.7 times as wide as their difference."
)


def measured_time_note(evidence: Evidence) -> str:
    """What measured time is worth, with the arms in which other work on the machine shows."""
    found = disturbed(evidence)
    named = "; ".join(f"{evidence.label(arm)} ({number(factor, 1)})" for arm, factor in found.items())
    return (
        "Measured time is that of the runs themselves, with whatever else the machine did meanwhile: read reference "
        "time, or steps measured in turn. Runs of one arm do the same work in every step; "
        + (
            f"here the slowest took more than {DISTURBED:g} times as long per step as the quickest in: {named}."
            if found
            else f"here none took more than {DISTURBED:g} times as long per step as another of its arm."
        )
    )


def marked_number(reported: Reported | None, digits: int) -> str:
    """A reported value with the mark of its provenance; a dash for nothing."""
    return DASH if reported is None else number(reported.value, digits) + reported.mark


def time_unit(seconds: Sequence[float]) -> tuple[str, float]:
    """Unit and seconds per unit in which these times read well."""
    longest = max(seconds, default=0.0)
    return ("h", 3600.0) if longest >= 2 * 3600 else ("min", 60.0) if longest >= 300 else ("s", 1.0)


def device_text(device: Device) -> str:
    """A device's description in one line."""
    return ", ".join(f"{key} {value}" for key, value in device.dump().items())
