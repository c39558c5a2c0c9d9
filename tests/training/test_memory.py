"""Saved activations: counted by hand on a small block, and no more for a layer that is dropped."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from pldrepro.config.run import RunSettings
from pldrepro.models.bert import BertForPreTraining
from pldrepro.policy.drop import Gate
from pldrepro.runs.folder import load_pretrain
from pldrepro.training.memory import saved_bytes
from pldrepro.training.objectives import MaskedLanguage
from pldrepro.training.pretrain import pretrain

Make = Callable[..., RunSettings]
FLOAT = 4  # bytes


def test_a_block_of_two_linear_layers_saves_its_input_and_what_is_between() -> None:
    block, x = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), torch.randn(4, 3)
    # The output of the ReLU is saved by it and by the second layer: one storage.
    assert saved_bytes(lambda: block(x).sum(), block.parameters()) == FLOAT * (4 * 3 + 4 * 5)
    # The second layer reads the same input as the first.
    two = nn.ModuleList([nn.Linear(3, 5), nn.Linear(3, 5)])
    assert saved_bytes(lambda: (two[0](x) + two[1](x)).sum(), two.parameters()) == FLOAT * 4 * 3
    # A view does not count less than what it keeps alive.
    assert saved_bytes(lambda: two[0](x[:2]).sum(), two.parameters()) == FLOAT * 4 * 3


def test_without_gradients_nothing_is_saved() -> None:
    block, x = nn.Linear(3, 5), torch.randn(4, 3)
    with torch.no_grad():
        assert saved_bytes(lambda: block(x).sum(), block.parameters()) == 0


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_dropped_layer_saves_nothing_and_kept_ones_the_same(tiny_run: Make, norm: str) -> None:
    run = tiny_run(model={"norm": norm, "dropout": 0.0, "attention_dropout": 0.0}, drop={"dialect": "none"})
    objective = MaskedLanguage(run, torch.device("cpu"))
    model, batch = BertForPreTraining(run.model), objective.random(4)

    def of(*kept: int) -> int:
        gates = tuple(Gate(layer in kept) for layer in range(4))
        return saved_bytes(lambda: objective.loss(model, batch, batch, gates)[0], model.parameters())

    layer = of(0, 1) - of(0)
    assert layer == of(0, 1, 2) - of(0, 1) == of(0, 1, 2, 3) - of(0, 1, 2)
    assert of(0, 2) == of(1, 3) == of(0, 1)
    # More than queries, keys, values and the hidden units of the feed-forward layer: 3 x 16 + 32 values per token.
    assert layer > FLOAT * 4 * 24 * (3 * 16 + 32)


def test_a_run_records_them_at_full_and_at_mean_depth(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    pretrain(tiny_run(), corpus, tmp_path / "pld", progress=False)
    pretrain(tiny_run(arm="preln", drop={"dialect": "none"}), corpus, tmp_path / "preln", progress=False)
    dropped, whole = (load_pretrain(tmp_path / arm).summary for arm in ("pld", "preln"))
    assert dropped.saved_bytes is not None
    assert whole.saved_bytes is not None
    assert whole.saved_bytes.all_layers == whole.saved_bytes.mean_depth == dropped.saved_bytes.all_layers
    assert dropped.saved_bytes.mean_depth < dropped.saved_bytes.all_layers
