"""The committed measurements: README repeats their verdicts to the letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pldrepro import claims, score
from pldrepro.config import load_recorded, read_yaml
from pldrepro.evidence import read_evidence
from pldrepro.papers import load_papers
from pldrepro.records import write_json

REPOSITORY = Path(__file__).resolve().parent.parent
RECORDED = load_recorded(read_yaml(REPOSITORY / "config/recorded.yaml"))


@pytest.mark.parametrize("name", RECORDED.recorded)
def test_readme_repeats_the_recorded_verdicts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    runs = next(one for one in RECORDED.result_sets() if Path(one.results).name == name)
    score.write_scores([Path(path) for path in runs.finetune], tmp_path / "scores.csv")
    listing = {**json.loads(runs.listing), "scores": str(tmp_path / "scores.csv")}
    write_json(tmp_path / "evidence.json", listing)
    evidence = read_evidence(tmp_path / "evidence.json")
    claims.write_claims(evidence, load_papers(), tmp_path / "claims.csv")
    table = claims.markdown_claims(claims.read_claims(tmp_path / "claims.csv"))
    assert table in (REPOSITORY / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", RECORDED.recorded)
def test_records_hold_no_weights_and_no_text(name: str) -> None:
    folder = REPOSITORY / RECORDED.recorded[name]
    kinds = {
        path.name if path.suffix == ".safetensors" else path.suffix for path in folder.rglob("*") if path.is_file()
    }
    assert kinds <= {".json", ".jsonl", "predictions.safetensors"}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 10e6
