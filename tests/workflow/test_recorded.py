"""The committed measurements: README and docs/reviews.md repeat what comes out of them to the letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pldrepro.analysis import claims, glue_scores
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence, read_evidence
from pldrepro.analysis.sbld import sbld_table1
from pldrepro.analysis.text import estimate_text
from pldrepro.analysis.tidy import cell
from pldrepro.config.base import read_yaml
from pldrepro.config.study import load_recorded
from pldrepro.exhibits import questions
from pldrepro.exhibits.tables.target import time_to_target_panels
from pldrepro.files import write_json

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDED = load_recorded(read_yaml(REPOSITORY / "config/recorded.yaml"))


@pytest.fixture(scope="module", params=list(RECORDED.recorded))
def evidence(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """One set of recorded runs, scored anew."""
    folder = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(REPOSITORY)
        runs = next(one for one in RECORDED.result_sets() if Path(one.results).name == request.param)
        glue_scores.write_scores([Path(path) for path in runs.finetune], folder / "scores.csv")
        write_json(folder / "evidence.json", {**json.loads(runs.listing), "scores": str(folder / "scores.csv")})
        return read_evidence(folder / "evidence.json")


def test_readme_repeats_the_recorded_verdicts(evidence: Evidence, tmp_path: Path) -> None:
    claims.write_claims(evidence, load_papers(), tmp_path / "claims.csv")
    table = claims.markdown_claims(claims.read_claims(tmp_path / "claims.csv"))
    assert table in (REPOSITORY / "README.md").read_text("utf-8")


def test_readme_and_reviews_repeat_the_recorded_ablation(evidence: Evidence) -> None:
    if "shallow" not in evidence.arms:
        pytest.skip("the speedup step by step and docs/reviews.md are of the set that has the ablation")
    *_, steps = time_to_target_panels(evidence, load_papers()["pld"])
    assert steps.markdown_table() in (REPOSITORY / "README.md").read_text("utf-8")
    written = (REPOSITORY / "docs/reviews.md").read_text("utf-8")
    assert written == questions.answers(evidence, load_papers()["pld"])


def test_readme_repeats_the_recorded_gpt(evidence: Evidence) -> None:
    study = evidence.of("gpt")
    if study is None:
        pytest.skip("this set has no GPT")
    frame, text = sbld_table1(evidence, load_papers()["sbld"]), (REPOSITORY / "README.md").read_text("utf-8")
    shown = (
        ("validation_loss", "", 3), ("validation_loss_minus_baseline", "", 3),
        ("saved_over_baseline", "reference_time", 1), ("kept_layers", "", 2),
    )  # fmt: skip
    for arm in study.arms:
        final = study.final_checkpoint(arm)
        numbers = [estimate_text(cell(frame, arm, final, name, axis), digits) for name, axis, digits in shown]
        assert f"| {study.label(arm)} | {' | '.join(numbers)} |" in text


@pytest.mark.parametrize("name", RECORDED.recorded)
def test_records_hold_no_weights_and_no_text(name: str) -> None:
    files = [path for folder in RECORDED.recorded[name] for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    kinds = {path.name if path.suffix == ".safetensors" else path.suffix for path in files}
    assert kinds <= {".json", ".jsonl", "predictions.safetensors"}
    assert sum(path.stat().st_size for path in files) < 10e6
