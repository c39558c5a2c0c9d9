"""Batches for language modelling from left to right, from a stream of tokens. numpy only.

Everything is a function of (seed, step), as in ``pldrepro.data.batches.masked``.

Shape legend: B sequences of a step, S tokens of a sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pldrepro.data.batches.rows import Batch, EpochOrder


@dataclass(frozen=True)
class CausalBatch(Batch):
    """The sequences of one optimizer step, ready for next-token prediction."""

    input_ids: np.ndarray  # (B, S) int64
    labels: np.ndarray  # (B, S) int64, the token after each position


@dataclass
class CausalBatchSampler:
    """Cuts a token stream into sequences of S + 1 tokens; the last of one is the first of the next.

    So every token of the stream but the first is predicted once an epoch, and those that do not fill a sequence never.
    """

    tokens: np.ndarray  # (N,) token ids with a separator after each document
    sequence_length: int
    seed: int
    _order: EpochOrder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.num_sequences < 1:
            raise ValueError(
                f"{len(self.tokens)} tokens do not fill one sequence of {self.sequence_length} tokens and the next one"
            )
        self._order = EpochOrder(self.num_sequences, self.seed)

    @property
    def num_sequences(self) -> int:
        """Sequences in one pass over the stream (an epoch)."""
        return (len(self.tokens) - 1) // self.sequence_length

    def batch(self, step: int, batch_size: int) -> CausalBatch:
        """The batch of optimizer step ``step``; the order is shuffled anew in every epoch."""
        return self._assemble(self._order.batch(step, batch_size))

    def validation_batch(self, count: int) -> CausalBatch:
        """The first ``count`` sequences (or all there are), in order: for validation."""
        return self._assemble(np.arange(min(count, self.num_sequences)))

    def _assemble(self, sequences: np.ndarray) -> CausalBatch:
        starts = sequences.astype(np.int64) * self.sequence_length
        ids = self.tokens[starts[:, None] + np.arange(self.sequence_length + 1)].astype(np.int64)
        return CausalBatch(np.ascontiguousarray(ids[:, :-1]), np.ascontiguousarray(ids[:, 1:]))
