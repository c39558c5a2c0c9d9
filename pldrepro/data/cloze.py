"""Cloze contrasts: a word of held-out text is hidden; does a model prefer it to its rival? numpy only.

A contrast is two words, each a single token (is / are). Every item is a window of held-out text around an occurrence
of one of them. Both words have as many items, so that a model that always prefers one of them is right in half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from pldrepro.data.arrays import read_arrays
from pldrepro.errors import DataError
from pldrepro.files import atomic_path

MIN_ITEMS = 10  # of either word; fewer say nothing


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

    @property
    def sha256(self) -> str:
        """Digest of the arrays."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(np.ascontiguousarray(getattr(self, field.name)).tobytes())
        return digest.hexdigest()


def find_cloze(
    tokens: np.ndarray,
    contrasts: Sequence[tuple[str, str]],
    vocabulary: dict[str, int],
    continues: np.ndarray,
    length: int,
    most: int,
    least: int = MIN_ITEMS,
) -> tuple[Cloze, dict[tuple[str, str], str]]:
    """Items from held-out tokens: for each contrast as many of either word, at most ``most``, evenly over the text.

    ``continues``: (V,) bool, whether a token goes on with the word before it: a word that goes on is another word.
    ``length``: tokens of a window; less text is a DataError. Also returns the contrasts without items, each with the
    reason: a word that is no single token, or of which the text has fewer than ``least``.
    """
    if len(tokens) < length:
        raise DataError(f"cloze: {len(tokens)} held-out tokens; expected {length} or more")
    numbers: list[int] = []
    found = [np.zeros(0, np.int64)]
    rivals: list[int] = []
    absent: dict[tuple[str, str], str] = {}
    for number, pair in enumerate(contrasts):
        unknown = [word for word in pair if word not in vocabulary]
        if unknown:
            absent[pair] = f"{unknown[0]!r} is no single token of the vocabulary"
            continue
        ids = [vocabulary[word] for word in pair]
        places = [_occurrences(tokens, token, continues) for token in ids]
        count = min(most, *map(len, places))
        if count < least:
            rarer = pair[int(len(places[1]) < len(places[0]))]
            absent[pair] = f"held-out text has {rarer!r} {count} times; {least} are needed"
            continue
        for token, at in zip(reversed(ids), places, strict=True):
            numbers += [number] * count
            found.append(at[np.arange(count) * len(at) // count])
            rivals += [token] * count
    positions = np.concatenate(found)
    first = np.clip(positions - length // 2, 0, len(tokens) - length)
    cloze = Cloze(
        contrast=np.array(numbers, np.int32),
        windows=np.asarray(tokens)[first[:, None] + np.arange(length)].astype(np.int64),
        places=positions - first,
        rivals=np.array(rivals, np.int64),
    )
    return cloze, absent


def _occurrences(tokens: np.ndarray, token: int, continues: np.ndarray) -> np.ndarray:
    """Where a token is a whole word."""
    at = np.flatnonzero(np.asarray(tokens) == token)
    after = np.minimum(at + 1, len(tokens) - 1)
    return at[~continues[tokens[after]] | (after == at)]


def save_cloze(cloze: Cloze, path: Path) -> None:
    """Write the arrays."""
    from safetensors.numpy import save

    arrays = {field.name: np.ascontiguousarray(getattr(cloze, field.name)) for field in fields(cloze)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(arrays))


def load_cloze(path: Path, sha256: str) -> Cloze:
    """Read the arrays; a DataError where they are not those that the manifest names by their digest."""
    arrays = read_arrays(path, "prepare contrasts")
    if set(arrays) != {field.name for field in fields(Cloze)} or (cloze := Cloze(**arrays)).sha256 != sha256:
        raise DataError(f"{path}: not what the manifest says; run `prepare contrasts` again")
    return cloze
