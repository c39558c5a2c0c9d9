"""The finding and the tables of results in README.md, from recorded sets; `make results-page` writes them.

The finding has five items for all sets: what dropping saves, what the speedup is made of, what dropping costs, how
other ways to save compare, and what SBLD's ranking adds. The words follow the outcomes; a table has the losses.
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
from pldrepro.analysis.finding import ABOVE, BELOW, NOTHING, SHOWN, UNDECIDED, Finding
from pldrepro.analysis.reported import mark_notes
from pldrepro.analysis.story import STORY, read_story
from pldrepro.analysis.text import DASH, estimate_text
from pldrepro.errors import RecordError
from pldrepro.exhibits.claims_text import measured_text, named, reported_text, verdict_text
from pldrepro.exhibits.story_clauses import (
    RANK_WORDS,
    SBLD_RIVALS,
    amount,
    basis,
    kind,
    less_time,
    signed,
    stopped_early,
    upper,
)
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
    reached = [count.estimate for count in _get(findings, "to_loss", "reached") if count.estimate]
    runs = [f"{count.value:.0f} of {count.n} runs get there" for count in reached]
    all_get_there = any(count.value == count.n for count in reached)
    if kind(one) == "premise fails":
        touches, misses = (
            "touches the baseline's final loss but ends above it",
            "does not reach the baseline's final loss",
        )
        return f"PLD {touches if all_get_there else misses}{_brackets(*runs)}{end}"
    holds = "PLD reaches the baseline's final loss sooner"
    words = _claim(one, holds, "PLD reaches the baseline's final loss later")
    factors = [f"{part.note} {amount(part)}{_brackets(_open(part))}"
               for name in FACTORS for part in _get(findings, "parts", name)]  # fmt: skip
    made_of = f", the product of {', '.join(factors[:-1])} and {factors[-1]}" if len(factors) > 1 else ""
    missed = [] if all_get_there else runs
    return f"{words}: {amount(one)}{_brackets(basis(one), *missed, _open(one))}{made_of}{end}"


def costs(sets: Sets) -> list[str]:
    """Final loss against the same model without dropping, at equal samples; words for the other rivals.

    The table of losses has their numbers.
    """
    words = {
        BELOW: "dropping layers lowers the final loss at equal samples",
        ABOVE: "dropping layers raises the final loss at equal samples",
        UNDECIDED: "whether dropping layers changes the final loss at equal samples is open",
    }
    found = sorted(_all(sets, "equal_samples", "loss"), key=lambda pair: pair[1].outcome == UNDECIDED)
    lower = "when both use the baseline's learning rate, the difference (not tested) is"
    return [
        *_told(found, lambda one: words[one.outcome]),
        *_told(_all(sets, "equal_samples", "lower_rate"), lambda _: lower),
        *_sides(sets, "twin", "At about equal time (the other run's schedule ends there) PLD's final loss",
                "that of the same model without dropping"),
        *_sides(sets, "baseline", "At about equal time PLD's final loss", "the baseline's"),
        *(said for name, findings in sets.items()
          for said in stopped_early(_get(findings, "equal_cost", "early"), f" in `{name}`")),
        *_sides(sets, "fewer_layers", "PLD's final loss", "that of a model with fewer layers and no dropping",
                "fewer_layers_time"),
    ]  # fmt: skip


def _sides(sets: Sets, part: str, about: str, rival: str, time: str = "") -> list[str]:
    """On which side of a rival PLD's loss is in each set, in words; with a part that has it, the rival's time."""
    words = {BELOW: "is below", ABOVE: "is above", UNDECIDED: "is not shown to differ from"}
    places: dict[str, list[str]] = {}
    for name, one in _all(sets, "equal_cost", part):
        takes = "".join(f" (which takes {less_time(saved)})" for saved in _times(one, time, sets[name]))
        places.setdefault(words[one.outcome], []).append(f"`{name}`{takes}")
    pieces = [f"{said} {rival} in {_and(these)}" for said, these in places.items()]
    return [f"{about} {'; it '.join(pieces)}."] if pieces else []


def ways(sets: Sets) -> list[str]:
    """Other ways to run fewer layers per step, against PLD at equal samples; the table has what is decided."""
    texts = []
    for name, findings in sets.items():
        topic = [one for one in findings if one.topic == "other_ways" and one.outcome != NOTHING]
        told = []
        for outcome, one_does, several_do in (
            (BELOW, "ends at a lower loss than PLD", "end at a lower loss than PLD"),
            (ABOVE, "ends at a higher loss than PLD", "end at a higher loss than PLD"),
            (UNDECIDED, "is not shown to differ from PLD", "are not shown to differ from PLD"),
        ):
            arms = [one.arm for one in topic if one.outcome == outcome]
            told += [f"{_and(arms)} {several_do if len(arms) > 1 else one_does}"] * bool(arms)
        if told:
            texts.append(f"In `{name}`, at equal samples{_rate(topic)}, {'; '.join(told)}.")
            texts += [f"{upper(one.arm)} differs from the baseline by {signed(one)} ({basis(one)}; not tested)."
                      for one in topic if one.part == "best"]  # fmt: skip
    return texts


def _rate(topic: Sequence[Finding]) -> str:
    """Said where all of them share PLD's learning rate, and PreLN was trained at both."""
    return " and PLD's learning rate" if any(one.part == "rate" for one in topic) else ""


