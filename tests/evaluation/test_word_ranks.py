"""The rank of the right word among a passage's words: against one word at a time, and by hand."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from pldrepro.config.model import ModelSettings
from pldrepro.evaluation.word_ranks import other_words, rank, word_log_probabilities
from pldrepro.models.blocks import initialise
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import all_kept

SETTINGS = ModelSettings(
    family="gpt", norm="pre", num_layers=2, hidden_size=16, num_heads=2, ffn_size=24, vocab_size=50, max_positions=12,
    init_std=0.3, dropout=0.0, attention_dropout=0.0,
)  # fmt: skip
GATES = all_kept(2)


def decoder() -> Gpt:
    model = Gpt(SETTINGS)
    initialise(model, 1)
    return model.eval()


@torch.no_grad()
def one_by_one(model: Gpt, context: np.ndarray, words: Sequence[np.ndarray]) -> list[float]:
    scores = []
    for word in words:
        ids = torch.from_numpy(np.concatenate([context, word[:-1]]))[None]
        logits = model(ids, GATES)[0, len(context) - 1 :].log_softmax(-1)
        scores.append(float(logits.gather(-1, torch.from_numpy(word)[:, None]).sum()))
    return scores


@pytest.mark.parametrize("length", [1, 5, 10])
def test_words_in_one_pass_are_those_one_at_a_time(length: int) -> None:
    rng = np.random.default_rng(length)
    words = [rng.integers(0, 50, count) for count in (1, 3, 2, 1, 3)]
    context = rng.integers(0, 50, length)
    found = word_log_probabilities(decoder(), context, words, GATES, max_tokens=12)
    assert found == pytest.approx(one_by_one(decoder(), context, words), abs=1e-5)


def test_every_word_sees_the_same_end_of_a_long_context() -> None:
    rng = np.random.default_rng(0)
    words, context = [rng.integers(0, 50, count) for count in (1, 3)], rng.integers(0, 50, 30)
    found = word_log_probabilities(decoder(), context, words, GATES, max_tokens=8)
    assert found == pytest.approx(one_by_one(decoder(), context[-6:], words), abs=1e-5)


def test_the_share_of_less_probable_words() -> None:
    short, long = np.zeros(1), np.zeros(2)
    assert rank(np.array([-2.0, -3.0, -1.0, -2.0, -9.0]), [short] * 5) == 0.625  # two below, one above, one tie
    assert rank(np.array([-1.0, -2.0]), [short, short]) == 1
    assert rank(np.array([-1.0, -2.0]), [short, long]) == 0.5  # per token they are equal


def test_a_passage_is_asked_each_of_its_other_words_once() -> None:
    asked: list[str] = []

    def encode(text: str) -> np.ndarray:
        asked.append(text)
        return np.array([len(text)] * (3 if text == " unbelievable" else 1))

    found = other_words("Ann's dog, the unbelievable dog; the cat!", np.array([4]), encode, most=2)
    assert asked == [" Ann's", " dog", " the", " unbelievable", " cat"]
    assert [ids.tolist() for ids in found] == [[6]]  # dog, the and cat have the right word's tokens here
