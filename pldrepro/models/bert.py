"""BERT with PostLN, or with PreLN Switchable-Transformer blocks; every block takes a gate.

Shapes: B batch, S sequence, H hidden, V vocabulary, M masked positions per sequence, L layers.

A gate is a Python value outside the tensor graph: a block whose gate is not kept is not called, so it costs no
forward and no backward, and its parameters get no gradient. Blocks know nothing of time or depth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from pldrepro.config import ModelSettings
from pldrepro.drop import Gate, all_kept

Scale = float | Tensor
NUM_TOKEN_TYPES = 2


def add_scaled(residual: Tensor, output: Tensor, scale: Scale) -> Tensor:
    """residual + scale * output; a scale of 1.0 does not change a bit of residual + output."""
    if isinstance(scale, Tensor):
        return residual + output * scale
    return torch.add(residual, output, alpha=scale)


def drop_elements(values: Tensor, dropout: float) -> Tensor:
    """Dropout: each element is 0 with probability ``dropout``, in [0, 1), and the others are scaled to keep the mean.

    On the CPU a generator's 64-bit number decides four elements, with ``dropout`` rounded to 1/65536: torch's own
    dropout spends most of its time there on drawing one number per element.
    """
    if dropout == 0 or values.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(values, dropout)
    kept = max(1, round((1 - dropout) * 2**16))
    draws = torch.empty((values.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    mask = draws.view(torch.int16)[: values.numel()].view(values.shape) <= kept - 2**15 - 1  # int16 ends at 2**15 - 1
    return values * mask.to(values.dtype).mul_(2**16 / kept)


def attend(query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, with dropout of the weights; (B, heads, S, d) -> (B, heads, S, d).

    The CPU's fused kernel has no dropout, and what torch falls back to is slower than this.
    """
    if dropout == 0 or query.device.type != "cpu" or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(query, key, value, attention_mask, dropout_p=dropout)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    return drop_elements(torch.softmax(scores, dim=-1), dropout) @ value


class Block(nn.Module):
    """One Transformer block: self-attention and feed-forward, each with a scaled residual connection.

    PreLN (Switchable-Transformer): h = x + s f_attn(LN(x)); x' = h + s f_ffn(LN(h)), with s = 1/p in PLD.
    PostLN: h = LN(x + s f_attn(x)); x' = LN(h + s f_ffn(h)).
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        hidden = settings.hidden_size
        self.pre_norm = settings.norm == "pre"
        self.num_heads = settings.num_heads
        self.dropout = settings.dropout
        self.attention_dropout = settings.attention_dropout
        self.attention_norm = nn.LayerNorm(hidden, eps=settings.layer_norm_eps)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention_output = nn.Linear(hidden, hidden)
        self.ffn_norm = nn.LayerNorm(hidden, eps=settings.layer_norm_eps)
        self.ffn_up = nn.Linear(hidden, settings.ffn_size)
        self.ffn_down = nn.Linear(settings.ffn_size, hidden)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None, scale: Scale) -> Tensor:
        """(B, S, H) -> (B, S, H); attention_mask is (B, 1, 1, S), True = attend, or None."""
        if self.pre_norm:
            hidden = add_scaled(hidden, self._attention(self.attention_norm(hidden), attention_mask), scale)
            return add_scaled(hidden, self._feed_forward(self.ffn_norm(hidden)), scale)
        hidden = self.attention_norm(add_scaled(hidden, self._attention(hidden, attention_mask), scale))
        return self.ffn_norm(add_scaled(hidden, self._feed_forward(hidden), scale))

    def _attention(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        batch, sequence, size = hidden.shape
        heads = self.qkv(hidden).view(batch, sequence, 3, self.num_heads, size // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        dropout = self.attention_dropout if self.training else 0.0
        mixed = attend(query, key, value, attention_mask, dropout)
        output = self.attention_output(mixed.transpose(1, 2).reshape(batch, sequence, size))
        return drop_elements(output, self.dropout) if self.training else output

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        output = self.ffn_down(F.gelu(self.ffn_up(hidden)))
        return drop_elements(output, self.dropout) if self.training else output


BlockFunction = Callable[[Block, Tensor, Tensor | None, Scale], Tensor]


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
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.num_layers))
        self.final_norm = nn.LayerNorm(hidden, eps=settings.layer_norm_eps) if settings.norm == "pre" else nn.Identity()
        self._compiled_block: BlockFunction | None = None

    def compile_blocks(self) -> None:
        """Compile one block function with torch.compile and use it for every layer."""
        self._compiled_block = torch.compile(Block.forward)

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
        if len(gates) != len(self.blocks):
            raise ValueError(f"{len(gates)} gates for {len(self.blocks)} layers; allowed: one gate per layer")
        hidden = self.embed(input_ids, token_types)
        mask = None if attention_mask is None else attention_mask[:, None, None, :]
        for block, gate in zip(self.blocks, gates, strict=True):
            if gate.keep:
                hidden = self._run_block(block, hidden, mask, gate.scale)
        return self.final_norm(hidden)

    def embed(self, input_ids: Tensor, token_types: Tensor | None) -> Tensor:
        """(B, S) token ids -> (B, S, H): word + position + token type, LayerNorm, dropout."""
        sequence = input_ids.shape[1]
        if sequence > self.settings.max_positions:
            raise ValueError(f"sequence length {sequence} exceeds max_positions {self.settings.max_positions}")
        types = self.token_type_embeddings.weight[0] if token_types is None else self.token_type_embeddings(token_types)
        place = self.position_embeddings.weight[:sequence] + types
        hidden = self.embedding_norm(self.word_embeddings(input_ids) + place)
        return drop_elements(hidden, self.settings.dropout) if self.training else hidden

    def _run_block(self, block: nn.Module, hidden: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        if self._compiled_block is None:
            return block(hidden, mask, scale)
        assert isinstance(block, Block)
        # A tensor, because a compiled function would be compiled again for each new float.
        return self._compiled_block(block, hidden, mask, torch.full((), scale, device=hidden.device))


class Pooler(nn.Module):
    """tanh(W h_[CLS] + b)."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.dense = nn.Linear(settings.hidden_size, settings.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, S, H) -> (B, H)."""
        return torch.tanh(self.dense(hidden[:, 0]))


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
        return mlm_logits, self.nsp_head(self.pooler(hidden))


class BertForSequenceClassification(nn.Module):
    """The encoder with the pooler, dropout and a classifier (num_labels 1: regression)."""

    def __init__(self, settings: ModelSettings, num_labels: int) -> None:
        super().__init__()
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
        pooled = self.pooler(self.bert(input_ids, token_types, attention_mask, gates))
        return self.classifier(drop_elements(pooled, self.bert.settings.dropout) if self.training else pooled)


@torch.no_grad()
def initialise(model: nn.Module, seed: int, names: Collection[str] | None = None) -> None:
    """Draw all weights, or those of the named parameters: matrices N(0, init_std), biases 0, LayerNorm 1 and 0.

    Each matrix has a generator of its own, seeded by (seed, parameter name): models that share names and shapes
    share initial weights, whatever their norm or depth.
    """
    encoder = model if isinstance(model, Bert) else model.get_submodule("bert")
    assert isinstance(encoder, Bert)
    std = encoder.settings.init_std
    norms = {id(module.weight) for module in model.modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        if names is not None and name not in names:
            continue
        if parameter.dim() > 1:
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=_generator(seed, name)))
        else:
            parameter.fill_(1.0 if id(parameter) in norms else 0.0)


def _generator(seed: int, name: str) -> torch.Generator:
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
