"""The finding in README.md: its words follow the outcomes of every set, and what no set measures is left out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pldrepro.analysis.finding import ABOVE, BELOW, NOTHING, SHOWN, UNDECIDED, Finding
from pldrepro.errors import RecordError
from pldrepro.exhibits import readme
from pldrepro.stats import Estimate

TIME = Finding("time", "saving", "same direction", Estimate(16.0, 13.0, 19.0, 3, ""), "%", counts="processes",
               reported=24.0, claimed=ABOVE)  # fmt: skip
FLOPS = Finding("flops", "saving", "by construction", Estimate(18.0, None, None, 3, ""), "%", reported=25.0,
                claimed=ABOVE)  # fmt: skip
SPEEDUP = Finding("to_loss", "speedup", "same direction", Estimate(3.2, 2.8, 3.7, 3, ""), "x", null=1.0, reported=2.8,
                  claimed=ABOVE)  # fmt: skip
BOUND = replace(SPEEDUP, outcome="premise fails", estimate=Estimate(1.2, None, None, 10, ""), bound="≤")
REACHED = Finding("to_loss", "reached", SHOWN, Estimate(0, None, None, 10, ""), "runs")
GAP = Finding("to_loss", "gap", ABOVE, Estimate(0.2, 0.1, 0.3, 10, ""), "nats")
FACTORS = [
    Finding("parts", "preln_time", ABOVE, Estimate(1.6, 1.4, 1.8, 3, ""), "x", null=1.0, note="PreLN"),
    Finding("parts", "preln_higher_lr_time", ABOVE, Estimate(1.75, 1.6, 1.9, 3, ""), "x", null=1.0, note="the rate"),
    Finding("parts", "pld_time", UNDECIDED, Estimate(1.1, 0.9, 1.3, 3, ""), "x", null=1.0, note="dropping"),
]
COST = Finding("equal_samples", "loss", ABOVE, Estimate(0.05, 0.04, 0.06, 3, ""), "nats")
OPEN_COST = replace(COST, outcome=UNDECIDED, estimate=Estimate(0.02, -0.01, 0.05, 10, ""))
LOWER = Finding("equal_samples", "lower_rate", SHOWN, Estimate(0.1, 0.08, 0.12, 5, ""), "nats")
RATE = Finding("other_ways", "rate", SHOWN, Estimate(0.1, 0.05, 0.15, 5, ""), "nats")
ORDER = Finding("sbld", "order", UNDECIDED, Estimate(0.001, -0.01, 0.012, 3, ""), "nats", against="depth")
RANDOM = Finding("sbld", "random", BELOW, Estimate(-0.3, -0.4, -0.2, 3, ""), "nats", note="mean of 2 per seed")
RIVAL = Finding("equal_cost", "fewer_layers", BELOW, Estimate(-0.1, -0.2, -0.05, 5, ""), "nats", against="shallow")
RIVAL_TIME = Finding("equal_cost", "fewer_layers_time", SHOWN, Estimate(9.0, 7.0, 11.0, 5, ""), "%", arm="shallow")


def items(**sets: Sequence[Finding]) -> list[str]:
    return readme.readme_finding(sets).splitlines()


def in_order(text: str, *pieces: str) -> bool:
    """Whether a text has all pieces, one after the other."""
    for piece in pieces:
        _, found, text = text.partition(piece)
        if not found:
            return False
    return True


def test_sets_with_one_outcome_share_a_sentence_and_the_reported_value() -> None:
    (item,) = items(a=[TIME, FLOPS], b=[TIME, FLOPS])
    time, flops = "16.0 % [13.0, 19.0] in `{}` (3 processes)", "18.0 % in `{}` (3 seeds)"
    assert in_order(item, "less time", time.format("a"), time.format("b"), "paper: 24 %.", "fewer FLOPs by design")
    assert in_order(item, "fewer FLOPs", flops.format("a"), flops.format("b"), "paper: 25 %.")
    assert item.count("paper") == item.count("needs") == 2


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        ("reproduced", "PLD needs less time"),
        ("contradicted", "PLD needs more time"),
        ("inconclusive", "Whether PLD needs less time per sample than the baseline is open"),
        ("not measured at this scale", "Whether PLD needs less time per sample than the baseline is not judged"),
    ],
)
def test_the_words_of_a_claim_are_those_of_its_verdict(outcome: str, words: str) -> None:
    assert items(a=[replace(TIME, outcome=outcome)])[0].startswith(f"- **What it saves.** {words}")
    both = items(a=[TIME], b=[replace(TIME, outcome=outcome)])[0]
    assert both.lower().count("per sample than the baseline") == (1 if outcome == "reproduced" else 2)


def test_by_construction_says_what_the_number_says() -> None:
    more = replace(FLOPS, estimate=Estimate(-3.0, None, None, 3, ""))
    assert items(a=[more]) == [
        "- **What it saves.** It needs more FLOPs by design: −3.0 % in `a` (3 seeds); paper: 25 %."
    ]


def test_the_sets_with_a_speedup_come_first_and_take_it_apart() -> None:
    (item,) = items(a=[BOUND, REACHED, GAP], b=[SPEEDUP, *FACTORS])
    assert in_order(item, "In `b` PLD reaches", "3.20 x [2.80, 3.70]", "paper: 2.8 x", "PreLN 1.60 x [1.40, 1.80], ")
    assert in_order(item, "the rate 1.75 x [1.60, 1.90] and dropping 1.10 x [0.90, 1.30] (undecided). In `a`")
    assert in_order(item, "In `a` PLD does not reach", "0 of 10 runs", "0.200 nats [0.100, 0.300] above.")


def test_runs_that_touch_the_loss_and_end_above_it_are_not_said_to_miss_it() -> None:
    all_ten = replace(REACHED, estimate=Estimate(10, None, None, 10, "count"))
    (item,) = items(a=[BOUND, all_ten, GAP])
    assert "In `a` PLD touches the baseline's final loss but ends above it (10 of 10 runs get there)" in item


def test_an_open_speedup_is_not_told_as_one() -> None:
    (item,) = items(a=[replace(SPEEDUP, outcome="inconclusive")])
    assert "In `a` whether PLD reaches the baseline's final loss sooner is open: 3.20 x" in item
    assert "undecided)." in item
    (item,) = items(a=[replace(SPEEDUP, outcome="contradicted")])
    assert "In `a` PLD reaches the baseline's final loss later: 3.20 x" in item


def test_what_dropping_costs_is_first_said_where_it_is_decided() -> None:
    (item,) = items(a=[OPEN_COST], b=[COST, RIVAL, RIVAL_TIME])
    assert in_order(
        item, "raises", "0.050 nats [0.040, 0.060] in `b` (3 seeds)", "is open", "in `a` (10 seeds; undecided)"
    )
    rival = "that of a model with fewer layers and no dropping"
    assert item.endswith(
        f"PLD's final loss is below {rival} in `b` (which takes 9.0 % [7.0, 11.0] less reference time)."
    )


def test_the_cost_at_the_baselines_rate_is_shown_without_a_side() -> None:
    (item,) = items(a=[COST], b=[OPEN_COST, LOWER])
    assert in_order(
        item, "When both use the baseline's learning rate", "(not tested) is: 0.100 nats", "in `b` (5 seeds)."
    )


def losses(**sets: Sequence[Finding]) -> list[str]:
    """The rows of the table of losses."""
    return [line for line in readme.readme_losses(sets).splitlines()[2:] if line.startswith("|")]


def test_the_losses_say_what_is_undecided_or_not_tested_and_what_the_other_takes() -> None:
    another = replace(RIVAL_TIME, arm="another")
    assert losses(a=[OPEN_COST, LOWER], b=[COST, RIVAL, RIVAL_TIME, another]) == [
        "| PLD minus the same model without dropping | 0.020 [−0.010, 0.050], n = 10 (undecided) "
        "| 0.050 [0.040, 0.060], n = 3 |",
        "| PLD minus the same model without dropping, both at the baseline's learning rate "
        "| 0.100 [0.080, 0.120], n = 5 (not tested) | – |",
        "| PLD minus a model with fewer layers and no dropping | – "
        "| −0.100 [−0.200, −0.050], n = 5 (9.0 % [7.0, 11.0] less time) |",
    ]


def test_what_the_learning_rate_does_is_tested_where_it_is_a_part_and_shown_elsewhere() -> None:
    part = Finding("parts", "preln_higher_lr_loss", ABOVE, Estimate(0.2, 0.1, 0.3, 10, ""), "nats", note="the rate")
    (row,) = losses(a=[part, RATE], b=[RATE])
    tested, shown = "0.200 [0.100, 0.300], n = 10", "0.100 [0.050, 0.150], n = 5 (not tested)"
    assert row == f"| PLD's learning rate minus the baseline's, without dropping | {tested} | {shown} |"


def test_the_losses_name_other_ways_that_a_set_decides_and_sblds_rivals() -> None:
    growing, stacking = other_way("growing", ABOVE, 0.05), other_way("stacking", BELOW, -0.2)
    assert losses(a=[*other_way("growing", UNDECIDED, -0.05), *stacking], b=[*growing, ORDER, RANDOM]) == [
        "| stacking minus PLD | −0.200 [−0.300, −0.100], n = 5 (25.0 % [24.0, 26.0] less time) | – |",
        "| growing minus PLD | −0.050 [−0.150, 0.050], n = 5 (undecided; 25.0 % [24.0, 26.0] less time) "
        "| 0.050 [−0.050, 0.150], n = 5 (25.0 % [24.0, 26.0] less time) |",
        "| GPT: SBLD (our reading) minus random ranking | – | −0.300 [−0.400, −0.200], n = 3 (mean of 2 per seed) |",
        "| GPT: SBLD (our reading) minus its schedule with layers ranked by depth | – "
        "| 0.001 [−0.010, 0.012], n = 3 (undecided) |",
    ]
    assert readme.readme_losses({"a": [TIME]}) == ""


def test_a_run_that_ends_at_the_cost_of_dropping_is_the_rival_at_equal_time() -> None:
    twin = Finding("equal_cost", "twin", UNDECIDED, Estimate(-0.01, -0.04, 0.02, 5, ""), "nats", against="PreLN")
    base = Finding("equal_cost", "baseline", ABOVE, Estimate(0.1, 0.07, 0.13, 5, ""), "nats", against="PostLN")
    time = Finding("equal_cost", "twin_time", SHOWN, Estimate(-2.0, None, None, 5, ""), "%", arm="PreLN")
    (item,) = items(a=[COST, twin, base], b=[COST, twin], c=[COST, replace(twin, outcome=BELOW)])
    rival = "that of the same model without dropping"
    assert in_order(
        item, "At about equal time (the other run's schedule ends there) PLD's final loss is not shown to differ from "
        f"{rival} in `a` and `b`; it is below {rival} in `c`. ",
        "At about equal time PLD's final loss is above the baseline's in `a`.",
    )  # fmt: skip
    (row,) = losses(a=[twin, time])
    assert row.endswith("| −0.010 [−0.040, 0.020], n = 5 (undecided; 2.0 % more time) |")


def test_checkpoints_before_the_end_are_told_without_a_side() -> None:
    early = Finding("equal_cost", "early", SHOWN, Estimate(-0.4, -0.6, -0.2, 5, ""), "nats", arm="ckp87")
    (item,) = items(a=[COST], b=[COST, early])
    assert (
        "Stopped earlier in `b`, PLD's loss differs from that of the baseline decayed at that time by −0.400 nats "
        "[−0.600, −0.200] at checkpoint 87 (5 seeds); not tested."
    ) in item
    assert item.count("Stopped") == 1


def test_the_loss_of_a_ranking_is_told_against_other_orders() -> None:
    pld, none = (replace(ORDER, part=part, outcome=ABOVE) for part in ("pld", "loss"))
    (item,) = items(a=[], b=[ORDER, RANDOM, none, pld])
    assert item == (
        "- **SBLD.** Its final loss on GPT (`b`, equal samples) is lower than with random ranking; higher than with no "
        "dropping and PLD; not shown to differ from that of its schedule with layers ranked by depth."
    )
    time = Finding("sbld", "time", "by construction", Estimate(20.0, 19.0, 21.0, 3, ""), "%", reported=19.67,
                   claimed=ABOVE)  # fmt: skip
    (item,) = items(a=[time])
    assert item == (
        "- **SBLD.** SBLD (our reading) saves training time by design: 20.0 % [19.0, 21.0] in `a` (3 seeds); paper: "
        "19.67 %."
    )


def other_way(arm: str, outcome: str, gap: float) -> list[Finding]:
    estimate = Estimate(gap, gap - 0.1, gap + 0.1, 5, "")
    time = Finding("other_ways", f"{arm}_time", SHOWN, Estimate(25.0, 24.0, 26.0, 5, ""), "%", arm=arm)
    return [Finding("other_ways", arm, outcome, estimate, "nats", arm=arm), time]


def test_other_ways_to_save_are_told_by_their_side_with_the_rate_that_they_share() -> None:
    best = Finding("other_ways", "best", SHOWN, Estimate(0.3, 0.2, 0.4, 5, ""), "nats", arm="stacking")
    growing, stacking = other_way("growing", UNDECIDED, -0.05), other_way("stacking", BELOW, -0.2)
    more = [*other_way("shrinking", UNDECIDED, 0.01), *other_way("dropping", UNDECIDED, 0.02)]
    (item,) = items(a=[], b=[*growing, *stacking, *more, RATE, best], c=other_way("growing", ABOVE, 0.2))
    assert item == (
        "- **Other ways to save.** In `b`, at equal samples and PLD's learning rate, stacking ends at a lower loss "
        "than PLD; growing, shrinking and dropping are not shown to differ from PLD. Stacking differs from the "
        "baseline by +0.300 nats [0.200, 0.400] (5 seeds; not tested). In `c`, at equal samples, growing ends at a "
        "higher loss than PLD."
    )


def test_what_no_set_measures_is_left_out() -> None:
    assert items(a=[Finding("time", "saving", NOTHING)], b=[]) == []


@pytest.mark.parametrize("text", ["# none", "<!-- results: begin -->\n\n<!-- results: end -->\n" * 2])
def test_a_page_without_one_pair_of_markers_is_refused(text: str, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(text, "utf-8")
    with pytest.raises(RecordError, match=r"README\.md: expected one pair"):
        readme.write_readme([], page)