def ranking(sets: Sets) -> list[str]:
    """SBLD's time, and on which side of its rivals its loss is."""
    saves_time = partial(_claim, holds="SBLD (our reading) saves training time",
                         opposite="SBLD (our reading) saves no training time")  # fmt: skip
    texts = _told(_all(sets, "sbld", "time"), saves_time)
    sides = {BELOW: "lower than with", ABOVE: "higher than with", UNDECIDED: "not shown to differ from that of"}
    for name, findings in sets.items():
        told = []
        for outcome, words in sides.items():
            rivals = [rival for part, rival in SBLD_RIVALS.items()
                      for one in _get(findings, "sbld", part) if one.outcome == outcome]  # fmt: skip
            told += [f"{words} {_and(rivals)}"] * bool(rivals)
        texts += [f"Its final loss on GPT (`{name}`, equal samples) is {'; '.join(told)}."] if told else []
    ranked = [(name, one) for name, one in _all(sets, "sbld", "rank") if one.estimate is not None]
    return texts + _told(ranked, partial(_claim, holds=RANK_WORDS.holds, opposite=RANK_WORDS.opposite))


def _and(items: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))


# ---- the table of losses ----

LOSSES_NOTE = (
    "At equal samples, unless the row says otherwise. Time in brackets: reference time of the model that PLD is "
    "compared with, against PLD's. Of the other ways to save, those that some set decides."
)
# What the row says: where its number is, by topic and part, the first that a set has; the part that has the time.
Row = tuple[str, tuple[tuple[str, str], ...], str]
LOSSES: tuple[Row, ...] = (
    ("PLD minus the baseline", (("to_loss", "gap"),), ""),
    ("PLD minus the same model without dropping", (("equal_samples", "loss"),), ""),
    ("PLD minus the same model without dropping, both at the baseline's learning rate",
     (("equal_samples", "lower_rate"),), ""),
    ("PLD minus the same model without dropping, its schedule ending at about PLD's time",
     (("equal_cost", "twin"),), "twin_time"),
    ("PLD minus the baseline, its schedule ending at about PLD's time",
     (("equal_cost", "baseline"),), "baseline_time"),
    ("PLD minus a model with fewer layers and no dropping", (("equal_cost", "fewer_layers"),), "fewer_layers_time"),
    ("PLD's learning rate minus the baseline's, without dropping",
     (("parts", "preln_higher_lr_loss"), ("other_ways", "rate")), ""),
)  # fmt: skip


def readme_losses(sets: Sets) -> str:
    """Differences of final losses as a Markdown table, a column for each set; what no set measures is left out."""
    rankings = (("GPT: SBLD (our reading) minus " + name, (("sbld", part),), "") for part, name in SBLD_RIVALS.items())
    columns = ["final loss, difference in nats (below 0: the first is better)", *(f"`{name}`" for name in sets)]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for words, places, time in (*LOSSES, *_decided_ways(sets), *rankings):
        cells = [_loss(findings, places, time) for findings in sets.values()]
        if any(cells):
            lines.append(f"| {words} | {' | '.join(cell or DASH for cell in cells)} |")
    return "\n".join([*lines, "", LOSSES_NOTE]) if len(lines) > 2 else ""


def _decided_ways(sets: Sets) -> list[Row]:
    """Rows of the other ways to save that some set decides."""
    arms = {one.part: one.arm for findings in sets.values() for one in findings
            if one.topic == "other_ways" and one.outcome in (BELOW, ABOVE)}  # fmt: skip
    return [(f"{arm} minus PLD", (("other_ways", part),), f"{part}_time") for part, arm in arms.items()]


def _loss(findings: Sequence[Finding], places: Sequence[tuple[str, str]], time: str) -> str:
    """0.049 [0.037, 0.061], n = 5; with what is not decided or not tested, and how much less or more time it takes."""
    for one in (one for topic, part in places for one in _get(findings, topic, part)):
        if one.estimate is not None:
            marks = [one.note if one.topic == "sbld" else "", {SHOWN: "not tested"}.get(one.outcome, _open(one))]
            marks += [less_time(saved).replace(" reference", "") for saved in _times(one, time, findings)]
            return f"{estimate_text(one.estimate, 3)}, n = {one.estimate.n}{_brackets(*marks)}"
    return ""


def _times(one: Finding, part: str, findings: Sequence[Finding]) -> list[Finding]:
    """How much less time than PLD the model takes that a comparison with PLD is about."""
    return [saved for saved in _get(findings, one.topic, part) if saved.arm in (one.arm, one.against)]


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
    sets = {one.name: read_story(one / STORY) for one in results}
    pictures = " ".join(PICTURE.format(name=one.name) for one in results[:2])
    table = readme_table({one.name: read_claims(one / "claims.csv") for one in results})
    written = MARKERS.sub(
        lambda match: "\n\n".join(
            (match[1].rstrip("\n"), readme_finding(sets), readme_losses(sets), pictures, table, match[2].lstrip("\n"))
        ),
        text,
    )
    write_text(readme, written)
