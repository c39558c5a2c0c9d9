"""A finding: one number of a set's story with its outcome, of a claim, of two arms compared, or only shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.results import Evidence
from pldrepro.stats import Estimate

# Outcomes: a claim's verdict; the side of a comparison; or a number that is only shown.
SIDES = BELOW, UNDECIDED, ABOVE = "below", "undecided", "above"
SHOWN, NOTHING = "shown", "no measurement"


@dataclass(frozen=True)
class Finding:
    """One number of the story and its outcome; ``topic`` is its sentence's, ``part`` its place in it.

    ``arm``, ``against``: labels; ``counts``: what n counts; ``null``: the value of no effect; ``basis``: what a reader
    must know with the number; ``open``: why nothing is decided (see ``cases.Open``); ``sees``: the smallest effect that
    so many seeds find with 80 % power; ``agree``: how many of them are on the estimate's side of no effect;
    ``claimed``: on which side a claim is; ``paired``: of a comparison whose side is still to be judged.
    """

    topic: str
    part: str
    outcome: str
    estimate: Estimate | None = None
    unit: str = ""
    exhibit: str = ""
    arm: str = ""
    against: str = ""
    counts: str = "seeds"
    null: float = 0.0
    bound: str = ""
    reported: float | None = None
    provenance: str = "verified"
    basis: str = ""
    open: str = ""
    sees: float | None = None
    agree: int | None = None
    claimed: str = ""
    note: str = ""
    paired: Paired | None = None


def of_pair(
    study: Evidence, topic: str, part: str, paired: Paired | None, unit: str, exhibit: str, arm: str = "",
    against: str = "",
) -> list[Finding]:  # fmt: skip
    """A comparison of two arms, by their names; none where nothing was measured."""
    if paired is None:
        return []
    first, second = (study.label(name) if name else "" for name in (arm, against))
    null = 1.0 if unit == "x" else 0.0
    return [
        Finding(topic, part, "", paired.estimate, unit, exhibit, first, second, paired.unit, null,
                sees=paired.smallest_seen(unit), agree=paired.agree, paired=paired)
    ]  # fmt: skip


def shown(topic: str, part: str, estimate: Estimate | None, unit: str, exhibit: str, **more: Any) -> list[Finding]:
    """A number that needs no side."""
    return [] if estimate is None else [Finding(topic, part, SHOWN, estimate, unit, exhibit, **more)]
