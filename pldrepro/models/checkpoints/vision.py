"""Image models as transformers' files."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from torch import nn

from pldrepro.config.base import validate
from pldrepro.config.model import VisionSettings
from pldrepro.errors import ModelFileError
from pldrepro.models.checkpoints.common import CONFIG, WEIGHTS
from pldrepro.models.vision import FIXED_CONFIG, VisionModel

SHAPE_FIELDS = (
    "family", "image_size", "patch_size", "num_classes", "stages", "hidden_size", "num_heads", "ffn_ratio",
    "window_size",
)  # fmt: skip


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


def load_vision(folder: Path, settings: VisionSettings | None = None) -> VisionModel:
    """Read a model on the CPU, in float32; settings None: as the folder's config.json says.

    A missing or damaged file, a kind of model that the settings cannot say, and a shape other than the settings' is a
    ModelFileError.
    """
    found = _read_settings(folder)
    for field in SHAPE_FIELDS if settings is not None else ():
        if (field, found.family) != ("window_size", "vit") and getattr(found, field) != getattr(settings, field):
            raise ModelFileError(
                f"{folder / CONFIG}: {field} is {getattr(found, field)}; the settings have {getattr(settings, field)}"
            )
    model = VisionModel(settings or found)
    transformers.utils.logging.disable_progress_bar()
    try:
        plain, report = type(model.classifier).from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelFileError(f"{folder / WEIGHTS}: missing or damaged: {' '.join(str(error).split())}") from None
    for kind in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if report[kind]:
            first = sorted(map(str, report[kind]))[0]
            raise ModelFileError(f"{folder / WEIGHTS}: {kind.replace('_', ' ')}: {first}")
    model.classifier.load_state_dict(plain.state_dict())
    return model.eval()


def _read_settings(folder: Path) -> VisionSettings:
    path = folder / CONFIG
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise ModelFileError(f"{path}: {' '.join(str(error).split())}") from None
    family = config.model_type
    if family not in FIXED_CONFIG:
        raise ModelFileError(f"{path}: model_type is {family}; allowed: {', '.join(FIXED_CONFIG)}")
    for key, value in FIXED_CONFIG[family].items():
        if getattr(config, key) != value:
            raise ModelFileError(f"{path}: {key} is {getattr(config, key)}; allowed: {value}")
    if family == "swinv2" and any(config.pretrained_window_sizes):
        raise ModelFileError(f"{path}: pretrained_window_sizes is {config.pretrained_window_sizes}; allowed: zeros")
    values = {
        "family": family,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "num_classes": config.num_labels,
        "dropout": config.hidden_dropout_prob,
        "attention_dropout": config.attention_probs_dropout_prob,
        "init_std": config.initializer_range,
        "layer_norm_eps": config.layer_norm_eps,
    }
    if family == "swinv2":
        values |= {
            "stages": tuple(config.depths),
            "hidden_size": config.embed_dim,
            "num_heads": tuple(config.num_heads),
            "ffn_ratio": config.mlp_ratio,
            "window_size": config.window_size,
            "drop_path_rate": config.drop_path_rate,
        }
    else:
        values |= {
            "stages": (config.num_hidden_layers,),
            "hidden_size": config.hidden_size,
            "num_heads": (config.num_attention_heads,),
            "ffn_ratio": config.intermediate_size / config.hidden_size,
        }
    return validate(VisionSettings, values, str(path))
