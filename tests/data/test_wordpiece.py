"""WordPiece: deterministic, exact where words are remembered, and the same in transformers."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pldrepro.data.tokenizers.encoders import WordTokenizer
from pldrepro.data.tokenizers.wordpiece import (
    from_vocabulary,
    load_tokenizer,
    pieces_in_order,
    save_tokenizer,
    special_ids,
    train_wordpiece,
)
from pldrepro.errors import DataError
from tests.support.texts import TEXTS

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "un", "##want", "##ed", "runn", "##ing", ",", "é", "[", "]"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in VOCABULARY), encoding="utf-8")
    return path


def test_trained_vocabulary_begins_with_the_special_tokens() -> None:
    tokenizer = train_wordpiece(TEXTS, 90, lowercase=True)
    assert special_ids(tokenizer) == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    assert tokenizer.get_vocab_size() == 90
    assert tokenizer.encode("the cats sat").tokens[0] == "[CLS]"
    assert "cat" in tokenizer.get_vocab()
    assert "##," not in tokenizer.get_vocab()  # punctuation never continues a word
    assert tokenizer.decode(tokenizer.encode("The understanding cat, sat.").ids) == "the understanding cat, sat."


def test_case_is_kept_when_asked() -> None:
    tokenizer = train_wordpiece(TEXTS, 200, lowercase=False)
    assert (
        tokenizer.encode("The", add_special_tokens=False).ids != tokenizer.encode("the", add_special_tokens=False).ids
    )
    assert "é" in tokenizer.get_vocab() or "##é" in tokenizer.get_vocab()


def test_training_does_not_depend_on_the_process_or_the_threads() -> None:
    program = (
        "import sys; from tests.support.texts import TEXTS; from pldrepro.data.tokenizers.wordpiece import *\n"
        "print(pieces_in_order(train_wordpiece(TEXTS, 90, True)))"
    )
    root = Path(__file__).resolve().parents[2]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=root,
            env={**os.environ, "TOKENIZERS_PARALLELISM": parallel, "RAYON_NUM_THREADS": "2"},
        ).stdout
        for parallel in ("true", "false")
    ]
    assert outputs[0] == outputs[1] == f"{pieces_in_order(train_wordpiece(TEXTS, 90, True))}\n"


def test_a_vocabulary_too_small_for_the_alphabet_names_the_smallest_size() -> None:
    with pytest.raises(DataError, match=r"data.vocab_size 20"):
        train_wordpiece(TEXTS, 20, lowercase=True)


def test_vocabulary_file_gives_ids_by_line(vocabulary: Path) -> None:
    tokenizer = from_vocabulary(vocabulary, lowercase=True)
    assert pieces_in_order(tokenizer) == VOCABULARY
    encoding = tokenizer.encode("Unwanted, running", "xyz")
    assert encoding.tokens == ["[CLS]", "un", "##want", "##ed", ",", "runn", "##ing", "[SEP]", "[UNK]", "[SEP]"]
    assert encoding.type_ids == [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n", r"without \[MASK\]; needed: \[PAD\], \[UNK\]"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n", "line 8 repeats 'a' of line 6"),
        ("[PAD]\n\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", "line 2 is empty"),
    ],
)
def test_bad_vocabulary_names_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=rf"bad.txt: .*{message}"):
        from_vocabulary(path, lowercase=True)


def test_missing_or_undecodable_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.txt"):
        from_vocabulary(tmp_path / "none.txt", lowercase=True)
    (tmp_path / "latin.txt").write_bytes(b"[PAD]\n\xe9\n")
    with pytest.raises(DataError, match="line 2 is not UTF-8"):
        from_vocabulary(tmp_path / "latin.txt", lowercase=True)


@pytest.mark.parametrize("lowercase", [True, False])
def test_transformers_loads_the_saved_tokenizer_and_gives_the_same_ids(tmp_path: Path, lowercase: bool) -> None:
    from transformers import AutoTokenizer

    tokenizer = train_wordpiece(TEXTS, 150, lowercase)
    save_tokenizer(tokenizer, tmp_path, 48, lowercase)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.is_fast
    assert theirs.model_max_length == 48
    assert len(theirs) == tokenizer.get_vocab_size()
    assert (theirs.pad_token_id, theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id) == (0, 2, 3, 4)
    for text in ("The Cats' CAFÉ naïve 10,000!", "日本 cat", "a [MASK] sat", "", "  mats\tand\nmats "):
        assert theirs(text)["input_ids"] == tokenizer.encode(text).ids
        pair = tokenizer.encode(text, "the mat")
        assert theirs(text, "the mat")["input_ids"] == pair.ids
        assert theirs(text, "the mat")["token_type_ids"] == pair.type_ids
        assert load_tokenizer(tmp_path).encode(text, "the mat").ids == pair.ids


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_tokenizer(train_wordpiece(TEXTS, 90, True), tmp_path / name, 48, True)
    names = ["special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


def test_missing_and_damaged_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer.json"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0",')
    with pytest.raises(DataError, match=r"tokenizer.json"):
        load_tokenizer(tmp_path)


TRICKY = st.text(
    st.one_of(
        st.sampled_from("abctheAÉé ,.'-[]()\u00a0\u0301\u200b\u2028\t\x00\x1c\x85İßΣς日本①ﬁ가\U0001f600"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_by_word_gives_the_tokens_of_the_whole_text(lowercase: bool) -> None:
    tokenizer = train_wordpiece([*TEXTS, "日本 가 Σς É ,.'-[]()"] * 2, 200, lowercase)
    whole = reading_all_as_text(tokenizer)
    words = WordTokenizer(tokenizer, np.dtype("<u2"))

    @given(st.lists(TRICKY, min_size=1, max_size=4))
    def same(paragraphs: list[str]) -> None:
        expected = [token for text in paragraphs for token in whole.encode(text, add_special_tokens=False).ids]
        assert np.frombuffer(words.encode(" ".join(paragraphs)), dtype="<u2").tolist() == expected

    same()
    tokens = np.frombuffer(words.encode("cat [SEP] [MASK]"), dtype="<u2")
    assert tokens.tolist() == whole.encode("cat [SEP] [MASK]", add_special_tokens=False).ids
    assert not {0, 2, 3, 4} & set(tokens.tolist())  # a text cannot forge [PAD], [CLS], [SEP] or [MASK]


def reading_all_as_text(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that reads special tokens in a text as text."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.encode_special_tokens = True
    return copy


def test_words_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = train_wordpiece(TEXTS, 90, lowercase=True)
    unlimited = [WordTokenizer(tokenizer, np.dtype("<u2")).encode(text) for text in TEXTS]
    monkeypatch.setattr("pldrepro.data.tokenizers.encoders.CACHE_ENTRIES", 3)
    limited = WordTokenizer(tokenizer, np.dtype("<u2"))
    assert [limited.encode(text) for text in TEXTS] == unlimited
