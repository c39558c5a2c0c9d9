"""The story in words: another outcome gives another sentence, and what is not measured is named, not guessed."""

from dataclasses import replace
from typing import Any

import pytest

from pldrepro.analysis.finding import NOTHING, SHOWN, Finding
from pldrepro.exhibits.story_text import TOPICS, format_story, markdown_story, sentences
from pldrepro.stats import Estimate

TIME = Finding("time", "saving", "reproduced", Estimate(23.0, 21.0, 25.0, 5, ""), "%", "table1", reported=24.0)
TO_LOSS = [
    Finding("to_loss", "speedup", "reproduced", Estimate(2.7, 2.5, 2.9, 5, ""), "x", "table1", reported=2.8),
    Finding("to_loss", "reached", SHOWN, Estimate(5, None, None, 5, ""), "runs", "time_to_target"),
]
COST = Finding(
    "equal_samples", "loss", "above", Estimate(0.05, 0.02, 0.08, 5, ""), "nats", "table3", "PLD", "PreLN"
)  # fmt: skip


def said(*findings: Finding) -> dict[str, str]:
    return {one.title: one.text for one in sentences(findings)}


@pytest.mark.parametrize(
    ("outcome", "text"),
    [
        ("reproduced", "PLD needs less time per sample than the baseline: 23.0 % [21.0, 25.0] (5 seeds; paper: 24 %), "
         "reproduced."),
        ("exceeded", "PLD needs less time per sample than the baseline: 23.0 % [21.0, 25.0] (5 seeds; paper: 24 %), "
         "more than reported."),
        ("same direction", "PLD needs less time per sample than the baseline: 23.0 % [21.0, 25.0] (5 seeds; paper: "
         "24 %), same direction."),
        ("contradicted", "PLD needs more time per sample than the baseline: 23.0 % [21.0, 25.0] (5 seeds; paper: 24 "
         "%), which contradicts the claim at this scale."),
        ("inconclusive", "It is open whether PLD needs less time per sample than the baseline: 23.0 % [21.0, 25.0] (5 "
         "seeds; paper: 24 %; 4 of 5 above 0; p < 0.05 by itself, not after Holm's adjustment)."),
    ],
)  # fmt: skip
def test_each_verdict_has_its_own_sentence(outcome: str, text: str) -> None:
    reason = "adjustment" if outcome == "inconclusive" else ""
    assert said(replace(TIME, outcome=outcome, open=reason, agree=4))["Time per sample"] == text


def test_what_follows_from_the_design_has_words_by_its_sign() -> None:
    saved = Finding("flops", "saving", "by construction", Estimate(18.0, 17.0, 19.0, 5, ""), "%", claimed="above")
    lost = replace(saved, estimate=Estimate(-3.0, -4.0, -2.0, 5, ""))
    for one, words in (
        (saved, "PLD needs fewer FLOPs per sample by design"),
        (lost, "PLD needs more FLOPs per sample"),
    ):
        assert said(one)["FLOPs per sample"].startswith(words)


@pytest.mark.parametrize(("limit", "fits"), [(25.0, True), (30.0, False)])
def test_which_formula_the_reported_saving_fits_is_worked_out(limit: float, fits: bool) -> None:
    by = {"paper_eq": 25.8, "paper_alg1": 21.8, "limit": limit}
    found = [
        Finding("flops", "saving", "by construction", Estimate(18.0, 17.0, 19.0, 5, ""), "%", reported=25.0),
        *(
            Finding("flops", name, SHOWN, Estimate(value, None, None, 0, ""), "%", note="theta_bar 0.5")
            for name, value in by.items()
        ),
    ]
    text = (
        "So the paper's 25 % fits the equation, not Algorithm 1, which at theta_bar 0.5 saves less than 25 % at any "
        "scale."
    )
    assert (text in said(*found)["FLOPs per sample"]) == fits


def test_two_findings_of_one_part_are_both_told() -> None:
    first, second = (
        Finding("equal_cost", "fewer_layers", "above", Estimate(gap, 0.01, 0.2, 5, ""), "nats", "table3", "PLD", arm)
        for arm, gap in (("three layers", 0.05), ("two layers", 0.11))
    )
    cost = [
        Finding("equal_cost", "fewer_layers_time", SHOWN, Estimate(saved, None, None, 5, ""), "%", arm=arm)
        for arm, saved in (("three layers", 9.0), ("two layers", 19.0))
    ]
    text = said(first, second, *cost)["Cost of dropping, equal cost"]
    order = [text.index(some) for some in ("(9.0 % less time", "0.050 nats", "(19.0 % less time", "0.110 nats")]
    assert order == sorted(order)


