"""Time to a target and its decomposition, fair budgets, overfitting and memory: literals from runs of known shape.

Every run's validation loss falls linearly from 6, and a step of the undropped model takes 14 ms.
"""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pldrepro.analysis import budgets, claim_estimators, floors, time_to_target
from pldrepro.analysis.reach import reach_glue, reach_loss, reach_score
from pldrepro.analysis.reported import load_papers
from pldrepro.analysis.results import Evidence
from pldrepro.config.arm import ArmTags
from pldrepro.errors import RecordError
from pldrepro.exhibits import tables
from tests.support import runs
from tests.support.runs import load_evidence
from tests.support.tables import shown

PAPERS = load_papers()
PLD = PAPERS["pld"]
LOSSES = {
    "baseline": 3.0, "preln": 2.9, "preln_higher": 2.75, "pld": 2.5, "random": 3.2,
    "baseline_at_ckp100": 3.3, "baseline_at_pld": 3.02, "preln_higher_at_pld": 2.78,
    "epochs1_pld": 2.6, "epochs1_dropout": 2.7, "epochs1_neither": 2.5,
    "epochs40_pld": 2.8, "epochs40_dropout": 2.85, "epochs40_neither": 2.95,
}  # fmt: skip
GLUE = {
    ("baseline", "ckp87"): 50.0, ("baseline", "ckp186"): 70.0, ("preln", "ckp186"): 60.0,
    ("preln_higher", "ckp186"): 72.0, ("pld", "ckp87"): 60.0, ("pld", "ckp100"): 65.0, ("pld", "ckp186"): 75.0,
    ("baseline_at_pld", "ckp186"): 69.0,
}  # fmt: skip
SEEDS = (1, 2)


def write(root: Path, arms: dict[str, float]) -> dict[str, Any]:
    pretrain = [runs.write_pretrain(root, arm, seed, final_loss=loss) for arm, loss in arms.items() for seed in SEEDS]
    levels = {(arm, seed, at): level for (arm, at), level in GLUE.items() if arm in arms for seed in SEEDS}
    scores = runs.write_scores(root / "scores.csv", levels)
    return {"pretrain": pretrain, "calibration": runs.write_calibration(root), "scores": scores}


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return load_evidence(**write(tmp_path_factory.mktemp("study"), LOSSES))


def number(frame: pd.DataFrame, **keys: str) -> pd.Series:
    for name, value in keys.items():
        frame = frame[frame[name] == value]
    assert len(frame) == 1, keys
    return frame.iloc[0]


# ---- what counts as a method ----


def test_runs_cut_to_a_budget_or_a_corpus_are_not_methods(evidence: Evidence) -> None:
    assert evidence.methods == ["baseline", "preln", "preln_higher", "pld", "random"]
    assert evidence.budget("baseline_at_ckp100") == ("pld", "ckp100")
    assert evidence.budget("pld") is None
    assert evidence.epochs("epochs40_pld") == 40


def test_records_from_before_budgets_and_epochs_are_read(tmp_path: Path) -> None:
    folder = runs.write_pretrain(tmp_path, "baseline", 1)
    settings = json.loads((folder / "settings.json").read_text())
    for key in ("budget", "matched_depth"):
        settings.pop(key, None)
    settings["training"].pop("epochs", None)
    (folder / "settings.json").write_text(json.dumps(settings))
    assert load_evidence([folder]).methods == ["baseline"]


# ---- time to a target ----


def test_how_soon_the_baselines_loss_is_reached(evidence: Evidence) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    # From 6 to 3 the baseline takes its whole run, PLD on its way to 2.5 takes 3 / 3.5 of it.
    samples = number(frame, arm="pld", quantity="speedup_to_loss", cost_axis="samples")
    assert samples["measured"] == pytest.approx(3.5 / 3)
    assert samples["reported"] == pytest.approx(1 / 0.47)
    time = number(frame, arm="pld", quantity="speedup_to_loss", cost_axis="reference_time")
    assert (time["reported"], time["provenance"]) == (2.8, "verified")
    assert time["measured"] > samples["measured"]
    assert number(frame, arm="baseline", quantity="speedup_to_loss", cost_axis="flops")["measured"] == pytest.approx(1)
    assert "baseline_at_pld" not in set(frame["arm"])


def test_the_table_and_the_claim_are_one_number(evidence: Evidence) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    table = number(frame, arm="pld", quantity="speedup_to_loss", cost_axis="reference_time")
    claim = claim_estimators.speedup_to_baseline_loss(evidence).paired
    assert claim is not None
    assert (table["measured"], table["low"], table["high"]) == pytest.approx(
        (claim.estimate.value, claim.estimate.low, claim.estimate.high)
    )


