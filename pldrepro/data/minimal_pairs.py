"""Minimal pairs: an acceptable sentence and one that differs from it in one way and is not. numpy only.

Two formats are read, one file for each paradigm: BLiMP (Warstadt et al. 2020), a JSON object a line with
``sentence_good`` and ``sentence_bad``; Zorro (Huebner et al. 2021), text whose odd lines are unacceptable and whose
even lines are acceptable.

Some paradigms are solved by counting words. So each pair carries what a unigram and a trigram model of the training
tokens prefer: a paradigm that they solve says nothing about grammar.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pldrepro.data.arrays import read_arrays
from pldrepro.data.tokenizers.encoders import Encoder
from pldrepro.errors import DataError
from pldrepro.files import atomic_path

NGRAM_TOKENS = 20_000_000  # training tokens that the n-gram models count: enough for the words of minimal pairs
WEIGHTS = (0.1, 0.3, 0.6)  # of unigram, bigram and trigram probabilities in the trigram model


class Paradigm(NamedTuple):
    """The pairs of one phenomenon, each (unacceptable, acceptable)."""

    name: str
    pairs: list[tuple[str, str]]


@dataclass(frozen=True)
class MinimalPairs:
    """Sentences as tokens; sentence 2i is the unacceptable one of pair i, 2i + 1 the acceptable one."""

    paradigm: np.ndarray  # (P,) int32, place of the pair's paradigm in the manifest's names
    tokens: np.ndarray  # (T,) uint32, of all sentences, without special tokens
    starts: np.ndarray  # (T,) uint8, 1 where a token begins a word
    offsets: np.ndarray  # (2P + 1,) int64
    unigram: np.ndarray  # (P,) float32: 1, 1/2 (a tie) or 0 where the unigram model prefers the acceptable sentence
    trigram: np.ndarray  # (P,) float32, the same of the trigram model

    def __len__(self) -> int:
        return len(self.paradigm)

    def sentence(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and word starts of a sentence, int64 and bool."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[part].astype(np.int64), self.starts[part].astype(bool)

    @property
    def lengths(self) -> np.ndarray:
        """(P, 2): tokens of the unacceptable and of the acceptable sentence."""
        return np.diff(self.offsets).reshape(-1, 2)

    @property
    def sha256(self) -> str:
        """Digest of the arrays."""
        digest = hashlib.sha256()
        for field in fields(self):
            digest.update(getattr(self, field.name).tobytes())
        return digest.hexdigest()


# ---- reading ----


def parse_pairs(lines: Iterable[tuple[int, str]], origin: str, is_json: bool) -> list[tuple[str, str]]:
    """The pairs in the numbered lines of a file, BLiMP's (is_json) or Zorro's; what is no pair is a DataError."""
    if is_json:
        return [_blimp_pair(line, f"{origin}: line {number}") for number, line in lines if line.strip()]
    sentences = [line.strip() for _, line in lines if line.strip()]
    if not sentences or len(sentences) % 2:
        raise DataError(f"{origin}: {len(sentences)} sentences; expected pairs of lines, unacceptable then acceptable")
    return list(zip(sentences[::2], sentences[1::2], strict=True))


def _blimp_pair(line: str, where: str) -> tuple[str, str]:
    try:
        return pair_of(json.loads(line), where)
    except ValueError:
        return pair_of(None, where)


def pair_of(entry: Any, where: str) -> tuple[str, str]:
    """(unacceptable, acceptable) of an entry in BLiMP's format; anything else is a DataError."""
    pair = [entry.get(f"sentence_{kind}") if isinstance(entry, Mapping) else None for kind in ("bad", "good")]
    if not all(isinstance(sentence, str) and sentence.strip() for sentence in pair):
        raise DataError(f"{where}: expected an object with sentence_good and sentence_bad")
    return str(pair[0]), str(pair[1])


def sampled_pairs(pairs: Sequence[tuple[str, str]], count: int | None) -> list[tuple[str, str]]:
    """At most ``count`` of the pairs, drawn at random, always the same ones, in their order.

    Not every n-th: paradigms alternate, singular with plural, and every n-th pair would be of one kind.
    """
    if count is None or len(pairs) <= count:
        return list(pairs)
    chosen = np.random.default_rng(0).permutation(len(pairs))[:count]
    return [pairs[index] for index in np.sort(chosen)]


# ---- tokens ----


