"""A new arm is one YAML file: its line in a figure, its row in a table and its place in an answer need no Python."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import yaml

from pldrepro.analysis import comparisons
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.config.experiment import arm_tags, experiments_folder
from pldrepro.exhibits import reviews
from pldrepro.exhibits.figures import FIGURES
from pldrepro.exhibits.tables import TABLES, write_table
from tests.support import runs
from tests.support.runs import load_evidence

PAPERS = load_papers()
PLD = PAPERS["pld"]
NEW = {
    "label": "half as often", "description": "PLD at every second step", "base": "pld",
    "exhibits": {"figure7": 6}, "questions": {"schedules": 7},
}  # fmt: skip


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    """A study of the baseline, PLD and an arm that only its YAML knows."""
    for path in experiments_folder("bert").glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "half.yaml").write_text(yaml.safe_dump(NEW))
    drop = {"schedule": "constant", "theta_bar": 0.7}
    about = {"label": NEW["label"], "norm": "pre", "rate": "higher", "drop": drop}
    monkeypatch.setitem(runs.MORE_ARMS, "half", about)
    pretrain = [runs.write_pretrain(tmp_path, arm, 1) for arm in ("baseline", "pld", "half")]
    return load_evidence(pretrain, calibration=runs.write_calibration(tmp_path), tags=arm_tags(tmp_path))


def test_a_new_arm_is_a_line_a_row_and_a_sentence(evidence: Evidence, tmp_path: Path) -> None:
    _, data, caption = FIGURES["figure7"](evidence, PLD)
    assert set(data["arm"]) == {"baseline", "pld", "half"}
    assert "Not in this study: baseline_higher, preln, preln_higher." in caption
    write_table("table1", evidence, PAPERS, tmp_path / "table1")
    assert "half as often" in (tmp_path / "table1.md").read_text()
    sentences = reviews.ANSWERS["schedules"](evidence, PLD)
    texts = [sentence.text if isinstance(sentence, reviews.Compared) else sentence for sentence in sentences]
    assert any(text.startswith("half as often: ") for text in texts)


def test_an_arm_without_a_file_has_no_role(evidence: Evidence) -> None:
    assert (evidence.role("half"), evidence.role("gone"), evidence.treatment("gone")) == (None, None, None)
    assert evidence.arm_with_role("sbld") == "sbld"  # planned, without runs here
    assert list(evidence.shown_in("figure7")) == ["baseline", "pld", "half"]


def test_an_arm_without_pre_training_has_scores_and_no_costs(tmp_path: Path) -> None:
    arms, seeds = ("baseline", "preln_higher", "pld"), (1, 2, 3)
    pretrain = [runs.write_pretrain(tmp_path, arm, seed) for arm in arms for seed in seeds]
    scratch = [runs.write_untrained(tmp_path, seed) for seed in seeds]
    # A level of which the paper's geometric mean is undefined is no reason to judge the others by another mean.
    levels = {(arm, seed, "ckp186"): 60.0 + seed for arm in arms for seed in seeds}
    bottom = {("scratch", seed, "ckp186"): dict.fromkeys(runs.VALUES, -1.0 * seed) for seed in seeds}
    scores = runs.write_scores(tmp_path / "scores.csv", levels | bottom)
    calibration = runs.write_calibration(tmp_path)
    evidence = load_evidence([*pretrain, *scratch], calibration=calibration, scores=scores)
    assert (evidence.arms, evidence.untrained) == (list(arms), ["scratch"])
    assert evidence.arm_with_role("scratch") == "scratch"
    assert comparisons.glue_convention(evidence) == ("paper", "")
    for name in TABLES:
        write_table(name, evidence, PAPERS, tmp_path / name)
    written = {name: (tmp_path / f"{name}.md").read_text() for name in TABLES}
    assert {name for name, text in written.items() if "no pre-training" in text} == {"table2"}
    alone = load_evidence(pretrain, calibration=calibration, scores=runs.write_scores(tmp_path / "own.csv", levels))
    for name, draw in FIGURES.items():
        paper = PAPERS["sbld" if name.startswith("sbld") else "pld"]
        data = [draw(one, paper)[1] for one in (evidence, alone)]
        assert data[0].equals(data[1]), name
        plt.close("all")


def test_every_exhibit_and_question_that_an_arm_names_is_there() -> None:
    known = {question.id for question in PLD.questions}
    for family in ("bert", "gpt"):
        for arm, tags in arm_tags(experiments_folder(family)).items():
            assert set(tags.exhibits) <= {*FIGURES, *TABLES}, arm
            assert set(tags.questions) <= known, arm