def test_a_run_that_never_gets_there_is_a_bound(evidence: Evidence) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    reached = number(frame, arm="random", quantity="reached_loss")
    assert (reached["measured"], reached["n"]) == (0, 2)
    speedup = number(frame, arm="random", quantity="speedup_to_loss", cost_axis="samples")
    assert speedup["measured"] == pytest.approx(1)
    assert pd.isna(speedup["low"])
    assert speedup["note"] == time_to_target.AT_MOST
    loss, *_ = shown("time_to_target", evidence)
    row = next(row for row in loss.rows if row[0] == "random drop")
    assert row[1] == "0 of 2"
    assert row[loss.headers.index("samples")] == "≤ 1.00"
    assert "counts with its whole run" in loss.notes[0]


@pytest.fixture
def above_the_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """GLUE scores judge, without the predictions that would show it."""
    monkeypatch.setattr(floors, "glue_floor", lambda evidence: "")


@pytest.mark.usefixtures("above_the_floor")
def test_the_glue_score_is_reached_between_two_fine_tuned_checkpoints(evidence: Evidence) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    # 65 at step 200, 75 at step 400: the baseline's 70 at step 300 of 400.
    assert number(frame, arm="pld", quantity="speedup_to_glue", cost_axis="samples")["measured"] == pytest.approx(4 / 3)
    assert number(frame, arm="pld", quantity="speedup_to_glue", cost_axis="measured_time")["reported"] == 2.5
    assert number(frame, arm="preln", quantity="reached_glue")["measured"] == 0
    assert number(frame, arm="preln_higher", quantity="speedup_to_glue", cost_axis="samples")[
        "measured"
    ] == pytest.approx(1)
    assert frame[(frame["arm"] == "random") & (frame["quantity"] == "reached_glue")].empty


def test_a_first_checkpoint_that_is_already_there_counts_as_it_stands(tmp_path: Path) -> None:
    paths = write(tmp_path, {"baseline": 3.0, "pld": 2.5})
    runs.write_scores(tmp_path / "scores.csv", {("baseline", 1, "ckp186"): 50.0, ("pld", 1, "ckp100"): 51.0})
    found = reach_glue(load_evidence(**paths), "pld", "samples", "paper")
    assert found.costs == {1: (400 * 8, 200 * 8)}
    assert found.reached == 1


