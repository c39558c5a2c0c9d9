"""Minimal pairs: both formats, their tokens, and what word counts make of them."""

import json
import lzma
import os
from pathlib import Path

import numpy as np
import pytest

from pldrepro.data import minimal_pairs
from pldrepro.data.minimal_pairs import Paradigm, encode_pairs, hits, load_pairs, parse_pairs, sampled_pairs, save_pairs
from pldrepro.errors import DataError

DATA = Path(os.environ.get("PLDREPRO_DATA_ROOT", "/nonexistent"))
DTYPE = np.dtype("uint16")
VOCABULARY = ["[SEP]", "a", "dog", "dogs", "runs", "run", "##s"]
CONTINUES = np.array([piece.startswith("##") for piece in VOCABULARY])


class Words:
    """An encoder that knows the words of VOCABULARY."""

    def encode(self, text: str) -> bytes:
        return np.array([VOCABULARY.index(word) for word in text.split()], DTYPE).tobytes()


def ids(text: str) -> np.ndarray:
    return np.frombuffer(Words().encode(text), DTYPE)


def encoded(*pairs: tuple[str, str], train: str = "a dog runs [SEP]") -> minimal_pairs.MinimalPairs:
    paradigm = Paradigm("agreement", list(pairs))
    return encode_pairs([paradigm], Words(), DTYPE, CONTINUES, ids(train), separator=0)  # type: ignore[arg-type]


def numbered(*lines: str) -> list[tuple[int, str]]:
    return list(enumerate(lines, start=1))


def test_zorros_lines_are_unacceptable_then_acceptable() -> None:
    lines = numbered("a dog run .", "a dog runs .", "", "dogs runs .", "dogs run .")
    assert parse_pairs(lines, "f", is_json=False) == [("a dog run .", "a dog runs ."), ("dogs runs .", "dogs run .")]
    with pytest.raises(DataError, match="f: 3 sentences"):
        parse_pairs(numbered("a", "b", "c"), "f", is_json=False)
    with pytest.raises(DataError, match="f: 0 sentences"):
        parse_pairs([], "f", is_json=False)


def test_blimps_objects_name_the_good_and_the_bad_sentence() -> None:
    line = json.dumps({"sentence_good": "a dog runs", "sentence_bad": "a dog run", "UID": "agreement"})
    assert parse_pairs(numbered(line), "f", is_json=True) == [("a dog run", "a dog runs")]


@pytest.mark.parametrize("line", ["{", "[1]", "{}", '{"sentence_good": "a", "sentence_bad": 1}', "7"])
def test_a_line_that_is_no_pair_is_named(line: str) -> None:
    with pytest.raises(DataError, match="f: line 1"):
        parse_pairs(numbered(line), "f", is_json=True)


def test_few_pairs_are_drawn_at_random_and_always_the_same() -> None:
    pairs = [(f"bad {n}", f"good {n}") for n in range(1000)]
    few = sampled_pairs(pairs, 200)
    assert few == sampled_pairs(pairs, 200)
    places = [pairs.index(pair) for pair in few]
    assert places == sorted(set(places))
    assert 70 < sum(place % 2 for place in places) < 130  # both kinds of pairs that alternate
    assert sampled_pairs(pairs, None) == sampled_pairs(pairs, 1000) == sampled_pairs(pairs, 9999) == pairs


def test_sentences_are_tokens_with_word_starts() -> None:
    pairs = encoded(("a dog run", "a dog run ##s"))
    assert len(pairs) == 1
    assert pairs.lengths.tolist() == [[3, 4]]
    tokens, starts = pairs.sentence(1)
    assert tokens.tolist() == [1, 2, 5, 6]
    assert starts.tolist() == [True, True, True, False]


def test_a_sentence_without_tokens_is_named() -> None:
    with pytest.raises(DataError, match="agreement"):
        encoded(("a dog", " "))


def test_unigrams_prefer_the_frequent_word_and_trigrams_the_attested_order() -> None:
    # "run" is more frequent than "runs", but "a dog" is only ever followed by "runs".
    pairs = encoded(("a dog run", "a dog runs"), train="a dog runs [SEP] run run run [SEP]")
    assert pairs.unigram.tolist() == [0.0]
    assert pairs.trigram.tolist() == [1.0]


def test_the_same_words_in_another_order_are_a_tie_for_unigrams() -> None:
    pairs = encoded(("dog a runs", "a dog runs"))
    assert pairs.unigram.tolist() == [0.5]
    assert pairs.trigram.tolist() == [1.0]


def test_ngram_log_probabilities_by_hand() -> None:
    train = ids("a dog runs [SEP] a dog run [SEP]")  # 8 tokens; vocabulary of 7
    tokens, offsets = ids("dog runs").astype(np.uint32), np.array([0, 2])
    unigram, trigram = minimal_pairs.ngram_log_probabilities(train, tokens, offsets, len(VOCABULARY), separator=0)
    assert unigram == pytest.approx([np.log(3 / 15 * 2 / 15)])
    # p(dog | [SEP] [SEP]) has its unigram share only; p(runs | [SEP] dog) adds the bigram "dog runs", 1 of 2.
    assert trigram == pytest.approx([np.log(0.1 * 3 / 15) + np.log(0.1 * 2 / 15 + 0.3 * 1 / 2)])


def test_hits_count_a_tie_as_one_half() -> None:
    assert hits(np.array([-2.0, -1.0, -1.0, -2.0, -1.0, -1.0])).tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(hits(np.array([np.nan, np.nan]))).all()


def test_pairs_come_back_from_their_file_and_damage_is_named(tmp_path: Path) -> None:
    pairs = encoded(("a dog run", "a dog runs"), ("dogs runs", "dogs run"))
    path = tmp_path / "zorro.safetensors"
    save_pairs(pairs, path)
    assert load_pairs(path, pairs.sha256).lengths.tolist() == [[3, 3], [2, 2]]
    with pytest.raises(DataError, match=r"zorro\.safetensors"):
        load_pairs(path, "0" * 64)


@pytest.mark.skipif(not (DATA / "zorro").is_dir(), reason="no zorro/ and blimp/ in PLDREPRO_DATA_ROOT")
def test_the_real_files() -> None:
    for path in sorted((DATA / "zorro").glob("*.txt.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            assert len(parse_pairs(enumerate(file, start=1), path.name, is_json=False)) == 2000
    for path in sorted((DATA / "blimp").glob("*.jsonl.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            assert len(parse_pairs(enumerate(file, start=1), path.name, is_json=True)) == 1000
