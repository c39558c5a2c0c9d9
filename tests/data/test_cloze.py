"""Cloze contrasts: which occurrences become items."""

import numpy as np
import pytest

from pldrepro.data.cloze import find_cloze
from pldrepro.errors import DataError

VOCABULARY = {"is": 1, "are": 2, "the": 3, "##n": 4, "cat": 5}
CONTINUES = np.array([False, False, False, False, True, False])
TEXT = np.array([3, 5, 1, 3, 3, 2, 3, 1, 4, 3, 1, 3, 2, 5, 3, 1])  # "is" at 2, 10, 15 (at 7 it is part of a word)


def test_both_words_have_as_many_items_spread_over_the_text() -> None:
    cloze = find_cloze(TEXT, [("is", "are")], VOCABULARY, CONTINUES, length=5, most=10)
    assert len(cloze) == 4
    assert cloze.attested.tolist() == [1, 1, 2, 2]
    assert cloze.rivals.tolist() == [2, 2, 1, 1]
    assert cloze.contrast.tolist() == [0, 0, 0, 0]
    assert cloze.windows.tolist() == [[3, 5, 1, 3, 3], [4, 3, 1, 3, 2], [3, 3, 2, 3, 1], [1, 3, 2, 5, 3]]
    assert cloze.places.tolist() == [2, 2, 2, 2]


def test_a_window_stays_inside_the_text() -> None:
    cloze = find_cloze(TEXT[:6], [("is", "are")], VOCABULARY, CONTINUES, length=6, most=1)
    assert cloze.windows.tolist() == [TEXT[:6].tolist()] * 2
    assert cloze.places.tolist() == [2, 5]


def test_a_limit_holds_for_each_word() -> None:
    assert len(find_cloze(TEXT, [("is", "are")], VOCABULARY, CONTINUES, length=5, most=1)) == 2


@pytest.mark.parametrize(("pair", "word"), [(("is", "was"), "was"), (("is", "##n"), "##n"), (("cat", "dog"), "dog")])
def test_a_word_that_cannot_be_asked_for_is_named(pair: tuple[str, str], word: str) -> None:
    known = {name: number for name, number in VOCABULARY.items() if name != "##n"}
    with pytest.raises(DataError, match=word):
        find_cloze(TEXT, [pair], known, CONTINUES, length=5, most=10)


def test_a_word_that_the_text_lacks_is_named() -> None:
    with pytest.raises(DataError, match="are"):
        find_cloze(np.array([1, 3, 1, 3]), [("is", "are")], VOCABULARY, CONTINUES, length=4, most=10)


def test_no_contrast_gives_no_item() -> None:
    assert len(find_cloze(TEXT, [], VOCABULARY, CONTINUES, length=5, most=10)) == 0
