"""What an estimator of a claim found: an effect with its interval, a note, and whether its premise holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.text import estimate_text


@dataclass(frozen=True)
class Measurement:
    """What an estimator found.

    ``premise``: what the claim takes for granted (e.g. that the loss is reached at all) holds, is open, or fails.
    """

    paired: Paired | None = None
    note: str = ""
    premise: Literal["holds", "open", "fails"] = "holds"


def join_notes(*notes: str) -> str:
    """The notes that say something, as one."""
    return "; ".join(note for note in notes if note)


def estimate_note(name: str, paired: Paired | None, digits: int, unit: str) -> str:
    """An effect with its interval and unit, after its name; empty without one."""
    return "" if paired is None else f"{name}: {estimate_text(paired.estimate, digits)} {unit}"


def premise_of(difference: Paired | None, most: float) -> Literal["holds", "open", "fails"]:
    """Whether a difference is at most ``most``: by its upper limit it holds, by its lower limit it fails."""
    if difference is None or difference.estimate.high is None or difference.estimate.low is None:
        return "open"
    if difference.estimate.high <= most:
        return "holds"
    return "fails" if difference.estimate.low > most else "open"
