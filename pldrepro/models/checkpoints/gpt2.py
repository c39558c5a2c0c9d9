"""Decoder files that ``transformers.GPT2LMHeadModel`` can load, and that this package loads back.

transformers is not imported. GPT-2's projections are Conv1D: their weights are those of ours transposed, and query,
key and value are one projection there as here. The head is the word embeddings and is not in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pldrepro.config.base import validate
from pldrepro.config.model import ModelSettings
from pldrepro.data.tokenizers import END_OF_TEXT
from pldrepro.errors import ModelFileError
from pldrepro.models.checkpoints.common import (
    CONFIG,
    check_scales,
    check_shape,
    copy_tokenizer,
    fold_scale,
    read_config,
    read_weights,
    write_model,
)
from pldrepro.models.gpt import Gpt

EMBEDDINGS = {"word_embeddings": "wte", "position_embeddings": "wpe", "final_norm": "ln_f"}
BLOCK = {
    "attention_norm": "ln_1",
    "qkv": "attn.c_attn",
    "attention_output": "attn.c_proj",
    "ffn_norm": "ln_2",
    "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}
TRANSPOSED = ("qkv", "attention_output", "ffn_up", "ffn_down")
# What our model does not implement; a file that asks for something else is refused.
FIXED_CONFIG = {
    "activation_function": "gelu_new",
    "tie_word_embeddings": True,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def save_gpt(
    model: Gpt,
    settings: ModelSettings,
    folder: Path,
    tokenizer_folder: Path | None = None,
    scales: Sequence[float] | None = None,
) -> None:
    """Write a decoder; GPT2LMHeadModel loads it.

    scales, one per layer (drop.evaluation_scales), are multiplied into the blocks' output projections, so that the
    saved model needs no gates.
    """
    check_scales(scales, settings)
    separator = None if tokenizer_folder is None else copy_tokenizer(tokenizer_folder, folder, settings, END_OF_TEXT)
    tensors = {
        _file_name(name): _turn(
            name, fold_scale(name, parameter.detach().to("cpu", torch.float32), scales)
        ).contiguous()
        for name, parameter in model.named_parameters()
    }
    write_model(folder, tensors, _config(settings, separator))


@torch.no_grad()
def load_gpt(folder: Path, settings: ModelSettings) -> Gpt:
    """Read a decoder on the CPU, in float32.

    A missing or damaged file, and a shape or vocabulary other than the settings', is a ModelFileError.
    """
    found = _read_settings(read_config(folder, ("gpt2",), FIXED_CONFIG), folder / CONFIG)
    check_shape(found, settings, folder)
    weights = read_weights(folder)
    with torch.device("meta"):
        model = Gpt(settings)
    model.to_empty(device="cpu")
    for name, parameter in model.named_parameters():
        shape = _turn(name, parameter).shape
        parameter.copy_(_turn(name, weights.tensor(_file_name(name), shape)))
    return model


def _file_name(name: str) -> str:
    """The name in the file of one of our parameters."""
    path = name.split(".")
    if path[0] == "blocks":
        return f"transformer.h.{path[1]}.{BLOCK[path[2]]}.{path[3]}"
    return f"transformer.{EMBEDDINGS[path[0]]}.{path[1]}"


def _turn(name: str, value: Tensor) -> Tensor:
    """The weight of a projection transposed, as between nn.Linear and Conv1D; any other tensor as it is."""
    return value.t() if value.dim() == 2 and name.split(".")[-2] in TRANSPOSED else value


def _config(settings: ModelSettings, separator: int | None) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": settings.vocab_size,
        "n_positions": settings.max_positions,
        "n_embd": settings.hidden_size,
        "n_layer": settings.num_layers,
        "n_head": settings.num_heads,
        "n_inner": settings.ffn_size,
        "resid_pdrop": settings.dropout,
        "embd_pdrop": settings.dropout,
        "attn_pdrop": settings.attention_dropout,
        "layer_norm_epsilon": settings.layer_norm_eps,
        "initializer_range": settings.init_std,
        "bos_token_id": separator,
        "eos_token_id": separator,
        "pad_token_id": separator,
        "dtype": "float32",
        **FIXED_CONFIG,
    }


def _read_settings(config: dict[str, Any], path: Path) -> ModelSettings:
    try:
        if config["resid_pdrop"] != config["embd_pdrop"]:
            raise ModelFileError(f"{path}: resid_pdrop and embd_pdrop differ; allowed: one dropout for both")
        values = {
            "family": "gpt",
            "norm": "pre",
            "num_layers": config["n_layer"],
            "hidden_size": config["n_embd"],
            "num_heads": config["n_head"],
            "ffn_size": config["n_inner"] or 4 * config["n_embd"],
            "vocab_size": config["vocab_size"],
            "max_positions": config["n_positions"],
            "dropout": config["resid_pdrop"],
            "attention_dropout": config["attn_pdrop"],
            "init_std": config["initializer_range"],
            "layer_norm_eps": config["layer_norm_epsilon"],
        }
    except KeyError as error:
        raise ModelFileError(f"{path}: no key {error}") from None
    return validate(ModelSettings, values, str(path))
