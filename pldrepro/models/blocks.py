"""What the encoder (BERT) and the decoder (GPT) share: gated blocks, attention, dropout and initial weights.

Shapes: B batch, S sequence, H hidden, d hidden / heads, L layers.

A gate is a Python value outside the tensor graph: a block whose gate is not kept is not called, so it costs no
forward and no backward, and its parameters get no gradient. Blocks know nothing of time or depth.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from hashlib import blake2b

import torch
import torch.nn.functional as F  # noqa: N812 (the field's name)
from torch import Tensor, nn

from pldrepro.config.model import ModelSettings
from pldrepro.models.compiled import compiled
from pldrepro.policy.drop import Gate

Scale = float | Tensor
OUTPUT_PROJECTIONS = ("attention_output", "ffn_down")  # of a block: what the residual stream is the sum of


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


def attend(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float, causal: bool = False
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, with dropout of the weights; (B, heads, S, d) -> (B, heads, S, d).

    causal: no token attends to a later one; attention_mask is None then. The CPU's fused kernel has no dropout, and
    what torch falls back to is slower than this.
    """
    assert not (causal and attention_mask is not None)
    if dropout == 0 or query.device.type != "cpu" or torch.compiler.is_compiling():
        return F.scaled_dot_product_attention(query, key, value, attention_mask, dropout_p=dropout, is_causal=causal)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        attention_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    return drop_elements(torch.softmax(scores, dim=-1), dropout) @ value


