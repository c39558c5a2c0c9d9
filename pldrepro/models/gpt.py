"""GPT-2's decoder (Radford et al. 2019): PreLN blocks with causal attention; every block takes a gate.

Shapes: B batch, S sequence, H hidden, V vocabulary, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from pldrepro.config.model import ModelSettings
from pldrepro.models.blocks import Block, Blocks, Norm, check_length, drop_elements
from pldrepro.policy.drop import Gate


class Gpt(nn.Module):
    """Word and position embeddings, L gated blocks, a final LayerNorm, and a head that shares the word embeddings."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        if settings.family != "gpt":
            raise ValueError(f"family {settings.family}; allowed for a decoder: gpt")
        self.settings = settings
        self.word_embeddings = nn.Embedding(settings.vocab_size, settings.hidden_size)
        self.position_embeddings = nn.Embedding(settings.max_positions, settings.hidden_size)
        self.blocks = Blocks(Block(settings) for _ in range(settings.num_layers))
        self.final_norm = Norm(settings.hidden_size, eps=settings.layer_norm_eps)

    def compile_blocks(self) -> None:
        """Compile one block function with torch.compile and use it for every layer."""
        self.blocks.compile_blocks()

    def forward(self, input_ids: Tensor, gates: Sequence[Gate]) -> Tensor:
        """(B, S) token ids -> (B, S, V) logits of the token after each position."""
        return self.logits(self.hidden(input_ids, gates))

    def hidden(self, input_ids: Tensor, gates: Sequence[Gate]) -> Tensor:
        """(B, S) token ids -> (B, S, H) after the final LayerNorm; one gate per layer, else ValueError."""
        return self.final_norm(self.blocks(self.embed(input_ids), None, gates))

    def embed(self, input_ids: Tensor) -> Tensor:
        """(B, S) token ids -> (B, S, H): word + position, dropout."""
        sequence = check_length(input_ids, self.settings)
        hidden = self.word_embeddings(input_ids) + self.position_embeddings.weight[:sequence]
        return drop_elements(hidden, self.settings.dropout) if self.training else hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., H) after the final LayerNorm -> (..., V)."""
        return F.linear(hidden, self.word_embeddings.weight)
