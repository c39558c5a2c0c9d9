"""Batches of the decoder: a function of (seed, step), and every token predicted exactly once an epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pldrepro.data.batches.causal import CausalBatch, CausalBatchSampler
from pldrepro.data.batches.rows import EpochOrder


def maker(num_tokens: int = 1000, length: int = 20, seed: int = 1) -> CausalBatchSampler:
    """A stream 1000, 1001, 1002, ..., so that a token says where it stood."""
    return CausalBatchSampler(np.arange(1000, 1000 + num_tokens, dtype=np.uint16), length, seed)


def same(first: CausalBatch, second: CausalBatch) -> bool:
    return np.array_equal(first.input_ids, second.input_ids) and np.array_equal(first.labels, second.labels)


def test_labels_are_the_next_tokens() -> None:
    batch = maker(length=4).validation_batch(2)
    assert batch.input_ids.tolist() == [[1000, 1001, 1002, 1003], [1004, 1005, 1006, 1007]]
    assert batch.labels.tolist() == [[1001, 1002, 1003, 1004], [1005, 1006, 1007, 1008]]
    assert batch.input_ids.dtype == batch.labels.dtype == np.int64


@given(st.integers(1, 30), st.integers(0, 3))
@settings(max_examples=30)
def test_every_token_but_the_first_is_predicted_once_an_epoch(size: int, epoch: int) -> None:
    source = maker(num_tokens=401)
    assert source.num_sequences == 20
    first, last = epoch * 20, (epoch + 1) * 20
    rows = np.concatenate([source.batch(step, size).labels for step in range(first // size, -(-last // size))])
    of_epoch = rows[first - first // size * size :][:20]
    assert sorted(of_epoch.ravel()) == list(range(1001, 1401))


@given(st.integers(0, 50), st.integers(1, 40), st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_batch_depends_on_seed_and_step_alone(step: int, size: int, seed: int) -> None:
    fresh, used = maker(seed=seed), maker(seed=seed)
    for other in (step + 3, 0, step):
        used.batch(other, size)
    assert same(fresh.batch(step, size), used.batch(step, size))


def test_seeds_steps_and_epochs_give_other_batches() -> None:
    batches = [maker(seed=seed).batch(step, 8) for seed in (1, 2) for step in (0, 1)]
    assert not any(same(a, b) for i, a in enumerate(batches) for b in batches[:i])
    source = maker(num_tokens=401)
    orders = {tuple(source.batch(epoch, 20).input_ids[:, 0]) for epoch in range(3)}
    assert len(orders) == 3


def test_the_order_is_pinned() -> None:
    assert EpochOrder(7, seed=3).batch(0, 10).tolist() == [2, 1, 4, 0, 5, 6, 3, 5, 4, 3]


def test_fixed_sequences_come_in_order() -> None:
    source = maker()
    fixed = source.validation_batch(5)
    assert fixed.input_ids[:, 0].tolist() == [1000, 1020, 1040, 1060, 1080]
    source.batch(7, 8)
    assert same(fixed, source.validation_batch(5))
    assert len(source.validation_batch(10**6)) == source.num_sequences == 49


def test_micro_batches_partition_the_batch() -> None:
    batch = maker().batch(0, 10)
    parts = list(batch.micro_batches(4))
    assert [len(part) for part in parts] == [4, 4, 2]
    assert np.array_equal(np.concatenate([part.labels for part in parts]), batch.labels)


def test_too_few_tokens_are_refused() -> None:
    assert maker(num_tokens=21).num_sequences == 1
    with pytest.raises(ValueError, match="20 tokens"):
        maker(num_tokens=20)
