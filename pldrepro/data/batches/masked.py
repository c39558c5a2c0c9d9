"""Pre-training batches from a stream of tokens: sequences, next-sentence pairs and masks. numpy only.

Everything is a function of (seed, step): a resumed run, another arm and another rank see the same batches.

Shape legend: B sequences of a step, S tokens of a sequence, M masked positions of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pldrepro.data.batches.rows import IGNORED, MASKS, PAIRS, Batch, EpochOrder


@dataclass(frozen=True)
class MaskedBatch(Batch):
    """The sequences of one optimizer step, ready for masked-language modelling."""

    input_ids: np.ndarray  # (B, S) int64, after masking
    token_types: np.ndarray | None  # (B, S) int64; None without next-sentence prediction
    positions: np.ndarray  # (B, M) int64, the positions to predict
    labels: np.ndarray  # (B, M) int64, the tokens that stood there, or IGNORED
    is_random_next: np.ndarray | None  # (B,) int64, 1 where the second segment is from elsewhere


@dataclass
class MaskedBatchSampler:
    """Cuts a token stream into sequences of S tokens and masks them (BERT: 80 % [MASK], 10 % random, 10 % kept).

    Differs from the paper: sequences are cut from the concatenated documents without padding, and the first
    segment of a next-sentence pair ends at a random token.
    """

    tokens: np.ndarray  # (N,) token ids without special tokens but a [SEP] after each document
    sequence_length: int
    num_masked: int
    vocab_size: int
    special_tokens: dict[str, int]
    next_sentence: bool
    seed: int
    _order: EpochOrder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_sequences < 1:
            raise ValueError(f"{len(self.tokens)} tokens do not fill one sequence of {self.sequence_length} tokens")
        self._order = EpochOrder(self.num_sequences, self.seed)

    @property
    def body(self) -> int:
        """Tokens of the stream in one sequence."""
        return self.sequence_length - (3 if self.next_sentence else 2)

    @property
    def num_sequences(self) -> int:
        """Sequences in one pass over the stream (an epoch)."""
        return len(self.tokens) // self.body

    def batch(self, step: int, batch_size: int) -> MaskedBatch:
        """The batch of optimizer step ``step``; the order is shuffled anew in every epoch."""
        return self._assemble(self._order.batch(step, batch_size), step)

    def validation_batch(self, count: int) -> MaskedBatch:
        """The first ``count`` sequences (or all there are), in order, always masked alike: for validation."""
        return self._assemble(np.arange(min(count, self.num_sequences)), 0)

    def _assemble(self, sequences: np.ndarray, step: int) -> MaskedBatch:
        starts = sequences.astype(np.int64) * self.body
        if self.next_sentence:
            ids, token_types, is_random_next = self._pairs(starts, step)
        else:
            ids, token_types, is_random_next = self._singles(starts), None, None
        masked, positions, labels = self._mask(ids, step)
        return MaskedBatch(masked, token_types, positions, labels, is_random_next)

    def _singles(self, starts: np.ndarray) -> np.ndarray:
        """[CLS] tokens [SEP]; shape (B, S)."""
        ids = np.empty((len(starts), self.sequence_length), dtype=np.int64)
        ids[:, 1:-1] = self.tokens[starts[:, None] + np.arange(self.body)]
        ids[:, 0], ids[:, -1] = self.special_tokens["[CLS]"], self.special_tokens["[SEP]"]
        return ids

    def _pairs(self, starts: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[CLS] first [SEP] second [SEP]; in half of the pairs the second segment comes from elsewhere."""
        generator = np.random.default_rng([self.seed, PAIRS, step])
        count, length, body = len(starts), self.sequence_length, self.body
        first = generator.integers(max(1, body // 4), max(2, body - body // 4), size=(count, 1))
        is_random = generator.random(count) < 0.5
        elsewhere = generator.integers(0, len(self.tokens) - body + 1, size=count)
        column = np.arange(length)[None, :]
        in_second = column >= first + 2
        offset = np.clip(np.where(in_second, column - 2, column - 1), 0, body - 1)
        source = np.where(in_second & is_random[:, None], elsewhere[:, None], starts[:, None]) + offset
        ids = self.tokens[source].astype(np.int64)
        ids[:, 0], ids[:, -1] = self.special_tokens["[CLS]"], self.special_tokens["[SEP]"]
        np.put_along_axis(ids, first + 1, self.special_tokens["[SEP]"], axis=1)
        return ids, in_second.astype(np.int64), is_random.astype(np.int64)

    def _mask(self, ids: np.ndarray, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Choose M positions per sequence that are no special tokens and replace them; (B, S), (B, M), (B, M)."""
        generator = np.random.default_rng([self.seed, MASKS, step])
        keys = generator.random(ids.shape, dtype=np.float32)
        special = np.isin(ids, list(self.special_tokens.values()))
        keys[special] = 2.0
        positions = np.sort(np.argpartition(keys, self.num_masked - 1, axis=1)[:, : self.num_masked], axis=1)
        originals = np.take_along_axis(ids, positions, axis=1)
        labels = np.where(np.take_along_axis(special, positions, axis=1), IGNORED, originals)
        lot = generator.random(positions.shape)
        random_tokens = generator.integers(0, self.vocab_size, size=positions.shape)
        replaced = np.where(lot < 0.8, self.special_tokens["[MASK]"], np.where(lot < 0.9, random_tokens, originals))
        masked = ids.copy()
        np.put_along_axis(masked, positions, np.where(labels == IGNORED, originals, replaced), axis=1)
        return masked, positions, labels
