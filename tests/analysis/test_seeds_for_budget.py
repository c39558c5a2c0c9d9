"""What a budget pays for: seeds, arms and effects, against costs and values worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pldrepro.__main__ import main
from pldrepro.analysis.seeds_for_budget import (
    Allowance,
    Cost,
    allowance,
    by_importance,
    detectable_effect,
    recorded_spreads,
    study_cost,
)
from pldrepro.config.study import load_study
from pldrepro.costs.plan import Device, rule_prices
from pldrepro.stats import power

# Two studies: 2 hours of calibration; arms of 10, 5 and 3 hours, and two of 4 hours.
COSTS = [Cost(1.0, {"baseline": 10.0, "pld": 5.0, "sbld": 3.0}), Cost(1.0, {"baseline": 4.0, "pld": 4.0})]
ALL = (("baseline", "pld", "sbld"), ("baseline", "pld"))


@pytest.mark.parametrize(
    ("hours", "expected"),
    [
        (1000.0, Allowance(38, ALL, 990.0)),  # (1000 - 2) / 26 = 38.4
        (80.0, Allowance(3, ALL, 80.0)),
        (79.9, Allowance(2, ALL, 54.0)),
        (53.9, Allowance(2, (("baseline", "pld"), ("baseline", "pld")), 48.0)),  # without SBLD's 2 x 3 hours
        (47.9, Allowance(1, ALL, 28.0)),
        (27.9, Allowance(1, (("baseline", "pld"), ("baseline", "pld")), 25.0)),
        (24.9, Allowance(0, ((), ()), 0.0)),
    ],
)
def test_seeds_and_arms(hours: float, expected: Allowance) -> None:
    assert allowance(COSTS, hours) == expected


hours = st.floats(0.01, 1e4)
studies = st.lists(
    st.builds(
        lambda once, arms: Cost(once, {f"arm{number}": cost for number, cost in enumerate(arms)}),
        hours,
        st.lists(hours, min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=3,
)


@given(studies, hours, hours)
def test_more_hours_never_mean_fewer_seeds(costs: list[Cost], first: float, second: float) -> None:
    fewer, more = (allowance(costs, budget) for budget in sorted((first, second)))
    assert fewer.seeds <= more.seeds
    if fewer.seeds == more.seeds:
        assert sum(map(len, fewer.arms)) <= sum(map(len, more.arms))
    assert more.hours <= max(first, second) * (1 + 1e-6)


def test_the_baseline_pld_its_model_and_sbld_are_left_out_last() -> None:
    paper = load_study(Path("config/paper.yaml"))
    order = by_importance(paper)
    assert order[:6] == ["baseline", "pld", "preln_higher", "sbld", "baseline_higher", "preln"]
    assert sorted(order) == sorted(paper.settings.arms)


def test_a_studys_cost_is_what_its_rules_cost() -> None:
    device = Device(peak=1e12, utilisation=0.5, note="a card")
    gpt = load_study(Path("config/smoke_gpt.yaml"))
    cost = study_cost(gpt, device)
    assert cost.of(1, list(cost.arms)) == pytest.approx(
        math.fsum(price.seconds for price in rule_prices(gpt, device).values()) / 3600
    )


def test_the_smallest_effect_is_where_power_reaches_eighty_percent() -> None:
    # Half a standard deviation takes 34 pairs, a whole one 10 (Cohen 1988).
    assert detectable_effect(34) < 0.5 < detectable_effect(33)
    assert detectable_effect(10) < 1.0 < detectable_effect(9)
    assert power(3, detectable_effect(3), 1.0) == pytest.approx(0.8, abs=1e-5)


def test_spreads_come_from_the_recorded_runs_with_most_seeds() -> None:
    spreads = recorded_spreads(["bert", "gpt"])
    assert {spread.place for spread in spreads if spread.family == "bert"} == {"results/recorded/cpu-mini-ablation"}
    assert {(spread.family, spread.quantity, spread.deviation.n) for spread in spreads} == {
        ("bert", "validation_loss", 3), ("bert", "glue_nine", 3), ("gpt", "validation_loss", 2),
    }  # fmt: skip
    assert [spread.against for spread in spreads[:3:2]] == ["PostLN baseline", "PreLN, higher learning rate"]
    effect = spreads[0].effect(10)
    assert effect.value == pytest.approx(detectable_effect(10) * spreads[0].deviation.value)
    assert effect.low is not None
    assert effect.low < effect.value


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["plan", *arguments]) == 0
    return capsys.readouterr().out


def test_a_budget_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--configfile", "config/paper.yaml", "config/paper_gpt.yaml", "--device", "a100"]
    text = plan(capsys, *files, "--budget-hours", "20000")
    assert "what fits 20,000 hours of a100" in text
    assert "of all 26 arms" in text
    assert "cpu-mini-ablation" in text
    assert max(map(len, text.splitlines())) < 100
    few = plan(capsys, *files, "--budget-hours", "2500")
    assert "2 seeds of 13 arms" in few
    assert "Left out of paper: " in few
    assert "One seed detects nothing" in plan(capsys, *files, "--budget-hours", "900")
    assert "Nothing: one seed" in plan(capsys, *files, "--budget-hours", "100")
