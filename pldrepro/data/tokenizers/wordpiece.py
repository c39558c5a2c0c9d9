"""WordPiece as in BERT: trained on the corpus, or read from a vocabulary file. And what both kinds of tokenizer have.

The other kind is in ``pldrepro.data.tokenizers.bpe``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from tokenizers.trainers import WordPieceTrainer

from pldrepro.data.tokenizers import END_OF_TEXT
from pldrepro.data.tokenizers.bpe import is_bpe, save_bpe
from pldrepro.errors import DataError
from pldrepro.files import write_json, write_text

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_WORD_CHARACTERS = 100  # a longer word is [UNK], as in BERT
MAX_ALPHABET = 1000  # characters, as in BERT's vocabulary
RARE_CHARACTERS = 1e-4  # share of the text whose characters may stay outside the alphabet


def train_wordpiece(texts: Sequence[str], vocab_size: int, lowercase: bool) -> Tokenizer:
    """Train a vocabulary of at most ``vocab_size`` entries; the same texts give the same ids.

    The trainer numbers the pieces of the alphabet in the order of a hash table with a random seed and breaks ties
    between merges by number; so the alphabet is computed here and given to it as entries with fixed numbers.
    """
    fixed = [*SPECIAL_TOKENS, *_alphabet(texts, lowercase)]
    if len(fixed) > vocab_size:
        raise DataError(
            f"data.vocab_size {vocab_size} cannot hold the special tokens and the alphabet of this corpus; "
            f"allowed: at least {len(fixed)}"
        )
    draft = _pipeline(WordPiece(unk_token="[UNK]"), lowercase)
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=fixed,
        limit_alphabet=0,
        show_progress=False,
        continuing_subword_prefix="##",
    )
    draft.train_from_iterator(texts, trainer)
    return _build(draft.get_vocab(with_added_tokens=False), lowercase)


def _alphabet(texts: Sequence[str], lowercase: bool) -> list[str]:
    """Pieces of one character, most frequent first: ``x`` and, where it can continue a word, ``##x``."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    normalizer = _normalizer(lowercase)
    counts: Counter[str] = Counter()
    for character, count in raw.items():
        for part in normalizer.normalize_str(character).replace(" ", ""):
            counts[part] += count
    splitter = pre_tokenizers.BertPreTokenizer()
    pieces: list[str] = []
    missing = sum(counts.values())
    limit = missing * RARE_CHARACTERS
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_ALPHABET]:
        if missing <= limit:
            break
        missing -= count
        pieces.append(character)
        # Punctuation is always a word by itself, and so are the ideographs, which the normalizer sets between spaces.
        if len(splitter.pre_tokenize_str(normalizer.normalize_str("a" + character))) == 1:
            pieces.append("##" + character)
    return pieces


def from_vocabulary(path: Path, lowercase: bool) -> Tokenizer:
    """Read a vocabulary file: one piece per line, the id is the line number less one."""
    vocabulary: dict[str, int] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such vocabulary file (data.vocabulary)") from None
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            piece = line.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError:
            raise DataError(f"{path}: line {number} is not UTF-8") from None
        if not piece:
            raise DataError(f"{path}: line {number} is empty; allowed: one piece per line")
        if piece in vocabulary:
            raise DataError(f"{path}: line {number} repeats {piece!r} of line {vocabulary[piece] + 1}")
        vocabulary[piece] = number - 1
    absent = [token for token in SPECIAL_TOKENS if token not in vocabulary]
    if absent:
        raise DataError(f"{path}: {len(lines)} lines without {', '.join(absent)}; needed: {', '.join(SPECIAL_TOKENS)}")
    return _build(vocabulary, lowercase)


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(lowercase=lowercase)


def _pipeline(model: WordPiece, lowercase: bool) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = _normalizer(lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer


def _build(vocabulary: dict[str, int], lowercase: bool) -> Tokenizer:
    model = WordPiece(
        vocabulary,
        unk_token="[UNK]",
        continuing_subword_prefix="##",
        max_input_chars_per_word=MAX_WORD_CHARACTERS,
    )
    tokenizer = _pipeline(model, lowercase)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Special token -> id: the five of BERT, or the one of GPT-2."""
    vocabulary = tokenizer.get_vocab()
    return {token: vocabulary[token] for token in ((END_OF_TEXT,) if is_bpe(tokenizer) else SPECIAL_TOKENS)}


def pieces_in_order(tokenizer: Tokenizer) -> list[str]:
    """The vocabulary in the order of the ids."""
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def save_tokenizer(tokenizer: Tokenizer, folder: Path, max_length: int, lowercase: bool) -> None:
    """Write the files from which ``transformers.AutoTokenizer`` makes a fast BERT or GPT-2 tokenizer."""
    if is_bpe(tokenizer):
        save_bpe(tokenizer, folder, max_length)
        return
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS}
    write_text(folder / "vocab.txt", "".join(f"{piece}\n" for piece in pieces_in_order(tokenizer)))
    write_text(folder / "tokenizer.json", json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False) + "\n")
    write_json(folder / "special_tokens_map.json", names)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": lowercase,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": max_length,
            **names,
        },
    )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a prepared corpus or a saved model."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(f"{path}: no such tokenizer; prepare the corpus first")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"{path}: damaged tokenizer: {error}") from None
