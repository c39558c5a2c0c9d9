"""report.html: one self-contained page that opens offline; verdicts first, then tables, figures and settings."""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pldrepro import claims as claims_module
from pldrepro import records
from pldrepro.claims import VERDICTS
from pldrepro.evidence import Evidence
from pldrepro.figures import FIGURES
from pldrepro.figures.style import device_text
from pldrepro.papers import Paper, mark_notes
from pldrepro.tables import TABLES
from pldrepro.tables.panel import DASH

# A sign beside the colour: a verdict must be readable in grey, too.
BADGES = {
    "reproduced": ("good", "✓"),
    "same direction": ("fair", "↗"),
    "inconclusive": ("open", "?"),
    "contradicted": ("bad", "✗"),
    "not measured at this scale": ("none", "–"),
}


def write_report(
    evidence: Evidence,
    papers: Mapping[str, Paper],
    claims: Path,
    figures: Path,
    out: Path,
    pages: Sequence[Path] = (),
) -> None:
    """Write the report from runs, claims.csv, the folder of the figures (.svg and .txt are read) and Markdown pages."""
    frame = claims_module.read_claims(claims)
    rows = [_claim(row) for row in frame.to_dict("records")]
    page = (
        Environment(loader=PackageLoader("pldrepro", "."), autoescape=True, undefined=StrictUndefined)
        .get_template("report.html")
        .render(
            scale=evidence.scale,
            papers=papers.values(),
            overview=overview(evidence, papers["pld"]),
            support=support(evidence, papers["pld"]),
            counts=[(*BADGES[name], name, int((frame["verdict"] == name).sum())) for name in VERDICTS],
            verdicts=VERDICTS,
            measured=[row for row in rows if row["verdict"] != "not measured at this scale"],
            unmeasured=[row for row in rows if row["verdict"] == "not measured at this scale"],
            marks=mark_notes(frame["provenance"]),
            tables=[(name, panels(evidence, papers["pld"])) for name, (_, panels) in TABLES.items()],
            figures=[_figure(figures / name) for name in FIGURES],
            arms=[(arm, evidence.label(arm)) for arm in evidence.arms],
            differences=differences(evidence),
            settings=[(evidence.label(arm), _full_settings(evidence, arm)) for arm in evidence.arms],
            environment=environment(evidence),
            pages=[_page(path) for path in pages],
        )
    )
    records.write_text(out, page)


def _page(path: Path) -> dict[str, Any]:
    """A Markdown page: its title and the HTML of what follows."""
    title, _, text = path.read_text(encoding="utf-8").partition("\n")
    return {"name": path.stem, "title": title.lstrip("# "), "html": Markup(markdown(text))}


def _claim(row: Mapping[Any, Any]) -> dict[str, Any]:
    css, sign = BADGES[row["verdict"]]
    return {
        **{str(key): value for key, value in row.items()},
        "reported_text": claims_module.reported_text(row),
        "measured_text": claims_module.measured_text(row),
        "css": css,
        "sign": sign,
    }


def _figure(prefix: Path) -> dict[str, str]:
    """An embedded figure: base64 of its SVG (inlined SVGs would share ids) and its caption."""
    svg, caption = (prefix.with_name(f"{prefix.name}.{suffix}") for suffix in ("svg", "txt"))
    for path in (svg, caption):
        if not path.is_file():
            raise records.RecordError(f"{path}: no such figure; run `figures {prefix.name}` first")
    encoded = base64.b64encode(svg.read_bytes()).decode("ascii")
    return {
        "name": prefix.name,
        "title": re.sub(r"^figure(\d+)$", r"Figure \1", prefix.name).replace("_", " ").capitalize(),
        "source": f"data:image/svg+xml;base64,{encoded}",
        "caption": caption.read_text("utf-8"),
    }


# ---- what was run ----


def overview(evidence: Evidence, paper: Paper) -> list[tuple[str, str]]:
    """What was run, as (name, text), with the paper's own numbers where they say how far apart the two are."""
    run = evidence.runs(evidence.baseline)[0]
    model, summary = run.settings["model"], run.summary
    seeds = sorted({one.seed for one in evidence.pretrain})
    tasks = list(dict.fromkeys(task for one in evidence.finetune for task in one.summary["tasks"]))
    reported = {name: f"{value.value:,.0f}{value.mark}" for name, value in paper.settings.items()}
    samples = paper.settings["num_steps"].value * paper.settings["batch_size"].value
    return [
        ("Arms", " · ".join(evidence.label(arm) for arm in evidence.arms)),
        ("Pre-training seeds", f"{len(seeds)} ({', '.join(map(str, seeds))}), paired over arms"),
        (
            "Model",
            f"{model['num_layers']} layers × {model['hidden_size']}, {summary['parameters']:,} parameters "
            f"(paper: {reported['num_layers']} × {reported['hidden_size']})",
        ),
        (
            "Pre-training",
            f"{summary['samples']:,} sequences of {run.settings['data']['sequence_length']} tokens from "
            f"{_source(run.settings['data'])} (paper: {samples:,.0f}{paper.settings['num_steps'].mark} of "
            f"{reported['sequence_length']})",
        ),
        ("Fine-tuning", ", ".join(tasks) if tasks else "none"),
        ("Machine", f"{run.provenance['processor']}; {device_text(run.provenance['device'])}"),
    ]


