"""LAMBADA's accuracy and perplexity: hand-worked cases, several tokens to a word, batches and long contexts."""

import numpy as np
import pytest
import torch
from torch import nn

from pldrepro.config.model import ModelSettings
from pldrepro.config.run import ImplSettings
from pldrepro.data.lambada import Lambada
from pldrepro.evaluation.lambada import LambadaResult, predict_last_words
from pldrepro.models.blocks import initialise
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate, all_kept

CPU = torch.device("cpu")
SETTINGS = ModelSettings(
    family="gpt", norm="pre", num_layers=2, hidden_size=16, num_heads=2, ffn_size=24, vocab_size=50, max_positions=12,
    init_std=0.3,
)  # fmt: skip


class Bigram(nn.Module):
    """A model whose next token depends on the last one alone, with probabilities from a table."""

    def __init__(self, table: list[list[float]], max_positions: int = 8) -> None:
        super().__init__()
        self.table = torch.tensor(table)
        self.settings = SETTINGS.model_copy(update={"max_positions": max_positions})
        self.lengths: list[int] = []

    def hidden(self, input_ids: torch.Tensor, gates: object) -> torch.Tensor:
        self.lengths.append(input_ids.shape[1])
        return nn.functional.one_hot(input_ids, len(self.table)).float()

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return (hidden @ self.table).log()


# Of tokens 0..3: what follows each of them.
TABLE = [
    [0.25, 0.5, 0.125, 0.125],
    [0.1, 0.1, 0.6, 0.2],
    [0.125, 0.25, 0.125, 0.5],
    [0.25, 0.25, 0.25, 0.25],
]


def passages(*pairs: tuple[list[int], list[int]]) -> Lambada:
    return Lambada.of([(np.array(context), np.array(word)) for context, word in pairs])


def run(model: nn.Module, lambada: Lambada, size: int = 8, gates: tuple[Gate, ...] = all_kept(2)) -> LambadaResult:
    return predict_last_words(model, lambada, ImplSettings(device="cpu", micro_batch_size=size), CPU, gates)  # type: ignore[arg-type]


def test_a_word_of_one_token() -> None:
    result = run(Bigram(TABLE), passages(([3, 3, 0], [1]), ([1, 0], [2])))
    assert np.exp(result.log_probabilities) == pytest.approx([0.5, 0.125])
    assert result.correct.tolist() == [True, False]
    assert result.accuracy == 0.5
    assert result.perplexity == pytest.approx(4.0)  # 1 / sqrt(1/2 x 1/8)


def test_a_word_of_several_tokens_is_right_when_all_of_them_are() -> None:
    result = run(Bigram(TABLE), passages(([0], [1, 2]), ([0], [1, 3]), ([0], [2, 3]), ([3, 0], [1, 2, 3])))
    assert np.exp(result.log_probabilities) == pytest.approx([0.3, 0.1, 0.0625, 0.15])
    assert result.correct.tolist() == [True, False, False, True]
    assert result.perplexity == pytest.approx((0.3 * 0.1 * 0.0625 * 0.15) ** -0.25)  # per word, not per token


def test_the_context_counts_up_to_the_last_token() -> None:
    result = run(Bigram(TABLE), passages(([0, 2], [3]), ([2, 0], [3])))
    assert np.exp(result.log_probabilities) == pytest.approx([0.5, 0.125])


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_batches_of_any_size_give_the_same_in_the_order_of_the_passages(size: int) -> None:
    model, lambada = decoder(), random_passages()
    one_by_one, together = run(model, lambada, 1), run(model, lambada, size)
    np.testing.assert_allclose(together.log_probabilities, one_by_one.log_probabilities, atol=1e-5)
    assert together.correct.tolist() == one_by_one.correct.tolist()
    assert len(set(one_by_one.log_probabilities.round(3))) == len(lambada)


def test_probabilities_are_those_of_the_models_logits() -> None:
    model, lambada = decoder(), random_passages()
    result = run(model, lambada)
    for index in range(len(lambada)):
        context, word = (torch.from_numpy(part) for part in lambada.passage(index))
        with torch.no_grad():
            every = model(torch.cat([context, word])[None], all_kept(2))[0].log_softmax(-1)
        there = every[len(context) - 1 : len(context) + len(word) - 1]
        assert result.log_probabilities[index] == pytest.approx(
            sum(there[place, token].item() for place, token in enumerate(word)), abs=1e-5
        )


def test_a_long_context_is_cut_on_the_left() -> None:
    model = decoder()
    context, word = list(range(1, 20)), [21, 22]
    whole = run(model, passages((context, word)))
    # 12 positions: 11 of the context and the first token of the word, which predict its two tokens
    assert whole.log_probabilities == pytest.approx(run(model, passages((context[-11:], word))).log_probabilities)
    assert whole.log_probabilities != pytest.approx(run(model, passages((context[-10:], word))).log_probabilities)
    bigram = Bigram(TABLE, max_positions=3)
    run(bigram, passages(([0] * 9, [1]), ([0], [1])), size=1)
    assert bigram.lengths == [1, 3]


def test_a_word_longer_than_the_model_is_refused() -> None:
    run(Bigram(TABLE, max_positions=3), passages(([0], [1, 2, 3])))
    with pytest.raises(ValueError, match="a last word of 4 tokens"):
        run(Bigram(TABLE, max_positions=3), passages(([0], [1, 2, 3, 1])))


def test_dropout_is_off_and_gates_are_used() -> None:
    model, lambada = decoder(dropout=0.5, attention_dropout=0.5), random_passages()
    model.train()
    first, again = run(model, lambada), run(model, lambada)
    assert first.log_probabilities.tolist() == again.log_probabilities.tolist()
    assert model.training
    shallow = run(model, lambada, gates=(Gate(True), Gate(False)))
    assert not np.allclose(shallow.log_probabilities, first.log_probabilities, atol=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() -> None:
    model = decoder()
    with torch.no_grad():
        model.word_embeddings.weight.zero_()
    one_token = passages(([1, 2], [3]), ([4], [5]))
    assert run(model, one_token).perplexity == pytest.approx(50.0, rel=1e-4)


def decoder(**changes: float) -> Gpt:
    model = Gpt(SETTINGS.model_copy(update={"dropout": 0.0, "attention_dropout": 0.0, **changes}))
    initialise(model, 1)
    return model.eval()


def random_passages() -> Lambada:
    draw = np.random.default_rng(0).integers
    return passages(*(([*draw(0, 50, size)], [*draw(0, 50, 1 + size % 3)]) for size in (4, 1, 9, 2, 7, 3, 8)))
