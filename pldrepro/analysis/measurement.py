"""What an estimator of a claim found: an effect with its interval, a note, and whether its premise holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pldrepro.analysis.comparisons import Paired, Reach
from pldrepro.analysis.text import estimate_text


@dataclass(frozen=True)
class Measurement:
    """What an estimator found.

    ``premise``: what the claim takes for granted (e.g. that the loss is reached at all) holds, is open, or fails;
    ``bound``: the effect is at most this, because some runs never reached what was to be reached.
    """

    paired: Paired | None = None
    note: str = ""
    premise: Literal["holds", "open", "fails"] = "holds"
    bound: bool = False


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


def until_reached(
    paired: Paired | None, reach: Reach, gap: Paired | None, note: str, *, target: str = "final loss",
    gap_note: str | None = None,
) -> Measurement:  # fmt: skip
    """What reaching a target of the baseline costs; ``gap``: by how much the arm ends short of it, e.g. in loss.

    Runs that never get there count with their whole run, a bound. That the target is reached is the premise: it fails
    where no run gets there and the gap is above 0. ``gap_note``: the gap in words (none: of a loss).
    """
    reached, pairs = reach.reached, len(reach.costs)
    if reached == pairs:
        return Measurement(paired, note)
    bound = (
        f"the baseline's {target} was reached in {reached} of {pairs} runs; the others count with their whole run, "
        f"a bound; {estimate_note('final loss minus baseline', gap, 3, 'nats') if gap_note is None else gap_note}"
    )
    fails = premise_of(gap, 0.0) == "fails" and not reached
    return Measurement(paired, join_notes(bound, note), "fails" if fails else "open", bound=True)
