"""The answers to the reviews: every question has one, and each number is that of the runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pldrepro.analysis import glue_scores
from pldrepro.analysis.comparisons import ratio
from pldrepro.analysis.family import family_of
from pldrepro.analysis.questions import of_loss
from pldrepro.analysis.reported import Question, load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.time_to_target import AT_MOST, PER_SAMPLE, Step
from pldrepro.analysis.verdicts import Family, null_test
from pldrepro.errors import RecordError, SettingsError
from pldrepro.exhibits import reviews
from pldrepro.exhibits.figures import FIGURES
from pldrepro.exhibits.tables import TABLES
from tests.support import runs
from tests.support.runs import load_evidence

PAPERS = load_papers()
PLD = PAPERS["pld"]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    root = tmp_path_factory.mktemp("study")
    paths = runs.write_study(root, seeds=(1, 2))
    paths["pretrain"] += [runs.write_pretrain(root, "cosine", seed, final_loss=2.6 + 0.01 * seed) for seed in (1, 2)]
    glue_scores.write_scores(paths["finetune"], root / "scores.csv")
    return load_evidence(**paths, scores=root / "scores.csv")


def test_every_question_has_an_answer_and_every_answer_a_question() -> None:
    assert [question.id for question in PLD.questions] == list(reviews.ANSWERS)


def test_every_exhibit_that_a_question_names_exists() -> None:
    assert {name for question in PLD.questions for name in question.exhibits} <= set(TABLES) | set(FIGURES)


def said(sentence: reviews.Sentence) -> str:
    """A sentence as a page of its own says it."""
    assert isinstance(sentence, reviews.Compared)
    return sentence.said(Family.of(null_test(paired) for paired, _, _ in sentence.words))


def three_seeds(root: Path) -> Evidence:
    losses = {"baseline": 3.0, "pld": 2.5, "cosine": 2.6}
    return load_evidence(
        [
            runs.write_pretrain(root, arm, seed, final_loss=loss + 0.01 * seed)
            for arm, loss in losses.items()
            for seed in (1, 2, 3)
        ]
    )


def test_a_loss_is_compared_with_its_sign_its_cost_and_its_depth(tmp_path: Path) -> None:
    evidence = three_seeds(tmp_path)
    sentence = said(reviews.loss_sentence(of_loss(evidence, "cosine", "pld")))
    assert "0.100 [" in sentence
    assert "worse (lower in 0 of 3 seeds)" in sentence
    assert "of 4 layers and needs" in sentence
    assert "better (lower in 3 of 3 seeds)" in said(reviews.loss_sentence(of_loss(evidence, "pld", "baseline")))


def test_two_seeds_have_no_side(evidence: Evidence) -> None:
    sentence = reviews.loss_sentence(of_loss(evidence, "cosine", "pld"))
    assert isinstance(sentence, reviews.Compared)
    assert "undecided (lower in 0 of 2 seeds)" in said(sentence)


def test_the_comparisons_of_a_page_share_one_error_rate(tmp_path: Path) -> None:
    page = reviews.answers(three_seeds(tmp_path), PAPERS)
    family = family_of(three_seeds(tmp_path / "again"), PAPERS)
    assert 0 < family.size < family.all
    assert f"for the {family.size} tests of these, anything else for all {family.all} tests of the set" in page
    assert "worse (lower in 0 of 3 seeds)" in page


def test_the_page_answers_with_numbers_and_names_what_is_missing(evidence: Evidence) -> None:
    page = reviews.answers(evidence, PAPERS)
    assert page.count("\n## ") == 13
    assert "cosine schedule: final validation loss minus that of “PLD” 0.100 / 0.100 nats" in page
    assert "Not in this study: `depth_only`, `linear`, `pld_reversed`, `random`, `time_only`." in page
    assert "Not in this study: `layerdrop`, `stochastic_depth`." in page
    assert "To the baseline's final validation loss, all of it: " in page
    assert "To the baseline's final GLUE score: not judged, the model from scratch" in page
    assert "No ratio for RTE: " in page
    assert "- No ratio can be given.\n- No ratio for RTE: " in page
    assert page.count(reviews.NO_SIDE) == 1  # of losses over seeds; no task has a ratio
    assert "Generated from 8 pre-training runs (8 of " in page
    assert "development sets (dev, dev_mismatched)" in page


def step(times: Sequence[tuple[float, float]], **more: Any) -> Step:
    """A change with the times before and after it, by seed."""
    whole = ratio(times)
    factors = {"samples": whole, PER_SAMPLE: ratio((1.0, 1.0) for _ in times), "reference_time": whole}
    return Step("dropping layers", "pld", factors, len(times), len(times), **more)


def test_a_step_of_the_speedup_has_a_side_only_where_the_whole_set_decides_it() -> None:
    """Its interval excludes 1; with one more test as near as this one the family leaves it open."""
    near = step([(1.26, 1.0), (1.15, 1.0), (1.13, 1.0)])
    (whole, other) = near.factors["reference_time"], ratio([(1.27, 1.0), (1.15, 1.0), (1.13, 1.0)])
    assert whole is not None
    assert 0.025 < (whole.p or 0) < 0.05
    sentence = reviews.step_sentence("the loss", near, judged=True)
    assert isinstance(sentence, reviews.Compared)
    assert ": speedup 1.18 [1.02, 1.36], faster (" in sentence.said(Family.of([null_test(whole)]))
    assert ", undecided (" in sentence.said(Family.of(map(null_test, (whole, other))))
    slower = reviews.step_sentence("the loss", step([(1.0, 1.3), (1.0, 1.31), (1.0, 1.3)]), judged=True)
    assert ", slower (" in said(slower)


def test_a_bound_and_a_target_that_the_family_does_not_count_have_no_side() -> None:
    clear = [(1.30, 1.0), (1.31, 1.0), (1.30, 1.0)]
    bound = reviews.step_sentence("the loss", step(clear, bound=AT_MOST), judged=True)
    assert bound == (
        "To the loss, dropping layers: speedup at most 1.30 (1.30 by samples times 1.00 [1.00, 1.00] by time per "
        "sample; reached in 3 of 3 runs)."
    )
    assert isinstance(reviews.step_sentence("a score", step(clear), judged=False), str)


def test_images_and_gpt_answer_whether_it_holds_beyond_bert(evidence: Evidence, tmp_path: Path) -> None:
    assert reviews.other_domains(evidence, PLD) == ["Not measured here: this study has language models only."]
    arms = ("baseline", "pld", "sbld")
    top = {arm: {"accuracy": level, "top5": 0.9} for arm, level in {"baseline": 0.5, "pld": 0.48, "sbld": 0.5}.items()}
    swin = runs.sbld_study(tmp_path, "swinv2", arms=arms, losses={"pld": 3.1}, scores=top)
    gpt = runs.sbld_study(tmp_path, "gpt", arms=arms[:2], losses={"pld": 2.9})
    page = reviews.answers(replace(evidence, others=(gpt, swin)), PAPERS)
    first, second, language, third, fourth = reviews.other_domains(replace(evidence, others=(gpt, swin)), PLD)
    text = said(first)
    assert text.startswith("SwinV2, PLD: final validation loss minus that of “no dropping” 0.100 / 0.100 nats,")
    assert "Its top-1 accuracy minus that of no dropping: −2.0 / −2.0 points, undecided." in text
    assert "SwinV2, SBLD (our reading)" in said(second)
    assert "top-1 accuracy minus that of no dropping: 0.0 / 0.0 points, undecided." in said(second)
    assert language == "The GPT of this study is a language model, too, so that it does not answer the question:"
    assert said(third).startswith("GPT, PLD: final validation loss minus that of “no dropping” −0.100 / ")
    assert "LAMBADA" not in said(third)
    assert fourth == "GPT: not in this study: `sbld`."
    # 8 runs of BERT, 4 of GPT, 6 of SwinV2
    assert "Generated from 18 pre-training runs" in page
    assert "18 pre-training runs in" in page


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    paths = runs.write_study(tmp_path, seeds=(1,))
    page = reviews.answers(load_evidence(**paths), PAPERS)
    assert "One seed has no standard deviation." in page
    assert "undecided (lower in 1 of 1 seeds)" in page


def test_without_pld_there_is_nothing_to_answer(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="role pld"):
        reviews.answers(load_evidence([runs.write_pretrain(tmp_path, "baseline", 1)]), PAPERS)


def test_a_question_without_an_answer_is_named(evidence: Evidence) -> None:
    paper = PLD.model_copy(update={"questions": (Question(id="why", question="Why?"),)})
    with pytest.raises(SettingsError, match="question why"):
        reviews.answers(evidence, {**PAPERS, "pld": paper})
