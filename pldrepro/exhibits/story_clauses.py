"""One finding of the story as a clause: its number, what that rests on, and words for each outcome."""

from __future__ import annotations

from dataclasses import dataclass

from pldrepro.analysis.reported import MARKS
from pldrepro.analysis.story import Finding
from pldrepro.analysis.text import DIGITS, number, quantity_text
from pldrepro.analysis.verdicts import MIN_SEEDS

FAVOURABLE = {"reproduced": "reproduced", "exceeded": "more than reported", "same direction": "same direction"}


@dataclass(frozen=True)
class Words:
    """A claim in words: that it holds, that its opposite does, and that what it takes for granted is not so."""

    holds: str
    opposite: str
    premise: str = ""


# ---- numbers ----


def amount(finding: Finding) -> str:
    """16.3 % [12.9, 19.6]; at most 1.22 x; of two values these."""
    text = quantity_text(finding.estimate, finding.unit)
    return f"at most {text}" if finding.bound else text


def basis(finding: Finding) -> str:
    """What a number rests on and what the paper reports: 5 seeds; paper: 24 %."""
    n = finding.estimate.n if finding.estimate else 0
    counted = finding.counts if n != 1 else finding.counts.removesuffix("s").replace("processe", "process")
    said = [f"{n} {counted}"]
    if finding.reported is not None:
        said.append(f"paper: {finding.reported:g} {finding.unit}{MARKS[finding.provenance]}")
    return "; ".join(said)


def half_width(finding: Finding) -> str:
    """What this study could not have seen: a difference of less than half its interval."""
    estimate = finding.estimate
    if estimate is None or estimate.high is None or estimate.values or why_open(finding):
        return ""
    half = number(estimate.high - estimate.value, DIGITS.get(finding.unit, 1))
    return f" A difference of less than about {half} {finding.unit} could not have been seen."


# ---- clauses ----


def of_claim(finding: Finding, words: Words) -> str:
    """A claim with its number, by its verdict; empty where nothing was measured."""
    found = f"{amount(finding)} ({basis(finding)})"
    if finding.outcome in FAVOURABLE:
        return f"{upper(words.holds)}: {found}, {FAVOURABLE[finding.outcome]}."
    if finding.outcome == "contradicted":
        return f"{upper(words.opposite)}: {found}, which contradicts the claim."
    if finding.outcome == "by construction":
        return f"{upper(words.holds)} by design: {found}; this can neither support nor question the claim."
    if finding.outcome == "premise fails":
        return f"{upper(words.premise or 'what the claim takes for granted is not so here')}: {found}; not judged."
    if finding.outcome == "inconclusive":
        return f"It is open whether {words.holds}: {amount(finding)} ({basis(finding)}{why_open(finding)})."
    if finding.estimate is not None and finding.note:
        return f"Not judged is whether {words.holds} ({found}): it needs {finding.note}."
    return ""


def of_side(finding: Finding, below: str, above: str, undecided: str) -> str:
    """A comparison with its number, by its side; without a full stop."""
    words = {"below": below, "above": above}.get(finding.outcome, undecided)
    reason = why_open(finding) if finding.outcome == "undecided" else ""
    return f"{words}: {amount(finding)} ({basis(finding)}{reason})"


def of_rival(finding: Finding, about: str) -> str:
    """A comparison with a rival as a sentence: ``about`` is lower, is higher, or is not shown to differ."""
    return upper(of_side(finding, f"{about} is lower", f"{about} is higher", f"{about} is not shown to differ")) + "."


def why_open(finding: Finding) -> str:
    """Why a side is not decided, where the interval itself does not show it."""
    estimate = finding.estimate
    if estimate is None or finding.bound:
        return ""
    if estimate.n < MIN_SEEDS:
        return f"; below {MIN_SEEDS} {finding.counts} nothing is judged"
    if estimate.low is not None and estimate.high is not None and not estimate.low <= finding.null <= estimate.high:
        return "; not decided after the adjustment for all comparisons"
    return ""


def upper(text: str) -> str:
    """A text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]
