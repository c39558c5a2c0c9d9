"""The rank of the right last word of a passage among the words of the passage.

For models whose LAMBADA accuracy is 0: published decoders of 160 M parameters have it before a billion tokens. The last
word is compared with every other word of its context by log p(word | context) per token of the word, so that a long
word is not less probable for its length; the score is the share of the other words that are less probable, a tie counts
one half. A model that knows nothing of the passage has rank 1/2 where no word is more frequent than another, and below
where the other words are frequent ones: the model without training says where.

All words of a passage are scored in one pass: they stand one after the other behind the context, each at the positions
that follow it, and attend to the context and to themselves.

Shape legend: C tokens of the context, W words, S tokens of context and words, N predicted tokens.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np
import torch

from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate

WORD = re.compile(r"\w+(?:['’-]\w+)*")  # with its apostrophes and hyphens
CONTEXT = -1  # whom the tokens of the context belong to


def other_words(text: str, right: np.ndarray, encode: Callable[[str], np.ndarray], most: int) -> list[np.ndarray]:
    """Token ids of the distinct words of a text but the right one, each with the space before it.

    A word of more than ``most`` tokens is left out.
    """
    words = (encode(f" {word}") for word in dict.fromkeys(WORD.findall(text)))
    return [ids for ids in words if len(ids) <= most and not np.array_equal(ids, right)]


def rank(log_probabilities: np.ndarray, words: Sequence[np.ndarray]) -> float:
    """Share of the words after the first that are less probable per token than the first; a tie counts one half."""
    per_token = log_probabilities / np.array([len(word) for word in words])
    right, others = per_token[0], per_token[1:]
    return float((0.5 * (1.0 + np.sign(right - others))).mean())


@torch.no_grad()
def word_log_probabilities(
    model: Gpt, context: np.ndarray, words: Sequence[np.ndarray], gates: Sequence[Gate], max_tokens: int
) -> np.ndarray:
    """(W,) float64 log-probabilities [nats] of words after a context, which is cut on the left to fit max_tokens."""
    context = context[-(max_tokens - max(map(len, words)) + 1) :]
    owners = np.repeat(np.arange(CONTEXT, len(words)), [len(context), *(len(word) - 1 for word in words)])
    positions = np.concatenate([np.arange(len(context)), *(len(context) + np.arange(len(w) - 1) for w in words)])
    ids = np.concatenate([context, *(word[:-1] for word in words)])
    sees = (owners[None, :] == CONTEXT) | (owners[None, :] == owners[:, None])
    mask = torch.from_numpy(np.tril(sees)[None, None])
    device = next(model.parameters()).device
    embedded = model.word_embeddings(torch.from_numpy(ids).to(device)[None])
    embedded = embedded + model.position_embeddings(torch.from_numpy(positions).to(device))
    hidden = model.final_norm(model.blocks(embedded, mask.to(device), gates))[0]
    predicted_from, tokens, words_of = _predictions(len(context), words)
    logits = model.logits(hidden[torch.from_numpy(predicted_from).to(device)]).float()
    given = logits.log_softmax(-1).gather(-1, torch.from_numpy(tokens).to(device)[:, None])[:, 0].double().cpu().numpy()
    return np.bincount(words_of, given)


def _predictions(context: int, words: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) each: the place that a token is predicted from, the token, and its word."""
    places, start = [], context
    for word in words:
        places.append(np.concatenate([[context - 1], start + np.arange(len(word) - 1)]))
        start += len(word) - 1
    owners = np.repeat(np.arange(len(words)), list(map(len, words)))
    return np.concatenate(places), np.concatenate(list(words)), owners
