"""Compiled blocks: no size becomes a symbol, and too many variants are an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pldrepro.config.model import ModelSettings
from pldrepro.models import compiled as module
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.models.compiled import compiled
from pldrepro.models.gpt import Gpt
from pldrepro.policy.drop import Gate, all_kept

SHAPE: dict[str, Any] = {
    "num_layers": 2, "hidden_size": 8, "num_heads": 2, "ffn_size": 16, "vocab_size": 20, "max_positions": 8,
}  # fmt: skip
Inputs = list[Any]


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Inputs]]:
    """The example inputs of every graph that is compiled; the graphs run as they are."""
    from torch._dynamo import config

    recorded: list[Inputs] = []

    def record(graph: torch.fx.GraphModule, inputs: Inputs) -> Callable[..., Any]:
        recorded.append(inputs)
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=record))
    with config.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):
        yield recorded
    torch.compiler.reset()


def is_static(value: Any) -> bool:
    """Whether an input of a graph has nothing of unknown size."""
    if isinstance(value, Tensor):
        return all(type(size) is int for size in value.shape)
    return not isinstance(value, torch.SymInt)


def run_once(model: Any, size: int, training: bool, scale: Any = 1.0) -> None:
    """A forward and, in training, a backward pass on ``size`` samples."""
    ids, gates = torch.zeros(size, 6, dtype=torch.int64), tuple(Gate(True, scale) for _ in range(2))
    model.train(training)
    with torch.set_grad_enabled(training):
        outputs = model(ids, gates) if isinstance(model, Gpt) else model(ids, None, ids[:, :2], gates)[0]
        if training:
            outputs.sum().backward()


def test_no_size_becomes_a_symbol_after_a_second_one(graphs: list[Inputs]) -> None:
    for size in (4, 6, 3):
        for changes in ({"norm": "pre"}, {"norm": "post"}, {"family": "gpt", "norm": "pre"}):
            settings = ModelSettings.model_validate({**SHAPE, **changes})
            model = Gpt(settings) if settings.family == "gpt" else BertForPreTraining(settings)
            initialise(model, 0)
            model.compile_blocks()
            for training in (True, False):
                run_once(model, size, training)
                run_once(model, size, training, scale=1.25)
    assert len(graphs) == 3 * 3 * 2
    assert all(is_static(value) for inputs in graphs for value in inputs)


def test_a_graph_serves_all_layers_gates_and_scales(graphs: list[Inputs]) -> None:
    model = BertForPreTraining(ModelSettings.model_validate({**SHAPE, "norm": "pre"}))
    initialise(model, 0)
    model.compile_blocks()
    for gates in (all_kept(2), (Gate(False), Gate(True, 1.5)), (Gate(True, 1.2), Gate(False))):
        model.bert(torch.zeros(4, 6, dtype=torch.int64), None, None, gates)
    assert len(graphs) == 1


def test_too_many_variants_are_an_error(graphs: list[Inputs], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_VARIANTS", 2)

    def double(values: Tensor) -> Tensor:
        return values * 2

    function = compiled(double)
    for size in (2, 3):
        function(torch.zeros(size))
    with pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        function(torch.zeros(4))
