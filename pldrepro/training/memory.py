"""Saved activations: the bytes that a forward pass keeps for its backward pass, counted exactly and on any device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from pldrepro.policy.drop import Gate
from pldrepro.runs.schema import SavedBytes
from pldrepro.training.run import Run


def saved_bytes(forward: Callable[[], Tensor], parameters: Iterable[nn.Parameter]) -> int:
    """Bytes of what autograd saves while ``forward`` runs: each storage once, parameters not counted."""
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor  # which keeps the storage, so that no other one has its address

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = forward()
    del result  # held until here
    return sum(held.values())


def saved_bytes_of_run(run: Run) -> SavedBytes:
    """What this rank's share of a micro-batch saves with all layers kept, and at the run's mean kept depth.

    With k layers the first k are kept; a mean depth between two whole numbers has bytes between theirs. Counted
    without torch.compile, which may save less.
    """
    size = min(run.settings.impl.micro_batch_size, run.settings.training.batch_size)
    batch = run.objective.random(size)
    part, passes = run.world.shard(batch), sum(run.progress.passes_by_kept_layers.values())
    mean = run.progress.kept_layers / passes if passes else run.num_layers
    run.model.train()

    def of(kept: int) -> int:
        gates = tuple(Gate(layer < kept) for layer in range(run.num_layers))
        return saved_bytes(lambda: run.objective.loss(run.model, part, batch, gates)[0], run.model.parameters())

    with torch.compiler.set_stance("force_eager"):
        low, high, whole = of(math.floor(mean)), of(math.ceil(mean)), of(run.num_layers)
    return SavedBytes(all_layers=whole, mean_depth=low + (high - low) * (mean - math.floor(mean)))
