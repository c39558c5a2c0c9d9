"""The committed measurements: docs/results.md, docs/reviews/ and docs/finding_*.svg are what comes out of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pldrepro.__main__ import main
from pldrepro.analysis import claims, glue_scores, story
from pldrepro.analysis.inputs import read_evidence
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.archives import read_archive
from pldrepro.config.base import read_yaml
from pldrepro.config.recorded import RecordedSettings, load_recorded
from pldrepro.errors import RecordError
from pldrepro.exhibits import figures, readme, results_page, reviews
from pldrepro.exhibits.tables import write_table
from pldrepro.files import write_json
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.manifest import verified
from pldrepro.runs.record import unpack_runs

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = read_yaml(REPOSITORY / "config/recorded.yaml")
RECORDED = load_recorded(SETTINGS)


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> RecordedSettings:
    """The recorded sets, with the runs of every archive unpacked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        recorded = load_recorded({**SETTINGS, "results": str(tmp_path_factory.mktemp("recorded"))})
        for one in recorded.packed():
            assert unpack_runs(Path(one.source), Path(one.folder)) == [Path(path).parent for path in one.summaries]
    return recorded


@pytest.fixture(scope="module")
def rebuilt(unpacked: RecordedSettings) -> dict[Path, Evidence]:
    """Folder of the results -> its runs, for each set of recorded runs; scored, judged and set in tables anew."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        for runs in unpacked.result_sets():
            folder = Path(runs.results)
            glue_scores.write_scores([Path(path) for path in runs.finetune], folder / "scores.csv")
            write_json(folder / "index.json", {**json.loads(runs.listing), "scores": str(folder / "scores.csv")})
            evidence = read_evidence(folder / "index.json")
            claims.write_claims(evidence, load_papers(), folder / "claims.csv")
            judged = claims.read_claims(folder / "claims.csv")
            story.write_story(evidence, load_papers(), judged, folder / "story.csv")
            for name in results_page.TABLES:
                write_table(name, evidence, load_papers(), folder / f"tables/{name}")
            found[folder] = evidence
    return found


def test_the_page_of_results_is_what_the_records_give(rebuilt: dict[Path, Evidence], tmp_path: Path) -> None:
    assert main(["make", "page", *map(str, rebuilt), "--out", str(tmp_path / "results.md")]) == 0
    written = (REPOSITORY / "docs/results.md").read_text("utf-8")
    assert (tmp_path / "results.md").read_text("utf-8") == written, "write it again: make results-page"


def test_the_finding_in_the_readme_is_what_the_records_give(rebuilt: dict[Path, Evidence], tmp_path: Path) -> None:
    written = (REPOSITORY / "README.md").read_text("utf-8")
    (tmp_path / "README.md").write_text(
        written.replace("| reported |", "|").replace("- **What it costs", "- "), "utf-8"
    )
    assert main(["make", "readme", *map(str, list(rebuilt)[:3]), "--readme", str(tmp_path / "README.md")]) == 0
    assert (tmp_path / "README.md").read_text("utf-8") == written, "write it again: make results-page"
    assert written.count("\n- **") == 5
    assert written.partition("| claim of")[2].partition("\n\n")[0].count("\n|") == 1 + len(readme.CLAIMS)


def test_the_answers_to_the_reviews_are_what_the_records_give(rebuilt: dict[Path, Evidence]) -> None:
    pages = {path.stem: path.read_text("utf-8") for path in (REPOSITORY / "docs/reviews").iterdir()}
    answers = {folder.name: reviews.answers(evidence, load_papers()) for folder, evidence in rebuilt.items()}
    assert pages == answers, "write them again: make results-page"


def test_the_pictures_are_what_the_first_two_records_give(rebuilt: dict[Path, Evidence], tmp_path: Path) -> None:
    for folder, evidence in list(rebuilt.items())[:2]:
        figures.write_figure("finding", evidence, load_papers(), tmp_path / "finding")
        for kind in ("svg", "txt"):
            written = (REPOSITORY / f"docs/finding_{folder.name}.{kind}").read_text("utf-8")
            assert (tmp_path / f"finding.{kind}").read_text("utf-8") == written, "write it again: make results-page"


@pytest.mark.parametrize("name", RECORDED.recorded)
def test_records_hold_no_weights_and_no_text(name: str) -> None:
    archives = [path for one in RECORDED.packed() if one.results.endswith(name) for path in one.archives]
    inside = {place for path in archives for place in read_archive(REPOSITORY / path)}
    kinds = {Path(place).name if place.endswith(".safetensors") else Path(place).suffix for place in inside}
    assert kinds <= {".json", ".jsonl", "predictions.safetensors", "hits.safetensors"}


def test_records_are_small_files() -> None:
    files = [path for path in (REPOSITORY / "results/recorded").rglob("*") if path.is_file()]
    assert {path.name.partition(".")[2] for path in files} == {"json", "tar.xz"}
    assert sum(path.stat().st_size for path in files) < 10e6


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "settings.json", "provenance.json", "manifest.json"])
def test_one_changed_digit_of_a_record_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "seed1"
    for place, content in read_archive(REPOSITORY / "results/recorded/generated/pretrain/pld/seed1.tar.xz").items():
        folder.mkdir(exist_ok=True)
        (folder / place).write_bytes(content)
    load_pretrain(folder)
    text = (folder / name).read_text("utf-8")
    place = text.rindex("1")
    (folder / name).write_text(f"{text[:place]}2{text[place + 1 :]}", "utf-8")
    with pytest.raises(RecordError, match=name):
        load_pretrain(folder)


def test_every_calibration_has_a_manifest() -> None:
    for folders in RECORDED.recorded.values():
        for folder in folders:
            verified(REPOSITORY / folder / "calibration")