def encode_pairs(
    paradigms: Sequence[Paradigm],
    encoder: Encoder,
    dtype: np.dtype[Any],
    continues: np.ndarray,
    train: np.ndarray,
    separator: int,
) -> MinimalPairs:
    """Tokenize the pairs and let the n-gram models of the training tokens judge them.

    ``continues``: (V,) bool, whether a token goes on with the word before it; ``separator``: the token between
    documents, which the n-gram models put before each sentence. A sentence without tokens is a DataError.
    """
    sentences = []
    for paradigm in paradigms:
        for pair in paradigm.pairs:
            for sentence in pair:
                ids = np.frombuffer(encoder.encode(sentence), dtype=dtype)
                if not len(ids):
                    raise DataError(f"minimal pairs: {paradigm.name}: {sentence!r} has no tokens")
                sentences.append(ids)
    tokens = np.concatenate([np.zeros(0, dtype), *sentences]).astype(np.uint32)
    offsets = np.cumsum([0, *map(len, sentences)], dtype=np.int64)
    starts = ~continues[tokens]
    starts[offsets[:-1]] = True
    unigram, trigram = ngram_log_probabilities(train[:NGRAM_TOKENS], tokens, offsets, len(continues), separator)
    places = [np.full(len(paradigm.pairs), place, np.int32) for place, paradigm in enumerate(paradigms)]
    return MinimalPairs(
        paradigm=np.concatenate([np.zeros(0, np.int32), *places]),
        tokens=tokens,
        starts=starts.astype(np.uint8),
        offsets=offsets,
        unigram=hits(unigram),
        trigram=hits(trigram),
    )


def hits(scores: np.ndarray) -> np.ndarray:
    """(2P,) scores of sentences -> (P,) float32: 1 where the acceptable one scores higher, 1/2 at a tie, else 0."""
    unacceptable, acceptable = scores[::2], scores[1::2]
    return (0.5 * (1.0 + np.sign(acceptable - unacceptable))).astype(np.float32)


def ngram_log_probabilities(
    train: np.ndarray, tokens: np.ndarray, offsets: np.ndarray, vocab_size: int, separator: int
) -> tuple[np.ndarray, np.ndarray]:
    """Log-probability [nats] of each sentence by unigrams, and by trigrams mixed with bigrams and unigrams; (N,) each.

    Unigrams have one added to each count; the trigram model is 0.6 c(uvw)/c(uv) + 0.3 c(vw)/c(v) + 0.1 p(w).
    """
    words = train.astype(np.int64)
    size = np.int64(vocab_size)
    unigrams = np.bincount(words, minlength=vocab_size).astype(np.float64)
    bigrams = _Counts(words[:-1] * size + words[1:])
    trigrams = _Counts((words[:-2] * size + words[1:-1]) * size + words[2:])
    w = tokens.astype(np.int64)
    first = np.zeros(len(w), dtype=bool)
    first[offsets[:-1]] = True
    v = np.where(first, separator, np.roll(w, 1))
    u = np.where(first | np.roll(first, 1), separator, np.roll(w, 2))
    probability = (unigrams[w] + 1) / (len(words) + vocab_size)
    mixed = WEIGHTS[0] * probability
    mixed += WEIGHTS[1] * _quotient(bigrams.of(v * size + w), unigrams[v])
    mixed += WEIGHTS[2] * _quotient(trigrams.of((u * size + v) * size + w), bigrams.of(u * size + v))
    owners = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    sums = [np.bincount(owners, np.log(values), minlength=len(offsets) - 1) for values in (probability, mixed)]
    return sums[0], sums[1]


class _Counts:
    """How often each key occurs."""

    def __init__(self, keys: np.ndarray) -> None:
        self._keys, self._counts = np.unique(keys, return_counts=True)

    def of(self, keys: np.ndarray) -> np.ndarray:
        if not len(self._keys):
            return np.zeros(len(keys))
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[places] == keys, self._counts[places], 0).astype(np.float64)


def _quotient(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


# ---- files ----


def save_pairs(pairs: MinimalPairs, path: Path) -> None:
    """Write the arrays."""
    from safetensors.numpy import save

    with atomic_path(path) as temporary:
        temporary.write_bytes(save({field.name: getattr(pairs, field.name) for field in fields(pairs)}))


def load_pairs(path: Path, sha256: str) -> MinimalPairs:
    """Read the arrays; a DataError where they are not those that the manifest names by their digest."""
    arrays = read_arrays(path, "prepare contrasts")
    names = {field.name for field in fields(MinimalPairs)}
    if set(arrays) != names or (pairs := MinimalPairs(**arrays)).sha256 != sha256:
        raise DataError(f"{path}: not what the manifest says; run `prepare contrasts` again")
    return pairs
