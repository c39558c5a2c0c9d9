"""BERT with PostLN, or with PreLN Switchable-Transformer blocks; every block takes a gate.

Shapes: B batch, S sequence, H hidden, V vocabulary, M masked positions per sequence, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from pldrepro.config.model import ModelSettings, Pooling
from pldrepro.models.blocks import Block, Blocks, Norm, check_length, drop_elements
from pldrepro.policy.drop import Gate, all_kept

NUM_TOKEN_TYPES = 2


class Bert(nn.Module):
    """The encoder: embeddings, L gated blocks and, for PreLN, a final LayerNorm."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        hidden = settings.hidden_size
        self.settings = settings
        self.word_embeddings = nn.Embedding(settings.vocab_size, hidden)
        self.position_embeddings = nn.Embedding(settings.max_positions, hidden)
        self.token_type_embeddings = nn.Embedding(NUM_TOKEN_TYPES, hidden)
        self.embedding_norm = nn.LayerNorm(hidden, eps=settings.layer_norm_eps)
        self.blocks = Blocks(Block(settings) for _ in range(settings.num_layers))
        self.final_norm = Norm(hidden, eps=settings.layer_norm_eps) if settings.norm == "pre" else nn.Identity()

    def compile_blocks(self) -> None:
        """Compile one block function with torch.compile and use it for every layer."""
        self.blocks.compile_blocks()

    def forward(
        self,
        input_ids: Tensor,
        token_types: Tensor | None,
        attention_mask: Tensor | None,
        gates: Sequence[Gate],
    ) -> Tensor:
        """(B, S) token ids -> (B, S, H).

        token_types (B, S) or None (all 0); attention_mask (B, S), True = real token, or None (no padding, faster);
        one gate per layer, else ValueError.
        """
        mask = None if attention_mask is None else attention_mask[:, None, None, :]
        return self.final_norm(self.blocks(self.embed(input_ids, token_types), mask, gates))

    def embed(self, input_ids: Tensor, token_types: Tensor | None) -> Tensor:
        """(B, S) token ids -> (B, S, H): word + position + token type, LayerNorm, dropout."""
        sequence = check_length(input_ids, self.settings)
        types = self.token_type_embeddings.weight[0] if token_types is None else self.token_type_embeddings(token_types)
        place = self.position_embeddings.weight[:sequence] + types
        hidden = self.embedding_norm(self.word_embeddings(input_ids) + place)
        return drop_elements(hidden, self.settings.dropout) if self.training else hidden


class Pooler(nn.Module):
    """tanh(W h + b), h: the state of [CLS], or whatever else represents the sequence."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(settings.hidden_size, settings.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, H) -> (B, H)."""
        return torch.tanh(self.dense(hidden))


def pool(hidden: Tensor, attention_mask: Tensor | None, pooling: Pooling) -> Tensor:
    """(B, S, H) -> (B, H): the state of [CLS], or the mean over the real tokens (attention_mask (B, S), None: all)."""
    if pooling == "cls":
        return hidden[:, 0]
    if attention_mask is None:
        return hidden.mean(1)
    weights = attention_mask.to(hidden.dtype)
    return torch.einsum("bsh,bs->bh", hidden, weights) / weights.sum(1, keepdim=True)


class MaskedLanguageHead(nn.Module):
    """Dense, GELU, LayerNorm, and a decoder that shares the word embeddings' weight."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(settings.hidden_size, settings.hidden_size)
        self.norm = nn.LayerNorm(settings.hidden_size, eps=settings.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(settings.vocab_size))

    def forward(self, hidden: Tensor, word_embeddings: Tensor) -> Tensor:
        """(N, H) hidden states and (V, H) word embeddings -> (N, V) logits."""
        return F.linear(self.norm(F.gelu(self.dense(hidden))), word_embeddings, self.bias)


class BertForPreTraining(nn.Module):
    """The encoder with the masked-language head, applied at the masked positions only, and the NSP head."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.bert = Bert(settings)
        self.mlm_head = MaskedLanguageHead(settings)
        self.pooler = Pooler(settings)
        self.nsp_head = nn.Linear(settings.hidden_size, 2)

    @property
    def blocks(self) -> Blocks:
        """The encoder's blocks."""
        return self.bert.blocks

    def compile_blocks(self) -> None:
        """Compile one block function with torch.compile and use it for every layer."""
        self.bert.compile_blocks()

    def forward(
        self,
        input_ids: Tensor,
        token_types: Tensor | None,
        positions: Tensor,
        gates: Sequence[Gate],
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, S) token ids, (B, M) positions to predict -> MLM logits (B*M, V) and NSP logits (B, 2)."""
        return self.heads(self.bert(input_ids, token_types, attention_mask, gates), positions)

    def heads(self, hidden: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """(B, S, H) hidden states, (B, M) positions to predict -> MLM logits (B*M, V) and NSP logits (B, 2)."""
        batch, sequence, size = hidden.shape
        rows = positions + sequence * torch.arange(batch, device=positions.device)[:, None]
        predicted = hidden.reshape(batch * sequence, size).index_select(0, rows.flatten())
        mlm_logits = self.mlm_head(predicted, self.bert.word_embeddings.weight)
        return mlm_logits, self.nsp_head(self.pooler(hidden[:, 0]))


class BertForSequenceClassification(nn.Module):
    """The encoder with the pooler, dropout and a classifier (num_labels 1: regression)."""

    def __init__(self, settings: ModelSettings, num_labels: int, pooling: Pooling = "cls") -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.bert = Bert(settings)
        self.pooler = Pooler(settings)
        self.classifier = nn.Linear(settings.hidden_size, num_labels)

    def forward(
        self,
        input_ids: Tensor,
        token_types: Tensor | None,
        attention_mask: Tensor | None,
        gates: Sequence[Gate] | None = None,
    ) -> Tensor:
        """(B, S) token ids -> (B, num_labels); gates None: all blocks kept."""
        gates = all_kept(self.bert.settings.num_layers) if gates is None else gates
        hidden = self.bert(input_ids, token_types, attention_mask, gates)
        pooled = self.pooler(pool(hidden, attention_mask, self.pooling))
        return self.classifier(drop_elements(pooled, self.bert.settings.dropout) if self.training else pooled)
