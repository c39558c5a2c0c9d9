"""Layer dropping: literals of the paper, identities, dialects, and gates that never change."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pldrepro.config.base import validate
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import (
    DIALECTS,
    DropSettings,
    Gate,
    all_kept,
    allocate,
    draw_gates,
    evaluation_scales,
    expected_depth,
    explain,
    joins,
    keep_probabilities,
    layer_numbers,
    match_depth,
    mean_expected_depth,
    residual_scales,
    theta,
    uniform_draw,
)

PLD = DropSettings(dialect="paper_alg1")
END = {"step": 1000, "num_steps": 1000}


def gates(
    drop: DropSettings, seed: int = 1, step: int = 0, micro_step: int = 0, num_steps: int = 1200, layers: int = 12
):
    return draw_gates(drop, seed=seed, step=step, micro_step=micro_step, num_steps=num_steps, num_layers=layers)


def picture(drawn: tuple[Gate, ...]) -> str:
    return "".join("x" if gate.keep else "-" for gate in drawn)


policies = st.builds(
    lambda **fields: DropSettings(
        **fields | ({"allocation": "linear_from_first"} if fields["residual_scale"] == "inverse_of_next" else {})
    ),
    schedule=st.sampled_from(["none", "constant", "exponential", "linear", "cosine"]),
    theta_bar=st.floats(0.01, 1),
    gamma_times_steps=st.floats(0.1, 1000),
    theta_lag=st.integers(0, 3),
    allocation=st.sampled_from(["uniform", "linear", "linear_from_first"]),
    residual_scale=st.sampled_from(["inverse", "inverse_of_next", "none", "test_time"]),
    resample_gates=st.sampled_from(["step", "micro_batch"]),
    empty_draw=st.sampled_from(["identity", "run_all"]),
)


# ---- the schedule over time ----


@pytest.mark.parametrize("schedule", ["none", "exponential", "linear", "cosine"])
def test_theta_starts_at_one(schedule: str) -> None:
    assert theta(DropSettings(schedule=schedule), 0, 1000) == 1.0


def test_constant_is_theta_bar_from_the_start() -> None:
    assert theta(DropSettings(schedule="constant", theta_bar=0.8), 0, 1000) == 0.8


@pytest.mark.parametrize(("schedule", "halfway"), [("none", 1.0), ("linear", 0.75), ("cosine", 0.75)])
def test_theta_halfway(schedule: str, halfway: float) -> None:
    assert theta(DropSettings(schedule=schedule, theta_bar=0.5), 500, 1000) == pytest.approx(halfway)


def test_gamma_100_over_t_reaches_99_percent_of_the_drop_at_0_046_of_the_run() -> None:
    dropped = (1 - theta(PLD, 46_000, 1_000_000)) / 0.5
    assert dropped == pytest.approx(0.98995, abs=1e-5)
    assert (1 - theta(PLD, 46_052, 1_000_000)) / 0.5 >= 0.99


def test_gamma_is_per_step_of_the_whole_run() -> None:
    assert theta(PLD, 2_000, 200_000) == theta(PLD, 20, 2_000) == pytest.approx(0.5 + 0.5 / math.e)


def test_deepspeed_lags_one_step_behind() -> None:
    late = DropSettings(dialect="deepspeed")
    punctual = late.model_copy(update={"theta_lag": 0})
    assert theta(late, 0, 1000) == theta(late, 1, 1000) == 1.0
    assert theta(late, 8, 1000) == theta(punctual, 7, 1000)


def test_no_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="num_steps"):
        theta(PLD, 0, 0)


# ---- the allocation over depth ----


def test_layers_are_numbered_from_one() -> None:
    assert list(layer_numbers(3)) == [1, 2, 3]


def test_algorithm_1_of_twelve_layers_at_theta_one_half() -> None:
    expected = [float(Fraction(24 - fall, 24)) for fall in range(12)]
    assert allocate(PLD, 0.5, 12) == pytest.approx(expected)


def test_printed_equation_of_four_layers_at_theta_one_half() -> None:
    assert allocate(DropSettings(dialect="paper_eq"), 0.5, 4) == (0.875, 0.75, 0.625, 0.5)


@pytest.mark.parametrize(("dialect", "depth"), [("paper_alg1", 9.25), ("paper_eq", 8.75), ("deepspeed", 9.25)])
def test_expected_depth_of_twelve(dialect: str, depth: float) -> None:
    assert expected_depth(DropSettings(dialect=dialect), **END, num_layers=12) == pytest.approx(depth)


def test_nothing_is_dropped_at_the_start() -> None:
    assert expected_depth(PLD, 0, 1000, 12) == 12


def test_mean_depth_of_a_linear_schedule_lies_in_the_middle() -> None:
    linear = DropSettings(dialect="paper_alg1", schedule="linear")
    assert mean_expected_depth(linear, 10_000, 12) == pytest.approx((12 + 9.25) / 2, abs=1e-3)


def test_pld_spends_1_percent_of_the_run_undropped_on_the_average() -> None:
    # The mean of exp(-100 t/T) is 1/100, so the mean depth is 9.25 + 2.75/100.
    assert mean_expected_depth(PLD, 200_000, 12) == pytest.approx(9.2775, abs=2e-3)


@given(policies, st.integers(1, 24), st.integers(1, 500), st.data())
@settings(max_examples=100)
def test_keep_probabilities_are_probabilities_that_fall_with_depth_and_time(
    drop: DropSettings, num_layers: int, num_steps: int, data: st.DataObject
) -> None:
    early = data.draw(st.integers(0, num_steps))
    late = data.draw(st.integers(early, num_steps))
    keep = keep_probabilities(drop, early, num_steps, num_layers)
    assert all(0 < p <= 1 for p in keep)
    assert list(keep) == sorted(keep, reverse=True)
    assert 1 >= theta(drop, early, num_steps) >= theta(drop, late, num_steps) - 1e-12
    assert drop.schedule == "none" or theta(drop, late, num_steps) >= drop.theta_bar - 1e-12


@given(st.integers(0, 10**6), st.integers(0, 999), st.integers(1, 24))
def test_algorithm_1_always_keeps_layer_1(seed: int, step: int, num_layers: int) -> None:
    assert gates(PLD, seed, step, num_steps=1000, layers=num_layers)[0] == Gate(True, 1.0)


# ---- the residual scale ----


def test_deepspeed_scales_4_percent_too_much_at_layer_1_and_8_percent_at_layer_12() -> None:
    keep = allocate(PLD, 0.5, 12)
    right = residual_scales(PLD, keep, 0.5)
    deepspeed = residual_scales(DropSettings(dialect="deepspeed"), keep, 0.5)
    assert right[0] == 1.0
    assert deepspeed[0] / right[0] == pytest.approx(1.0435, abs=1e-4)
    assert deepspeed[11] / right[11] == pytest.approx(1.0833, abs=1e-4)


@given(st.floats(0.01, 1), st.integers(1, 24), st.sampled_from(["uniform", "linear", "linear_from_first"]))
def test_inverse_scale_keeps_the_expectation(level: float, num_layers: int, allocation: str) -> None:
    drop = DropSettings(allocation=allocation, residual_scale="inverse")
    keep = allocate(drop, level, num_layers)
    for p, scale in zip(keep, residual_scales(drop, keep, level), strict=True):
        assert p * scale == pytest.approx(1.0)


@pytest.mark.parametrize("dialect", ["no_train_no_gain", "layerdrop", "stochastic_depth"])
def test_dialects_that_do_not_scale_in_training(dialect: str) -> None:
    drop = DropSettings(dialect=dialect)
    kept = [gate.scale for step in range(50) for gate in gates(drop, step=step, num_steps=50) if gate.keep]
    assert set(kept) == {1.0}


def test_stochastic_depth_scales_at_test_time() -> None:
    assert evaluation_scales(DropSettings(dialect="stochastic_depth"), 0, 10, 4) == (0.875, 0.75, 0.625, 0.5)


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"stochastic_depth"}))
def test_other_dialects_evaluate_the_plain_model(dialect: str) -> None:
    assert evaluation_scales(DropSettings(dialect=dialect), 9, 10, 4) == (1.0, 1.0, 1.0, 1.0)


# ---- gates ----


def test_golden_draws() -> None:
    """Literals: whoever changes the generator changes every recorded run, and must notice."""
    draws = [uniform_draw("gate", 1, 0, 0, layer) for layer in range(3)]
    assert draws == [0.5945096379000703, 0.2592171976341501, 0.8856336311062155]


@pytest.mark.parametrize(
    ("step", "kept"),
    [(0, "xxxxxxxxxxxx"), (40, "xxxxxx-x--xx"), (100, "xxxxxx-x---x"), (1199, "xxxxxxx-xxx-")],
)
def test_golden_gates(step: int, kept: str) -> None:
    assert picture(gates(PLD, seed=1, step=step)) == kept


@pytest.mark.parametrize(("micro_step", "kept"), [(0, "xxxxxxxxxx--"), (1, "xxx--xx-x-x-")])
def test_golden_gates_per_micro_batch(micro_step: int, kept: str) -> None:
    deepspeed = DropSettings(dialect="deepspeed")
    assert picture(gates(deepspeed, seed=7, step=500, micro_step=micro_step, num_steps=1000)) == kept


def test_gates_of_a_step_are_shared_by_its_micro_batches() -> None:
    drawn = {gates(PLD, step=600, micro_step=micro_step) for micro_step in range(20)}
    assert len(drawn) == 1


def test_gates_of_a_micro_batch_are_drawn_anew() -> None:
    drop = DropSettings(dialect="paper_alg1", resample_gates="micro_batch")
    drawn = {gates(drop, step=600, micro_step=micro_step) for micro_step in range(20)}
    assert len(drawn) > 10


@given(policies, st.integers(0, 10**9), st.integers(0, 99), st.integers(0, 7), st.integers(1, 24))
def test_gates_depend_on_their_arguments_alone(
    drop: DropSettings, seed: int, step: int, micro_step: int, num_layers: int
) -> None:
    first = gates(drop, seed, step, micro_step, 100, num_layers)
    uniform_draw("something", "in between")
    assert gates(drop, seed, step, micro_step, 100, num_layers) == first
    assert len(first) == num_layers


def test_seeds_and_steps_differ() -> None:
    constant = DropSettings(schedule="constant", theta_bar=0.5)
    assert len({gates(constant, seed=seed) for seed in range(30)}) == 30
    assert len({gates(constant, step=step) for step in range(30)}) > 28


@pytest.mark.parametrize("redrawn", ["step", "micro_batch"])
def test_frequency_of_kept_gates_is_the_keep_probability(redrawn: str) -> None:
    drop = DropSettings(dialect="paper_eq", schedule="constant", resample_gates=redrawn)
    count, num_layers = 3000, 4
    kept = [0] * num_layers
    for step in range(count):
        for layer, gate in enumerate(gates(drop, step=step, micro_step=step % 2, num_steps=count, layers=num_layers)):
            kept[layer] += gate.keep
    for frequency, p in zip(kept, (0.875, 0.75, 0.625, 0.5), strict=True):
        assert frequency / count == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / count))


def test_gates_of_different_layers_are_independent() -> None:
    drop = DropSettings(schedule="constant", theta_bar=0.5)
    drawn = [gates(drop, step=step, layers=2) for step in range(2000)]
    both = sum(first.keep and second.keep for first, second in drawn) / len(drawn)
    assert both == pytest.approx(0.25, abs=0.04)


def test_an_empty_draw_runs_all_layers_only_where_the_dialect_says_so() -> None:
    fields = {"schedule": "constant", "theta_bar": 0.05, "allocation": "uniform"}
    empty = [gates(DropSettings(**fields), step=step, layers=2) for step in range(40)]
    full = [gates(DropSettings(**fields, empty_draw="run_all"), step=step, layers=2) for step in range(40)]
    seen = set()
    for identity, run_all in zip(empty, full, strict=True):
        nothing = not any(gate.keep for gate in identity)
        seen.add(nothing)
        assert all(gate.keep for gate in run_all) if nothing else run_all == identity
    assert seen == {True, False}


def test_all_kept() -> None:
    assert all_kept(2) == (Gate(True, 1.0), Gate(True, 1.0))
    assert all_kept(2, (0.5, 0.25)) == (Gate(True, 0.5), Gate(True, 0.25))


# ---- settings ----


@pytest.mark.parametrize("value", [0, -0.5, 1.01, float("nan"), float("inf")])
def test_theta_bar_outside_its_range_is_refused(value: float) -> None:
    with pytest.raises(SettingsError, match="theta_bar"):
        validate(DropSettings, {"dialect": "paper_alg1", "theta_bar": value}, "here")


@pytest.mark.parametrize("allocation", ["uniform", "linear"])
def test_inverse_of_next_needs_a_next_probability_above_zero(allocation: str) -> None:
    with pytest.raises(ValidationError, match="allowed: allocation linear_from_first"):
        DropSettings(allocation=allocation, residual_scale="inverse_of_next")


def test_theta_bar_of_one_drops_nothing() -> None:
    drop = DropSettings(dialect="paper_alg1", theta_bar=1)
    assert expected_depth(drop, **END, num_layers=12) == 12


def test_a_field_beside_the_dialect_wins() -> None:
    drop = DropSettings(dialect="deepspeed", theta_bar=0.9, resample_gates="step")
    assert (drop.theta_bar, drop.resample_gates, drop.residual_scale) == (0.9, "step", "inverse_of_next")


def test_unknown_dialect_names_those_there_are() -> None:
    with pytest.raises(ValidationError, match="unknown dialect 'alg2'"):
        DropSettings(dialect="alg2")


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_every_dialect_can_be_used_and_written_down(dialect: str) -> None:
    drop = DropSettings(dialect=dialect)
    assert DIALECTS[dialect].source
    assert DropSettings.model_validate(drop.model_dump(mode="json")) == drop


def test_no_train_no_gain() -> None:
    drop = DropSettings(dialect="no_train_no_gain")
    assert (drop.allocation, drop.residual_scale, drop.empty_draw) == ("linear", "none", "run_all")


def test_layerdrop_keeps_four_layers_in_five() -> None:
    assert keep_probabilities(DropSettings(dialect="layerdrop"), 0, 10, 3) == (0.8, 0.8, 0.8)


def test_explain_says_what_is_drawn() -> None:
    text = explain(PLD, seed=1, step=100, num_steps=1200, num_layers=4)
    assert "theta(t) = 0.5001" in text
    assert "expected depth 3.25 of 4, drawn 3; mean over the run 3.26" in text
    assert text.splitlines()[-1].split() == ["4", "0.6251", "dropped", "-"]
    assert text.splitlines()[-2].split() == ["3", "0.7501", "kept", "1.3332"]


@pytest.mark.parametrize("step", [-1, 1200])
def test_explain_refuses_a_step_that_is_not_in_the_run(step: int) -> None:
    with pytest.raises(ValueError, match=f"step {step}"):
        explain(PLD, seed=1, step=step, num_steps=1200, num_layers=4)


# ---- schedules that run backwards, and stacks that grow without sampling ----


@pytest.mark.parametrize("schedule", ["linear", "cosine", "exponential", "halving"])
def test_a_reversed_schedule_ends_at_one(schedule: str) -> None:
    forward, backward = (DropSettings(schedule=schedule, reverse=reverse) for reverse in (False, True))
    assert [theta(backward, step, 50) for step in range(50)] == [theta(forward, step, 50) for step in range(49, -1, -1)]
    assert theta(backward, 49, 50) == 1.0


def test_halving_of_a_quarter_has_three_equal_levels() -> None:
    stages = DropSettings(schedule="halving", theta_bar=0.25)
    assert [theta(stages, step, 9) for step in range(9)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_stacking_doubles_the_depth_and_keeps_it_certain() -> None:
    stacking = DropSettings(dialect="stacking")
    drawn = [picture(gates(stacking, step=step, num_steps=9)) for step in range(9)]
    assert drawn == ["xxx---------"] * 3 + ["xxxxxx------"] * 3 + ["xxxxxxxxxxxx"] * 3


def test_layers_that_join_copy_the_ones_below() -> None:
    stacking = DropSettings(dialect="stacking")
    assert joins(stacking, 3, 9, 12) == {3: 0, 4: 1, 5: 2}
    assert joins(stacking, 6, 9, 12) == {6: 0, 7: 1, 8: 2, 9: 3, 10: 4, 11: 5}
    assert [joins(stacking, step, 9, 12) for step in (0, 1, 2, 4, 5, 7, 8)] == [{}] * 7


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "stacking"])
def test_no_other_dialect_copies_layers(dialect: str) -> None:
    assert not any(joins(DropSettings(dialect=dialect), step, 20, 4) for step in range(20))


def test_a_shrinking_stack_is_evaluated_as_deep_as_it_is() -> None:
    shrinking = DropSettings(schedule="linear", allocation="depth_truncation", residual_scale="none")
    assert evaluation_scales(shrinking, 0, 100, 4) == (1, 1, 1, 1)
    assert evaluation_scales(shrinking, 99, 100, 4) == (1, 1, 0, 0)


def test_copies_need_a_stack() -> None:
    with pytest.raises(ValidationError, match="new_layer_init copy_below"):
        DropSettings(new_layer_init="copy_below")


@given(
    depth_share=st.floats(0.4, 1),
    schedule=st.sampled_from(["constant", "exponential", "linear", "cosine"]),
    allocation=st.sampled_from(["uniform", "linear", "linear_from_first"]),
    reverse=st.booleans(),
    layers=st.integers(2, 24),
)
def test_a_matched_policy_keeps_the_depth_it_was_matched_to(
    depth_share: float, schedule: str, allocation: str, reverse: bool, layers: int
) -> None:
    policy = DropSettings(schedule=schedule, allocation=allocation, reverse=reverse)
    depth = depth_share * layers
    if mean_expected_depth(policy.model_copy(update={"theta_bar": 1e-9}), 200, layers) < depth:
        matched = match_depth(policy, depth, 200, layers)
        assert mean_expected_depth(matched, 200, layers) == pytest.approx(depth)
    else:
        with pytest.raises(ValueError, match="needs theta_bar"):
            match_depth(policy, depth, 200, layers)


def test_random_drop_matched_to_pld_keeps_each_layer_alike() -> None:
    depth = mean_expected_depth(PLD, 1000, 12)
    matched = match_depth(DropSettings(schedule="constant"), depth, 1000, 12)
    assert matched.theta_bar == pytest.approx(depth / 12)


def test_policies_without_a_limit_cannot_be_matched() -> None:
    with pytest.raises(ValueError, match="theta_bar"):
        match_depth(DropSettings(dialect="stacking"), 3, 100, 4)
