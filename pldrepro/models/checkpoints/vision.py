"""Image models as transformers' files; nothing in the suite reads them back."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from pldrepro.config.model import VisionSettings
from pldrepro.errors import ModelFileError
from pldrepro.models.checkpoints.common import CONFIG, WEIGHTS
from pldrepro.models.vision import VisionModel


def save_vision(
    model: VisionModel, settings: VisionSettings, folder: Path, scales: Sequence[float] | None = None
) -> None:
    """Write the model in the layout of transformers; AutoModelForImageClassification loads it.

    scales, one per block (drop.evaluation_scales), are multiplied into what ends the sublayers, so that the saved
    model needs no gates: the LayerNorms in SwinV2, the output projections in ViT.
    """
    if scales is not None and len(scales) != settings.num_layers:
        raise ValueError(f"{len(scales)} scales for {settings.num_layers} layers; allowed: one scale per layer")
    weights = {name: value.detach().to("cpu", torch.float32) for name, value in model.classifier.state_dict().items()}
    for name, block, scale in zip(model.gated.names, model.blocks, scales or (), strict=bool(scales)):
        for module in _ends(block, settings.family):
            for field in ("weight", "bias"):
                weights[f"{name}.{module}.{field}"] = weights[f"{name}.{module}.{field}"] * scale
    transformers.utils.logging.disable_progress_bar()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".") as temporary:
        try:
            model.classifier.save_pretrained(temporary, state_dict=weights, max_shard_size="100GB")
        except SafetensorError as error:
            raise ModelFileError(f"{folder / WEIGHTS}: not written: {error}") from None
        for file in (WEIGHTS, CONFIG):  # config.json last
            (Path(temporary) / file).replace(folder / file)


def _ends(block: nn.Module, family: str) -> tuple[str, str]:
    """The last modules with weights of the two sublayers."""
    if family == "swinv2":
        return "layernorm_before", "layernorm_after"
    return ("attention.o_proj", "mlp.fc2") if hasattr(block, "mlp") else ("attention.output.dense", "output.dense")
