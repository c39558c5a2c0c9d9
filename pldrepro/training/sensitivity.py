"""How sensitive the training loss is to each layer: the analysis by which SBLD (our reading) orders the layers.

Source: Zeng et al., AAAI 2023: the model is trained for a few iterations, and the change of the training loss says how
sensitive a layer is. The formula is not public, so that every measure here is a named setting
(``drop.sensitivity.measure``), one function and one entry of ``SCORES``:

train_lesion    mean training loss of a few optimizer steps without block l less that with it, from the same state
                [nats]; that of the dialect ``sbld``
lesion          L(without block l) - L, the loss on a fixed set of training batches [nats]
gate_taylor     |dL/dg_l| at g_l = 1, where g_l multiplies the residual branches of block l, mean over micro-batches
                (as Michel et al. 2019 for attention heads): the first-order size of a lesion's effect [nats]
gradient_norm   |dL/dw_l|, the norm of the gradient of the block's parameters; not 0 for a block that does nothing but
                could: one whose output projections are 0 still has gradients
fisher          sum over the block's parameters of mean(g^2) w^2, the empirical Fisher information of its weights
                (Theis et al. 2018); the mean is over micro-batches
cosine          1 - cos(x, y) of the block's input and output, mean over tokens

A higher score is a more sensitive layer. Dropout is off, but for the steps of train_lesion. What the analysis costs is
counted, because it belongs to the run's clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pldrepro.costs.flops import BACKWARD_FACTOR, StepFlops
from pldrepro.data.batches.rows import Batch
from pldrepro.errors import SettingsError
from pldrepro.policy.drop import Gate, SensitivitySettings, all_kept
from pldrepro.training.distributed import SINGLE, ProcessGroup
from pldrepro.training.objectives import Objective, blocks_of

# Training losses of one optimizer step on each of some micro-batches, with gates; the run is then left as it was.
Trial = Callable[[Sequence[Batch], Sequence[Gate]], list[float]]


@dataclass
class Analysis:
    """A model under analysis, on fixed training samples, and what the analysis has cost so far, over all ranks."""

    model: nn.Module
    objective: Objective
    batch: Batch
    flops_of: StepFlops
    settings: SensitivitySettings
    trial: Trial
    world: ProcessGroup = SINGLE
    flops: float = field(default=0.0, init=False)

    @property
    def num_layers(self) -> int:
        """L, the number of blocks of the model."""
        return len(blocks_of(self.model))

    def without(self, layer: int) -> list[Gate]:
        """All blocks but one (0..L-1), none of them rescaled."""
        return [Gate(index != layer) for index in range(self.num_layers)]

    @torch.no_grad()
    def loss(self, gates: Sequence[Gate]) -> float:
        """Training loss of the samples [nats], dropout off."""
        self.model.eval()
        return sum(float(self.world.sum(self._share(part, gates, backward=False))) for part in self.parts())

    def gradients(self, gates: Sequence[Gate], inputs: Sequence[Tensor]) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
        """Of each micro-batch in turn: its share of the samples, and the gradients of its share of the loss."""
        self.model.eval()
        for part in self.parts():
            gradients = torch.autograd.grad(self._share(part, gates, backward=True), inputs)
            yield len(part) / len(self.batch), tuple(self.world.sum(gradient.contiguous()) for gradient in gradients)

    def parts(self) -> list[Batch]:
        """The samples in micro-batches."""
        return list(self.batch.micro_batches(self.objective.run.impl.micro_batch_size))

    def _share(self, part: Batch, gates: Sequence[Gate], backward: bool) -> Tensor:
        self.count(gates, len(part), 1 if backward else 1 / BACKWARD_FACTOR)
        return self.objective.loss(self.model, self.world.shard(part), self.batch, gates)[0]

    def count(self, gates: Sequence[Gate], samples: int, passes: float) -> None:
        """Add forward and backward passes to the cost."""
        kept = [layer for layer, gate in enumerate(gates) if gate.keep]
        self.flops += passes * self.flops_of.through(kept, samples)


def check_measure(settings: SensitivitySettings) -> None:
    """A SettingsError where there is no such measure."""
    if settings.measure not in SCORES:
        raise SettingsError(f"drop.sensitivity.measure: expected one of {', '.join(SCORES)}, got {settings.measure!r}")


def layer_sensitivity(analysis: Analysis) -> list[float]:
    """One score per layer, higher for a more sensitive layer; (L,). The model is left as it was, in either mode."""
    return SCORES[analysis.settings.measure](analysis)


def block_lesion(analysis: Analysis) -> list[float]:
    """Rise of the loss without each block."""
    intact = analysis.loss(all_kept(analysis.num_layers))
    return [analysis.loss(analysis.without(layer)) - intact for layer in range(analysis.num_layers)]


def gate_taylor(analysis: Analysis) -> list[float]:
    """First-order size of the loss's change when a block's gate goes from 1 to 0.

    The absolute value: near a minimum the signed derivative of a block that matters is as likely below 0 as above.
    """
    scales = [torch.ones((), device=analysis.objective.device, requires_grad=True) for _ in range(analysis.num_layers)]
    gates = [Gate(True, cast("Any", scale)) for scale in scales]
    totals = np.zeros(analysis.num_layers)
    for _, gradients in analysis.gradients(gates, scales):
        totals += np.abs([float(gradient) for gradient in gradients])
    return [float(total) for total in totals]


def gradient_norm(analysis: Analysis) -> list[float]:
    """Norm of the gradient of each block's parameters."""
    blocks, flat = _parameters(analysis)
    sums = [torch.zeros_like(parameter) for parameter in flat]
    for _, gradients in analysis.gradients(all_kept(analysis.num_layers), flat):
        for total, gradient in zip(sums, gradients, strict=True):
            total += gradient
    squares = iter([float(total.double().square().sum()) for total in sums])
    return [math.sqrt(math.fsum(next(squares) for _ in block)) for block in blocks]


