"""Where a score judges nothing: the baseline has to beat a constant prediction and the model from scratch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pldrepro.analysis import floors, glue_scores
from pldrepro.analysis.floors import failed_tasks, glue_floor, lambada_floor, not_beaten, task_floor
from pldrepro.analysis.needs import lacking
from pldrepro.analysis.reported import Needs
from pldrepro.analysis.results import Evidence
from pldrepro.config.arm import ArmTags
from pldrepro.config.experiment import arm_tags, experiments_folder
from tests.support import runs
from tests.support.runs import load_evidence

BASELINE = {1: 70.0, 2: 70.2, 3: 69.8}
TAGS = {
    family: arm_tags(experiments_folder(family)) | {"scratch": ArmTags(role="scratch")} for family in ("bert", "gpt")
}


def shifted(points: float) -> dict[int, float]:
    return {seed: score + points for seed, score in BASELINE.items()}


@pytest.mark.parametrize(
    ("scratch", "constant", "reason"),
    [
        (shifted(-5), 50.0, ""),
        (shifted(-1), 50.0, "the model from scratch"),  # not more than the margin
        (shifted(-1.01), 50.0, ""),
        (shifted(-5), 68.6, "a constant prediction's 68.6"),
        (shifted(-5), 68.4, ""),
        (shifted(5), 50.0, "the model from scratch"),
        ({1: 50.0, 2: 69.0, 3: 60.0}, 50.0, "the model from scratch"),  # on average 10 points, by no means in each run
        ({}, 50.0, "role scratch"),
        ({7: 50.0}, 50.0, "role scratch"),
        (shifted(-5), None, "not known"),
    ],
)
def test_both_must_be_beaten_by_more_than_the_margin(
    scratch: dict[int, float], constant: float | None, reason: str
) -> None:
    found = not_beaten(BASELINE, scratch, constant)
    assert reason in found
    assert bool(found) == bool(reason)


def test_one_seed_shows_nothing() -> None:
    assert not_beaten({1: 90.0}, {1: 10.0}, 10.0)


def finetuned(root: Path, *, errors: float, scratch: float | None, **options: Any) -> Evidence:
    """The baseline and the model from scratch, of whose predictions these shares are wrong; options of its fits."""
    pretrain, finetune = [], []
    for arm, wrong in (("baseline", errors), ("scratch", scratch)):
        for seed in (1, 2, 3) if wrong is not None else ():
            pretrain.append(
                runs.write_untrained(root, seed) if arm == "scratch" else runs.write_pretrain(root, arm, seed)
            )
            finetune.append(runs.write_finetune(root, arm, seed, errors=wrong or 0.0, **options))
    glue_scores.write_scores(finetune, root / "scores.csv")
    return load_evidence(pretrain, finetune, scores=root / "scores.csv", tags=TAGS["bert"])


def test_a_model_that_learned_its_tasks_is_above_the_floor(tmp_path: Path) -> None:
    evidence = finetuned(tmp_path, errors=0.1, scratch=0.98)
    assert glue_floor(evidence) == ""
    assert task_floor(evidence, "cola") == ""
    assert lacking(Needs(floor="glue"), evidence) == []


@pytest.mark.parametrize(("errors", "scratch", "reason"), [(0.98, 0.98, "constant"), (0.1, 0.1, "from scratch")])
def test_a_model_that_learned_nothing_or_nothing_from_pre_training_is_at_the_floor(
    tmp_path: Path, errors: float, scratch: float, reason: str
) -> None:
    evidence = finetuned(tmp_path, errors=errors, scratch=scratch)
    assert reason in glue_floor(evidence)
    assert reason in task_floor(evidence, "rte")
    (lack,) = lacking(Needs(floor="glue"), evidence)
    assert reason in lack


def test_a_fit_that_did_not_train_judges_nothing_whatever_its_score(tmp_path: Path) -> None:
    trained, failed = (
        finetuned(tmp_path / name, errors=0.1, scratch=0.98, finetune_seeds=(1, 2), train_losses=losses)
        for name, losses in (("trained", (0.2, 0.3)), ("failed", (0.2, 0.7)))
    )
    assert glue_floor(trained) == task_floor(trained, "cola") == ""
    assert "did not beat a constant on its own training set: CoLA" in task_floor(failed, "cola")
    assert "own training set: RTE, MRPC" in glue_floor(failed)


def test_tasks_that_did_not_train_do_not_lift_a_mean_above_its_floor(tmp_path: Path) -> None:
    evidence = finetuned(tmp_path, errors=0.1, scratch=0.98, train_losses=(0.3,))
    few = {"rte", "mrpc", "cola"}

    def with_failed(tasks: set[str]) -> Evidence:
        finetune = [
            replace(run, results=[
                line.model_copy(update={"train_loss": 0.7}) if line.task in tasks else line for line in run.results
            ])
            for run in evidence.finetune
        ]  # fmt: skip
        return replace(evidence, finetune=tuple(finetune))

    assert failed_tasks(with_failed(few)) == few
    assert glue_floor(with_failed(few)) == ""
    # Of the tasks that trained none beats a constant; one that did not train would carry the mean.
    levels = floors.constant_scores(evidence) | {"rte_accuracy": 99.0, "cola_matthews": 99.0}
    scores = {("baseline", seed, "ckp186"): levels for seed in (1, 2, 3)}
    scores |= {("scratch", seed, "ckp186"): 20.0 for seed in (1, 2, 3)}
    carried = replace(with_failed(few), scores=pd.read_csv(runs.write_scores(tmp_path / "carried.csv", scores)))
    assert "a constant prediction" in glue_floor(carried)
    assert "own training set" in glue_floor(with_failed(few | {"qqp", "sst2", "qnli"}))


def test_without_predictions_the_constant_is_not_known(tmp_path: Path) -> None:
    levels = {("baseline", seed, "ckp186"): 70.0 for seed in (1, 2, 3)}
    pretrain = [runs.write_pretrain(tmp_path, "baseline", seed) for seed in (1, 2, 3)]
    evidence = load_evidence(pretrain, scores=runs.write_scores(tmp_path / "scores.csv", levels))
    assert "not known" in glue_floor(evidence)
    assert glue_floor(load_evidence(pretrain)) == "the baseline was not fine-tuned"


def test_the_best_constant_of_each_value_comes_from_the_labels(tmp_path: Path) -> None:
    constants = floors.constant_scores(finetuned(tmp_path, errors=0.1, scratch=None))
    assert set(constants) == set(glue_scores.VALUES)
    assert constants["cola_matthews"] == constants["stsb_spearman"] == 0
    assert 50 <= constants["rte_accuracy"] < 60
    assert 33 <= constants["mnli_mismatched_accuracy"] < 45


@pytest.mark.parametrize(
    ("baseline", "scratch", "reason"),
    [(0.4, 0.1, ""), (0.05, 0.0, "too few"), (0.4, 0.4, "from scratch"), (0.4, None, "role scratch")],
)
def test_lambada_needs_right_words_and_a_gain_over_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: float, scratch: float | None, reason: str
) -> None:
    monkeypatch.setitem(runs.MORE_ARMS, "scratch", runs.ARMS["baseline"])
    pretrain = [
        runs.write_pretrain(tmp_path, arm, seed, family="gpt", scores={"lambada_accuracy": share + seed / 1000})
        for arm, share in (("baseline", baseline), ("scratch", scratch))
        for seed in (1, 2, 3)
        if share is not None
    ]
    found = sorted((tmp_path / "runs/lambada").glob("*/*"))
    floor = lambada_floor(load_evidence(pretrain, lambada=found, tags=TAGS["gpt"]))
    assert reason in floor
    assert bool(floor) == bool(reason)


def test_what_a_study_lacks_is_named_with_what_it_has(tmp_path: Path) -> None:
    evidence = load_evidence([runs.write_pretrain(tmp_path, "baseline", 1)])
    needs = Needs(layers=12, parameters=1e6, tokens=1e9, learning_rate_ratio=10)
    # 400 steps of 8 sequences of 16 tokens
    assert lacking(needs, evidence) == [
        "12 layers (here 4)", "1,000,000 parameters (here 50,000)", "1,000,000,000 tokens of training (here 51,200)",
        "10 times the baseline's learning rate (here not known)",
    ]  # fmt: skip
    assert lacking(Needs(layers=4, parameters=5e4, tokens=51_200), evidence) == []
