"""report.html: one page that opens offline; the story first, then claims, questions, figures, tables and settings.

Story, verdicts, tables and figures are read as they were written; nothing is measured again. What has no value is
listed once and not shown.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markupsafe import Markup

from pldrepro.analysis.claims import read_claims
from pldrepro.analysis.reported import Paper, mark_notes, paper_of
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.story import STORY, read_story
from pldrepro.analysis.text import FAMILIES
from pldrepro.analysis.verdicts import VERDICTS
from pldrepro.config.base import read_yaml
from pldrepro.errors import RecordError
from pldrepro.exhibits import claims_text, overview
from pldrepro.exhibits.layout import template
from pldrepro.exhibits.story_text import TOPICS, Sentence, sentences, story_marks
from pldrepro.exhibits.strip import strip
from pldrepro.files import shipped, write_text

# What of the story is on the first screen: what dropping saves and which formula that fits, whose merit the speedup is,
# what dropping costs, and how many claims have which verdict.
FIRST_SCREEN = ("time", "flops", "to_loss", "parts", "equal_samples", "equal_cost", "open")
# A sign next to the colour: a verdict must be readable in grey, too.
BADGES = {
    "reproduced": ("good", "✓"),
    "exceeded": ("good", "✓✓"),
    "same direction": ("fair", "↗"),
    "inconclusive": ("open", "?"),
    "contradicted": ("bad", "✗"),
    "premise fails": ("open", "∅"),
    "by construction": ("none", "≡"),
    "not measured at this scale": ("none", "–"),
}
# The tables that stand open; the others are folded.
MAIN = ("table1", "table2", "table3", "time_to_target", "contrasts", "sbld_table1", "sbld_table2")
# The table with the numbers that a figure draws.
TABLE_OF = {
    "finding": "time_to_target", "figure6": "table1", "figure7": "time_to_target", "figure8": "table2",
    "fair_budgets": "fair_budgets", "overfitting": "overfitting", "trade_off": "table3", "schedule": "table1",
    "depth_robustness": "depth_robustness", "step_time": "table1", "sbld_loss": "sbld_table1",
}  # fmt: skip
# What each exhibit is called and shows; `snakemake --report` and docs/exhibits.md say the same.
LABELS = Path("workflow/report/exhibits.yaml")


@dataclass(frozen=True)
class Drawn:
    """A figure with something in it: heading, embedded picture, caption, what the story says, and its table."""

    name: str
    heading: str
    source: str
    caption: str
    says: str
    table: str


def write_report(
    evidence: Evidence,
    papers: Mapping[str, Paper],
    claims: Path,
    tables: Path,
    figures: Path,
    out: Path,
    pages: Sequence[Path] = (),
) -> None:
    """Write the report from what was run, claims.csv, the folders of tables and figures, and Markdown pages.

    Of a table its .html is read, of a figure .svg, .csv and .txt; story.csv is next to claims.csv. A missing file
    is a RecordError.
    """
    frame, findings = read_claims(claims), read_story(claims.with_name(STORY))
    studies, told, labels = (evidence, *evidence.others), sentences(findings), read_yaml(shipped(LABELS))
    first = [one for one in told if one.title in {TOPICS[topic].title for topic in FIRST_SCREEN}]
    if len(first) < 2:  # a set without PLD's BERT: of these topics only the count of verdicts is left
        first = list(told)
    drawn = [one for name, label in labels["figures"].items() if (one := _figure(figures / name, label, told))]
    shown = {name: text for name in labels["tables"] if (text := _table(tables / name))}
    anchors = {**{name: f"table-{name}" for name in shown}, **{one.name: f"figure-{one.name}" for one in drawn}}
    nulls = {f"{key}.{claim.id}": claim for key, paper in papers.items() for claim in paper.claims}
    rows = [_claim(row, nulls) for row in frame.to_dict("records")]
    page = template("report.html").render(
        name=out.parent.name,
        scales=list(dict.fromkeys(study.scale for study in studies)),
        papers=list(papers.values()),
        labels={name: one["label"] for kind in ("figures", "tables") for name, one in labels[kind].items()},
        story=first,
        more=[one for one in told if one not in first],
        story_marks=story_marks(findings),
        anchors=anchors,
        overviews=[
            (FAMILIES[study.family], overview.overview(study, overview.paper_on(study, papers))) for study in studies
        ],
        support=overview.support(studies, papers),
        control=claims_text.control_note(frame),
        counts=[(*BADGES[name], name, count) for name in VERDICTS if (count := int((frame["verdict"] == name).sum()))],
        verdicts=VERDICTS,
        measured=_by_paper(row for row in rows if row["strip"]),
        unmeasured=_by_paper(row for row in rows if not row["strip"]),
        marks=mark_notes(frame["provenance"]),
        lead=[one for one in drawn if one.name in ("finding", "trade_off")],
        figures=_grouped(drawn, papers),
        tables=[(name, labels["tables"][name]["label"], Markup(text), name in MAIN) for name, text in shown.items()],
        absent=[
            label["label"]
            for kind in ("figures", "tables")
            for name, label in labels[kind].items()
            if name not in anchors
        ],
        settings=[overview.settings(study) for study in studies],
        environment=overview.environment(evidence),
        pages=[_page(path) for path in pages],
    )
    write_text(out, page)


def _page(path: Path) -> dict[str, Any]:
    """A Markdown page: its title and the HTML of what follows."""
    heading, _, text = path.read_text(encoding="utf-8").partition("\n")
    return {"name": path.stem, "title": heading.lstrip("# "), "html": Markup(markdown(text))}


def _by_paper(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Paper -> its claims."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(str(row["paper"]), []).append(row)
    return found


def _claim(row: Mapping[Any, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
    """A row of claims.csv, ready to be shown."""
    css, sign = BADGES[row["verdict"]]
    claim = claims.get(str(row["claim"]))
    return {
        **{str(key): value for key, value in row.items()},
        "statement": claims_text.statement(row),
        "reported_text": claims_text.reported_text(row),
        "measured_text": claims_text.measured_text(row),
        "where": "" if claim is None else f"{claim.where}, {claim.provenance}",
        "strip": strip(row, 0.0 if claim is None else claim.null_value),
        "css": css,
        "sign": sign,
    }


def _grouped(drawn: Sequence[Drawn], papers: Mapping[str, Paper]) -> dict[str, list[Drawn]]:
    """Paper -> its figures."""
    found: dict[str, list[Drawn]] = {}
    for one in drawn:
        found.setdefault(paper_of(one.name, papers).label, []).append(one)
    return found


def _table(prefix: Path) -> str:
    """A table as it was set; empty without a line."""
    text = _written(prefix, "html").decode("utf-8")
    return text if "<td" in text else ""


def _figure(prefix: Path, label: Mapping[str, str], story: Sequence[Sentence]) -> Drawn | None:
    """A figure, as base64 of its SVG (inlined SVGs would share ids); None of one without data."""
    picture, name = _written(prefix, "svg"), prefix.name
    if not _written(prefix, "csv").strip():
        return None
    table = TABLE_OF.get(name, "")
    says = next((one.text for one in story if name in one.exhibits), "")
    says = says or next((one.text for one in story if table and table in one.exhibits), "")
    source = f"data:image/svg+xml;base64,{base64.b64encode(picture).decode('ascii')}"
    caption = _written(prefix, "txt").decode("utf-8").strip()
    return Drawn(name, f"{label['label']}: {label['shows']}", source, caption, says, table)


def _written(prefix: Path, suffix: str) -> bytes:
    """A file of an exhibit that was made before."""
    path = prefix.with_name(f"{prefix.name}.{suffix}")
    if not path.is_file():
        raise RecordError(f"{path}: no such exhibit; make {prefix.name} first")
    return path.read_bytes()


# ---- Markdown pages ----


def markdown(text: str) -> str:
    """Markdown as HTML, without raw HTML and with links to the web only; headings go below the page's own title."""
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.validateLink = lambda url: url.startswith(("https://", "http://", "#"))  # type: ignore[method-assign]
    tokens = renderer.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    page = str(renderer.renderer.render(tokens, renderer.options, {}))
    return page.replace("<table>", '<div class="wide"><table class="prose">').replace("</table>", "</table></div>")
