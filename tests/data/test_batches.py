"""Batches: a function of (seed, step), every sequence once an epoch, BERT's masks and next-sentence pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pldrepro.data.batches.masked import MaskedBatch, MaskedBatchSampler
from pldrepro.data.batches.rows import IGNORED

SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
VOCABULARY = 100_000


def maker(
    num_tokens: int = 1000, length: int = 20, masked: int = 3, pairs: bool = False, seed: int = 1, sep_every: int = 0
) -> MaskedBatchSampler:
    """A stream 1000, 1001, 1002, ..., so that a token says where it stood."""
    tokens = np.arange(1000, 1000 + num_tokens, dtype=np.uint32)
    if sep_every:
        tokens[sep_every - 1 :: sep_every] = SPECIAL["[SEP]"]
    return MaskedBatchSampler(tokens, length, masked, VOCABULARY, SPECIAL, pairs, seed)


def original(batch: MaskedBatch) -> np.ndarray:
    """The token ids before masking."""
    ids = batch.input_ids.copy()
    there = np.take_along_axis(ids, batch.positions, axis=1)
    np.put_along_axis(ids, batch.positions, np.where(batch.labels == IGNORED, there, batch.labels), axis=1)
    return ids


def same(first: MaskedBatch, second: MaskedBatch) -> bool:
    return all(
        np.array_equal(getattr(first, field), getattr(second, field)) for field in MaskedBatch.__dataclass_fields__
    )


# ---- order ----


@given(st.integers(0, 50), st.integers(1, 40), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=40)
def test_a_batch_depends_on_seed_and_step_alone(step: int, size: int, pairs: bool, seed: int) -> None:
    fresh, used = maker(pairs=pairs, seed=seed), maker(pairs=pairs, seed=seed)
    for other in (step + 3, 0, step):
        used.batch(other, size)
    assert same(fresh.batch(step, size), used.batch(step, size))


@pytest.mark.parametrize("pairs", [False, True])
def test_seeds_and_steps_give_other_batches(pairs: bool) -> None:
    batches = [maker(pairs=pairs, seed=seed).batch(step, 8) for seed in (1, 2) for step in (0, 1)]
    assert not any(same(a, b) for i, a in enumerate(batches) for b in batches[:i])


@given(st.integers(1, 30), st.integers(0, 3))
@settings(max_examples=30)
def test_every_sequence_stands_in_an_epoch_exactly_once(size: int, epoch: int) -> None:
    source = maker(num_tokens=400)  # 22 sequences of 18 tokens
    assert source.num_sequences == 22
    first, last = epoch * 22, (epoch + 1) * 22
    starts = np.concatenate(
        [original(source.batch(step, size))[:, 1] for step in range(first // size, -(-last // size))]
    )
    of_epoch = starts[first - first // size * size :][:22]
    assert sorted(of_epoch) == [1000 + 18 * i for i in range(22)]


def test_epochs_come_in_another_order() -> None:
    source = maker(num_tokens=400)
    assert not np.array_equal(source.batch(0, 22).labels, source.batch(1, 22).labels)
    orders = [tuple(original(source.batch(epoch, 22))[:, 1]) for epoch in range(3)]
    assert len(set(orders)) == 3


def test_fixed_batches_come_in_order_and_are_always_masked_alike() -> None:
    source = maker(seed=0)
    fixed = source.validation_batch(5)
    assert original(fixed)[:, 1].tolist() == [1000, 1018, 1036, 1054, 1072]
    source.batch(7, 8)
    assert same(fixed, source.validation_batch(5))
    assert len(source.validation_batch(10**6)) == source.num_sequences


def test_micro_batches_partition_the_batch() -> None:
    batch = maker(pairs=True).batch(0, 10)
    parts = list(batch.micro_batches(4))
    assert [len(part) for part in parts] == [4, 4, 2]
    for field in MaskedBatch.__dataclass_fields__:
        joined = np.concatenate([getattr(part, field) for part in parts])
        assert np.array_equal(joined, getattr(batch, field))
    single = maker().batch(0, 10)
    assert [part.token_types for part in single.micro_batches(5)] == [None, None]


def test_too_few_tokens_are_refused() -> None:
    assert maker(num_tokens=18).num_sequences == 1
    with pytest.raises(ValueError, match=r"17 tokens .*20"):
        maker(num_tokens=17)


# ---- sequences ----


def test_a_single_sequence_is_cls_tokens_sep() -> None:
    batch = maker().batch(0, 6)
    ids = original(batch)
    assert batch.token_types is None
    assert batch.is_random_next is None
    assert set(ids[:, 0]) == {SPECIAL["[CLS]"]}
    assert set(ids[:, -1]) == {SPECIAL["[SEP]"]}
    assert (np.diff(ids[:, 1:-1], axis=1) == 1).all()


def pairs_of(batch: MaskedBatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """First and second segment of each sequence; checks the special tokens and the token types on the way."""
    assert batch.token_types is not None
    found = []
    for ids, types in zip(original(batch), batch.token_types, strict=True):
        separators = np.flatnonzero(ids == SPECIAL["[SEP]"])
        middle = int(separators[0])
        assert ids[0] == SPECIAL["[CLS]"]
        assert separators.tolist() == [middle, len(ids) - 1]
        assert types.tolist() == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
        found.append((ids[1:middle], ids[middle + 1 : -1]))
    return found


def test_next_sentence_pairs_have_their_lengths_and_types() -> None:
    for first, second in pairs_of(maker(pairs=True).batch(0, 50)):
        assert len(first) + len(second) == 17
        assert min(len(first), len(second)) >= 4
        assert (np.diff(first) == 1).all()
        assert (np.diff(second) == 1).all()


def test_a_true_pair_continues_the_text_and_a_random_one_does_not() -> None:
    batch = maker(num_tokens=100_000, pairs=True).batch(0, 400)
    assert batch.is_random_next is not None
    follows = np.array([second[0] == first[-1] + 1 for first, second in pairs_of(batch)])
    assert follows[batch.is_random_next == 0].all()
    assert follows[batch.is_random_next == 1].mean() < 0.01


def test_half_of_the_pairs_are_random() -> None:
    batch = maker(pairs=True).batch(3, 4000)
    assert batch.is_random_next is not None
    assert batch.is_random_next.mean() == pytest.approx(0.5, abs=0.04)


def test_the_cut_between_segments_varies() -> None:
    assert len({len(first) for first, _ in pairs_of(maker(pairs=True, length=40).batch(0, 200))}) > 15


# ---- masks ----


@pytest.mark.parametrize("pairs", [False, True])
def test_masks_are_80_10_10(pairs: bool) -> None:
    batch = maker(num_tokens=100_000, length=40, masked=6, pairs=pairs).batch(0, 2000)
    shown = np.take_along_axis(batch.input_ids, batch.positions, axis=1)
    masked = shown == SPECIAL["[MASK]"]
    kept = shown == batch.labels
    assert masked.mean() == pytest.approx(0.8, abs=0.02)
    assert kept.mean() == pytest.approx(0.1, abs=0.015)
    replaced = shown[~masked & ~kept]
    assert len(replaced) / shown.size == pytest.approx(0.1, abs=0.015)
    assert replaced.max() > 0.95 * VOCABULARY
    assert replaced.min() < 0.05 * VOCABULARY


@pytest.mark.parametrize("pairs", [False, True])
def test_special_tokens_are_never_masked_and_nothing_else_is_touched(pairs: bool) -> None:
    source = maker(num_tokens=5000, length=30, masked=4, pairs=pairs, sep_every=9)
    batch = source.batch(0, 200)
    ids = original(batch)
    chosen = np.take_along_axis(ids, batch.positions, axis=1)
    assert not np.isin(chosen, list(SPECIAL.values())).any()
    assert np.array_equal(chosen, batch.labels)
    assert (np.diff(batch.positions, axis=1) > 0).all()
    untouched = np.ones(ids.shape, dtype=bool)
    np.put_along_axis(untouched, batch.positions, False, axis=1)
    assert np.array_equal(ids[untouched], batch.input_ids[untouched])
    # Unmasked, the sequences are the stream's own.
    clear = [row[1:-1] for row in ids] if not pairs else [first for first, _ in _segments(ids, batch)]
    assert all(np.array_equal(part, _stream_at(source, part)) for part in clear)


def _segments(ids: np.ndarray, batch: MaskedBatch) -> list[tuple[np.ndarray, np.ndarray]]:
    assert batch.token_types is not None
    cuts = batch.token_types.argmax(axis=1)
    return [(row[1 : cut - 1], row[cut:-1]) for row, cut in zip(ids, cuts, strict=True)]


def _stream_at(source: MaskedBatchSampler, part: np.ndarray) -> np.ndarray:
    """The stream where the first telling token of ``part`` stands."""
    tell = int(np.flatnonzero(part >= 1000)[0])
    start = int(part[tell]) - 1000 - tell
    return source.tokens[start : start + len(part)]


def test_masks_are_spread_over_the_sequence() -> None:
    batch = maker(num_tokens=20_000).batch(0, 3000)
    counts = np.bincount(batch.positions.ravel(), minlength=20)
    assert counts[0] == counts[-1] == 0
    assert counts[1:-1].min() > 400  # 500 expected at each of 18 places


def test_a_sequence_with_too_few_words_has_positions_that_do_not_count() -> None:
    tokens = np.full(18, SPECIAL["[SEP]"], dtype=np.uint16)
    tokens[5] = 50
    batch = MaskedBatchSampler(tokens, 20, 3, VOCABULARY, SPECIAL, False, 1).batch(0, 1)
    assert sorted(batch.labels[0].tolist()) == [IGNORED, IGNORED, 50]
    assert original(batch)[0, 1:-1].tolist() == tokens.tolist()
