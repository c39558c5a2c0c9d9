"""FLOPs and parameters, against numbers worked by hand, PyTorch's own counter and the model itself."""

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pldrepro.config.data import DataSettings
from pldrepro.config.model import ModelSettings, VisionSettings
from pldrepro.config.run import TrainingSettings
from pldrepro.costs.flops import masked_positions, parameter_count, step_flops
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate

SMALL = ModelSettings(num_layers=2, hidden_size=4, num_heads=2, ffn_size=8, vocab_size=10, max_positions=8, dropout=0)
TRAINING = TrainingSettings(mask_fraction=0.25)
EIGHT = DataSettings(sequence_length=8)
# One sequence of 8 tokens, 2 of them masked, by hand, in units of the forward pass:
# projections 2 x 8 x (4 x 16 + 2 x 4 x 8) = 2,048; attention 4 x 64 x 4 = 1,024;
# head 2 x 2 x (16 + 4 x 10) = 224; pooler and next-sentence head 2 x (16 + 8) = 48.
PER_LAYER, HEAD, POOLER = 3072, 224, 48


@pytest.mark.parametrize(("fraction", "length", "count"), [(0.15, 128, 19), (0.15, 24, 4), (0.15, 8, 1), (0.01, 8, 1)])
def test_masked_positions(fraction: float, length: int, count: int) -> None:
    assert masked_positions(TrainingSettings(mask_fraction=fraction), length) == count


def test_flops_worked_by_hand() -> None:
    flops = step_flops(SMALL, TRAINING, EIGHT)
    assert (flops.fixed, flops.per_layer) == (3 * (HEAD + POOLER), 3 * PER_LAYER)
    assert flops.of(2) == 19_248
    assert flops.of(0, 5) == 5 * 816
    assert flops.of(1.5, 2) == 2 * (816 + 1.5 * 9216)


def test_without_next_sentence_prediction_no_pooler_is_paid() -> None:
    flops = step_flops(SMALL, TrainingSettings(mask_fraction=0.25, next_sentence=False), EIGHT)
    assert flops.fixed == 3 * HEAD


def test_bert_base_at_128_tokens() -> None:
    flops = step_flops(ModelSettings(), TrainingSettings(), DataSettings())
    # 2 x 128 x 12 x 768^2 + 4 x 128^2 x 768 = 1,862,270,976 per layer and forward pass.
    assert flops.per_layer == 3 * 1_862_270_976
    assert flops.of(12) == pytest.approx(7.0e10, rel=0.01)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_pytorch_counts_the_same(kept: int) -> None:
    model, sequences = BertForPreTraining(SMALL), 3
    gates = tuple(Gate(layer < kept) for layer in range(2))
    ids, positions = torch.ones(sequences, 8, dtype=torch.long), torch.tensor([[1, 2]] * sequences)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        logits, next_logits = model(ids, ids % 2, positions, gates)
        (functional.cross_entropy(logits, positions.flatten()) + next_logits.sum()).backward()
    assert counter.get_total_flops() == step_flops(SMALL, TRAINING, EIGHT).of(kept, sequences)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_parameter_count_is_that_of_the_model(norm: str) -> None:
    for changes in ({}, {"num_layers": 3, "hidden_size": 6, "ffn_size": 5, "vocab_size": 11, "max_positions": 9}):
        settings = ModelSettings.model_validate({**SMALL.model_dump(), "norm": norm, **changes})
        assert parameter_count(settings) == sum(p.numel() for p in BertForPreTraining(settings).parameters())


def test_parameter_count_of_bert_base() -> None:
    assert parameter_count(ModelSettings(vocab_size=30_522)) == 110_106_428


# ---- GPT ----

GPT = ModelSettings.model_validate({**SMALL.model_dump(), "family": "gpt", "norm": "pre"})


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_pytorch_counts_the_same_for_gpt(kept: int) -> None:
    model, sequences = Gpt(GPT), 3
    ids = torch.ones(sequences, 8, dtype=torch.long)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        logits = model(ids, tuple(Gate(layer < kept) for layer in range(2)))
        functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    assert counter.get_total_flops() == step_flops(GPT, TRAINING, EIGHT).of(kept, sequences)


def test_a_gpt_pays_its_head_at_all_positions() -> None:
    flops = step_flops(GPT, TRAINING, EIGHT)
    assert (flops.fixed, flops.layers) == (3 * 2 * 8 * 4 * 10, (3 * PER_LAYER,) * 2)


def test_parameter_count_of_gpt() -> None:
    assert parameter_count(GPT) == sum(p.numel() for p in Gpt(GPT).parameters())
    medium = {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "ffn_size": 4096, "max_positions": 1024}
    assert (
        parameter_count(ModelSettings.model_validate({"family": "gpt", "norm": "pre", "vocab_size": 50_257, **medium}))
        == 354_823_168
    )  # GPT-2 medium


# ---- layers that differ ----


def test_a_pass_costs_what_its_layers_cost() -> None:
    model = VisionSettings(family="swinv2", stages=(1, 2), hidden_size=8, num_heads=(2, 4), window_size=4)
    flops = step_flops(model, TRAINING, EIGHT)
    assert len(flops.layers) == 3
    assert flops.layers[0] != flops.layers[1] == flops.layers[2]
    assert flops.through([0, 2], 5) == 5 * (flops.fixed + flops.layers[0] + flops.layers[2])
    assert flops.through(range(3)) == pytest.approx(flops.of(3))
