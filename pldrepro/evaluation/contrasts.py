"""What a language model prefers, without fine-tuning: minimal pairs and cloze contrasts.

Sentences of minimal pairs are compared by their log-probability under a decoder, and under an encoder by their
pseudo-log-likelihood with within-word masking: the sum over tokens of log p(token | all other words and the tokens of
its own word before it) (Salazar et al. 2020; Kauf & Ivanova 2023, PLL-word-l2r). Everything is computed in float32,
whatever the precision of training: the differences are small.

Shape legend: B sentences of a batch, S tokens, N sentences, P pairs, W tokens of a window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pldrepro.data.cloze import Cloze
from pldrepro.data.minimal_pairs import MinimalPairs, hits
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate

Sentence = tuple[np.ndarray, np.ndarray]  # token ids, and whether each begins a word


@torch.no_grad()
def pseudo_log_likelihoods(
    model: BertForPreTraining,
    sentences: Sequence[Sentence],
    special_tokens: Mapping[str, int],
    batch_size: int,
    gates: Sequence[Gate],
) -> np.ndarray:
    """(N,) float64 [nats]: one pass for each token, ``batch_size`` passes at a time, of sentences of equal length."""
    scores = np.zeros(len(sentences))
    first, last, mask = (special_tokens[name] for name in ("[CLS]", "[SEP]", "[MASK]"))
    for chosen, ids in _by_length(sentences):
        count, length = ids.shape
        framed = np.pad(ids, ((0, 0), (1, 1)))
        framed[:, 0], framed[:, -1] = first, last
        word = np.cumsum(np.stack([sentences[index][1] for index in chosen]), axis=1)  # (B, S) number of the word
        for place in range(length):
            hidden = (word == word[:, place, None]) & (np.arange(length) >= place)
            masked = framed.copy()
            masked[:, 1:-1][hidden] = mask
            for start in range(0, count, batch_size):
                rows = slice(start, start + batch_size)
                logits = _masked_logits(model, masked[rows], np.full(len(masked[rows]), place + 1), gates)
                scores[chosen[rows]] += _chosen(logits, ids[rows, place])
    return scores


@torch.no_grad()
def log_probabilities(
    model: Gpt, sentences: Sequence[Sentence], separator: int, batch_size: int, gates: Sequence[Gate]
) -> np.ndarray:
    """(N,) float64 [nats] under a decoder, of all tokens after the separator that documents end with."""
    scores = np.zeros(len(sentences))
    device = next(model.parameters()).device
    for chosen, ids in _by_length(sentences):
        inputs = np.pad(ids[:, :-1], ((0, 0), (1, 0)), constant_values=separator)
        for start in range(0, len(ids), batch_size):
            rows = slice(start, start + batch_size)
            logits = model(torch.from_numpy(inputs[rows]).to(device), gates).float()
            given = logits.log_softmax(-1).gather(-1, torch.from_numpy(ids[rows]).to(device)[..., None])
            scores[chosen[rows]] = given[..., 0].double().sum(1).cpu().numpy()
    return scores


def pair_hits(
    model: BertForPreTraining | Gpt,
    pairs: MinimalPairs,
    special_tokens: Mapping[str, int],
    max_tokens: int,
    batch_size: int,
    gates: Sequence[Gate],
) -> np.ndarray:
    """(P,) float32: 1 where the model prefers the acceptable sentence, 1/2 at a tie, 0; nan where one is too long.

    ``max_tokens``: tokens of the sequences that the model was trained on, special ones included.
    """
    frame = 2 if isinstance(model, BertForPreTraining) else 1
    fits = (pairs.lengths + frame <= max_tokens).all(axis=1)
    indices = np.flatnonzero(np.repeat(fits, 2))
    sentences = [pairs.sentence(int(index)) for index in indices]
    scores = np.full(2 * len(pairs), np.nan)
    was_training = model.training
    model.eval()
    if isinstance(model, BertForPreTraining):
        scores[indices] = pseudo_log_likelihoods(model, sentences, special_tokens, batch_size, gates)
    else:
        (separator,) = special_tokens.values()
        scores[indices] = log_probabilities(model, sentences, separator, batch_size, gates)
    model.train(was_training)
    return hits(scores)


@torch.no_grad()
def cloze_hits(
    model: BertForPreTraining | Gpt,
    cloze: Cloze,
    special_tokens: Mapping[str, int],
    batch_size: int,
    gates: Sequence[Gate],
) -> np.ndarray:
    """(N,) float32: 1 where the model prefers the attested word to its rival, 1/2 at a tie, else 0.

    An encoder sees the window with the word masked; a decoder compares the probabilities of the whole window with
    either word, as what follows tells, too.
    """
    was_training = model.training
    model.eval()
    if isinstance(model, BertForPreTraining):
        scores = _cloze_by_mask(model, cloze, special_tokens, batch_size, gates)
    else:
        (separator,) = special_tokens.values()
        windows = np.repeat(cloze.windows, 2, axis=0)
        windows[np.arange(0, len(windows), 2), cloze.places] = cloze.rivals
        starts = np.ones(windows.shape[1], dtype=bool)
        scores = log_probabilities(model, [(window, starts) for window in windows], separator, batch_size, gates)
    model.train(was_training)
    return hits(scores)


def _cloze_by_mask(
    model: BertForPreTraining,
    cloze: Cloze,
    special_tokens: Mapping[str, int],
    batch_size: int,
    gates: Sequence[Gate],
) -> np.ndarray:
    """(2N,): log-probability of the rival, then of the attested word, of each item."""
    framed = np.pad(cloze.windows, ((0, 0), (1, 1)))
    framed[:, 0], framed[:, -1] = special_tokens["[CLS]"], special_tokens["[SEP]"]
    framed[np.arange(len(cloze)), cloze.places + 1] = special_tokens["[MASK]"]
    scores = np.zeros((len(cloze), 2))
    for start in range(0, len(cloze), batch_size):
        rows = slice(start, start + batch_size)
        logits = _masked_logits(model, framed[rows], cloze.places[rows] + 1, gates)
        scores[rows] = np.stack([_chosen(logits, ids[rows]) for ids in (cloze.rivals, cloze.attested)], axis=1)
    return scores.reshape(-1)


def _by_length(sentences: Sequence[Sentence]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Places (B,) and token ids (B, S) of the sentences of each length: no padding, no attention mask."""
    groups: dict[int, list[int]] = defaultdict(list)
    for index, (ids, _) in enumerate(sentences):
        groups[len(ids)].append(index)
    for _, chosen in sorted(groups.items()):
        yield np.array(chosen), np.stack([sentences[index][0] for index in chosen])


def _masked_logits(model: BertForPreTraining, ids: np.ndarray, places: np.ndarray, gates: Sequence[Gate]) -> Tensor:
    """(B, V) float32 logits at one place of each row of (B, S) token ids."""
    device = next(model.parameters()).device
    logits, _ = model(torch.from_numpy(ids).to(device), None, torch.from_numpy(places[:, None]).to(device), gates)
    return logits.float()


def _chosen(logits: Tensor, ids: np.ndarray) -> np.ndarray:
    """(B, V) logits, (B,) token ids -> (B,) float64 log-probabilities of these tokens."""
    given = logits.log_softmax(-1).gather(-1, torch.from_numpy(np.ascontiguousarray(ids)).to(logits.device)[:, None])
    return given[:, 0].double().cpu().numpy()
