"""SwinV2 and ViT as transformers has them, with gates; transformers is imported here (4 seconds).

Shapes: B batch, H = W pixels of a side, C classes, L blocks over all stages.

Gates skip whole blocks; the down-sampling between the stages of SwinV2 is no block and always runs. The scale of a
kept block multiplies the output of each of its two sublayers, as in PLD: x + s LN(f(x)) in SwinV2, whose LayerNorm
comes after the sublayer (res-post-norm), x + s f(LN(x)) in ViT. For that, the module that comes last in a sublayer
(``drop_path`` in SwinV2, ``dropout`` in ViT) is wrapped by one without parameters.

Differs from the paper of SwinV2: transformers starts the LayerNorms that end the sublayers at 1 and 0, while the
authors' release starts both at 0, so that a block begins as the identity.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Swinv2Config, Swinv2ForImageClassification, ViTConfig, ViTForImageClassification

from pldrepro.config.model import FFN_RATIO, VisionSettings
from pldrepro.errors import SettingsError
from pldrepro.models.blocks import generator_of
from pldrepro.models.gated import gate_blocks
from pldrepro.policy.drop import Gate

Scale = float | Tensor
LOGIT_SCALE = 10.0  # of the cosine attention, at the start


class ResidualScale(nn.Module):
    """The last module of a sublayer, whose output is multiplied by ``scale``; 1.0 does not change a bit."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.scale: Scale = 1.0

    def forward(self, output: Tensor) -> Tensor:
        """The output of the wrapped module times ``scale``, of the same shape."""
        output = self.inner(output)
        if not isinstance(self.scale, Tensor) and self.scale == 1:
            return output
        return output * self.scale


class VisionModel(nn.Module):
    """An image classifier of transformers whose blocks take gates."""

    def __init__(self, settings: VisionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.classifier: Any = _plain_model(settings)
        # Its drop_path_rate is the setting's, and meant to act in addition to the gates.
        self.gated = gate_blocks(self.classifier, allow_own_dropping=True)
        assert len(self.gated) == settings.num_layers
        self._scales = [_wrap_outputs(block, settings.family) for block in self.gated.blocks]
        self._learn_formats()

    def _learn_formats(self) -> None:
        """Let the gates see an empty image pass, so that no dropped block is ever computed to learn what it returns."""
        image = torch.zeros(1, 3, self.settings.image_size, self.settings.image_size)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), self.gated.using():
            self.classifier(pixel_values=image)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The L blocks of all stages, in order of depth."""
        return self.gated.blocks

    def compile_blocks(self) -> None:
        """Not available: a SettingsError."""
        raise SettingsError("impl.compile: not available for images; allowed: false")

    def forward(self, pixels: Tensor, gates: Sequence[Gate]) -> Tensor:
        """(B, 3, H, W) float -> logits (B, C); one gate per block, else ValueError."""
        kept = [Gate(gate.keep) for gate in gates]
        with self.gated.using(kept), self._scaled(gates):
            return self.classifier(pixel_values=pixels).logits

    @contextmanager
    def _scaled(self, gates: Sequence[Gate]) -> Iterator[None]:
        for scales, gate in zip(self._scales, gates, strict=True):
            for module in scales:
                module.scale = gate.scale
        try:
            yield
        finally:
            for scales in self._scales:
                for module in scales:
                    module.scale = 1.0


def _plain_model(settings: VisionSettings) -> Any:
    """The model of transformers, with its own initial weights."""
    shared: dict[str, Any] = {
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "num_labels": settings.num_classes,
        "hidden_dropout_prob": settings.dropout,
        "attention_probs_dropout_prob": settings.attention_dropout,
        "initializer_range": settings.init_std,
        "layer_norm_eps": settings.layer_norm_eps,
    }
    if settings.family == "swinv2":
        swin = Swinv2Config(
            **shared,
            embed_dim=settings.hidden_size,
            depths=list(settings.stages),
            num_heads=list(settings.num_heads),
            window_size=settings.window_size,
            pretrained_window_sizes=[0] * len(settings.stages),
            mlp_ratio=float(FFN_RATIO),
            drop_path_rate=settings.drop_path_rate,
        )
        return Swinv2ForImageClassification(swin)
    vit = ViTConfig(
        **shared,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads[0],
        intermediate_size=FFN_RATIO * settings.hidden_size,
    )
    return ViTForImageClassification(vit)


def _wrap_outputs(block: nn.Module, family: str) -> tuple[ResidualScale, ...]:
    """Wrap the modules that end the sublayers of a block."""
    if family == "swinv2":
        places = [(block, "drop_path")]
    elif hasattr(block, "dropout"):
        places = [(block, "dropout")]
    else:  # transformers before version 5
        places = [(block.get_submodule("attention.output"), "dropout"), (block.get_submodule("output"), "dropout")]
    wrapped = []
    for parent, name in places:
        scale = ResidualScale(parent.get_submodule(name))
        setattr(parent, name, scale)
        wrapped.append(scale)
    return tuple(wrapped)


@torch.no_grad()
def initialise_vision(model: VisionModel, seed: int) -> None:
    """Draw all weights: matrices, convolutions and position embeddings N(0, init_std), biases 0, LayerNorm 1 and 0.

    Each has a generator of its own, seeded by (seed, parameter name), as in ``models.blocks.initialise``. The
    distributions are those of transformers, the relative position bias MLP's and the logit scale's (ln 10) included.
    """
    norms = {id(module.weight) for module in model.modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.classifier.named_parameters():
        if name.endswith("logit_scale"):
            parameter.fill_(math.log(LOGIT_SCALE))
        elif parameter.dim() > 1:
            values = torch.empty(parameter.shape).normal_(
                0.0, model.settings.init_std, generator=generator_of(seed, name)
            )
            parameter.copy_(values)
        else:
            parameter.fill_(1.0 if id(parameter) in norms else 0.0)


def normalise(pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, H, W) float32, (x / 255 - mean) / std per channel."""
    values = pixels.permute(0, 3, 1, 2).float() / 255
    return (values - _channels(tuple(mean), pixels.device)) / _channels(tuple(std), pixels.device)


@lru_cache  # a copy to a GPU waits for all its work
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(values, device=device).view(1, 3, 1, 1)