def test_the_baselines_own_first_time_is_what_an_arms_is_compared_with(tmp_path: Path) -> None:
    paths = write(tmp_path, {"baseline": 3.0, "pld": 2.5})
    base = paths["pretrain"][0]
    lines = runs.read_jsonl(base / "metrics.jsonl")
    lucky = next(line for line in lines if line["kind"] == "validation" and line["step"] == 200)
    lucky["loss"] = 3.0  # at half of its run, by chance, what it has at its end
    (base / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    costs = reach_loss(load_evidence(**paths), "pld", "samples").costs
    assert {seed: pair[0] for seed, pair in costs.items()} == {1: 200 * 8, 2: 400 * 8}
    scores = {("baseline", 1, "ckp100"): 71.0, ("baseline", 1, "ckp186"): 70.0, ("pld", 1, "ckp186"): 70.0}
    found = reach_score(load_evidence(**paths), scores, "pld", "samples")
    assert found.costs == {1: (200 * 8, 400 * 8)}


@pytest.mark.parametrize("rival", ["baseline_at_pld", None])
def test_a_table_of_fair_budgets_is_named_where_there_is_one(tmp_path: Path, rival: str | None) -> None:
    arms = {"baseline": 3.0, "pld": 2.5, **({rival: 3.0} if rival else {})}
    notes = " ".join(shown("time_to_target", load_evidence(**write(tmp_path, arms)))[0].notes)
    assert ("is in the table of fair budgets" in notes) == bool(rival)
    assert ("was not measured in this study" in notes) == (not rival)


def test_without_fine_tuning_there_is_no_glue_to_reach(tmp_path: Path) -> None:
    paths = write(tmp_path, {"baseline": 3.0, "pld": 2.5})
    evidence = load_evidence(paths["pretrain"], calibration=paths["calibration"])
    assert reach_glue(evidence, "pld", "samples", "paper").costs == {}
    _, steps = shown("time_to_target", evidence)
    assert {row[0] for row in steps.rows} == {"the baseline's final validation loss"}


# ---- the decomposition ----


def factors(frame: pd.DataFrame, quantity: str, axis: str) -> dict[str, float]:
    part = frame[(frame["quantity"] == quantity) & (frame["cost_axis"] == axis)]
    return dict(zip(part["arm"], part["measured"], strict=True))


def test_the_steps_are_what_each_change_saves(evidence: Evidence) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    samples = factors(frame, "step_to_loss", "samples")
    assert samples == pytest.approx({"preln": 3.1 / 3, "preln_higher": 3.25 / 3.1, "pld": 3.5 / 3.25})
    price = factors(frame, "step_to_loss", time_to_target.PER_SAMPLE)
    assert price["preln"] == pytest.approx(1)
    assert price["preln_higher"] == pytest.approx(1)
    assert price["pld"] > 1.1


@pytest.mark.usefixtures("above_the_floor")
@pytest.mark.parametrize("name", ["loss", "glue"])
@pytest.mark.parametrize("axis", ["samples", time_to_target.PER_SAMPLE, "reference_time"])
def test_the_steps_multiply_to_the_whole_speedup(evidence: Evidence, name: str, axis: str) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    (total,) = factors(frame, f"total_to_{name}", axis).values()
    assert math.prod(factors(frame, f"step_to_{name}", axis).values()) == pytest.approx(total)


@pytest.mark.usefixtures("above_the_floor")
@pytest.mark.parametrize("name", ["loss", "glue"])
def test_fewer_and_cheaper_samples_multiply_to_each_step(evidence: Evidence, name: str) -> None:
    frame = tables.TABLES["time_to_target"][0](evidence, PLD)
    parts = [
        factors(frame, f"step_to_{name}", axis) for axis in ("samples", time_to_target.PER_SAMPLE, "reference_time")
    ]
    for arm, both in parts[2].items():
        assert parts[0][arm] * parts[1][arm] == pytest.approx(both)
    (total,) = factors(frame, f"total_to_{name}", "reference_time").values()
    speedup = number(frame, arm="pld", quantity=f"speedup_to_{name}", cost_axis="reference_time")["measured"]
    assert total == pytest.approx(speedup)


def test_the_papers_speedup_is_split_alike() -> None:
    for name, whole in (("loss", 2.8), ("glue", 2.5)):
        reported = time_to_target.reported_factors(PLD, name)
        assert reported["samples"].value * reported[time_to_target.PER_SAMPLE].value == pytest.approx(whole)
        marks = {part: one.provenance for part, one in reported.items()}
        assert marks == {"samples": "unverified", time_to_target.PER_SAMPLE: "unverified", "reference_time": "verified"}
    assert time_to_target.reported_factors(PLD, "glue")["samples"].value == pytest.approx(1 / 0.54)


def test_without_preln_it_is_one_step_with_the_learning_rate(tmp_path: Path) -> None:
    evidence = load_evidence(**write(tmp_path, {"baseline": 3.0, "preln_higher": 2.75, "pld": 2.5}))
    changes = [step.change for step in time_to_target.decompose(evidence, "loss")]
    assert changes == ["PreLN and the higher learning rate", "dropping layers", "all of it"]
    *_, steps = shown("time_to_target", evidence)
    assert "Not in this study: preln; what it would have separated is one step together with the next." in steps.notes


def test_without_pld_there_is_nothing_to_decompose(tmp_path: Path) -> None:
    evidence = load_evidence(**write(tmp_path, {"baseline": 3.0, "preln_higher": 2.75}))
    *_, steps = shown("time_to_target", evidence)
    assert steps.rows == ()
    assert steps.notes == ("Not measured here: no arm of role pld in this study.",)


# ---- fair budgets ----


def test_the_baseline_in_mid_schedule_is_read_at_the_same_reference_time(evidence: Evidence) -> None:
    frame = tables.TABLES["fair_budgets"][0](evidence, PLD)
    rival = number(
        frame, arm="pld", checkpoint="ckp186", quantity="rival_loss", against="baseline", condition="in mid-schedule"
    )
    times = [evidence.cost(run, "reference_time") for run in evidence.runs("pld")]
    assert rival["measured"] == pytest.approx(sum(6 - 3 * time / 5.6 for time in times) / 2)
    gap = number(
        frame,
        arm="pld",
        checkpoint="ckp186",
        quantity="loss_difference",
        against="baseline",
        condition="in mid-schedule",
    )
    assert gap["measured"] == pytest.approx(2.5 - rival["measured"])


def test_the_fair_rivals_are_decayed_at_that_time(evidence: Evidence) -> None:
    frame = tables.TABLES["fair_budgets"][0](evidence, PLD)
    for arm, difference in (("baseline_at_pld", -0.52), ("preln_higher_at_pld", -0.28)):
        gap = number(frame, arm="pld", checkpoint="ckp186", quantity="loss_difference", against=arm)
        assert gap["measured"] == pytest.approx(difference)
        ratio = number(frame, arm="pld", checkpoint="ckp186", quantity="time_ratio", against=arm)
        assert ratio["measured"] == pytest.approx(1, abs=0.03)
    early = number(frame, arm="pld", checkpoint="ckp100", quantity="loss_difference", against="baseline_at_ckp100")
    assert early["measured"] == pytest.approx(4.25 - 3.3)
    # What the story tells of checkpoints before the last: the baseline that was decayed there.
    gaps = {name: gap.estimate.value for name, gap in budgets.early_gaps(evidence).items()}
    assert gaps == {"ckp100": pytest.approx(4.25 - 3.3)}


def test_glue_is_compared_where_both_have_it(evidence: Evidence) -> None:
    frame = tables.TABLES["fair_budgets"][0](evidence, PLD)
    gain = number(frame, arm="pld", checkpoint="ckp186", quantity="glue_difference", against="baseline_at_pld")
    assert gain["measured"] == pytest.approx(6)
    # The baseline has 50 at step 180 and 70 at step 400, 14 ms a step.
    mid = number(
        frame,
        arm="pld",
        checkpoint="ckp186",
        quantity="glue_difference",
        against="baseline",
        condition="in mid-schedule",
    )
    steps = [evidence.cost(run, "reference_time") / 0.014 for run in evidence.runs("pld")]
    assert mid["measured"] == pytest.approx(sum(75 - 50 - 20 * (step - 180) / 220 for step in steps) / 2)
    none = number(frame, arm="pld", checkpoint="ckp186", quantity="glue_difference", against="preln_higher_at_pld")
    assert none["n"] == 0


def test_rivals_that_are_missing_are_a_line_of_dashes(evidence: Evidence) -> None:
    assert budgets.original(evidence, "baseline_at_ckp100") == "baseline"
    assert budgets.original(evidence, "preln_higher_at_pld") == "preln_higher"
    (table,) = shown("fair_budgets", evidence)
    early = [row for row in table.rows if row[0] == "PLD ckp87"]
    assert [(row[2], row[3]) for row in early] == [
        ("PostLN baseline", "in mid-schedule"),
        ("PostLN baseline", "fully decayed"),
        ("PreLN, higher learning rate", "fully decayed"),
    ]
    assert [row[-1] for row in early] == ["2", "0", "0"]
    assert "The paper's comparison is with the baseline in mid-schedule" in table.notes[0]
    assert "The fair comparison is with a run that is fully decayed" in table.notes[0]


def test_a_budget_beyond_the_baselines_run_is_not_extrapolated(evidence: Evidence) -> None:
    base = evidence.runs("baseline")[0]
    assert evidence.loss_at(base, 5.6, "reference_time") == pytest.approx(3.0)
    assert evidence.loss_at(base, 5.61, "reference_time") is None
    assert evidence.loss_at(base, 0.1, "reference_time") is None
    assert evidence.loss_at(base, None, "reference_time") is None


# ---- overfitting ----


def test_effects_are_against_neither_of_as_many_epochs(evidence: Evidence) -> None:
    frame = tables.TABLES["overfitting"][0](evidence, PLD)
    effects = {
        arm: number(frame, arm=arm, quantity="minus_neither")["measured"]
        for arm in ("epochs1_pld", "epochs1_dropout", "epochs40_pld", "epochs40_dropout")
    }
    assert effects == pytest.approx(
        {"epochs1_pld": 0.1, "epochs1_dropout": 0.2, "epochs40_pld": -0.15, "epochs40_dropout": -0.1}
    )
    change = number(frame, arm="epochs40_pld", quantity="minus_neither_change")
    assert change["measured"] == pytest.approx(-0.25)
    assert number(frame, arm="epochs1_pld", quantity="minus_neither_change")["n"] == 0


def test_train_loss_is_that_of_the_last_tenth(evidence: Evidence) -> None:
    # Lines at steps 380 and 400 of 400, on the way from 6 to 2.6: 2.77 and 2.6.
    assert budgets.final_train_loss(evidence.runs("epochs1_pld")[0]) == pytest.approx(2.685)
    frame = tables.TABLES["overfitting"][0](evidence, PLD)
    assert number(frame, arm="epochs1_pld", quantity="gap")["measured"] == pytest.approx(-0.085)


def test_two_arms_of_one_treatment_and_as_many_epochs_are_refused(tmp_path: Path) -> None:
    arms = {"baseline": 3.0, "epochs40_pld": 2.8, "epochs40_dropout": 2.85}
    dropout = ArmTags(treatment="dropout")
    tags = {"baseline": ArmTags(role="baseline"), "epochs40_pld": dropout, "epochs40_dropout": dropout}
    with pytest.raises(RecordError, match=r"epochs40_pld and epochs40_dropout: .*dropout"):
        budgets.epochs_arms(load_evidence(**write(tmp_path, arms), tags=tags))


def test_a_missing_treatment_is_a_line_of_dashes(tmp_path: Path) -> None:
    evidence = load_evidence(**write(tmp_path, {"baseline": 3.0, "epochs40_pld": 2.8, "epochs40_dropout": 2.85}))
    (table,) = shown("overfitting", evidence)
    assert [row[1] for row in table.rows] == ["PLD", "dropout", "neither"]
    assert table.rows[0][5] == "–"
    assert table.rows[2] == ("40", "neither", "–", "–", "–", "–", "–", "0")


def test_without_the_runs_the_table_says_so(tmp_path: Path) -> None:
    evidence = load_evidence(**write(tmp_path, {"baseline": 3.0}))
    assert tables.TABLES["overfitting"][0](evidence, PLD).empty
    (table,) = shown("overfitting", evidence)
    assert table.notes == ("Not measured here: no arms on a cut corpus that name a treatment.",)


# ---- memory ----


def test_memory_is_compared_with_the_baseline(tmp_path: Path) -> None:
    paths = write(tmp_path, {"baseline": 3.0, "preln": 2.9, "pld": 2.5})
    for folder in paths["pretrain"]:
        summary = json.loads((folder / "summary.json").read_text())
        saved = {"all_layers": 2**30, "mean_depth": 2**30}
        summary["saved_bytes"] = {"baseline": saved, "preln": None, "pld": {**saved, "mean_depth": 2**29}}[
            summary["arm"]
        ]
        (folder / "summary.json").write_text(json.dumps(summary))
    evidence = load_evidence(**paths)
    frame = tables.TABLES["memory"][0](evidence, PLD)
    assert number(frame, arm="pld", quantity="saved_mean_depth_ratio")["measured"] == pytest.approx(0.5)
    (table,) = shown("memory", evidence)
    memory = {row[0]: row[3:] for row in table.rows}
    ones = ("1024.00 / 1024.00", "1.000 / 1.000")
    assert memory["PLD"] == (*ones, "512.00 / 512.00", "0.500 / 0.500", "2")
    assert memory["PreLN, same learning rate"] == ("–", "–", "–", "–", "0")


def test_what_several_ranks_send_stands_beside_their_memory(tmp_path: Path) -> None:
    paths = write(tmp_path, {"baseline": 3.0, "pld": 2.5})
    for folder in paths["pretrain"]:
        summary = json.loads((folder / "summary.json").read_text())
        sent = {"baseline": 4_000_000, "pld": 3_000_000}[summary["arm"]] * summary["steps"]
        (folder / "summary.json").write_text(json.dumps({**summary, "reduced_bytes": sent}))
    (table,) = shown("memory", load_evidence(**paths))
    place = table.headers.index("gradients sent by a rank in a step [MB]")
    assert {row[0]: row[place] for row in table.rows}["PLD"] == "3.00 / 3.00"
    assert not any("peak memory" in header for header in table.headers)  # of a CPU it would be the process's


@pytest.mark.parametrize("name", ["table3", "time_to_target", "fair_budgets", "overfitting", "memory"])
def test_every_table_is_written_in_every_format(evidence: Evidence, tmp_path: Path, name: str) -> None:
    tables.write_table(name, evidence, PAPERS, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{name}.{suffix}" for suffix in ("csv", "html", "md", "paper.tex", "tex")
    ]
    lines = [line for line in (tmp_path / f"{name}.md").read_text().splitlines() if line.startswith("|")]
    assert len(lines) > 4
    assert not set("†≤±–") & set((tmp_path / f"{name}.tex").read_text())


@pytest.mark.parametrize("name", ["table3", "time_to_target", "fair_budgets", "overfitting", "memory"])
def test_every_table_can_be_made_from_the_baseline_alone(tmp_path: Path, name: str) -> None:
    tables.write_table(name, load_evidence([runs.write_pretrain(tmp_path, "baseline", 1)]), PAPERS, tmp_path / name)
    assert "nan" not in (tmp_path / f"{name}.md").read_text()
