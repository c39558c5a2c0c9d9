"""From text to the bytes of token arrays, with either kind of tokenizer; what a worker of ``prepare_corpus`` holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pldrepro.data.tokenizers import END_OF_TEXT

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CACHE_ENTRIES = 200_000  # words whose tokens a process remembers, about 40 MB


class WordTokenizer:
    """Tokenizes text word by word and remembers the words: the tokens of WordPiece, two to four times faster.

    BERT's normalizer and pre-tokenizer look at nothing beyond a space or an ASCII punctuation mark, so the tokens of
    a text are those of its parts, one after the other. "[SEP]" in a text is three parts, never the special token.
    """

    _part = re.compile(r"[!-/:-@\[-`{-~]|[^ !-/:-@\[-`{-~]+")

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype[Any]) -> None:
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._known: dict[str, bytes] = {}
        self.separator = to_bytes([tokenizer.get_vocab()["[SEP]"]], dtype)

    def encode(self, text: str) -> bytes:
        """Token ids as little-endian bytes, without special tokens."""
        parts = self._part.findall(text)
        unknown = set(parts).difference(self._known)
        if len(self._known) + len(unknown) > CACHE_ENTRIES:
            self._known.clear()
            unknown = set(parts)
        batch = list(unknown)
        for part, encoding in zip(
            batch, self._tokenizer.encode_batch_fast(batch, add_special_tokens=False), strict=True
        ):
            self._known[part] = to_bytes(encoding.ids, self._dtype)
        return b"".join(map(self._known.__getitem__, parts))

    def encode_document(self, paragraphs: Sequence[str]) -> bytes:
        """Paragraphs are joined by spaces, which WordPiece does not see."""
        return self.encode(" ".join(paragraphs))


class BytePairTokenizer:
    """Tokenizes whole texts byte pair by byte pair; "<|endoftext|>" in a text is text, never the special token."""

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype[Any]) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())  # a copy, because its reading of text is changed
        self._tokenizer.encode_special_tokens = True
        self._dtype = dtype
        self.separator = to_bytes([tokenizer.get_vocab()[END_OF_TEXT]], dtype)

    def encode(self, text: str) -> bytes:
        """Token ids as little-endian bytes, without special tokens."""
        return to_bytes(self._tokenizer.encode(text, add_special_tokens=False).ids, self._dtype)

    def encode_document(self, paragraphs: Sequence[str]) -> bytes:
        """Paragraphs stand on lines of their own."""
        return self.encode("\n".join(paragraphs))


Encoder = WordTokenizer | BytePairTokenizer


def make_encoder(tokenizer: Tokenizer, dtype: np.dtype[Any]) -> Encoder:
    """The encoder of a tokenizer; dtype: of the token arrays."""
    from pldrepro.data.tokenizers.bpe import is_bpe

    return BytePairTokenizer(tokenizer, dtype) if is_bpe(tokenizer) else WordTokenizer(tokenizer, dtype)


def to_bytes(ids: Sequence[int], dtype: np.dtype[Any]) -> bytes:
    """Token ids as the bytes of an array."""
    return np.array(ids, dtype=dtype).tobytes()
