"""Which findings make the story: by rules, from claims.csv and from comparisons that are judged together."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pldrepro.analysis import cases, claims, comparisons, findings, questions, story
from pldrepro.analysis.family import family_of
from pldrepro.analysis.finding import NOTHING, Finding, of_pair
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.story import read_story, write_story
from pldrepro.analysis.verdicts import VERDICTS, Family, null_test
from pldrepro.errors import RecordError
from pldrepro.exhibits import story_text
from tests.support import runs
from tests.support.runs import load_evidence

PAPERS = load_papers()


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    paths = runs.write_study(tmp_path_factory.mktemp("study"), seeds=(1, 2, 3))
    return load_evidence(**{name: found for name, found in paths.items() if name != "finetune"})


def told(evidence: Evidence, frame: pd.DataFrame) -> dict[tuple[str, str], Finding]:
    return {(one.topic, one.part): one for one in story.story(evidence, PAPERS, frame)}


@pytest.fixture(scope="module")
def written(evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    path = tmp_path_factory.mktemp("claims") / "claims.csv"
    claims.write_claims(evidence, PAPERS, path)
    return claims.read_claims(path)


def test_a_finding_of_a_claim_has_its_verdict_and_its_number(evidence: Evidence, written: pd.DataFrame) -> None:
    row = written[written["claim"] == "pld.time_per_sample"].iloc[0]
    found = told(evidence, written)["time", "saving"]
    assert found.estimate is not None
    assert (found.outcome, found.estimate.value, found.reported) == (row["verdict"], row["measured"], 24.0)
    made_up = written.assign(verdict=written["verdict"].where(written["claim"] != row["claim"], "contradicted"))
    assert told(evidence, made_up)["time", "saving"].outcome == "contradicted"


def test_what_a_study_lacks_has_no_number(evidence: Evidence, written: pd.DataFrame) -> None:
    found = told(evidence, written)
    assert (found["glue", "baseline"].outcome, found["sbld", "time"].outcome) == (NOTHING, NOTHING)
    assert ("equal_cost", "shallow") not in found
    assert told(evidence, written.iloc[:0])["time", "saving"].outcome == NOTHING


def test_dropping_is_compared_with_the_same_model_without_it(evidence: Evidence, written: pd.DataFrame) -> None:
    found = told(evidence, written)["equal_samples", "loss"]
    assert (found.arm, found.against, found.unit) == ("PLD", "PreLN, higher learning rate", "nats")
    gaps = [run.summary.validation_loss - other.summary.validation_loss
            for run, other in evidence.pairs("pld", "preln_higher")]  # fmt: skip
    assert found.estimate is not None
    assert found.estimate.value == pytest.approx(sum(gaps) / 3)
    assert found.outcome in ("below", "undecided", "above")


def test_a_factor_below_one_is_below_no_effect(evidence: Evidence) -> None:
    slower = comparisons.ratio([(0.9, 1.0), (0.91, 1.0), (0.89, 1.0), (0.9, 1.0)])
    other = comparisons.difference([(1.0, 0.0), (-1.0, 0.0), (0.5, 0.0)])
    (one,) = of_pair(evidence, "parts", "pld_time", slower, "x", "time_to_target", "pld")
    (two,) = of_pair(evidence, "equal_samples", "loss", other, "nats", "table3", "pld")
    family = Family.of(map(null_test, (slower, other)))
    assert [story.judged(each, family).outcome for each in (one, two)] == ["below", "undecided"]
    assert story.judged(two, family).open == "interval"


def test_a_step_is_named_for_all_that_it_changes(tmp_path: Path) -> None:
    losses = {"baseline": 3.0, "preln_higher": 3.1, "pld": 3.2}  # without PreLN at the baseline's rate
    pretrain = [
        runs.write_pretrain(tmp_path, arm, seed, final_loss=loss + 0.01 * seed)
        for arm, loss in losses.items()
        for seed in (1, 2, 3)
    ]
    found = {one.part: one.note for one in findings.contributions(load_evidence(pretrain))}
    assert found == {
        "preln_higher_lr_loss": "PreLN and the higher learning rate", "pld_loss": "dropping layers",
        "all_loss": "all of it",
    }  # fmt: skip


def test_every_page_judges_a_comparison_alike(tmp_path: Path) -> None:
    noise = {"pld": (0.3, 0.05, 0.1), "cosine": (0.0, 0.4, 0.2)}
    pretrain = [
        runs.write_pretrain(tmp_path, arm, seed, final_loss=3.0 + 0.01 * seed + noise.get(arm, (0.0,) * 3)[seed - 1])
        for arm in ("baseline", "preln_higher", "pld", "cosine")
        for seed in (1, 2, 3)
    ]
    evidence = load_evidence(pretrain, calibration=runs.write_calibration(tmp_path))
    family = family_of(evidence, PAPERS)
    told = [one.paired for one in findings.findings(findings.Told(evidence, PAPERS, {})) if one.paired is not None]
    asked = questions.comparisons_asked(evidence, PAPERS)
    claimed = [case.test.key for case in cases.all_cases(evidence, PAPERS) if case.test is not None]
    assert set(family.adjusted) == {*claimed, *(one.test for one in (*told, *asked))}
    # What dropping costs stands in the story and in the answers to the reviewers.
    cost = comparisons.loss_difference(evidence, "pld", "preln_higher")
    assert cost is not None
    assert cost.test in {one.test for one in told} & {one.test for one in asked}
    assert (family.p(null_test(cost)) or 0) > 1.5 * (cost.p or 0)


def test_other_ways_to_save_change_no_test_of_the_claims_and_findings(tmp_path: Path) -> None:
    losses = {"baseline": 3.0, "preln": 3.0, "preln_higher": 3.1, "pld": 3.2, "stacking": 2.9, "layerdrop": 3.3}
    paths = {
        arm: [
            runs.write_pretrain(tmp_path, arm, seed, final_loss=loss + 0.001 * seed ** len(arm)) for seed in (1, 2, 3)
        ]
        for arm, loss in losses.items()
    }
    calibration = runs.write_calibration(tmp_path)

    def of(*arms: str) -> Evidence:
        return load_evidence([path for arm in arms for path in paths[arm]], calibration=calibration)

    evidence, bare = of(*losses), of("baseline", "preln", "preln_higher", "pld")
    found = {one.part: one for one in findings.other_ways(findings.Told(evidence, PAPERS, {}))}
    assert list(found) == ["stacking", "stacking_time", "layerdrop", "layerdrop_time", "rate", "best"]
    assert (found["stacking"].against, found["best"].arm) == ("PLD", "progressive stacking")
    family, before = family_of(evidence, PAPERS), family_of(bare, PAPERS)
    assert (before.size, family.all) == (family.size, before.all + 2)
    cost = null_test(comparisons.loss_difference(evidence, "pld", "preln_higher"))
    assert family.p(cost) == before.p(cost)
    paired = found["stacking"].paired
    assert paired is not None
    assert (family.p(null_test(paired)) or 0) > (paired.p or 1)
    assert not list(findings.other_ways(findings.Told(bare, PAPERS, {})))


def test_the_cost_of_dropping_is_shown_at_the_baselines_rate_too(tmp_path: Path) -> None:
    losses = {"baseline": 3.0, "preln": 3.1, "preln_higher": 3.2, "pld": 3.25, "pld_baseline_rate": 3.4}
    paths = [runs.write_pretrain(tmp_path, arm, seed, final_loss=loss + 0.001 * seed)
             for arm, loss in losses.items() for seed in (1, 2, 3)]  # fmt: skip
    evidence = load_evidence(paths, calibration=runs.write_calibration(tmp_path))
    own, lower = findings.equal_samples(findings.Told(evidence, PAPERS, {}))
    assert own.estimate is not None
    assert lower.estimate is not None
    assert (own.estimate.value, lower.estimate.value) == (pytest.approx(0.05), pytest.approx(0.3))
    assert (own.paired is None, lower.paired is None, lower.against) == (False, True, "PreLN, same learning rate")


def test_sbld_is_compared_with_the_rankings_that_know_nothing_or_the_opposite(tmp_path: Path) -> None:
    losses = {"baseline": 3.0, "sbld": 3.1, "sbld_depth": 3.2, "sbld_reversed": 3.6, "sbld_random": 3.3, "pld": 3.0}
    paths = [runs.write_pretrain(tmp_path, arm, seed, family="gpt", final_loss=loss + 0.001 * seed)
             for arm, loss in losses.items() for seed in (1, 2, 3)]  # fmt: skip
    evidence = load_evidence(paths, calibration=runs.write_calibration(tmp_path, "gpt"))
    found = {one.part: one.estimate.value for one in findings.sbld(findings.Told(evidence, PAPERS, {})) if one.estimate}
    wanted = {"loss": 0.1, "random": -0.2, "order": -0.1, "reversed": -0.5, "pld": 0.1}
    assert found == {part: pytest.approx(gap) for part, gap in wanted.items()}


def test_on_images_sbld_is_compared_with_what_drops_layers_too(tmp_path: Path) -> None:
    arms = {"baseline": 0.66, "pld": 0.60, "sbld": 0.63, "sbld_random": 0.62}
    scores = {arm: {"accuracy": value, "top5": 0.9} for arm, value in arms.items()}
    evidence = runs.sbld_study(tmp_path, "swinv2", arms=tuple(arms), seeds=(1, 2, 3), scores=scores)
    frame = claims.claims(evidence, PAPERS)
    found = [one for one in story.story(evidence, PAPERS, frame) if one.topic == "images"]
    gains = {one.part: round(one.estimate.value, 6) for one in found if one.estimate}
    assert gains == {"swinv2 baseline": -3.0, "swinv2 sbld_random": 1.0, "swinv2 pld": 3.0}
    first, *rivals = story_text.images(found)
    assert first.startswith("SBLD's top-1 accuracy on SwinV2 is below that of no dropping: ")
    assert rivals[1].startswith("SBLD's top-1 accuracy on SwinV2 is above that of PLD: 3.0 points ")


def test_the_rate_is_told_only_where_all_arms_have_it(tmp_path: Path) -> None:
    losses = {"baseline": 3.0, "preln": 3.0, "preln_higher": 3.1, "pld": 3.2, "stacking": 2.9}
    paths = [runs.write_pretrain(tmp_path, arm, seed, final_loss=loss + 0.001 * seed)
             for arm, loss in losses.items() for seed in (1, 2, 3)]  # fmt: skip
    for path in paths:
        if path.parent.name == "stacking":
            settings = path / "settings.json"
            values = json.loads(settings.read_text("utf-8"))
            values["training"]["learning_rates"] = {"baseline": 1e-5, "higher": 1e-5}
            settings.write_text(json.dumps(values), "utf-8")
    evidence = load_evidence(paths, calibration=runs.write_calibration(tmp_path))
    parts = [one.part for one in findings.other_ways(findings.Told(evidence, PAPERS, {}))]
    assert parts == ["stacking", "stacking_time", "best"]


def test_verdicts_are_counted(evidence: Evidence, written: pd.DataFrame) -> None:
    counts = {part: one.estimate for (topic, part), one in told(evidence, written).items() if topic == "open"}
    assert sum(one.value for name, one in counts.items() if one and name in VERDICTS) == len(written)
    ours = counts["ours"]
    assert ours is not None
    assert ours.value == 11


def test_claims_that_share_an_estimate_are_told(evidence: Evidence, written: pd.DataFrame) -> None:
    names = ["pld.time_per_sample", "pld.speedup_equal_samples"]
    counted = written.assign(verdict=written["verdict"].where(~written["claim"].isin(names), "exceeded"))
    assert set(written.loc[written["claim"].isin(names), "same"]) == {"", names[0]}
    notes = [one.note for one in story.story(evidence, PAPERS, counted) if one.part == "exceeded"]
    assert notes == ["1"]


def test_story_csv_is_read_as_it_was_written(evidence: Evidence, written: pd.DataFrame, tmp_path: Path) -> None:
    write_story(evidence, PAPERS, written, tmp_path / "story.csv")
    again, before = read_story(tmp_path / "story.csv"), story.story(evidence, PAPERS, written)
    assert [(one.topic, one.part, one.outcome, one.against, one.counts, one.agree) for one in again] == [
        (one.topic, one.part, one.outcome, one.against, one.counts, one.agree) for one in before
    ]
    for one, other in zip(again, before, strict=True):
        assert (one.estimate is None) == (other.estimate is None)
        if one.estimate and other.estimate:
            assert (one.estimate.value, one.estimate.low) == pytest.approx((other.estimate.value, other.estimate.low))
    text = (tmp_path / "story.csv").read_text("utf-8").replace("by construction,", "believed,", 1)
    (tmp_path / "damaged.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match="believed"):
        read_story(tmp_path / "damaged.csv")
