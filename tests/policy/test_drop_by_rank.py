"""Layer dropping by rank (SBLD, our reading): the schedule, the lists, and what they have in common with PLD."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pldrepro.policy.drop import (
    DIALECTS,
    DropSettings,
    allocate,
    by_rank,
    draw_gates,
    evaluation_scales,
    explain,
    fill,
    is_analysed,
    keep_probabilities,
    list_sizes,
    mean_expected_depth,
    pwegd,
    rank_layers,
    theta,
    warmup_steps,
)

SBLD = DropSettings(dialect="sbld")
NO_LISTS = DropSettings(dialect="sbld", protected_fraction=0, droppable_fraction=0)
depths = st.integers(1, 48)
levels = st.floats(0.01, 1)
scores = st.lists(st.floats(-5, 5), min_size=1, max_size=48)


# ---- the schedule ----


def test_pwegd_with_one_weight_is_plds_schedule() -> None:
    ours = DropSettings(schedule="pwegd", pwegd_weights=(1.0,), pwegd_beta=100.0)
    plds = DropSettings(schedule="exponential", gamma_times_steps=100.0)
    for step in range(1000):
        assert theta(ours, step, 1000) == pytest.approx(theta(plds, step, 1000), abs=1e-12)


def test_the_default_pwegd_peaks_at_a_twentieth_and_is_held_before() -> None:
    values = [pwegd((0.0, 1.0), 20.0, step / 1000) for step in range(1001)]
    assert values[:51] == [1.0] * 51
    assert values[51] < 1
    assert pwegd((0.0, 1.0), 20.0, 0.1) == pytest.approx(2 * math.exp(-1))  # 2 peaks' time: 2 e^-2 / e^-1
    assert all(later <= earlier for earlier, later in pairwise(values))
    assert theta(SBLD, 50, 1000) == 1
    assert theta(SBLD, 100, 1000) == pytest.approx(1 - 0.5 * (1 - 2 / math.e))
    assert theta(SBLD, 1000, 1000) == pytest.approx(0.5, abs=1e-6)


@given(st.lists(st.floats(0, 3), min_size=1, max_size=4).filter(any), st.floats(0.5, 200), st.floats(0, 1))
def test_pwegd_stays_between_0_and_1(weights: list[float], beta: float, time: float) -> None:
    assert 0 <= pwegd(tuple(weights), beta, time) <= 1


def test_a_curve_without_a_peak_is_refused() -> None:
    with pytest.raises(ValueError, match="nowhere positive"):
        DropSettings(pwegd_weights=(-1.0,))


# ---- ranks and lists ----


def test_ranks_from_scores() -> None:
    scores = (0.1, 0.7, -0.2, 0.7)
    assert rank_layers(SBLD, 4, scores, 1) == (3, 1, 4, 2)  # ties by depth
    assert rank_layers(DropSettings(dialect="sbld", ranking="reversed"), 4, scores, 1) == (2, 3, 1, 4)
    assert rank_layers(DropSettings(dialect="sbld", ranking="depth"), 4, scores, 1) == (1, 2, 3, 4)
    assert rank_layers(SBLD, 4, None, 1) is None


def test_a_random_ranking_is_a_permutation_that_depends_on_the_seed_alone() -> None:
    random = DropSettings(dialect="sbld", ranking="random")
    drawn = [rank_layers(random, 12, None, seed) for seed in range(20)]
    assert all(sorted(ranks or ()) == list(range(1, 13)) for ranks in drawn)
    assert len(set(drawn)) == 20
    assert rank_layers(random, 12, [1.0] * 12, 3) == drawn[3]


def test_scores_of_another_depth_are_refused() -> None:
    with pytest.raises(ValueError, match="3 sensitivities for 4 layers"):
        rank_layers(SBLD, 4, (1.0, 2.0, 3.0), 1)


@pytest.mark.parametrize(("layers", "sizes"), [(4, (1, 1)), (6, (1, 2)), (12, (2, 3)), (24, (3, 6))])
def test_an_eighth_is_blocked_and_a_quarter_allowed(layers: int, sizes: tuple[int, int]) -> None:
    assert list_sizes(SBLD, layers) == sizes


def test_lists_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match=r"protected_fraction 0\.6 \+ droppable_fraction 0\.5"):
        DropSettings(protected_fraction=0.6, droppable_fraction=0.5)


def test_keep_probabilities_of_four_layers_by_hand() -> None:
    # weights 0, 2/4, 3/4, 2 x 4/4 for ranks 1 to 4; 1.25 layers are to be dropped: the factor is 1.25 / 3.25
    keep = by_rank(SBLD, 0.5, (2, 4, 1, 3))
    dropped = [0.5 * 1.25 / 3.25, 2 * 1.25 / 3.25, 0, 0.75 * 1.25 / 3.25]
    assert keep == pytest.approx([1 - p for p in dropped])
    assert keep[2] == 1


# ---- invariants ----


@given(depths, levels)
def test_the_mean_keep_is_that_of_plds_printed_equation(layers: int, level: float) -> None:
    keep = allocate(SBLD, level, layers)
    blocked, _ = list_sizes(SBLD, layers)
    expected = layers - (1 - level) * (layers + 1) / 2
    assert math.fsum(keep) == pytest.approx(max(expected, blocked))
    assert all(0 <= p <= 1 for p in keep)


@given(depths, scores)
def test_theta_of_one_drops_nothing(layers: int, sensitivity: list[float]) -> None:
    ranks = rank_layers(SBLD, len(sensitivity), sensitivity, 1)
    assert allocate(SBLD, 1.0, len(sensitivity), ranks) == (1.0,) * len(sensitivity)


@given(scores, levels)
def test_without_lists_a_more_sensitive_layer_is_kept_at_least_as_often(sensitivity: list[float], level: float) -> None:
    keep = allocate(NO_LISTS, level, len(sensitivity), rank_layers(NO_LISTS, len(sensitivity), sensitivity, 1))
    for first, second in pairwise(sorted(range(len(sensitivity)), key=lambda layer: -sensitivity[layer])):
        assert keep[first] >= keep[second]


@given(scores, levels)
def test_the_block_list_is_always_kept(sensitivity: list[float], level: float) -> None:
    layers = len(sensitivity)
    ranks = rank_layers(SBLD, layers, sensitivity, 1)
    keep = allocate(SBLD, level, layers, ranks)
    assert ranks is not None
    assert all(p == 1 for p, rank in zip(keep, ranks, strict=True) if rank <= list_sizes(SBLD, layers)[0])


@given(depths, levels)
def test_plds_allocation_is_recovered_where_sensitivity_falls_with_depth(layers: int, level: float) -> None:
    ranks = rank_layers(NO_LISTS, layers, [-float(layer) for layer in range(layers)], 1)
    plds = allocate(DropSettings(allocation="linear"), level, layers)
    assert allocate(NO_LISTS, level, layers, ranks) == pytest.approx(plds)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.floats(0, 40))
def test_fill_reaches_the_total_where_there_is_room(weights: list[float], total: float) -> None:
    filled = fill(weights, total)
    room = sum(w > 0 for w in weights)
    assert all(0 <= value <= 1 for value in filled)
    assert all(value == 0 for value, w in zip(filled, weights, strict=True) if w == 0)
    if all(w > 1e-9 or w == 0 for w in weights):
        assert math.fsum(filled) == pytest.approx(min(total, room), abs=1e-6)


@given(scores, levels)
def test_every_ranking_keeps_as_many_layers(sensitivity: list[float], level: float) -> None:
    layers, sums = len(sensitivity), []
    for ranking in ("sensitivity", "random", "depth", "reversed"):
        settings = DropSettings(dialect="sbld", ranking=ranking)
        ranks = rank_layers(settings, layers, sensitivity, 1)
        assert ranks is not None
        sums.append(math.fsum(allocate(settings, level, layers, ranks)))
    assert sums == pytest.approx([math.fsum(allocate(SBLD, level, layers))] * 4)


def test_the_expected_depth_of_a_run_is_that_of_its_levels() -> None:
    levels = [theta(SBLD, step, 200) for step in range(200)]
    expected = sum(24 - (1 - level) * 25 / 2 for level in levels) / 200
    assert mean_expected_depth(SBLD, 200, 24) == pytest.approx(expected)


# ---- a run ----


def test_a_run_begins_at_full_depth_and_is_analysed_then() -> None:
    early = DropSettings(schedule="exponential", allocation="by_rank")
    assert warmup_steps(early, 1000) == 10
    assert keep_probabilities(early, 9, 1000, 4) == (1.0,) * 4
    assert keep_probabilities(early, 10, 1000, 4)[3] < 1
    assert [step for step in range(1000) if is_analysed(early, step, 1000)] == [10]
    refreshed = DropSettings(dialect="sbld", sensitivity={"refresh_share": 0.25})  # type: ignore[arg-type]
    assert [step for step in range(1000) if is_analysed(refreshed, step, 1000)] == [50, 300, 550, 800]


@pytest.mark.parametrize("name", [name for name in DIALECTS if name != "sbld"])
def test_no_other_policy_is_analysed(name: str) -> None:
    assert not any(is_analysed(DropSettings(dialect=name), step, 100) for step in range(100))


@pytest.mark.parametrize("ranking", ["depth", "random"])
def test_rankings_that_need_no_sensitivity_are_not_analysed(ranking: str) -> None:
    settings = DropSettings(dialect="sbld", ranking=ranking)  # type: ignore[arg-type]
    assert not any(is_analysed(settings, step, 100) for step in range(100))
    assert warmup_steps(settings, 100) == 5


def test_measuring_late_costs_no_step_that_would_drop() -> None:
    assert [theta(SBLD, step, 1000) for step in (0, warmup_steps(SBLD, 1000))] == [1, 1]
    assert theta(SBLD, warmup_steps(SBLD, 1000) + 1, 1000) < 1


def test_a_setting_of_the_sensitivity_leaves_the_dialects_others() -> None:
    assert (SBLD.sensitivity.measure, SBLD.sensitivity.warmup_share) == ("train_lesion", 0.05)
    fisher = DropSettings(dialect="sbld", sensitivity={"measure": "fisher"})  # type: ignore[arg-type]
    assert (fisher.sensitivity.measure, fisher.sensitivity.warmup_share) == ("fisher", 0.05)
    assert DropSettings.model_validate(fisher.model_dump()) == fisher


def test_a_seed_has_several_random_rankings() -> None:
    def order(ranking_seed: int, seed: int) -> tuple[int, ...] | None:
        return rank_layers(DropSettings(dialect="sbld", ranking="random", ranking_seed=ranking_seed), 12, None, seed)

    assert len({order(which, seed) for which in range(4) for seed in range(3)}) == 12
    assert order(0, 1) == (11, 6, 5, 8, 9, 4, 12, 10, 7, 2, 1, 3)  # as recorded runs drew it


def test_gates_follow_the_ranks_and_are_rescaled_by_the_keep_probability() -> None:
    counts = [0, 0, 0, 0]
    for step in range(500, 1500):
        gates = draw_gates(SBLD, seed=1, step=step, micro_step=0, num_steps=2000, num_layers=4, ranks=(2, 4, 1, 3))
        keep = keep_probabilities(SBLD, step, 2000, 4, (2, 4, 1, 3))
        for layer, gate in enumerate(gates):
            counts[layer] += gate.keep
            assert not gate.keep or gate.scale == 1 / keep[layer]
    assert counts[2] == 1000
    assert counts[1] == pytest.approx(231, abs=45)


def test_test_time_scales_are_the_final_keep_probabilities() -> None:
    settings = DropSettings(dialect="sbld", residual_scale="test_time")
    assert evaluation_scales(settings, 0, 1000, 4, (2, 4, 1, 3)) == pytest.approx(
        by_rank(settings, 0.5, (2, 4, 1, 3)), abs=1e-6
    )
    assert evaluation_scales(SBLD, 0, 1000, 4, (2, 4, 1, 3)) == (1.0,) * 4


def test_explain_says_that_ranks_are_not_known() -> None:
    assert "ranks follow from the sensitivity" in explain(SBLD, 1, 500, 1000, 4)
    assert "ranks follow" not in explain(DropSettings(dialect="sbld", ranking="random"), 1, 500, 1000, 4)
