"""Minimal pairs and cloze contrasts: against one sentence at a time, and against a model known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pldrepro.config.model import ModelSettings
from pldrepro.data.cloze import Cloze
from pldrepro.data.minimal_pairs import MinimalPairs
from pldrepro.evaluation.contrasts import cloze_hits, log_probabilities, pair_hits, pseudo_log_likelihoods
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import all_kept

SHAPE = {"num_layers": 2, "hidden_size": 16, "num_heads": 2, "ffn_size": 24, "vocab_size": 30, "max_positions": 16,
         "dropout": 0.1, "attention_dropout": 0.1, "init_std": 0.3}  # fmt: skip
BERT = ModelSettings(norm="pre", **SHAPE)  # type: ignore[arg-type]
GPT = ModelSettings(family="gpt", norm="pre", **SHAPE)  # type: ignore[arg-type]
SPECIAL = {"[CLS]": 0, "[SEP]": 1, "[MASK]": 2}
END = {"<|endoftext|>": 1}
GATES = all_kept(2)


def encoder() -> BertForPreTraining:
    model = BertForPreTraining(BERT)
    initialise(model, 1)
    return model.eval()


def decoder() -> Gpt:
    model = Gpt(GPT)
    initialise(model, 1)
    return model.eval()


def sentences(count: int = 12) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        length = int(rng.integers(1, 7))
        starts = rng.random(length) < 0.6
        starts[0] = True
        made.append((rng.integers(3, 30, length), starts))
    return made


@torch.no_grad()
def by_hand(model: BertForPreTraining, ids: np.ndarray, starts: np.ndarray) -> float:
    """Within-word masking, word by word: a token sees all other words and the earlier tokens of its own."""
    total = 0.0
    for place in range(len(ids)):
        end = place + 1
        while end < len(ids) and not starts[end]:
            end += 1
        row = [0, *ids, 1]
        row[place + 1 : end + 1] = [2] * (end - place)
        logits, _ = model(torch.tensor([row]), None, torch.tensor([[place + 1]]), GATES)
        total += float(logits.log_softmax(-1)[0, ids[place]])
    return total


def test_pseudo_log_likelihoods_mask_the_rest_of_the_word() -> None:
    model, given = encoder(), sentences()
    expected = [by_hand(model, *sentence) for sentence in given]
    assert pseudo_log_likelihoods(model, given, SPECIAL, 3, GATES) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_log_probabilities_are_those_of_the_whole_sentence() -> None:
    model, given = decoder(), sentences()
    found = log_probabilities(model, given, 1, 3, GATES)
    for (ids, _), score in zip(given, found, strict=True):
        logits = model(torch.tensor([[1, *ids[:-1]]]), GATES)
        loss = torch.nn.functional.cross_entropy(logits[0], torch.tensor(ids), reduction="sum")
        assert score == pytest.approx(-float(loss), rel=1e-5)


def test_scores_do_not_depend_on_the_batch() -> None:
    given = sentences()
    for size in (1, 100):
        assert pseudo_log_likelihoods(encoder(), given, SPECIAL, size, GATES) == pytest.approx(
            pseudo_log_likelihoods(encoder(), given, SPECIAL, 4, GATES), rel=1e-5
        )


def pairs_of(*given: tuple[list[int], list[int]]) -> MinimalPairs:
    flat = [sentence for pair in given for sentence in pair]
    tokens = np.concatenate(flat).astype(np.uint32)
    zeros = np.zeros(len(given), np.float32)
    return MinimalPairs(
        paradigm=zeros.astype(np.int32),
        tokens=tokens,
        starts=np.ones(len(tokens), np.uint8),
        offsets=np.cumsum([0, *map(len, flat)]),
        unigram=zeros,
        trigram=zeros,
    )


def always(token: int) -> BertForPreTraining:
    """An encoder that finds one token most probable everywhere, and all others equally probable."""
    model = encoder()
    for parameter in model.mlm_head.parameters():
        torch.nn.init.zeros_(parameter)
    with torch.no_grad():
        model.mlm_head.bias[token] = 3.0
    return model


def test_pairs_are_won_lost_and_tied_and_long_ones_left_out() -> None:
    pairs = pairs_of(([5, 6], [5, 7]), ([5, 7], [5, 6]), ([5, 6], [6, 5]), ([5, 6, 8, 9], [5, 6, 8, 7]))
    found = pair_hits(always(7), pairs, SPECIAL, 5, 2, GATES)
    assert found[:3].tolist() == [1.0, 0.0, 0.5]
    assert np.isnan(found[3])
    assert not np.isnan(pair_hits(always(7), pairs, SPECIAL, 6, 2, GATES)).any()


def test_a_decoder_is_asked_with_one_special_token() -> None:
    pairs = pairs_of(([5, 6], [5, 6]), ([5, 6, 7, 8, 9], [5, 6, 7, 8, 9]))
    found = pair_hits(decoder(), pairs, END, 5, 2, GATES)
    assert found[0] == 0.5
    assert np.isnan(found[1])


def cloze() -> Cloze:
    windows = np.array([[5, 7, 8], [7, 9, 6]])
    return Cloze(np.zeros(2, np.int32), windows, np.array([1, 0]), np.array([6, 9]))


def test_cloze_asks_for_the_attested_word_against_its_rival() -> None:
    assert cloze().attested.tolist() == [7, 7]
    assert cloze_hits(always(7), cloze(), SPECIAL, 1, GATES).tolist() == [1.0, 1.0]
    assert cloze_hits(always(6), cloze(), SPECIAL, 2, GATES).tolist() == [0.0, 0.5]


def test_a_decoder_compares_the_windows_with_either_word() -> None:
    model, asked = decoder(), cloze()
    word = np.ones(3, bool)
    expected = []
    for window, place, rival in zip(asked.windows, asked.places, asked.rivals, strict=True):
        other = window.copy()
        other[place] = rival
        first, second = log_probabilities(model, [(other, word), (window, word)], 1, 8, GATES)
        expected.append(float(second > first))
    assert cloze_hits(model, asked, END, 8, GATES).tolist() == expected


def test_training_mode_is_kept_and_dropout_is_off() -> None:
    model = decoder().train()
    first, second = (pair_hits(model, pairs_of(([5, 6], [6, 5])), END, 8, 2, GATES) for _ in range(2))
    assert model.training
    assert first.tolist() == second.tolist()
