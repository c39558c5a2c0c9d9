"""Losses over a vocabulary: of masked language modelling, and of the next token at every position.

Shapes: B batch, S sequence, H hidden, V vocabulary, M masked positions per sequence, N = B S tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pldrepro.data.batches.rows import IGNORED
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.compiled import compiled

# Logits that are kept at a time, in elements: 0.5 GB in float32. More are made, used and forgotten in pieces.
MAX_LOGITS = 2**27


class Sums(NamedTuple):
    """Sums over a micro-batch."""

    loss: Tensor  # () over all predictions [nats]
    auxiliary: Tensor  # () of next-sentence prediction [nats], 0 where there is none
    correct: Tensor | None  # () right predictions, where they are counted


def masked_sums(
    model: BertForPreTraining,
    hidden: Tensor,
    positions: Tensor,
    labels: Tensor,
    is_random_next: Tensor | None,
    count: bool,
) -> Sums:
    """From hidden states (B, S, H), positions and labels (B, M), and is_random_next (B,) or None."""
    logits, next_logits = model.heads(hidden, positions)
    labels = labels.reshape(-1)
    loss = functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
    auxiliary = torch.zeros((), device=hidden.device)
    if is_random_next is not None:
        auxiliary = functional.cross_entropy(next_logits, is_random_next, reduction="sum")
    return Sums(loss, auxiliary, (logits.argmax(-1) == labels).sum() if count else None)


def next_token_sums(hidden: Tensor, weight: Tensor, labels: Tensor, count: bool) -> Sums:
    """From hidden states (B, S, H), the head's weight (V, H) and labels (B, S), with all logits at once."""
    logits, labels = functional.linear(hidden, weight).flatten(0, 1), labels.reshape(-1)
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    right = (logits.argmax(-1) == labels).sum() if count else None
    return Sums(loss, torch.zeros((), device=hidden.device), right)


def next_token_sums_in_pieces(
    hidden: Tensor, weight: Tensor, labels: Tensor, count: bool, piece: PieceFunction | None = None
) -> Sums:
    """The same, MAX_LOGITS at a time; piece: ``piece_sums``, or that compiled."""
    states, rows = hidden.flatten(0, 1), rows_of_a_piece(labels.numel(), len(weight))
    wanted = torch.is_grad_enabled()
    loss, right = _Pieces.apply(states, weight, labels.reshape(-1), rows, count, wanted, piece or piece_sums)
    return Sums(loss, torch.zeros((), device=hidden.device), right if count else None)


def rows_of_a_piece(tokens: int, vocab_size: int) -> int:
    """Tokens of a piece: so few that its logits are at most MAX_LOGITS, equal pieces where twice as many can be."""
    fewest = max(1, -(-tokens * vocab_size // MAX_LOGITS))
    pieces = next((number for number in range(fewest, 2 * fewest + 1) if tokens % number == 0), fewest)
    return -(-tokens // pieces)


def piece_sums(logits: Tensor, labels: Tensor, count: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of logits (N, V): summed cross-entropy, its gradient softmax - one-hot in their dtype, and how many are right."""
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    loss = -log_probabilities.gather(1, labels[:, None]).sum()
    if torch.compiler.is_compiling():  # in one kernel
        columns = torch.arange(logits.shape[-1], device=logits.device)
        gradient = log_probabilities.exp() - (columns == labels[:, None]).float()
    else:  # in place
        gradient = log_probabilities.exp_().scatter_add_(
            1, labels[:, None], log_probabilities.new_full((), -1).expand(len(labels), 1)
        )
    right = (logits.argmax(-1) == labels).sum() if count else torch.zeros((), dtype=torch.int64, device=logits.device)
    return loss, gradient.to(logits.dtype), right


PieceFunction = Callable[[Tensor, Tensor, bool], tuple[Tensor, Tensor, Tensor]]


class _Pieces(torch.autograd.Function):
    """Cross-entropy of states @ weight.T piece by piece; gradients are made with the loss, and no logits are kept."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, labels: Tensor, rows: int, count: bool, wanted: bool,
        piece: PieceFunction,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The summed loss [nats], and what is right where that is counted; wanted: gradients."""
        dtype = _matrix_dtype(states)
        matrix, loss = weight.to(dtype), torch.zeros((), device=states.device)
        right = torch.zeros((), dtype=torch.int64, device=states.device)
        of_states, of_weight = torch.empty_like(states), torch.zeros_like(weight)
        for start in range(0, len(states), rows):
            part = states[start : start + rows].to(dtype)
            one, gradient, correct = piece(part @ matrix.T, labels[start : start + rows], count)
            loss += one
            right += correct
            if wanted:
                of_states[start : start + rows] = gradient @ matrix
                of_weight += gradient.T @ part
        ctx.save_for_backward(of_states, of_weight)
        ctx.mark_non_differentiable(right)
        return loss, right

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Gradients of the states and of the weight."""
        of_states, of_weight = ctx.saved_tensors
        return of_states * gradients[0], of_weight * gradients[0], None, None, None, None, None


def _matrix_dtype(values: Tensor) -> torch.dtype:
    """The type that autocast would multiply these values in."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


class Head:
    """The losses of a run, compiled where its blocks are."""

    def __init__(self, compile: bool) -> None:
        self.masked = compiled(masked_sums) if compile else masked_sums
        self._whole = compiled(next_token_sums) if compile else next_token_sums
        self._piece = compiled(piece_sums) if compile else piece_sums

    def next_token(self, hidden: Tensor, weight: Tensor, labels: Tensor, count: bool) -> Sums:
        """Next-token sums, in pieces where the logits are many."""
        if labels.numel() * len(weight) <= MAX_LOGITS:
            return self._whole(hidden, weight, labels, count)
        return next_token_sums_in_pieces(hidden, weight, labels, count, self._piece)
