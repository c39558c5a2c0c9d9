"""The finding and the table of results in README.md, from recorded sets; `make results-page` writes them.

The finding has five items for all sets: what dropping saves, what the speedup is made of, what dropping costs, how
other ways to save compare, and what SBLD's ranking adds. The words follow the outcomes.
``pldrepro.exhibits.story_text`` tells the story of one set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pldrepro.analysis.claims import read_claims
from pldrepro.analysis.finding import NOTHING, SHOWN, UNDECIDED, Finding
from pldrepro.analysis.reported import mark_notes
from pldrepro.analysis.story import STORY, read_story
from pldrepro.analysis.text import DASH, number
from pldrepro.errors import RecordError
from pldrepro.exhibits.claims_text import measured_text, named, reported_text, verdict_text
from pldrepro.exhibits.story_clauses import amount, basis, kind, less_time, signed, upper
from pldrepro.exhibits.story_text import sbld
from pldrepro.files import write_text

# What a reader asks first, in this order.
CLAIMS = (
    "time_per_sample",
    "flops",
    "speedup_same_loss",
    "speedup_similar_accuracy",
    "glue_final",
    "glue_ckp100",
    "cloze_comparable",
    "balanced_gradients",
)
FACTORS = ("preln_time", "preln_higher_lr_time", "pld_time")
PICTURE = (  # of a set; two stand next to each other
    '<img src="docs/finding_{name}.svg" width="49%" alt="Set {name}: above, validation loss against time; below, what '
    'the time ratio at checkpoint 100 of 186 is made of">'
)
MARKERS = re.compile(r"(<!-- results: begin [^\n]*-->\n).*?(\n<!-- results: end -->)", re.DOTALL)

Sets = Mapping[str, Sequence[Finding]]  # the findings of recorded sets, by the set's name


# ---- the finding ----


def readme_finding(sets: Sets) -> str:
    """The finding as a Markdown list; what no set measures is left out."""
    said = {"What it saves": saves(sets), "Where the speedup comes from": speedup(sets), "What it costs": costs(sets),
            "Other ways to save": ways(sets), "SBLD": ranking(sets)}  # fmt: skip
    return "\n".join(f"- **{title}.** {' '.join(texts)}" for title, texts in said.items() if texts)


def saves(sets: Sets) -> list[str]:
    """Time and FLOPs of a sample, against the baseline."""
    return [
        *_told(_all(sets, "time", "saving"), lambda one: _claim(
            one, "PLD needs less time per sample than the baseline", "PLD needs more time per sample than the baseline"
        )),
        *_told(_all(sets, "flops", "saving"), lambda one: _claim(one, "it needs fewer FLOPs", "it needs more FLOPs")),
    ]  # fmt: skip


def speedup(sets: Sets) -> list[str]:
    """The speedup to the baseline's final loss and its factors; first the sets that show one."""
    found = sorted(_all(sets, "to_loss", "speedup"), key=lambda pair: kind(pair[1]) != "favourable")
    return [f"In `{name}` {_speedup(one, sets[name])}." for name, one in found]


def _speedup(one: Finding, findings: Sequence[Finding]) -> str:
    end = "".join(f"; at its end its loss is {amount(gap)} above" for gap in _get(findings, "to_loss", "gap")
                  if gap.outcome == "above")  # fmt: skip
    if kind(one) == "premise fails":
        reached = [count.estimate for count in _get(findings, "to_loss", "reached") if count.estimate]
        runs = "".join(f" ({count.value:.0f} of {count.n} runs get there)" for count in reached)
        all_get_there = any(count.value == count.n for count in reached)
        there = (
            "touches the baseline's final loss but ends above it"
            if all_get_there
            else ("does not reach the baseline's final loss")
        )
        return f"PLD {there}{runs}{end}"
    holds = "PLD reaches the baseline's final loss sooner"
    words = _claim(one, holds, "PLD reaches the baseline's final loss later")
    factors = [f"{part.note} {amount(part)}{_brackets(_open(part))}"
               for name in FACTORS for part in _get(findings, "parts", name)]  # fmt: skip
    made_of = f", the product of {', '.join(factors[:-1])} and {factors[-1]}" if len(factors) > 1 else ""
    return f"{words}: {amount(one)}{_brackets(basis(one), _open(one))}{made_of}{end}"


LOWER_RATE = (
    "with the baseline's learning rate for both, PLD's loss minus that of the same model without dropping (shown, not "
    "tested)"
)


