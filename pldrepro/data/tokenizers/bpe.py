"""Byte-level byte-pair encoding as in GPT-2 (Radford et al. 2019): trained on the corpus, or GPT-2's own files.

Every byte is a piece, so any text can be encoded and comes back as it was. Words keep the space before them: ``Ġcat``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from pldrepro.data.tokenizers import END_OF_TEXT
from pldrepro.errors import DataError
from pldrepro.files import write_json, write_text

BYTES = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))  # the characters that stand for the 256 bytes
MERGES_HEADER = "#version: 0.2"

Merge = tuple[str, str]


def train_bpe(texts: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train a vocabulary of at most ``vocab_size`` entries; the same texts give the same ids."""
    if vocab_size < len(BYTES) + 1:
        raise DataError(
            f"data.vocab_size {vocab_size} cannot hold {END_OF_TEXT} and the {len(BYTES)} bytes; "
            f"allowed with tokenizer bpe: at least {len(BYTES) + 1}"
        )
    draft = _pipeline(BPE())
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=list(BYTES),
        show_progress=False,
    )
    draft.train_from_iterator(texts, trainer)
    return _finish(draft)


def from_gpt2_files(vocabulary: Path, merges: Path) -> Tokenizer:
    """Read a vocabulary (JSON: piece -> id) and the merges that belong to it (two pieces a line, most important first).

    A file that is missing, damaged or does not fit the other is a DataError.
    """
    pieces = _read_vocabulary(vocabulary)
    return _finish(_pipeline(BPE(pieces, _read_merges(merges, pieces))))


def _read_vocabulary(path: Path) -> dict[str, int]:
    try:
        pieces = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such vocabulary file (data.vocabulary)") from None
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(pieces, dict) or sorted(map(str, pieces.values())) != sorted(map(str, range(len(pieces)))):
        raise DataError(f"{path}: allowed: a JSON object of pieces and their ids, each of 0, 1, 2 ... once")
    absent = [piece for piece in (END_OF_TEXT, *BYTES) if piece not in pieces]
    if absent:
        raise DataError(f"{path}: no piece {' '.join(absent[:8])}; needed: {END_OF_TEXT} and the {len(BYTES)} bytes")
    return pieces


def _read_merges(path: Path, pieces: dict[str, int]) -> list[Merge]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file of merges (data.merges)") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8") from None
    merges: list[Merge] = []
    for number, line in enumerate(lines, start=1):
        if not line or (number == 1 and line.startswith("#version")):
            continue
        first, _, second = line.rstrip("\r").partition(" ")
        if not first or not second or " " in second:
            raise DataError(f"{path}: line {number}: {line!r}; allowed: two pieces with a space between")
        absent = [piece for piece in (first, second, first + second) if piece not in pieces]
        if absent:
            raise DataError(f"{path}: line {number}: {absent[0]!r} is not in the vocabulary; do the files go together?")
        merges.append((first, second))
    return merges


def _pipeline(model: BPE) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def _finish(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return tokenizer


def is_bpe(tokenizer: Tokenizer) -> bool:
    """Whether a tokenizer is of this kind; the other kind is WordPiece."""
    return isinstance(tokenizer.model, BPE)


def save_bpe(tokenizer: Tokenizer, folder: Path, max_length: int) -> None:
    """Write the files from which ``transformers.AutoTokenizer`` makes a fast GPT-2 tokenizer."""
    content = json.loads(tokenizer.to_str())
    vocabulary = dict(sorted(content["model"]["vocab"].items(), key=lambda entry: entry[1]))
    merges = [MERGES_HEADER, *(" ".join(pair) for pair in content["model"]["merges"])]
    names = {f"{role}_token": END_OF_TEXT for role in ("bos", "eos", "unk", "pad")}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False) + "\n")
    write_text(folder / "merges.txt", "".join(f"{line}\n" for line in merges))
    write_text(folder / "tokenizer.json", json.dumps(content, ensure_ascii=False) + "\n")
    write_json(folder / "special_tokens_map.json", names)
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False, "model_max_length": max_length, **names},
    )
