"""The losses over a vocabulary: in pieces as at once, with less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pldrepro.models import losses
from pldrepro.models.losses import Head, Sums, next_token_sums, next_token_sums_in_pieces, rows_of_a_piece
from tests.support.counts import Written

BATCH, LENGTH, HIDDEN, VOCABULARY = 3, 11, 16, 40
TOKENS = BATCH * LENGTH


def arguments() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Hidden states, the weight of the head, labels."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(BATCH, LENGTH, HIDDEN, generator=generator, requires_grad=True)
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator, requires_grad=True)
    return hidden, weight, torch.randint(VOCABULARY, (BATCH, LENGTH), generator=generator)


def with_gradients(function: Any, count: bool) -> tuple[Sums, torch.Tensor, torch.Tensor]:
    hidden, weight, labels = arguments()
    sums = function(hidden, weight, labels, count)
    (3 * sums.loss).backward()
    assert hidden.grad is not None
    assert weight.grad is not None
    return sums, hidden.grad, weight.grad


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 8 tokens a piece: 7, 7, 7, 7 and 5."""
    monkeypatch.setattr(losses, "MAX_LOGITS", 8 * VOCABULARY)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("count", [True, False])
def test_pieces_have_the_loss_and_the_gradients_of_the_whole(count: bool) -> None:
    whole, pieces = (with_gradients(f, count) for f in (next_token_sums, next_token_sums_in_pieces))
    assert (whole[0].correct is None) == (pieces[0].correct is None) == (not count)
    for ours, theirs in zip((*pieces[0], *pieces[1:]), (*whole[0], *whole[1:]), strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.usefixtures("small_pieces")
def test_pieces_agree_in_bfloat16_to_its_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole, pieces = (with_gradients(f, False) for f in (next_token_sums, next_token_sums_in_pieces))
    exact = with_gradients(next_token_sums, False)
    for (ours, theirs, truth) in zip((pieces[0].loss, *pieces[1:]), (whole[0].loss, *whole[1:]), (exact[0].loss, *exact[1:]), strict=True):  # fmt: skip  # noqa: E501
        assert ours.dtype == torch.float32
        assert (ours - truth).norm() <= 1.5 * (theirs - truth).norm() + 1e-2


@pytest.mark.usefixtures("small_pieces")
def test_no_more_logits_than_those_of_a_piece_are_kept() -> None:
    hidden, weight, labels = arguments()
    largest = []
    for function in (next_token_sums, next_token_sums_in_pieces):
        with Written() as written:
            function(hidden, weight, labels, False).loss.backward()
        largest.append(written.largest)
    assert largest == [TOKENS * VOCABULARY, VOCABULARY * HIDDEN]  # the weight's gradient; a piece is 280


@pytest.mark.usefixtures("small_pieces")
def test_without_gradients_none_is_multiplied() -> None:
    hidden, weight, labels = arguments()
    with torch.no_grad(), Written() as written:
        next_token_sums_in_pieces(hidden, weight, labels, True)
    assert written.operations["mm"] == 5


def test_pieces_are_as_equal_as_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_of_a_piece(16 * 1024, 50304) == 2048  # eight of them, because seven would differ
    assert rows_of_a_piece(100, 1000) == 100
    monkeypatch.setattr(losses, "MAX_LOGITS", 8 * VOCABULARY)
    assert rows_of_a_piece(30, VOCABULARY) == 6
    assert rows_of_a_piece(32, VOCABULARY) == 8
    assert rows_of_a_piece(33, VOCABULARY) == 7
    assert rows_of_a_piece(4, 100 * VOCABULARY) == 1


@pytest.mark.parametrize(("limit", "times"), [(TOKENS * VOCABULARY, 0), (TOKENS * VOCABULARY - 1, 3)])
def test_the_head_takes_pieces_where_the_logits_are_many(
    monkeypatch: pytest.MonkeyPatch, limit: int, times: int
) -> None:
    made: list[int] = []
    piece = losses.piece_sums
    monkeypatch.setattr(losses, "MAX_LOGITS", limit)
    monkeypatch.setattr(losses, "piece_sums", lambda logits, *rest: (made.append(len(logits)), piece(logits, *rest))[1])
    Head(compile=False).next_token(*arguments(), False)
    assert len(made) == times