def test_a_failed_premise_says_that_the_loss_is_not_reached() -> None:
    bound = replace(TO_LOSS[0], outcome="premise fails", bound="≤", estimate=Estimate(1.2, None, None, 5, ""))
    none = replace(TO_LOSS[1], estimate=Estimate(0, None, None, 5, ""))
    assert said(bound, none)["Time to the baseline's loss"] == (
        "PLD does not reach the baseline's final loss (0 of 5 runs get there). Its speedup is bounded by the time that "
        "a whole run saves: at most 1.20 x (5 seeds; paper: 2.8 x); not judged."
    )
    assert said(*TO_LOSS)["Time to the baseline's loss"].startswith("PLD reaches the baseline's final loss sooner")
    touched = replace(TO_LOSS[0], outcome="premise fails"), TO_LOSS[1]
    assert said(*touched)["Time to the baseline's loss"].startswith(
        "PLD touches the baseline's final loss but ends above it (5 of 5 runs get there). Its speedup is not one to "
        "the same loss: 2.70 x"
    )


def test_below_three_seeds_the_values_are_shown_and_nothing_is_judged() -> None:
    two = replace(COST, outcome="undecided", open="seeds", estimate=Estimate(0.05, -0.3, 0.4, 2, "", (0.04, 0.06)))
    assert said(two)["Cost of dropping, equal samples"] == (
        "It is not judged whether dropping raises the final loss at equal samples, against PreLN: 0.040 / 0.060 nats "
        "(2 seeds; below 3 seeds nothing is judged)."
    )


def test_an_undecided_difference_says_what_is_found_with_80_percent_power() -> None:
    wide = replace(COST, outcome="undecided", open="interval", estimate=Estimate(0.02, -0.03, 0.07, 5, ""), sees=0.065)
    seen = "5 seeds detect a difference of 0.065 nats with 80 % power (one test, not adjusted)."
    assert said(wide)["Cost of dropping, equal samples"].endswith(f" nats [−0.030, 0.070] (5 seeds). {seen}")
    lost = replace(wide, open="adjustment")
    assert "(5 seeds; p < 0.05 by itself, not after Holm's adjustment)" in said(lost)["Cost of dropping, equal samples"]
    assert seen not in said(COST)["Cost of dropping, equal samples"]
    sides = [said(replace(COST, outcome=side))["Cost of dropping, equal samples"][:15] for side in ("below", "above")]
    assert sides == ["Dropping lowers", "Dropping raises"]


def test_the_cost_at_the_baselines_rate_is_told_as_a_number() -> None:
    lower = Finding("equal_samples", "lower_rate", SHOWN, Estimate(0.1, 0.08, 0.12, 5, ""), "nats")
    text = said(COST, lower)["Cost of dropping, equal samples"]
    assert text.endswith("rate for both the difference is +0.100 nats [0.080, 0.120] (5 seeds; shown, not tested).")


def test_scores_at_the_floor_judge_nothing() -> None:
    floor = Finding("glue", "baseline", "not measured at this scale", Estimate(0.5, -1.0, 2.0, 3, ""), "points",
                    note="a score above the floor (38.5 against 37.0)")  # fmt: skip
    assert said(floor)["GLUE"] == "GLUE is not judged here; that needs a score above the floor (38.5 against 37.0)."