def _source(data: Mapping[str, Any]) -> str:
    return {"miniature": "the generated miniature language", "files": "local text files", "hub": "the hub's corpora"}[
        data["source"]
    ]


def support(evidence: Evidence, paper: Paper) -> str:
    """What this scale can and cannot support, in a plain sentence."""
    run = evidence.runs(evidence.baseline)[0]
    own = paper.settings
    same_shape = all(run.settings["model"][name] == own[name].value for name in ("num_layers", "hidden_size"))
    share = run.summary["samples"] / (own["num_steps"].value * own["batch_size"].value)
    if same_shape and share >= 0.99:
        return "This study has the paper's model size and number of samples: it can support or question a claim's size."
    generated = " and a generated language" if run.settings["data"]["source"] == "miniature" else ""
    return (
        f"This study uses {'the paper’s model' if same_shape else 'a much smaller model'}{generated}, and "
        f"1/{1 / share:,.0f} of the paper's training samples. It can support or question the direction of a claim, not "
        "its size: “reproduced” here means that the effect is there and as large as reported at this scale, and "
        "“contradicted” does not refute the paper at its own scale. Savings per step depend on the model's shape and "
        "on this machine."
    )


def differences(evidence: Evidence) -> list[tuple[str, list[str]]]:
    """Settings that are not the same in all arms: (key, one text per arm)."""
    flat = []
    for arm in evidence.arms:
        settings = evidence.runs(arm)[0].settings
        training = settings["training"]
        rate = {"training.learning_rate": f"{training['learning_rates'][training['learning_rate']]:g}"}
        flat.append({**dict(_flatten(settings)), **rate})
    keys = dict.fromkeys(key for settings in flat for key in settings)
    ignored = {"arm", "label", "seed"}
    return [
        (key, [_text(settings.get(key)) for settings in flat])
        for key in keys
        if key not in ignored and len({_text(settings.get(key)) for settings in flat}) > 1
    ]


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else DASH if value is None else json.dumps(value)


def _full_settings(evidence: Evidence, arm: str) -> str:
    return json.dumps(evidence.runs(arm)[0].settings, indent=1)


def environment(evidence: Evidence) -> list[tuple[str, str]]:
    """Where the runs come from: every distinct commit, version and machine among them."""
    found: dict[str, list[str]] = {}
    for run in evidence.pretrain:
        entry = run.provenance
        versions = {f"version of {name}": version for name, version in entry["versions"].items()}
        values = {
            "commit": entry["commit"],
            "platform": entry["platform"],
            "processor": f"{entry['processor']}, {entry['cpu_count']} CPUs",
            "device": device_text(entry["device"]),
            "corpus": (entry.get("corpus") or {}).get("hash"),
            **versions,
        }
        for name, value in values.items():
            if value and str(value) not in found.setdefault(name, []):
                found[name].append(str(value))
    return [(name, "; ".join(values)) for name, values in found.items() if values]


# ---- the subset of Markdown that docs/deviations.md uses ----


def markdown(text: str) -> str:
    """Headings, paragraphs, lists, tables, code, bold and links of Markdown as HTML."""
    blocks = re.split(r"\n\s*\n", text.strip())
    return "\n".join(_block(block.splitlines()) for block in blocks)


def _block(lines: list[str]) -> str:
    if heading := re.match(r"(#+)\s+(.*)", lines[0]):
        level = min(len(heading[1]) + 2, 6)
        rest = f"\n{_block(lines[1:])}" if lines[1:] else ""
        return f"<h{level}>{_inline(heading[2])}</h{level}>{rest}"
    if lines[0].startswith("|"):
        return _table(lines)
    if re.match(r"([-*]|\d+\.)\s", lines[0]):
        tag = "ul" if lines[0][0] in "-*" else "ol"
        items = re.split(r"(?:^|\n)(?:[-*]|\d+\.)\s+", "\n".join(lines))[1:]
        return f"<{tag}>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + f"</{tag}>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _table(lines: list[str]) -> str:
    rows = [[_inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows[2:])
    return f'<div class="wide"><table class="prose"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _inline(text: str) -> str:
    text = html.escape(text, quote=False)
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", text)
    return re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2">\1</a>', text)
