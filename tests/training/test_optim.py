"""Learning rates and AdamW, against numbers worked by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pldrepro.config.model import ModelSettings
from pldrepro.config.run import LearningRates, TrainingSettings
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.policy.drop import Gate
from pldrepro.training.optim import adamw, learning_rate, parameter_groups, set_learning_rate, zero_missing_gradients

PAPER = TrainingSettings(num_steps=200_000, learning_rate="higher", warmup=0.02)
LINEAR = TrainingSettings(
    num_steps=100, decay="linear", warmup=0.1, learning_rates=LearningRates(baseline=1.0, higher=2.0)
)
TINY = ModelSettings(
    norm="pre", num_layers=2, hidden_size=4, num_heads=2, ffn_size=8, vocab_size=10, max_positions=8, dropout=0
)


# ---- schedules ----


def test_warm_up_rises_in_equal_parts_to_the_peak() -> None:
    assert [learning_rate(LINEAR, step) for step in range(10)] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert learning_rate(PAPER, 0) == pytest.approx(1e-3 / 4000)
    assert learning_rate(PAPER, 3999) == 1e-3


def test_staircase_falls_by_one_percent_every_1000_steps() -> None:
    assert learning_rate(PAPER, 4000) == learning_rate(PAPER, 4999) == 1e-3
    assert learning_rate(PAPER, 5000) == learning_rate(PAPER, 5999) == pytest.approx(0.99e-3)
    assert learning_rate(PAPER, 6000) == pytest.approx(0.9801e-3)


def test_the_papers_rate_never_reaches_zero() -> None:
    assert learning_rate(PAPER, 199_999) / 1e-3 == pytest.approx(0.14, abs=0.002)


def test_linear_decay_reaches_zero_at_the_end() -> None:
    assert learning_rate(LINEAR, 10) == 1.0
    assert learning_rate(LINEAR, 55) == pytest.approx(0.5)
    assert learning_rate(LINEAR, 99) == pytest.approx(1 / 90)
    assert learning_rate(LINEAR, 100) == 0.0


def test_the_arm_chooses_the_peak() -> None:
    higher = LINEAR.model_copy(update={"learning_rate": "higher"})
    assert learning_rate(higher, 10) == 2 * learning_rate(LINEAR, 10)


@given(
    st.integers(1, 300),
    st.floats(0.001, 1),
    st.sampled_from(["linear", "staircase"]),
)
def test_rates_rise_then_fall_and_never_pass_the_peak(steps: int, warmup: float, decay: str) -> None:
    training = TrainingSettings(num_steps=steps, warmup=warmup, decay=decay, checkpoints={"end": 1.0})
    rates = [learning_rate(training, step) for step in range(steps)]
    top = rates.index(max(rates))
    assert all(0 < rate <= 1e-4 * (1 + 1e-12) for rate in rates)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


# ---- AdamW ----


def one_weight(value: float, **options: object) -> tuple[nn.Linear, torch.optim.AdamW]:
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(value)
    optimizer = adamw(module, **{"weight_decay": 0.0, **options})  # type: ignore[arg-type]
    set_learning_rate(optimizer, 0.01)
    return module, optimizer


def test_biases_and_layer_norms_are_not_decayed() -> None:
    model = BertForPreTraining(TINY)
    decayed, free = parameter_groups(model, 0.01)
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    free_names = {names[id(parameter)] for parameter in free["params"]}
    assert free_names == {name for name in names.values() if name.endswith("bias") or "norm" in name}
    assert len(decayed["params"]) + len(free["params"]) == len(names)


def test_first_step_with_bias_correction_moves_by_the_rate() -> None:
    module, optimizer = one_weight(1.0)
    module.weight.grad = torch.full((1, 1), 2.0)
    optimizer.step()
    assert module.weight.item() == pytest.approx(0.99, abs=1e-7)


def test_first_step_without_bias_correction() -> None:
    """By hand, gradient 2: m = 0.1 x 2 = 0.2, v = 0.001 x 4 = 0.004, step 0.01 x 0.2 / sqrt(0.004) = 0.0316228."""
    module, optimizer = one_weight(1.0, bias_correction=False)
    module.weight.grad = torch.full((1, 1), 2.0)
    optimizer.step()
    assert module.weight.item() == pytest.approx(1 - 0.0316228, abs=1e-6)


def test_second_step_without_bias_correction() -> None:
    """By hand, gradients 2 and 2: m = 0.38, v = 0.007996, second step 0.01 x 0.38 / 0.0894203 = 0.0424960."""
    module, optimizer = one_weight(1.0, bias_correction=False)
    for _ in range(2):
        module.weight.grad = torch.full((1, 1), 2.0)
        optimizer.step()
    assert module.weight.item() == pytest.approx(1 - 0.0316228 - 0.0424960, abs=1e-6)


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    module, optimizer = one_weight(1.0, weight_decay=0.5)
    module.weight.grad = torch.zeros(1, 1)
    optimizer.step()
    assert module.weight.item() == pytest.approx(1 - 0.01 * 0.5)


def train_two_steps(dropped_gradients: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The second block's weight before and after a step in which it is dropped."""
    model = BertForPreTraining(TINY)
    initialise(model, 0)
    optimizer = adamw(model, weight_decay=0.01)
    set_learning_rate(optimizer, 0.01)
    ids = torch.ones(2, 8, dtype=torch.long)
    weight = model.bert.blocks[1].ffn_up.weight
    for keep in (True, False):
        before = weight.detach().clone()
        logits, next_logits = model(ids, None, ids[:, :2], (Gate(True), Gate(keep)))
        (logits[:, 0].sum() + next_logits[:, 0].sum()).backward()
        assert (weight.grad is None) == (not keep)
        if dropped_gradients == "zero":
            zero_missing_gradients(model.parameters())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return before, weight.detach()


def test_a_dropped_layer_without_gradient_rests() -> None:
    before, after = train_two_steps("none")
    assert torch.equal(before, after)


def test_a_dropped_layer_with_a_gradient_of_zeros_is_moved_by_its_momentum() -> None:
    before, after = train_two_steps("zero")
    assert (before - after).abs().max() > 1e-3


def test_zero_missing_gradients_leaves_the_others_alone() -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    first.grad = torch.full((2,), 7.0)
    zero_missing_gradients([first, second])
    assert first.grad.tolist() == [7.0, 7.0]
    assert second.grad is not None
    assert second.grad.tolist() == [0.0, 0.0, 0.0]
