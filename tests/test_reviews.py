"""The answers to the reviews: every question has one, and each number is that of the runs."""

from pathlib import Path

import pytest
import runs

from pldrepro import reviews, score
from pldrepro.config import SettingsError
from pldrepro.evidence import Evidence, load_evidence
from pldrepro.figures import FIGURES
from pldrepro.papers import Question, load_papers
from pldrepro.records import RecordError
from pldrepro.tables import TABLES

PLD = load_papers()["pld"]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    root = tmp_path_factory.mktemp("study")
    paths = runs.write_study(root, seeds=(1, 2))
    paths["pretrain"] += [runs.write_pretrain(root, "cosine", seed, final_loss=2.6 + 0.01 * seed) for seed in (1, 2)]
    score.write_scores(paths["finetune"], root / "scores.csv")
    return load_evidence(**paths, scores=root / "scores.csv")


def test_every_question_has_an_answer_and_every_answer_a_question() -> None:
    assert [question.id for question in PLD.questions] == list(reviews.ANSWERS)


def test_every_exhibit_that_a_question_names_exists() -> None:
    assert {name for question in PLD.questions for name in question.exhibits} <= set(TABLES) | set(FIGURES)


def test_a_loss_is_compared_with_its_sign_its_cost_and_its_depth(evidence: Evidence) -> None:
    sentence = reviews.loss_sentence(evidence, "cosine", "pld")
    assert "0.100 [" in sentence
    assert "worse (n = 2)" in sentence
    assert "of 4 layers, at" in sentence
    assert "better" in reviews.loss_sentence(evidence, "pld", "baseline")


def test_the_page_answers_with_numbers_and_names_what_is_missing(evidence: Evidence) -> None:
    page = reviews.answers(evidence, PLD)
    assert page.count("\n## ") == 12
    assert "cosine schedule: final validation loss 0.100 [" in page
    assert "Not in this study: depth_only, linear, pld_reversed, random, time_only." in page
    assert "Not in this study: layerdrop, stochastic_depth." in page
    assert "all of it: " in page
    assert "development sets (dev, dev_mismatched)" in page


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    paths = runs.write_study(tmp_path, seeds=(1,))
    page = reviews.answers(load_evidence(**paths), PLD)
    assert "One seed has no standard deviation." in page
    assert "undecided (n = 1)" in page


def test_without_pld_there_is_nothing_to_answer(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no arm 'pld' among the runs: baseline"):
        reviews.answers(load_evidence([runs.write_pretrain(tmp_path, "baseline", 1)]), PLD)


def test_a_question_without_an_answer_is_named(evidence: Evidence) -> None:
    paper = PLD.model_copy(update={"questions": (Question(id="why", question="Why?"),)})
    with pytest.raises(SettingsError, match="question why: no answer of that name; allowed: preln_or_pld"):
        reviews.answers(evidence, paper)
