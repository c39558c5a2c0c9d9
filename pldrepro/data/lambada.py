"""LAMBADA (Paperno et al. 2016): passages whose last word follows from the wider context. numpy only.

A passage is kept as the tokens of its context and of its last word. The last word is the text after the last space
(as in GPT-2's evaluation, Radford et al. 2019), and it is tokenized with that space, so that the tokens of context and
word, one after the other, are those of the whole passage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pldrepro.data.arrays import read_arrays
from pldrepro.data.manifests import PassagesEntry
from pldrepro.data.tokenizers.encoders import Encoder
from pldrepro.errors import DataError
from pldrepro.files import atomic_path

FILE = "lambada.safetensors"
ARRAYS = ("contexts", "context_offsets", "words", "word_offsets")


@dataclass(frozen=True)
class Lambada:
    """The passages as token arrays: those of passage i are contexts[context_offsets[i] : context_offsets[i + 1]]."""

    contexts: np.ndarray  # token ids of all contexts, uint32
    context_offsets: np.ndarray  # (P + 1,) int64
    words: np.ndarray  # token ids of all last words, uint32
    word_offsets: np.ndarray  # (P + 1,) int64

    @classmethod
    def of(cls, passages: Iterable[tuple[np.ndarray, np.ndarray]]) -> Self:
        """From the token ids of (context, last word) of each passage."""
        pairs = list(passages)
        contexts, words = ([np.asarray(pair[part], dtype=np.uint32) for pair in pairs] for part in (0, 1))
        empty = np.zeros(0, dtype=np.uint32)
        return cls(
            np.concatenate([empty, *contexts]),
            np.cumsum([0, *map(len, contexts)], dtype=np.int64),
            np.concatenate([empty, *words]),
            np.cumsum([0, *map(len, words)], dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.word_offsets) - 1

    def passage(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids of the context and of the last word, int64."""
        parts = ((self.contexts, self.context_offsets), (self.words, self.word_offsets))
        context, word = (ids[offsets[index] : offsets[index + 1]].astype(np.int64) for ids, offsets in parts)
        return context, word

    @property
    def sha256(self) -> str:
        """Digest of the arrays."""
        digest = hashlib.sha256()
        for name in ARRAYS:
            digest.update(getattr(self, name).tobytes())
        return digest.hexdigest()


def encode_passages(texts: Iterable[str], encoder: Encoder, dtype: np.dtype[Any]) -> Lambada:
    """Tokenize passages; one without a word before its last word is a DataError."""

    def encode(text: str) -> np.ndarray:
        return np.frombuffer(encoder.encode(text), dtype=dtype)

    passages = []
    for number, text in enumerate(texts, start=1):
        context, space, word = text.rstrip().rpartition(" ")
        pair = encode(context), encode(space + word)
        if not all(map(len, pair)):
            raise DataError(f"LAMBADA: passage {number}: {text!r}; allowed: a text of two words or more")
        passages.append(pair)
    return Lambada.of(passages)


def save_lambada(lambada: Lambada, folder: Path) -> PassagesEntry:
    """Write the arrays next to the corpus; returns what the manifest says of them."""
    from safetensors.numpy import save

    with atomic_path(folder / FILE) as path:
        path.write_bytes(save({name: getattr(lambada, name) for name in ARRAYS}))
    return PassagesEntry(passages=len(lambada), word_tokens=len(lambada.words), sha256=lambada.sha256)


def load_passages(folder: Path, entry: PassagesEntry) -> Lambada:
    """Read the arrays and check them against the manifest's entry."""
    path = folder / FILE
    arrays = read_arrays(path, "prepare corpus")
    if set(arrays) != set(ARRAYS) or (lambada := Lambada(**arrays)).sha256 != entry.sha256:
        raise DataError(f"{path}: not what the manifest says; run `prepare corpus` again")
    return lambada
