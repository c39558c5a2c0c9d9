"""Byte-pair encoding: deterministic, lossless, the same in transformers, and GPT-2's own files where they are."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pldrepro.data.tokenizers.bpe import BYTES, from_gpt2_files, train_bpe
from pldrepro.data.tokenizers.wordpiece import load_tokenizer, pieces_in_order, save_tokenizer, special_ids
from pldrepro.errors import DataError
from tests.support.texts import TEXTS

# GPT-2's own files, if any: PLDREPRO_DATA_ROOT/vocab/gpt2_vocab.json and gpt2_merges.txt
VOCAB = Path(os.environ.get("PLDREPRO_DATA_ROOT", "none")) / "vocab"
GPT2 = (VOCAB / "gpt2_vocab.json", VOCAB / "gpt2_merges.txt")
needs_gpt2 = pytest.mark.skipif(
    not all(path.is_file() for path in GPT2),
    reason="no vocab/gpt2_vocab.json and gpt2_merges.txt in PLDREPRO_DATA_ROOT",
)


def test_the_bytes_come_first_after_the_one_special_token() -> None:
    tokenizer = train_bpe(TEXTS, 300)
    assert special_ids(tokenizer) == {"<|endoftext|>": 0}
    assert len(BYTES) == len(set(BYTES)) == 256
    assert pieces_in_order(tokenizer)[1:257] == list(BYTES)
    assert tokenizer.get_vocab_size() == 300
    assert tokenizer.encode("the cats sat").tokens == ["the", "Ġcats", "Ġsat"]


TEXT = st.text(
    st.one_of(
        st.sampled_from("abctheAÉé ,.'-[]()<|>\u00a0\u0301\u200b\u2028\t\n\x00\x1c\x85İßΣς日本①ﬁ가\U0001f600"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


@given(TEXT)
def test_any_text_comes_back_as_it_was(text: str) -> None:
    assert TRAINED.decode(TRAINED.encode(text).ids) == text


TRAINED = train_bpe(TEXTS, 300)


def test_training_does_not_depend_on_the_process_or_the_threads() -> None:
    program = (
        "from tests.support.texts import TEXTS; from pldrepro.data.tokenizers.bpe import train_bpe\n"
        "print(train_bpe(TEXTS, 320).to_str())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).resolve().parents[2],
            env={**os.environ, "TOKENIZERS_PARALLELISM": parallel, "RAYON_NUM_THREADS": "2"},
        ).stdout
        for parallel in ("true", "false", "true")
    }
    assert outputs == {f"{train_bpe(TEXTS, 320).to_str()}\n"}


def test_a_vocabulary_too_small_for_the_bytes_names_the_smallest_size() -> None:
    assert train_bpe(TEXTS, 257).get_vocab_size() == 257
    with pytest.raises(DataError, match=r"data.vocab_size 256"):
        train_bpe(TEXTS, 256)


def test_transformers_loads_the_saved_tokenizer_and_gives_the_same_ids(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = train_bpe(TEXTS, 300)
    save_tokenizer(tokenizer, tmp_path, 48, lowercase=True)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert "GPT2" in type(theirs).__name__
    assert theirs.is_fast
    assert theirs.model_max_length == 48
    assert len(theirs) == 300
    assert theirs.bos_token_id == theirs.eos_token_id == theirs.pad_token_id == 0
    for text in ("The Cats' CAFÉ naïve 10,000!", "日本 cat", "a<|endoftext|>b", "", "  mats\tand\n\nmats "):
        assert theirs(text)["input_ids"] == tokenizer.encode(text).ids
        assert load_tokenizer(tmp_path).encode(text).ids == tokenizer.encode(text).ids


def test_saved_files_give_the_same_tokenizer_and_the_same_bytes(tmp_path: Path) -> None:
    save_tokenizer(TRAINED, tmp_path / "a", 48, lowercase=True)
    names = ["merges.txt", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    again = from_gpt2_files(tmp_path / "a" / "vocab.json", tmp_path / "a" / "merges.txt")
    save_tokenizer(again, tmp_path / "b", 48, lowercase=True)
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    save_tokenizer(TRAINED, tmp_path, 48, lowercase=True)
    return tmp_path / "vocab.json", tmp_path / "merges.txt"


def edit(path: Path, **changes: Any) -> None:
    pieces = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({piece: number for piece, number in pieces.items() if number is not None}))


def test_bad_vocabularies_are_named(files: tuple[Path, Path]) -> None:
    vocabulary, _ = files
    edit(vocabulary, extra=300, other=300)
    with pytest.raises(DataError, match=r"vocab\.json"):
        from_gpt2_files(*files)
    edit(vocabulary, extra=300, other=None, a=None, more=TRAINED.token_to_id("a"))
    with pytest.raises(DataError, match=r"vocab\.json"):
        from_gpt2_files(*files)
    for content in ("[1]", '{"a": "b"}', '{"a": null}'):
        vocabulary.write_text(content)
        with pytest.raises(DataError, match=r"vocab\.json"):
            from_gpt2_files(*files)
    vocabulary.write_text('{"a": 1,')
    with pytest.raises(DataError, match=r"vocab\.json"):
        from_gpt2_files(*files)
    vocabulary.unlink()
    with pytest.raises(DataError, match=r"vocab\.json"):
        from_gpt2_files(*files)


@pytest.mark.parametrize("line", ["abc", "a b c", " "])
def test_bad_merges_are_named(files: tuple[Path, Path], line: str) -> None:
    vocabulary, merges = files
    text = merges.read_text()
    merges.write_text(text.replace("\n", f"\n{line}\n", 1))
    with pytest.raises(DataError, match=r"merges\.txt: line 2"):
        from_gpt2_files(vocabulary, merges)


def test_merges_of_another_vocabulary_are_named(files: tuple[Path, Path]) -> None:
    vocabulary, merges = files
    merges.write_text(merges.read_text() + "q q\n")
    with pytest.raises(DataError, match=r"merges\.txt: line \d+"):
        from_gpt2_files(vocabulary, merges)
    merges.write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"merges\.txt"):
        from_gpt2_files(vocabulary, merges)
    merges.unlink()
    with pytest.raises(DataError, match=r"merges\.txt"):
        from_gpt2_files(vocabulary, merges)


@needs_gpt2
def test_gpt2s_own_files() -> None:
    tokenizer = from_gpt2_files(*GPT2)
    assert tokenizer.get_vocab_size() == 50257
    assert special_ids(tokenizer) == {"<|endoftext|>": 50256}
    assert tokenizer.encode("Hello world").ids == [15496, 995]
    assert tokenizer.encode(" signs<|endoftext|>\n").ids == [5895, 50256, 198]
