"""The finding and the table of results in README.md, from a recorded set; `make results-page` writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pldrepro.analysis.claims import read_claims
from pldrepro.analysis.findings import Finding
from pldrepro.analysis.reported import mark_notes
from pldrepro.analysis.story import read_story
from pldrepro.errors import RecordError
from pldrepro.exhibits.claims_text import measured_text, named, reported_text, verdict_text
from pldrepro.exhibits.story_text import TOPICS, sentences
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
# What of the story the README tells: what dropping saves and which formula that fits, whose merit the speedup is, what
# dropping costs, and how many claims have which verdict.
STORY = ("time", "flops", "to_loss", "parts", "equal_samples", "equal_cost", "open")
# What it tells of a further set.
ELSEWHERE = ("to_loss", "parts", "equal_samples")
MARKERS = re.compile(r"(<!-- results: begin [^\n]*-->\n).*?(\n<!-- results: end -->)", re.DOTALL)


def readme_table(frame: pd.DataFrame) -> str:
    """The chosen claims as a Markdown table; a claim that the set does not measure is left out."""
    rows = frame.set_index(frame["claim"].str.removeprefix("pld.")).reindex(CLAIMS).dropna(subset=["measured"])
    lines = [
        "| claim of the PLD paper | reported | measured [95 % interval] | n | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows.to_dict("records"):
        cells = (named(row), reported_text(row), measured_text(row), row["n"], verdict_text(row))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    marks = mark_notes(rows["provenance"])
    return "\n".join([*lines, *(["", *marks] if marks else [])])


def readme_story(findings: Sequence[Finding], topics: Sequence[str] = STORY, where: str = "") -> str:
    """The chosen sentences of the story as a Markdown list; ``where``: what is said after each title."""
    titles = {TOPICS[topic].title for topic in topics}
    return "\n".join(f"- **{one.title}{where}.** {one.text}" for one in sentences(findings) if one.title in titles)


def write_readme(results: Sequence[Path], readme: Path) -> None:
    """Put what finished results folders say between the markers of README.md; without markers a RecordError.

    The first one tells the story and fills the table; of the others, what differs most with the text that is learned.
    """
    text = readme.read_text("utf-8")
    stories = [readme_story(read_story(results[0] / "story.csv"))]
    stories += [readme_story(read_story(one / "story.csv"), ELSEWHERE, f" in `{one.name}`") for one in results[1:]]
    said = "\n".join(stories), readme_table(read_claims(results[0] / "claims.csv"))
    written, found = MARKERS.subn(
        lambda match: "\n\n".join((match[1].rstrip("\n"), *said, match[2].lstrip("\n"))), text
    )
    if found != 1:
        raise RecordError(f"{readme}: expected one pair of markers `results: begin` and `results: end`, got {found}")
    write_text(readme, written)