def costs(sets: Sets) -> list[str]:
    """Final loss against the same model without dropping and the baseline, at equal samples and at equal time.

    A model with about as many layers as PLD keeps is the paper's own rival.
    """
    words = {
        "below": "dropping layers lowers the final loss at equal samples",
        "above": "dropping layers raises the final loss at equal samples",
        UNDECIDED: "whether dropping layers changes the final loss at equal samples is open",
    }
    found = sorted(_all(sets, "equal_samples", "loss"), key=lambda pair: pair[1].outcome == UNDECIDED)
    rivals = {"twin": "that of the same model without dropping", "baseline": "the baseline's"}
    return [
        *_told(found, lambda one: words[one.outcome]),
        *_told(_all(sets, "equal_samples", "lower_rate"), lambda _: LOWER_RATE),
        *(text for part, rival in rivals.items()
          for text in _told(_all(sets, "equal_cost", part), partial(_at_equal_time, rival))),
        *_rivals_time(sets),
        *(_rival(name, one, sets[name]) for name, one in _all(sets, "equal_cost", "fewer_layers")),
    ]  # fmt: skip


def ways(sets: Sets) -> list[str]:
    """Other ways to run fewer layers per step, against PLD at equal samples.

    Where something is decided, the rest is only named; the story has its numbers.
    """
    texts = []
    for name in sets:
        topic = [one for one in sets[name] if one.topic == "other_ways" and one.outcome != NOTHING]
        compared = [one for one in topic if one.outcome != SHOWN]
        decided = [one for one in compared if one.outcome != UNDECIDED]
        numbers = [f"{one.arm} {signed(one)}{_in_time(one, topic)}{_brackets(basis(one), _open(one))}"
                   for one in decided or compared]  # fmt: skip
        rest = [one.arm for one in compared if decided and one.outcome == UNDECIDED]
        if compared:
            told = [f"in `{name}`: {', '.join(numbers)}"]
            told += [f"not shown to differ from PLD: {', '.join(rest)}"] * bool(rest)
            texts += [f"{upper(one)}." for one in (*told, *(_shared(topic, len(compared) > 1) if decided else ()))]
    return ["Final loss minus PLD's at equal samples; below 0 is better.", *texts] if texts else []


def _in_time(one: Finding, topic: Sequence[Finding]) -> str:
    """In how much less time than PLD's."""
    return "".join(f" in {less_time(time)}" for time in topic if time.part == f"{one.part}_time")


def _shared(topic: Sequence[Finding], several: bool) -> list[str]:
    """What their common learning rate does to the loss, and the best one's difference from the baseline."""
    use = "all of these use" if several else "it uses"
    rate = [f"{use} PLD's learning rate, which by itself changes PreLN's final loss by {signed(one)}"
            for one in topic if one.part == "rate"]  # fmt: skip
    best = [f"{f'{one.arm} has the lowest mean loss of them,' if several else 'its loss is'} {signed(one)} against the "
            "baseline's" for one in topic if one.part == "best"]  # fmt: skip
    return [*rate, *best]


def ranking(sets: Sets) -> list[str]:
    """SBLD's time, and its loss against no dropping and against orders that know nothing of sensitivity."""
    return [
        f"{' '.join(text)} (`{name}`)"
        for name, findings in sets.items()
        if (text := sbld([one for one in findings if one.topic == "sbld" and one.outcome != NOTHING]))
    ]


def _at_equal_time(rival: str, one: Finding) -> str:
    """PLD's final loss against a run whose learning rate is decayed at PLD's end, in words."""
    words = {"below": "is below", "above": "is above", UNDECIDED: "is not shown to differ from"}
    return f"at equal time PLD's final loss {words[one.outcome]} {rival}"


def _rivals_time(sets: Sets) -> list[str]:
    """By how much the time of the runs that stop at PLD's differs from it."""
    more = [-time.estimate.value for part in ("twin_time", "baseline_time")
            for _, time in _all(sets, "equal_cost", part) if time.estimate]  # fmt: skip
    if not more:
        return []
    least, most = (number(value, 1) for value in (min(more), max(more)))
    return [f"These rivals take {f'{least} to {most}' if least != most else least} % more time than PLD."]


