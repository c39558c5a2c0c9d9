"""Figures and the report: every file is there, nothing points outside, and nothing imports torch."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pldrepro.analysis import claims, curves, glue_scores, keep, story
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.config.arm import ArmTags
from pldrepro.errors import RecordError
from pldrepro.exhibits import figures, overview, report, strip, tables
from pldrepro.exhibits.figures import style
from pldrepro.stats import Estimate
from tests.support import runs
from tests.support.runs import load_evidence

PAPERS = load_papers()


def write(evidence: Evidence, folder: Path, out: Path, pages: Sequence[Path] = (), figures: Path | None = None) -> None:
    """The report of a results folder; the figures may be those of another one."""
    parts = folder / "claims.csv", folder / "tables", figures or folder / "figures"
    report.write_report(evidence, PAPERS, *parts, out, pages)


def judge(evidence: Evidence, folder: Path) -> None:
    """claims.csv and story.csv of a set."""
    claims.write_claims(evidence, PAPERS, folder / "claims.csv")
    story.write_story(evidence, PAPERS, claims.read_claims(folder / "claims.csv"), folder / "story.csv")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("study")
    paths = runs.write_study(root, seeds=(1, 2))
    glue_scores.write_scores(paths["finetune"], root / "scores.csv")
    evidence = load_evidence(**paths, scores=root / "scores.csv")
    for name in figures.FIGURES:
        figures.write_figure(name, evidence, PAPERS, root / "figures" / name)
    for name in tables.TABLES:
        tables.write_table(name, evidence, PAPERS, root / "tables" / name)
    judge(evidence, root)
    (root / "deviations.md").write_text("# Deviations\n\nGates are drawn **per step**.\n", encoding="utf-8")
    pages = [root / "deviations.md"]
    write(evidence, root, root / "report.html", pages)
    page = (root / "report.html").read_text(encoding="utf-8")
    return {"root": root, "evidence": evidence, "page": page}


@pytest.mark.parametrize("name", ["figure6", "figure7", "schedule", "step_time"])
def test_a_figure_has_all_its_files(built: dict[str, Any], name: str) -> None:
    folder = built["root"] / "figures"
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (folder / f"{name}.svg").read_text(encoding="utf-8")
    assert len(pd.read_csv(folder / f"{name}.csv")) > 4
    assert "n = " in (folder / f"{name}.txt").read_text(encoding="utf-8")


def test_a_figure_is_the_same_when_drawn_again(built: dict[str, Any], tmp_path: Path) -> None:
    figures.write_figure("step_time", built["evidence"], PAPERS, tmp_path / "step_time")
    for suffix in figures.FORMATS:
        before = (built["root"] / "figures" / f"step_time.{suffix}").read_bytes()
        assert (tmp_path / f"step_time.{suffix}").read_bytes() == before


def test_loss_data_holds_every_validation_on_every_axis(built: dict[str, Any]) -> None:
    data = curves.loss_data(built["evidence"], built["evidence"].arms)
    assert len(data) == 3 * 2 * 20
    assert {"samples", "flops", "reference_time", "measured_time", "validation_loss"} <= set(data)


def test_counted_layers_follow_the_expected_ones(built: dict[str, Any]) -> None:
    data = keep.kept_layers_data(built["evidence"], built["evidence"].arms)
    pld = data[data["arm"] == "pld"]
    assert pld["measured"].mean() == pytest.approx(pld["expected"].mean(), abs=0.1)
    assert (data[data["arm"] == "baseline"][["measured", "expected"]] == 4).all(axis=None)


def test_unknown_or_missing_figures_are_refused(built: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'figure11'"):
        figures.write_figure("figure11", built["evidence"], PAPERS, tmp_path / "x")
    for missing in ("table1.html", "figure1.svg"):
        folder = tmp_path / missing
        shutil.copytree(built["root"], folder)
        next(folder.rglob(missing)).unlink()
        with pytest.raises(RecordError, match=missing):
            write(built["evidence"], folder, tmp_path / "r.html")


def test_the_report_points_to_nothing_outside_of_its_folder(built: dict[str, Any]) -> None:
    sources = set(re.findall(r'(?:src|href)="([^"]+)"', built["page"]))
    inside = {source for source in sources if source.startswith(("data:image/svg+xml;base64,", "#"))}
    assert all((built["root"] / source).is_file() for source in sources - inside)
    anchors = {source[1:] for source in inside if source.startswith("#")}
    assert anchors <= set(re.findall(r'id="([^"]+)"', built["page"]))
    assert not re.search(r"<script|<link|@import|url\(", built["page"])
    assert len(built["page"]) < 3e6


def test_an_arm_looks_the_same_in_every_figure_and_like_no_other(built: dict[str, Any]) -> None:
    evidence = built["evidence"]
    looks = {arm: (*style.arm_style(evidence, arm).values(), style.arm_marker(evidence, arm)) for arm in evidence.arms}
    assert looks["pld"] == ("#0072B2", "-", "s")
    fewer = replace(evidence, pretrain=tuple(run for run in evidence.pretrain if run.arm != "preln_higher"))
    assert style.arm_style(fewer, "pld") == style.arm_style(evidence, "pld")
    others = [f"arm{number}" for number in range(30)]
    many = replace(evidence, tags={**evidence.tags, **{arm: ArmTags() for arm in others}})
    pairs = [(style.arm_style(many, arm)["color"], str(style.arm_style(many, arm)["linestyle"])) for arm in others]
    assert len(set(pairs)) == len(others)


def test_bars_need_three_seeds() -> None:
    figure, ax = plt.subplots()
    two, three = Estimate(1.0, -5.0, 7.0, 2, ""), Estimate(2.0, 1.5, 2.5, 3, "")
    style.interval_bars(ax, [0.0, 1.0], [two, three])
    lengths = [segment[1][1] - segment[0][1] for segment in ax.containers[0].lines[2][0].get_segments()]
    assert lengths == pytest.approx([0.0, 1.0])
    plt.close(figure)


def test_what_has_no_value_is_named_and_not_shown(built: dict[str, Any]) -> None:
    page = built["page"]
    assert 'id="figure-figure7"' in page
    assert 'id="figure-overfitting"' not in page
    assert 'id="table-sbld_table1"' not in page
    (absent,) = re.findall(r"Nothing to show in this set: ([^<]+)", page)
    assert {"Overfitting", "SBLD Table 1"} <= set(absent.rstrip(".").split("; "))


def test_the_first_screen_names_the_set_once_and_exhibits_by_their_labels(built: dict[str, Any]) -> None:
    page = built["page"]
    assert f"Results folder: <b>{built['root'].name}</b>" in page
    assert not re.search(r">(table|figure)\d+</a>", page)
    told = page.partition('<ul class="story">')[2].partition("</ul>")[0]
    titles = re.findall(r"<li><b>([^<]+)\.</b>", told)
    assert 0 < len(titles) <= len(report.FIRST_SCREEN)
    assert titles[-1] == "Verdicts"
    order = [page.index(text) for text in ('class="story"', 'class="counts"', 'class="strips"', 'class="pair"')]
    assert order == sorted(order)


def test_a_set_of_images_has_its_finding_on_the_first_screen(built: dict[str, Any], tmp_path: Path) -> None:
    scores = {arm: {"accuracy": value, "top5": 0.9} for arm, value in {"baseline": 0.66, "sbld": 0.63}.items()}
    swin = runs.sbld_study(tmp_path, "swinv2", arms=tuple(scores), seeds=(1, 2, 3), scores=scores)
    told = page_of(swin, built, tmp_path).partition('<ul class="story">')[2].partition("</ul>")[0]
    assert "top-1 accuracy on SwinV2 is below that of no dropping: " in told


def test_every_measured_claim_is_a_line_of_the_strip_and_links_to_its_evidence(built: dict[str, Any]) -> None:
    frame, page = claims.read_claims(built["root"] / "claims.csv"), built["page"]
    measured = frame[frame["measured"].notna()]
    assert page.count('<svg class="strip"') == len(measured)
    assert all(f'href="#claim-{name}"' in page and f'id="claim-{name}"' in page for name in measured["claim"])
    assert '<a href="#table-table1">Table 1</a>' in page
    assert 'title="abstract, verified"' in page


def test_a_strip_shows_reported_and_measured_on_one_scale() -> None:
    row = {"measured": 12.0, "low": 6.0, "high": 18.0, "values": "", "reported": 24.0}
    drawn = str(strip.strip(row, 0.0))
    null, measured, reported = (strip._x(value) for value in (0.0, 0.5, 1.0))
    assert f'x1="{null}"' in drawn
    assert f'cx="{measured}"' in drawn
    assert f"L{reported} 4" in drawn
    assert measured - null == pytest.approx(reported - measured, abs=0.2)
    few = str(strip.strip({**row, "values": "10.0 14.0"}, 0.0))
    assert (few.count("<circle"), "interval" in few) == (2, False)
    far = str(strip.strip({**row, "measured": 240.0}, 0.0))
    assert f'cx="{strip._x(2.0)}"' in far
    assert far.count("Z") == 2
    assert strip.strip({**row, "measured": float("nan")}, 0.0) == ""


def test_the_report_names_its_papers(built: dict[str, Any]) -> None:
    assert all(f"{paper.venue}, " in built["page"] for paper in PAPERS.values())
    assert "arXiv:2010.13369" in built["page"]
    assert "doi:10.1609/aaai.v37i9.26321" in built["page"]


def test_the_report_shows_verdicts_first_in_words(built: dict[str, Any]) -> None:
    page = built["page"]
    positions = [page.index(f'id="{name}"') for name in
                 ("story", "claims", "figures", "tables", "settings", "environment", "deviations")]  # fmt: skip
    assert positions == sorted(positions)
    assert "support or question the direction of a claim" in page
    assert "same direction" in page
    assert "13.53†" in page
    assert "<strong>per step</strong>" in page
    assert runs.PROVENANCE.commit in page


def test_the_report_shows_only_settings_that_differ(built: dict[str, Any]) -> None:
    keys = [key for key, _ in overview.differences(built["evidence"])]
    assert keys[:2] == ["model.norm", "training.learning_rate"]
    assert "model.num_layers" not in keys
    assert "drop.schedule" in keys


def test_a_study_at_the_papers_own_scale_says_so(tmp_path: Path) -> None:
    folder = runs.write_pretrain(tmp_path, "baseline", 1)
    for name, change in (("settings.json", {"num_layers": 12, "hidden_size": 768}), ("summary.json", None)):
        values = json.loads((folder / name).read_text())
        if change:
            values["model"].update(change)
        else:
            values |= {"samples": 200_000 * 4096, "num_layers": 12, "passes_by_layer": [runs.STEPS] * 12}
        (folder / name).write_text(json.dumps(values))
    (text,) = overview.support([load_evidence([folder])], PAPERS)
    assert text.endswith("it can support or question a claim's size.")


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evidence]:
    root = tmp_path_factory.mktemp("others")
    arms = ("baseline", "pld", "sbld")
    scores = {arm: {"lambada_accuracy": 0.2, "lambada_perplexity": 40.0} for arm in arms}
    return {
        "gpt": runs.sbld_study(root, "gpt", arms=arms, scores=scores),
        "swinv2": runs.sbld_study(root, "swinv2", arms=arms),
    }


def page_of(evidence: Evidence, built: dict[str, Any], folder: Path) -> str:
    """The report of a set, with the figures of another one."""
    judge(evidence, folder)
    for name in tables.TABLES:
        tables.write_table(name, evidence, PAPERS, folder / "tables" / name)
    write(evidence, folder, folder / "report.html", figures=built["root"] / "figures")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_set_of_several_studies_is_shown_whole(
    built: dict[str, Any], studies: dict[str, Evidence], tmp_path: Path
) -> None:
    page = page_of(replace(built["evidence"], others=tuple(studies.values())), built, tmp_path)
    for name in ("BERT", "GPT", "SwinV2"):
        assert page.count(f"<h3>{name}</h3>") == 2  # overview and settings
        assert f"The study of {name} uses" in page
    assert "GPT of 4 layers × 32, 50,000 parameters (paper: 24‡ × 1,024‡)" in page
    assert "SwinV2 of 1 + 3 layers, 16 wide at first, 50,000 parameters (paper: SwinV2-L)" in page
    assert "3,200 images of 16 × 16 pixels in 6 classes from generated shapes (paper: not known to us)" in page
    assert "LAMBADA, without fine-tuning" in page
    assert re.findall(r'<tr class="paper"><th colspan="6">([^<]+)</th>', page) == ["PLD", "SBLD (our reading)"]
    assert page.index('id="table-table1"') < page.index('id="table-sbld_table1"')
    assert "the full text of that paper is not public" in page


def test_a_set_of_gpt_alone_is_compared_with_its_own_paper(
    built: dict[str, Any], studies: dict[str, Evidence], tmp_path: Path
) -> None:
    page = page_of(studies["gpt"], built, tmp_path)
    assert "This study uses a much smaller model and a generated language." in page
    assert "paper: 24‡ × 1,024‡" in page
    assert "paper: 12 × 768" not in page
    assert "Fine-tuning</dt>" not in page
    assert "Measured on GPT; what the paper reports is of BERT." in page
    assert "no study of BERT is in this set" in page


def test_html_in_the_deviations_is_escaped(built: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "deviations.md").write_text("# <b>\n\n<script>alert(1)</script>", encoding="utf-8")
    write(built["evidence"], built["root"], tmp_path / "r.html", [tmp_path / "deviations.md"])
    assert "<script>" not in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_pages_have_tables_links_to_the_web_and_headings_below_their_title() -> None:
    page = report.markdown(
        "## Title\n\n[web](https://example.org), [file](other.md)\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    )
    assert "<h3>Title</h3>" in page
    assert '<a href="https://example.org">web</a>' in page
    assert "[file](other.md)" in page
    assert '<div class="wide"><table class="prose">' in page


def test_the_analysis_never_imports_torch() -> None:
    code = (
        "import sys; from pldrepro.analysis import claims, glue_scores, results;"
        "from pldrepro.exhibits import figures, report, tables;"
        "sys.exit('torch' in sys.modules or 'evaluate' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
