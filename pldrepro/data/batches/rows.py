"""What all batches share: rows of arrays, and the order in which epochs visit the examples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Self

import numpy as np

# Streams of random numbers, one for each use.
ORDER, PAIRS, MASKS, AUGMENTATION, STORAGE = 1, 2, 3, 4, 5
IGNORED = -100  # label of a position that does not count


class Batch:
    """Arrays that have a row for each sample of a step, as the fields of a dataclass; None is no array."""

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]

    def rows(self, start: int, stop: int) -> Self:
        """The samples start..stop-1."""
        arrays = (getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]
        return type(self)(*(None if array is None else array[start:stop] for array in arrays))

    def micro_batches(self, size: int) -> Iterator[Self]:
        """The batch in pieces of ``size`` samples."""
        for start in range(0, len(self), size):
            yield self.rows(start, min(start + size, len(self)))


@dataclass
class EpochOrder:
    """Which of ``count`` samples stand in the batch of a step: each once an epoch, shuffled anew in every epoch."""

    count: int
    seed: int
    # The permutation of the current epoch, kept from one step to the next.
    _current: tuple[int, np.ndarray] | None = field(default=None, init=False, repr=False)

    def batch(self, step: int, batch_size: int) -> np.ndarray:
        """Sample numbers 0..count-1, shape (B,) int64; a function of (seed, step)."""
        epochs, places = np.divmod(np.arange(step * batch_size, (step + 1) * batch_size), self.count)
        samples = np.empty(batch_size, dtype=np.int64)
        for epoch in np.unique(epochs):
            samples[epochs == epoch] = self._permutation(int(epoch))[places[epochs == epoch]]
        return samples

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._current is None or self._current[0] != epoch:
            generator = np.random.default_rng([self.seed, ORDER, epoch])
            self._current = epoch, generator.permutation(self.count)
        return self._current[1]
