"""Cloze contrasts: a word of held-out text is hidden; does a model prefer it to its rival? numpy only.

A contrast is two words, each a single token (is / are). Every item is a window of held-out text around an occurrence
of one of them. Both words have as many items, so that a model that always prefers one of them is right in half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pldrepro.errors import DataError


@dataclass(frozen=True)
class Cloze:
    """Windows of W tokens of held-out text in which one token was hidden."""

    contrast: np.ndarray  # (N,) int32, place of the item's contrast in the list that was asked for
    windows: np.ndarray  # (N, W) int64, the attested text
    places: np.ndarray  # (N,) int64, of the hidden token in its window
    rivals: np.ndarray  # (N,) int64, the token that the attested one is compared with

    def __len__(self) -> int:
        return len(self.places)

    @property
    def attested(self) -> np.ndarray:
        """(N,): the hidden tokens."""
        return self.windows[np.arange(len(self)), self.places]


def find_cloze(
    tokens: np.ndarray,
    contrasts: Sequence[tuple[str, str]],
    vocabulary: dict[str, int],
    continues: np.ndarray,
    length: int,
    most: int,
) -> Cloze:
    """Items from held-out tokens: for each contrast as many of either word, at most ``most``, evenly over the text.

    ``continues``: (V,) bool, whether a token goes on with the word before it: a word that goes on is another word.
    ``length``: tokens of a window. A word that is no single token, or one that the text lacks, is a DataError.
    """
    if len(tokens) < length:
        raise DataError(f"cloze: {len(tokens)} held-out tokens; expected {length} or more")
    numbers: list[int] = []
    found = [np.zeros(0, np.int64)]
    rivals: list[int] = []
    for number, pair in enumerate(contrasts):
        for word in pair:
            if word not in vocabulary:
                raise DataError(f"cloze: {word!r} is no single token of this vocabulary")
        ids = [vocabulary[word] for word in pair]
        places = [_occurrences(tokens, token, continues) for token in ids]
        count = min(most, *map(len, places))
        if not count:
            raise DataError(
                f"cloze: {pair[int(len(places[1]) < len(places[0]))]!r} does not occur in the held-out text"
            )
        for token, at in zip(reversed(ids), places, strict=True):
            numbers += [number] * count
            found.append(at[np.arange(count) * len(at) // count])
            rivals += [token] * count
    positions = np.concatenate(found)
    first = np.clip(positions - length // 2, 0, len(tokens) - length)
    return Cloze(
        contrast=np.array(numbers, np.int32),
        windows=np.asarray(tokens)[first[:, None] + np.arange(length)].astype(np.int64),
        places=positions - first,
        rivals=np.array(rivals, np.int64),
    )


def _occurrences(tokens: np.ndarray, token: int, continues: np.ndarray) -> np.ndarray:
    """Where a token is a whole word."""
    at = np.flatnonzero(np.asarray(tokens) == token)
    after = np.minimum(at + 1, len(tokens) - 1)
    return at[~continues[tokens[after]] | (after == at)]