def test_the_parts_are_of_the_speedup_or_of_the_loss() -> None:
    preln = Finding("parts", "preln_time", "above", Estimate(1.7, 1.5, 1.9, 3, ""), "x", note="PreLN")
    own = Finding("parts", "pld_time", "undecided", Estimate(1.0, 0.9, 1.1, 3, ""), "x", note="dropping layers")
    assert said(preln, own)["Where it comes from"] == (
        "The speedup is the product of the three changes (3 seeds): PreLN 1.70 x [1.50, 1.90] and dropping layers 1.00 "
        "x [0.90, 1.10] (not significant)."
    )
    loss = replace(own, part="pld_loss", unit="nats", outcome="above")
    assert "final loss (3 seeds; below 0 is better): dropping layers +1.000 nats" in said(loss)["Where it comes from"]
    more = replace(loss, part="preln_loss", note="PreLN", estimate=Estimate(-0.0004, None, None, 5, ""))
    assert said(more, loss)["Where it comes from"] == (
        "What each change adds to the final loss (below 0 is better): PreLN 0.000 nats (5 seeds) and dropping layers "
        "+1.000 nats [0.900, 1.100] (3 seeds)."
    )


def test_comparisons_of_sbld_each_have_their_own_seeds() -> None:
    loss, order = (
        Finding("sbld", part, outcome, Estimate(gap, gap - 0.1, gap + 0.1, n, ""), "nats", open=why)
        for part, outcome, gap, n, why in (("loss", "above", 0.2, 5, ""), ("order", "undecided", 0.05, 2, "seeds"))
    )
    assert said(loss, order)["SBLD"] == (
        "Its final loss on GPT (below 0 is better): +0.200 nats [0.100, 0.300] against no dropping (5 seeds) and "
        "+0.050 nats [−0.050, 0.150] against its schedule with layers ranked by depth (2 seeds; below 3 seeds "
        "nothing is judged)."
    )
    random = replace(loss, part="random", outcome="undecided", open="interval")
    assert said(loss, random)["SBLD"].startswith("Its final loss on GPT (5 seeds; below 0 is better): +0.200 nats")
    assert said(loss, random)["SBLD"].endswith("against random ranking (not significant).")


def test_a_rival_at_equal_time_is_named_with_its_time() -> None:
    twin = Finding("equal_cost", "twin", "above", Estimate(0.1, 0.05, 0.15, 5, ""), "nats", "", "PLD", "stopped PreLN")
    times = [Finding("equal_cost", "twin_time", SHOWN, Estimate(saved, None, None, 5, ""), "%", arm=arm)
             for arm, saved in (("stopped PreLN", -2.8), ("another", 9.0))]  # fmt: skip
    assert said(twin, *times)["Cost of dropping, equal cost"] == (
        "At about equal time PLD's final loss, against stopped PreLN (2.8 % more reference time than PLD), is higher: "
        "0.100 nats [0.050, 0.150] (5 seeds)."
    )


def early(outcome: str, **more: Any) -> str:
    """What is said of checkpoint 100 where the claim on cloze contrasts has this verdict."""
    speedup = Finding("early", "cloze_speedup", outcome, Estimate(2.2, 2.1, 2.3, 5, ""), "x", "table1", null=1.0,
                      basis="of this factor 1.86 x is the earlier end", **more)  # fmt: skip
    gain = Finding("early", "cloze_gain", SHOWN, Estimate(-3.0, -7.0, 1.0, 5, ""), "points", "contrasts", null=-1.0,
                   agree=4)  # fmt: skip
    return said(speedup, gain)["Quality at checkpoint 100 of 186"]


@pytest.mark.parametrize(
    ("outcome", "quality", "equal"),
    [
        ("reproduced", "there is similar to the finished baseline's, not more than 1 point below (reproduced): ", ""),
        ("premise fails", "there is more than 1 point below the finished baseline's: ", ", but not at equal quality"),
        (
            "inconclusive",
            "there is similar to the finished baseline's, not more than 1 point below: ",
            "; whether at equal quality is open",
        ),
    ],
)
def test_at_checkpoint_100_quality_comes_before_time(outcome: str, quality: str, equal: str) -> None:
    text = early(outcome, open="condition" if outcome == "inconclusive" else "")
    assert text.startswith("It is open whether") == (outcome == "inconclusive")
    assert f"{quality}−3.0 points [−7.0, 1.0] (5 seeds; 4 of 5 below −1). The baseline's whole run takes" in text
    assert f" 2.20 x [2.10, 2.30] the time that PLD takes up to there (5 seeds){equal}. Of this factor 1.86 x" in text


