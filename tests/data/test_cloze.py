"""Cloze contrasts: which occurrences become items."""

from pathlib import Path

import numpy as np
import pytest

from pldrepro.data.cloze import Cloze, find_cloze, load_cloze, save_cloze
from pldrepro.errors import DataError

VOCABULARY = {"is": 1, "are": 2, "the": 3, "##n": 4, "cat": 5}
CONTINUES = np.array([False, False, False, False, True, False])
TEXT = np.array([3, 5, 1, 3, 3, 2, 3, 1, 4, 3, 1, 3, 2, 5, 3, 1])  # "is" at 2, 10, 15 (at 7 it is part of a word)


def found(tokens: np.ndarray, *, length: int, most: int = 10) -> Cloze:
    cloze, absent = find_cloze(tokens, [("is", "are")], VOCABULARY, CONTINUES, length, most, least=1)
    assert not absent
    return cloze


def test_both_words_have_as_many_items_spread_over_the_text() -> None:
    cloze = found(TEXT, length=5)
    assert len(cloze) == 4
    assert cloze.attested.tolist() == [1, 1, 2, 2]
    assert cloze.rivals.tolist() == [2, 2, 1, 1]
    assert cloze.contrast.tolist() == [0, 0, 0, 0]
    assert cloze.windows.tolist() == [[3, 5, 1, 3, 3], [4, 3, 1, 3, 2], [3, 3, 2, 3, 1], [1, 3, 2, 5, 3]]
    assert cloze.places.tolist() == [2, 2, 2, 2]


def test_a_window_stays_inside_the_text() -> None:
    cloze = found(TEXT[:6], length=6, most=1)
    assert cloze.windows.tolist() == [TEXT[:6].tolist()] * 2
    assert cloze.places.tolist() == [2, 5]


def test_a_limit_holds_for_each_word() -> None:
    assert len(found(TEXT, length=5, most=1)) == 2


@pytest.mark.parametrize(("pair", "word"), [(("is", "was"), "was"), (("is", "##n"), "##n"), (("cat", "dog"), "dog")])
def test_a_word_that_cannot_be_asked_for_is_left_out_and_named(pair: tuple[str, str], word: str) -> None:
    known = {name: number for name, number in VOCABULARY.items() if name != "##n"}
    cloze, absent = find_cloze(TEXT, [pair, ("is", "are")], known, CONTINUES, length=5, most=10, least=1)
    assert list(absent) == [pair]
    assert repr(word) in absent[pair]
    assert cloze.contrast.tolist() == [1, 1, 1, 1]  # places in the list that was asked for


def test_a_word_that_the_text_has_too_seldom_is_left_out_and_named() -> None:
    cloze, absent = find_cloze(TEXT, [("is", "are")], VOCABULARY, CONTINUES, length=5, most=10, least=3)
    assert len(cloze) == 0
    assert "'are' 2 times" in absent["is", "are"]


def test_too_little_text_is_an_error() -> None:
    with pytest.raises(DataError):
        found(TEXT[:3], length=5)


def test_no_contrast_gives_no_item() -> None:
    cloze, absent = find_cloze(TEXT, [], VOCABULARY, CONTINUES, length=5, most=10)
    assert (len(cloze), absent) == (0, {})


def test_items_come_back_from_their_file_and_damage_is_named(tmp_path: Path) -> None:
    cloze, path = found(TEXT, length=5), tmp_path / "cloze.safetensors"
    save_cloze(cloze, path)
    assert load_cloze(path, cloze.sha256).windows.tolist() == cloze.windows.tolist()
    with pytest.raises(DataError, match=r"cloze\.safetensors"):
        load_cloze(path, "0" * 64)
