"""Floating-point operations of a pre-training step, from the shapes.

A multiplication and an addition count as two operations; only matrix products are counted (softmax, LayerNorm,
GELU and embedding look-ups are not); the backward pass counts twice the forward pass. Causal attention counts as if
it looked at all positions, the usual convention.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.model import ModelSettings, VisionSettings
from pldrepro.config.run import RunSettings, TrainingSettings
from pldrepro.costs.flops_vision import block_flops, fixed_flops, vision_parameter_count

BACKWARD_FACTOR = 3  # forward + backward, in units of the forward pass


@dataclass(frozen=True)
class StepFlops:
    """Training FLOPs of one sequence or image: what every step pays, and what each layer adds when it is kept."""

    fixed: float
    layers: tuple[float, ...]

    @property
    def per_layer(self) -> float:
        """Mean over the layers, which differ between the stages of a SwinV2 only."""
        return math.fsum(self.layers) / len(self.layers)

    def of(self, kept_layers: float, samples: int = 1) -> float:
        """FLOPs of ``samples`` samples that passed ``kept_layers`` layers of mean cost."""
        return samples * (self.fixed + kept_layers * self.per_layer)

    def through(self, kept: Iterable[int], samples: int = 1) -> float:
        """FLOPs of ``samples`` samples that passed these layers (0..L-1)."""
        return samples * (self.fixed + math.fsum(self.layers[layer] for layer in kept))


def masked_positions(training: TrainingSettings, sequence_length: int) -> int:
    """Number of positions to predict in a sequence, the same in every sequence."""
    return max(1, round(training.mask_fraction * sequence_length))


def step_flops(
    model: ModelSettings | VisionSettings, training: TrainingSettings, data: DataSettings | ImageDataSettings
) -> StepFlops:
    """FLOPs of one sequence of S tokens: 3 (2 S (4 H^2 + 2 H F) + 4 S^2 H) per layer; or of one image.

    The head of BERT counts at the masked positions only, that of GPT at all.
    """
    if isinstance(model, VisionSettings):
        return StepFlops(
            BACKWARD_FACTOR * fixed_flops(model), tuple(BACKWARD_FACTOR * flops for flops in block_flops(model))
        )
    assert isinstance(data, DataSettings)
    hidden, ffn, length = model.hidden_size, model.ffn_size, data.sequence_length
    block = 2 * length * (4 * hidden**2 + 2 * hidden * ffn) + 4 * length**2 * hidden
    if model.family == "gpt":
        heads = 2 * length * hidden * model.vocab_size
    else:
        heads = 2 * masked_positions(training, length) * (hidden**2 + hidden * model.vocab_size)
        heads += 2 * (hidden**2 + 2 * hidden) if training.next_sentence else 0
    return StepFlops(BACKWARD_FACTOR * heads, (BACKWARD_FACTOR * block,) * model.num_layers)


def run_flops(run: RunSettings) -> StepFlops:
    """FLOPs of one sample of a run."""
    return step_flops(run.model, run.training, run.data)


def parameter_count(model: ModelSettings | VisionSettings) -> int:
    """Number of parameters of the pre-training model (BERT: MLM head, pooler and NSP head included)."""
    if isinstance(model, VisionSettings):
        return vision_parameter_count(model)
    hidden, ffn = model.hidden_size, model.ffn_size
    block = 4 * (hidden**2 + hidden) + 2 * hidden * ffn + ffn + hidden + 4 * hidden
    final_norm = 2 * hidden if model.norm == "pre" else 0
    if model.family == "gpt":
        return (model.vocab_size + model.max_positions) * hidden + model.num_layers * block + final_norm
    embeddings = (model.vocab_size + model.max_positions + 2) * hidden + 2 * hidden
    mlm_head = hidden**2 + hidden + 2 * hidden + model.vocab_size
    pooler = hidden**2 + hidden + 2 * hidden + 2
    return embeddings + model.num_layers * block + final_norm + mlm_head + pooler