def other_way(arm: str, outcome: str, gap: float, saved: float, **more: Any) -> list[Finding]:
    estimate = Estimate(gap, gap - 0.1, gap + 0.1, 5, "")
    loss = Finding("other_ways", arm, outcome, estimate, "nats", "table3", arm, "PLD", **more)
    time = Estimate(saved, saved - 1.0, saved + 2.0, 5, "")
    return [loss, Finding("other_ways", f"{arm}_time", SHOWN, time, "%", "table3", arm=arm)]


def test_other_ways_to_save_are_told_by_the_side_of_their_loss_with_the_time_they_save() -> None:
    stacking, growing = (
        other_way("stacking", "below", -0.2, 25.0),
        other_way("growing", "undecided", -0.05, -2.0, agree=4),
    )
    text = said(*growing, *stacking)["Other ways to save"]
    assert text == (
        "Below PLD's final loss at equal samples (their loss minus PLD's): stacking −0.200 nats [−0.300, −0.100] (25.0 "
        "% [24.0, 27.0] less reference time than PLD; 5 seeds). Not shown to differ from PLD's final loss at equal "
        "samples (their loss minus PLD's): growing −0.050 nats [−0.150, 0.050] (2.0 % [0.0, 3.0] more reference time "
        "than PLD; 5 seeds; 4 of 5 below 0)."
    )
    above = said(*other_way("stacking", "above", 0.2, 25.0))["Other ways to save"]
    assert above.startswith("Above PLD's final loss at equal samples (their loss minus PLD's): stacking +0.200 nats")
    few = said(*other_way("stacking", "undecided", -0.2, 25.0, open="seeds"))["Other ways to save"]
    assert "below 3 seeds nothing is judged" in few


@pytest.mark.parametrize(("gap", "words"), [(0.08, "+0.080"), (-0.08, "−0.080")])
def test_the_rate_that_they_share_and_the_distance_from_the_baseline_are_told(gap: float, words: str) -> None:
    rate = Finding("other_ways", "rate", SHOWN, Estimate(0.1, None, None, 5, ""), "nats", "table3")
    best = Finding("other_ways", "best", SHOWN, Estimate(gap, None, None, 5, ""), "nats", "table3", arm="stacking")
    ways = other_way("stacking", "below", -0.2, 25.0), other_way("growing", "undecided", -0.1, 8.0)
    alone = said(*ways[0], rate, best)["Other ways to save"]
    assert "It uses PLD's learning rate, " in alone
    assert alone.endswith(f"Its loss is {words} nats against the baseline's.")
    text = said(*ways[0], *ways[1], rate, best)["Other ways to save"]
    assert "All of them use PLD's learning rate, which by itself changes the final loss of PreLN without" in text
    assert text.endswith(f"+0.100 nats. The lowest mean loss is that of stacking: {words} nats against the baseline's.")


def test_a_score_at_the_floor_is_not_judged_at_checkpoint_100() -> None:
    assert early("not measured at this scale", note="a score above the floor (50.1)").startswith(
        "The score on cloze contrasts is not judged: it needs a score above the floor (50.1): −3.0 points"
    )


def test_verdicts_on_fewer_estimates_say_so() -> None:
    counts = [
        Finding("open", name, SHOWN, Estimate(count, None, None, 9, "count"), "claims", note=note)
        for name, count, note in (("reproduced", 5, ""), ("same direction", 2, "1"), ("inconclusive", 2, ""))
    ]
    assert said(*counts)["Verdicts"] == (
        "Of 9 claims of the papers: 5 reproduced, 2 same direction (on 1 estimate), 2 inconclusive."
    )


def test_what_is_not_measured_is_named_once_and_has_no_sentence() -> None:
    found = said(replace(TIME, outcome=NOTHING, estimate=None), COST)
    assert list(found) == ["Cost of dropping, equal samples", "Not in this set"]
    assert found["Not in this set"].startswith("The time of a sample, the FLOPs of a sample, ")
    assert all(about.missing for name, about in TOPICS.items() if name not in ("parts", "open"))


def test_terminal_and_page_show_marks_and_exhibits() -> None:
    unverified = replace(TIME, provenance="unverified")
    page, terminal = markdown_story([unverified]), format_story([unverified])
    assert "- **Time per sample.** " in page
    assert "paper: 24 %†), reproduced. (`table1`)" in page
    assert page.endswith("† reported value not checked against the paper itself.")
    assert "† reported value" in terminal
    assert max(map(len, terminal.splitlines())) <= 118
