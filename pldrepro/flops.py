"""Floating-point operations of a pre-training step, from the shapes alone.

A multiplication and an addition count as two operations; only matrix products are counted (softmax, LayerNorm,
GELU and embedding look-ups are not); the backward pass counts twice the forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pldrepro.config import ModelSettings, TrainingSettings

BACKWARD_FACTOR = 3  # forward + backward, in units of the forward pass


@dataclass(frozen=True)
class StepFlops:
    """Training FLOPs of one sequence: what every step pays, and what each kept layer adds."""

    fixed: float
    per_layer: float

    def of(self, kept_layers: float, sequences: int = 1) -> float:
        """FLOPs of ``sequences`` sequences that passed ``kept_layers`` layers."""
        return sequences * (self.fixed + kept_layers * self.per_layer)


def masked_positions(training: TrainingSettings, sequence_length: int) -> int:
    """Number of positions to predict in a sequence, the same in every sequence."""
    return max(1, round(training.mask_fraction * sequence_length))


def step_flops(model: ModelSettings, training: TrainingSettings, sequence_length: int) -> StepFlops:
    """FLOPs of one sequence of S tokens: 3 (2 S (4 H^2 + 2 H F) + 4 S^2 H) per layer, head at masked positions only."""
    hidden, ffn, length = model.hidden_size, model.ffn_size, sequence_length
    projections = 2 * length * (4 * hidden**2 + 2 * hidden * ffn)
    attention = 4 * length**2 * hidden
    head = 2 * masked_positions(training, length) * (hidden**2 + hidden * model.vocab_size)
    pooler = 2 * (hidden**2 + 2 * hidden) if training.next_sentence else 0
    return StepFlops(BACKWARD_FACTOR * (head + pooler), BACKWARD_FACTOR * (projections + attention))


def recorded_step_flops(settings: Mapping[str, Any]) -> StepFlops:
    """FLOPs of one sequence of a recorded run; its settings may have fields that are no more."""
    model, training = (
        kind.model_validate({key: value for key, value in settings[group].items() if key in kind.model_fields})
        for kind, group in ((ModelSettings, "model"), (TrainingSettings, "training"))
    )
    assert isinstance(model, ModelSettings)
    assert isinstance(training, TrainingSettings)
    return step_flops(model, training, settings["data"]["sequence_length"])


def parameter_count(model: ModelSettings) -> int:
    """Number of parameters of the pre-training model (embeddings, blocks, MLM head, pooler and NSP head)."""
    hidden, ffn = model.hidden_size, model.ffn_size
    embeddings = (model.vocab_size + model.max_positions + 2) * hidden + 2 * hidden
    block = 4 * (hidden**2 + hidden) + 2 * hidden * ffn + ffn + hidden + 4 * hidden
    final_norm = 2 * hidden if model.norm == "pre" else 0
    mlm_head = hidden**2 + hidden + 2 * hidden + model.vocab_size
    pooler = hidden**2 + hidden + 2 * hidden + 2
    return embeddings + model.num_layers * block + final_norm + mlm_head + pooler