class Norm(nn.LayerNorm):
    """LayerNorm that gives back bfloat16 what it got in bfloat16, unlike autocast; its sums are in float32 anyway."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., H) -> (..., H)."""
        if input.dtype != torch.bfloat16:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
            return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class Block(nn.Module):
    """One Transformer block: self-attention and feed-forward, each with a scaled residual connection.

    PreLN (Switchable-Transformer): h = x + s f_attn(LN(x)); x' = h + s f_ffn(LN(h)), with s = 1/p in PLD.
    PostLN: h = LN(x + s f_attn(x)); x' = LN(h + s f_ffn(h)).
    A block of a GPT is causal, and its GELU is the tanh approximation, as in GPT-2.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        hidden = settings.hidden_size
        self.pre_norm = settings.norm == "pre"
        self.causal = settings.family == "gpt"
        self.gelu = "tanh" if settings.family == "gpt" else "none"
        self.num_heads = settings.num_heads
        self.dropout = settings.dropout
        self.attention_dropout = settings.attention_dropout
        self.attention_norm = Norm(hidden, eps=settings.layer_norm_eps)
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.attention_output = nn.Linear(hidden, hidden)
        self.ffn_norm = Norm(hidden, eps=settings.layer_norm_eps)
        self.ffn_up = nn.Linear(hidden, settings.ffn_size)
        self.ffn_down = nn.Linear(settings.ffn_size, hidden)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None, scale: Scale) -> Tensor:
        """(B, S, H) -> (B, S, H); attention_mask is (B, 1, 1 or S, S), True = attend, or None.

        Without one every token is seen, by a causal block none that is later; with one it says all.
        """
        if self.pre_norm:
            hidden = add_scaled(hidden, self._attention(self.attention_norm(hidden), attention_mask), scale)
            return add_scaled(hidden, self._feed_forward(self.ffn_norm(hidden)), scale)
        hidden = self.attention_norm(add_scaled(hidden, self._attention(hidden, attention_mask), scale))
        return self.ffn_norm(add_scaled(hidden, self._feed_forward(hidden), scale))

    def _attention(self, hidden: Tensor, attention_mask: Tensor | None) -> Tensor:
        batch, sequence, size = hidden.shape
        heads = self.qkv(hidden).view(batch, sequence, 3, self.num_heads, size // self.num_heads)
        # Taken apart first: so the three gradients are put together once, in the order that qkv needs.
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))
        dropout = self.attention_dropout if self.training else 0.0
        mixed = attend(query, key, value, attention_mask, dropout, self.causal and attention_mask is None)
        output = self.attention_output(mixed.transpose(1, 2).reshape(batch, sequence, size))
        return drop_elements(output, self.dropout) if self.training else output

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        output = self.ffn_down(F.gelu(self.ffn_up(hidden), approximate=self.gelu))
        return drop_elements(output, self.dropout) if self.training else output


BlockFunction = Callable[[Block, Tensor, Tensor | None, Scale], Tensor]


class Blocks(nn.ModuleList):
    """The L gated blocks of a model; ``residual_dtype``: of the stream between them, None for that of their input."""

    residual_dtype: torch.dtype | None = None

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__(blocks)
        self._compiled: BlockFunction | None = None

    def compile_blocks(self) -> None:
        """Compile one block function with torch.compile and use it for every layer."""
        self._compiled = compiled(Block.forward)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None, gates: Sequence[Gate]) -> Tensor:
        """(B, S, H) -> (B, S, H) through the blocks that are kept; one gate per layer, else ValueError."""
        if len(gates) != len(self):
            raise ValueError(f"{len(gates)} gates for {len(self)} layers; allowed: one gate per layer")
        if self.residual_dtype is not None:
            hidden = hidden.to(self.residual_dtype)
        for block, gate in zip(self, gates, strict=True):
            if gate.keep:
                hidden = self._run(block, hidden, attention_mask, gate.scale)
        return hidden

    def _run(self, block: nn.Module, hidden: Tensor, attention_mask: Tensor | None, scale: Scale) -> Tensor:
        if self._compiled is None:
            return block(hidden, attention_mask, scale)
        assert isinstance(block, Block)
        # A tensor, because a compiled function would be compiled again for each new float.
        tensor = scale if isinstance(scale, Tensor) else torch.full((), scale, device=hidden.device)
        return self._compiled(block, hidden, attention_mask, tensor)


def check_length(input_ids: Tensor, settings: ModelSettings) -> int:
    """S of token ids (B, S); more than the table of positions has is a ValueError."""
    sequence = input_ids.shape[1]
    if sequence > settings.max_positions:
        raise ValueError(f"sequence length {sequence} exceeds max_positions {settings.max_positions}")
    return sequence


@torch.no_grad()
def initialise(model: nn.Module, seed: int, names: Collection[str] | None = None) -> None:
    """Draw all weights, or those of the named parameters: matrices N(0, init_std), biases 0, LayerNorm 1 and 0.

    Each matrix has a generator of its own, seeded by (seed, parameter name): models that share names and shapes
    share initial weights, whatever their norm or depth. In a GPT the output projections of the blocks are
    N(0, init_std / sqrt(2 L)), so that the sum of 2 L residuals does not grow with depth (Radford et al. 2019,
    section 2.3). The settings are the model's own, or those of its submodule ``bert``.
    """
    settings = getattr(model if hasattr(model, "settings") else model.get_submodule("bert"), "settings", None)
    assert isinstance(settings, ModelSettings)
    norms = {id(module.weight) for module in model.modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        if names is not None and name not in names:
            continue
        if parameter.dim() > 1:
            std = settings.init_std
            if settings.family == "gpt" and is_output_projection(name):
                std /= (2 * settings.num_layers) ** 0.5
            parameter.copy_(torch.empty(parameter.shape).normal_(0.0, std, generator=generator_of(seed, name)))
        else:
            parameter.fill_(1.0 if id(parameter) in norms else 0.0)


def is_output_projection(name: str) -> bool:
    """Whether a parameter belongs to a projection whose output is added to the residual stream."""
    return name.rpartition(".")[0].rpartition(".")[2] in OUTPUT_PROJECTIONS


def generator_of(seed: int, name: str) -> torch.Generator:
    """A generator of its own for one parameter."""
    digest = blake2b(f"{seed}/{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