def fisher(analysis: Analysis) -> list[float]:
    """Empirical Fisher information of each block's weights."""
    blocks, flat = _parameters(analysis)
    sums = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in flat]
    for share, gradients in analysis.gradients(all_kept(analysis.num_layers), flat):
        for total, gradient in zip(sums, gradients, strict=True):
            # The gradient of the share of the loss; over the share it is that of the micro-batch's own mean loss.
            total += (gradient.double() / share).square() * share
    weighted = iter(
        [float((total * weight.detach().double().square()).sum()) for total, weight in zip(sums, flat, strict=True)]
    )
    return [math.fsum(next(weighted) for _ in block) for block in blocks]


def _parameters(analysis: Analysis) -> tuple[list[list[nn.Parameter]], list[nn.Parameter]]:
    """The parameters of each block, and all of them in a row."""
    blocks = [list(block.parameters()) for block in blocks_of(analysis.model)]
    return blocks, [parameter for block in blocks for parameter in block]


@torch.no_grad()
def cosine(analysis: Analysis) -> list[float]:
    """How far each block turns its input: 1 - cosine, mean over tokens."""
    sums, seen = np.zeros(analysis.num_layers), np.zeros(analysis.num_layers, dtype=int)

    def watch(layer: int) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            x, y = inputs[0].double(), (output[0] if isinstance(output, tuple) else output).double()
            # |u - v|^2 / 2 of unit vectors: exactly 0 where x and y are the same.
            apart = (x / x.norm(dim=-1, keepdim=True) - y / y.norm(dim=-1, keepdim=True)).square().sum(-1) / 2
            sums[layer] += float(apart.mean()) * len(x)
            seen[layer] += len(x)

        return hook

    handles = [block.register_forward_hook(watch(layer)) for layer, block in enumerate(blocks_of(analysis.model))]
    try:
        analysis.loss(all_kept(analysis.num_layers))
    finally:
        for handle in handles:
            handle.remove()
    for counts in (sums, seen):
        analysis.world.sum(torch.from_numpy(counts))
    if not seen.all():
        raise SettingsError(
            "drop.sensitivity.measure cosine: the blocks are not called as modules; allowed without impl.compile"
        )
    return [float(value) for value in sums / seen]


def train_lesion(analysis: Analysis) -> list[float]:
    """Rise of the mean training loss over ``train_steps`` optimizer steps without each block, from the same state."""
    parts = analysis.parts()
    chosen = [parts[step % len(parts)] for step in range(analysis.settings.train_steps)]

    def mean_loss(gates: Sequence[Gate]) -> float:
        for part in chosen:
            analysis.count(gates, len(part), 1)
        return float(np.mean(analysis.trial(chosen, gates)))

    intact = mean_loss(all_kept(analysis.num_layers))
    return [mean_loss(analysis.without(layer)) - intact for layer in range(analysis.num_layers)]


SCORES: dict[str, Callable[[Analysis], list[float]]] = {
    "train_lesion": train_lesion,
    "lesion": block_lesion,
    "gate_taylor": gate_taylor,
    "gradient_norm": gradient_norm,
    "fisher": fisher,
    "cosine": cosine,
}