def _rival(name: str, one: Finding, findings: Sequence[Finding]) -> str:
    """PLD's loss against a model that has about as many layers as PLD keeps, and what that model costs."""
    cost = [f", which takes {amount(time)} less time," for time in _get(findings, "equal_cost", "fewer_layers_time")
            if time.arm == one.against]  # fmt: skip
    words = {"below": "is lower", "above": "is higher", UNDECIDED: "is not shown to differ"}
    return (
        f"Against a model with fewer layers and no dropping{''.join(cost)} PLD's final loss {words[one.outcome]} in "
        f"`{name}`: {amount(one)}{_brackets(basis(one), _open(one))}."
    )


# ---- clauses ----


def _get(findings: Sequence[Finding], topic: str, part: str) -> list[Finding]:
    return [one for one in findings if (one.topic, one.part) == (topic, part) and one.outcome != NOTHING]


def _all(sets: Sets, topic: str, part: str) -> list[tuple[str, Finding]]:
    """A finding in every set that has a number for it, with the set's name."""
    return [(name, one) for name, findings in sets.items() for one in _get(findings, topic, part)]


def _told(found: Sequence[tuple[str, Finding]], words: Callable[[Finding], str]) -> list[str]:
    """A sentence on a finding in all sets: words for each outcome, the sets' numbers, and once what is reported."""
    numbers: dict[str, list[str]] = {}
    for name, one in found:
        counted = basis(replace(one, reported=None))
        numbers.setdefault(words(one), []).append(f"{amount(one)} in `{name}`{_brackets(counted, _open(one))}")
    if not found:
        return []
    paper = basis(found[0][1]).partition("; ")[2]
    text = "; ".join(f"{said}: {', '.join(these)}" for said, these in numbers.items())
    return [f"{upper(text)}{'; ' if paper else ''}{paper}."]


def _claim(one: Finding, holds: str, opposite: str) -> str:
    """A claim in words, by its verdict."""
    above = one.estimate is not None and one.estimate.value > one.null
    return {
        "favourable": holds,
        "contradicted": opposite,
        "by construction": f"{holds if above == (one.claimed == 'above') else opposite} by design",
        "inconclusive": f"whether {holds} is open",
    }.get(kind(one), f"whether {holds} is not judged")


def _open(one: Finding) -> str:
    """Said behind the number of what is undecided; README has the reasons in a note."""
    return UNDECIDED if one.outcome in (UNDECIDED, "inconclusive") else ""


def _brackets(*said: str) -> str:
    return f" ({'; '.join(filter(None, said))})" if any(said) else ""


# ---- the table ----


def readme_table(sets: Mapping[str, pd.DataFrame]) -> str:
    """The chosen claims as a Markdown table, a column for each set; a claim that no set measures is left out."""
    by_claim = {name: frame.set_index(frame["claim"].str.removeprefix("pld.")) for name, frame in sets.items()}
    columns = ["claim of the PLD paper", "reported", *(f"`{name}`: measured" for name in sets)]
    lines, provenances = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"], []
    for claim in CLAIMS:
        rows = [frame.loc[claim].to_dict() for frame in by_claim.values()]
        if any(pd.notna(row["measured"]) for row in rows):
            cells = (named(rows[0]), reported_text(rows[0]), *map(_cell, rows))
            lines.append(f"| {' | '.join(cells)} |")
            provenances.append(rows[0]["provenance"])
    marks = mark_notes(provenances)
    return "\n".join([*lines, *(["", *marks] if marks else [])])


def _cell(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["measured"]):
        return DASH
    premise = f" ({row['premise']})" if row["verdict"] == "premise fails" and row["premise"] else ""
    return f"{measured_text(row)}, n = {row['n']}: *{verdict_text(row)}*{premise}"


def write_readme(results: Sequence[Path], readme: Path) -> None:
    """Put what finished results folders say between the markers of README.md; without markers a RecordError."""
    text = readme.read_text("utf-8")
    found = len(MARKERS.findall(text))
    if found != 1:
        raise RecordError(f"{readme}: expected one pair of markers `results: begin` and `results: end`, got {found}")
    finding = readme_finding({one.name: read_story(one / STORY) for one in results})
    pictures = " ".join(PICTURE.format(name=one.name) for one in results[:2])
    table = readme_table({one.name: read_claims(one / "claims.csv") for one in results})
    written = MARKERS.sub(
        lambda match: "\n\n".join((match[1].rstrip("\n"), finding, pictures, table, match[2].lstrip("\n"))), text
    )
    write_text(readme, written)
