"""One finding of the story as a clause: its number, what that rests on, and words for each outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pldrepro.analysis.finding import Finding
from pldrepro.analysis.power import POWER
from pldrepro.analysis.reported import MARKS
from pldrepro.analysis.text import DIGITS, number, quantity_text
from pldrepro.analysis.verdicts import MIN_SEEDS, VERDICTS

FAVOURABLE = {"reproduced": "reproduced", "exceeded": "more than reported", "same direction": "same direction"}
# SBLD's rivals on GPT, by their part of its topic.
SBLD_RIVALS = {
    "loss": "no dropping",
    "random": "random ranking",
    "order": "its schedule with layers ranked by depth",
    "reversed": "its schedule with the ranking reversed",
    "pld": "PLD",
    "prior": "PLD's printed equation at SBLD's depth (which drops the first layer, too)",
}
Kind = Literal["favourable", "contradicted", "premise fails", "by construction", "inconclusive", "lacks", "nothing"]


@dataclass(frozen=True)
class Words:
    """A claim in words: that it holds, that its opposite does, and that a condition of it is not met."""

    holds: str
    opposite: str
    premise: str = ""


RANK_WORDS = Words(
    "SBLD ranks the right last word of LAMBADA's passages higher than no dropping",
    "SBLD ranks the right last word of LAMBADA's passages lower than no dropping",
)


# ---- numbers ----


def amount(finding: Finding) -> str:
    """16.3 % [12.9, 19.6]; at most 1.22 x; of two values these."""
    text = quantity_text(finding.estimate, finding.unit)
    return f"at most {text}" if finding.bound else text


def basis(finding: Finding) -> str:
    """What a number rests on and what the paper reports: 5 seeds; paper: 24 %."""
    said = [_counted(finding)]
    if finding.reported is not None:
        said.append(f"paper: {finding.reported:g} {finding.unit}{MARKS[finding.provenance]}")
    return "; ".join(said)


def _counted(finding: Finding) -> str:
    n = finding.estimate.n if finding.estimate else 0
    return f"{n} {finding.counts if n != 1 else finding.counts.removesuffix('s').replace('processe', 'process')}"


def smallest_seen(finding: Finding) -> str:
    """What an undecided comparison could have found, as a sentence; empty where its seeds tell no spread."""
    if finding.sees is None:
        return ""
    seen = f"{number(finding.sees, DIGITS.get(finding.unit, 1))} {finding.unit}"
    limit = f" from {number(finding.null, 0)}" if finding.null else ""
    many = _counted(finding)
    return f" {many} detect a difference of {seen}{limit} with {100 * POWER:g} % power (one test, not adjusted)."


def joined(*said: str) -> str:
    """What is said in brackets behind a number: those parts that say something."""
    return "; ".join(filter(None, said))


def signed(finding: Finding) -> str:
    """A difference with its sign, which 0 has none of: +0.109 nats [0.097, 0.122]."""
    text = amount(finding)
    value = text.split()[0]
    return text if value.startswith("−") or not value.strip("0.") else f"+{text}"


def shared_basis(found: Sequence[Finding]) -> tuple[str, Callable[[Finding], str]]:
    """What several numbers rest on: said once where it is the same for all, else behind each of them."""
    every = {basis(one) for one in found}
    return (every.pop(), lambda one: "") if len(every) == 1 else ("", basis)


def less_time(time: Finding) -> str:
    """How much less or more reference time an arm takes."""
    if time.estimate is not None and time.estimate.value < 0:
        return f"{amount(_negative(time))} more reference time"
    return f"{amount(time)} less reference time"


def _negative(finding: Finding) -> Finding:
    assert finding.estimate is not None
    return replace(finding, estimate=finding.estimate.map(lambda value: -value))


def sides(finding: Finding) -> str:
    """How many seeds are on the estimate's side of no effect: 4 of 5 below 0; empty where that is not known."""
    if finding.agree is None or finding.estimate is None:
        return ""
    side = "above" if finding.estimate.value > finding.null else "below"
    return f"{finding.agree} of {finding.estimate.n} {side} {number(finding.null, 0)}"


# ---- clauses ----


def kind(finding: Finding) -> Kind:
    """What the verdict of a claim amounts to: "lacks" where the study lacks what the claim needs."""
    if finding.outcome in FAVOURABLE:
        return "favourable"
    if finding.outcome in VERDICTS and finding.outcome != "not measured at this scale":
        return finding.outcome  # type: ignore[return-value]
    return "lacks" if finding.estimate is not None and finding.note else "nothing"


def of_claim(finding: Finding, words: Words) -> str:
    """A claim with its number, by its verdict; empty where nothing was measured."""
    found = f"{amount(finding)} ({basis(finding)})"
    set_by_design = words.holds if _on_claimed_side(finding) else words.opposite
    said: dict[Kind, str] = {
        "favourable": f"{words.holds}: {found}, {FAVOURABLE.get(finding.outcome)}",
        "contradicted": f"{words.opposite}: {found}, which contradicts the claim at this scale",
        "by construction": f"{set_by_design} by design: {found}; this can neither support nor question the claim",
        "premise fails": f"{words.premise or 'a condition of the claim is not met here'}: {found}; not judged",
        "inconclusive": f"it is open whether {words.holds}: {amount(finding)} "
        f"({joined(basis(finding), sides(finding), why_open(finding))})",
        "lacks": f"whether {words.holds} is not judged: it needs {finding.note}. Observed: {found}",
    }
    clause = said.get(kind(finding), "")
    return clause and f"{upper(clause)}."


def _on_claimed_side(finding: Finding) -> bool:
    above = finding.estimate is not None and finding.estimate.value > finding.null
    return above == (finding.claimed == "above")


def of_side(finding: Finding, below: str, above: str, undecided: str) -> str:
    """A comparison with its number, by its side, as a sentence; the words begin as in the middle of one."""
    words = {"below": below, "above": above}.get(finding.outcome)
    if words:
        return f"{upper(words)}: {amount(finding)} ({basis(finding)})."
    said = f"it is not judged whether {above}" if finding.open == "seeds" else undecided
    return f"{upper(said)}: {amount(finding)} ({joined(basis(finding), sides(finding), why_open(finding))})."


def of_rival(finding: Finding, about: str) -> str:
    """A comparison with a rival as a sentence: ``about`` is lower, is higher, or shows no significant difference."""
    return of_side(finding, f"{about} is lower", f"{about} is higher", f"{about} shows no significant difference")


def stopped_early(found: Sequence[Finding], where: str = "") -> list[str]:
    """PLD's loss at earlier checkpoints against the baseline decayed at their time, as a sentence; none without any."""
    numbers = [f"{signed(one)} at checkpoint {one.arm.removeprefix('ckp')} ({basis(one)})" for one in found]
    lead = f"Stopped earlier{where}, PLD's loss differs from that of the baseline decayed at that time by"
    return [f"{lead} {' and '.join(numbers)}; not tested."] if numbers else []


def why_open(finding: Finding) -> str:
    """Why nothing is decided, where the interval itself does not show it."""
    tested = "that it falls short: " if finding.bound else ""
    return {
        "seeds": f"below {MIN_SEEDS} {finding.counts} nothing is judged",
        "adjustment": f"{tested}p < 0.05 by itself, not after Holm's adjustment",
        "condition": "a condition of the claim is open",
    }.get(finding.open, "")


def upper(text: str) -> str:
    """A text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]
