"""What an estimator of a claim found: an effect with its interval, a note, and the condition of the claim."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reach import Reach
from pldrepro.analysis.text import estimate_text
from pldrepro.analysis.verdicts import ERROR_RATE


@dataclass(frozen=True)
class Condition:
    """What must be so for a claim to hold, e.g. that a score is similar, as an excess that must not be above 0.

    ``excess``: positive effects break the condition; None: nothing here can show that it is met. ``about``: what was
    measured of it, in words.
    """

    excess: Paired | None = None
    about: str = ""

    @property
    def state(self) -> Literal["holds", "open", "fails"]:
        """By the excess' own interval: wholly below 0 the condition holds, wholly above it fails."""
        if self.excess is None or self.excess.p is None or self.excess.p > ERROR_RATE:
            return "open"
        return "fails" if self.broken else "holds"

    @property
    def broken(self) -> bool:
        """Whether the mean of the excess is above 0: then the data can only show that the condition fails."""
        return self.excess is not None and sum(self.excess.effects) > 0


def at_most(difference: Paired | None, most: float = 0.0, about: str = "") -> Condition:
    """The condition that a difference is at most ``most``, or a ratio at most 1 (most: 0)."""
    if difference is None or not most:
        return Condition(difference, about)
    effects = tuple(effect - most for effect in difference.effects)
    excess = replace(difference, effects=effects, estimate=difference.estimate.map(lambda one: one - most))
    return Condition(excess, about)


def at_least(difference: Paired | None, least: float = 0.0, about: str = "") -> Condition:
    """The condition that a difference is at least ``least``."""
    return at_most(None if difference is None else difference.turned(), -least, about)


@dataclass(frozen=True)
class Measurement:
    """What an estimator found.

    ``condition``: of a claim that needs more than this effect; ``bound``: the effect is at most this, because some runs
    never reached what was to be reached; ``basis``: what a reader must know wherever the number is shown, such as
    what its interval is of.
    """

    paired: Paired | None = None
    note: str = ""
    condition: Condition | None = None
    bound: bool = False
    basis: str = ""


def join_notes(*notes: str) -> str:
    """The notes that say something, as one."""
    return "; ".join(note for note in notes if note)


def estimate_note(name: str, paired: Paired | None, digits: int, unit: str) -> str:
    """An effect with its interval and unit, after its name; empty without one."""
    return "" if paired is None else f"{name}: {estimate_text(paired.estimate, digits)} {unit}"


def until_reached(
    paired: Paired | None, reach: Reach, gap: Paired | None, note: str, *, target: str = "final loss",
    gap_note: str | None = None,
) -> Measurement:  # fmt: skip
    """What reaching a target of the baseline costs; ``gap``: by how much the arm ends short of it, e.g. in loss.

    Runs that never get there count with their whole run, a bound. The condition is that the target is reached. It is
    met where every run gets there and they do not end short of it on average; it fails where the gap is shown to be
    above 0, however many runs touched the target on the way. ``gap_note``: the gap in words (none: of a loss).
    """
    reached, pairs = reach.reached, len(reach.costs)
    own = estimate_note("final loss minus the baseline's", gap, 3, "nats") if gap_note is None else gap_note
    short = at_most(gap, about=f"{own}, n = {gap.estimate.n}" if own and gap is not None else "")
    if reached == pairs:
        return Measurement(paired, note, short if short.broken else None)
    bound = (
        f"the baseline's {target} was reached in {reached} of {pairs} runs; the others count with their whole run, "
        f"a bound; {own}"
    )
    return Measurement(
        paired, join_notes(bound, note), short if short.broken else Condition(about=short.about), bound=True
    )
