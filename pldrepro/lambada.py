"""LAMBADA: how well a decoder predicts the last word of a passage from all that comes before it.

A word may be several tokens; each is predicted from the context and the tokens of the word before it (teacher forcing).
Accuracy counts the words all of whose tokens are the most probable ones; perplexity is exp(-mean log-probability of
the word), per word and not per token. Both as in Radford et al. 2019, section 3.3, and in lm-evaluation-harness's task
``lambada_openai``. Differs from Radford et al.: no stop-word filter.

Shape legend: B passages of a batch, S tokens, N predicted tokens of a batch, P passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pldrepro.config import ImplSettings
from pldrepro.data.lambada import Lambada
from pldrepro.device import autocast
from pldrepro.drop import Gate
from pldrepro.models.gpt import Gpt


@dataclass(frozen=True)
class LambadaResult:
    """What a model makes of each passage, in their order."""

    log_probabilities: np.ndarray  # (P,) float64, of the last word [nats]
    correct: np.ndarray  # (P,) bool, every token of the last word is the most probable one

    @property
    def accuracy(self) -> float:
        """Share of last words that are right."""
        return float(self.correct.mean())

    @property
    def perplexity(self) -> float:
        """exp(-mean log-probability of the last word)."""
        return float(np.exp(-self.log_probabilities.mean()))


@torch.no_grad()
def evaluate(
    model: Gpt, passages: Lambada, impl: ImplSettings, device: torch.device, gates: Sequence[Gate]
) -> LambadaResult:
    """Predict the last words, ``impl.micro_batch_size`` passages at a time, without dropout.

    A context that does not fit max_positions is cut on the left; a last word that does not is a ValueError.
    """
    rows = [_cut(*passages.passage(index), model.settings.max_positions) for index in range(len(passages))]
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))  # alike in length: little padding
    result = LambadaResult(np.zeros(len(rows)), np.zeros(len(rows), dtype=bool))
    was_training = model.training
    model.eval()
    for start in range(0, len(rows), impl.micro_batch_size):
        chosen = order[start : start + impl.micro_batch_size]
        with autocast(impl, device):
            logits, labels, owners = _predict(model, [rows[index] for index in chosen], device, gates)
        logits = logits.float()
        given = logits.log_softmax(-1).gather(-1, labels[:, None])[:, 0].double().cpu().numpy()
        wrong = (logits.argmax(-1) != labels).cpu().numpy()
        result.log_probabilities[chosen] = np.bincount(owners, given)
        result.correct[chosen] = np.bincount(owners, wrong) == 0
    model.train(was_training)
    return result


def _cut(context: np.ndarray, word: np.ndarray, max_positions: int) -> tuple[np.ndarray, np.ndarray]:
    """Input (the passage less its last token) and the tokens of the last word, which the end of the input predicts."""
    if len(word) > max_positions:
        raise ValueError(f"a last word of {len(word)} tokens; allowed with max_positions {max_positions}: as many")
    return np.concatenate([context, word[:-1]])[-max_positions:], word


def _predict(
    model: Gpt, rows: Sequence[tuple[np.ndarray, np.ndarray]], device: torch.device, gates: Sequence[Gate]
) -> tuple[Tensor, Tensor, np.ndarray]:
    """Logits (N, V) at the positions before the tokens of the last words, these tokens (N,), and their row (N,).

    Rows are padded on the right, where a causal model does not look.
    """
    length = max(len(ids) for ids, _ in rows)
    padded = np.stack([np.pad(ids, (0, length - len(ids))) for ids, _ in rows])
    owners = np.repeat(np.arange(len(rows)), [len(word) for _, word in rows])
    places = np.concatenate([length * row + np.arange(len(i) - len(w), len(i)) for row, (i, w) in enumerate(rows)])
    labels = torch.from_numpy(np.concatenate([word for _, word in rows])).to(device)
    hidden = model.hidden(torch.from_numpy(padded).to(device), gates).flatten(0, 1)
    return model.logits(hidden[torch.from_numpy(places).to(device)]), labels, owners
