"""Decoder files that ``transformers.GPT2LMHeadModel`` can load, and that this package loads back.

transformers is not imported. GPT-2's projections are Conv1D: their weights are those of ours transposed, and query,
key and value are one projection there as here. The head is the word embeddings and is not in the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pldrepro.config.model import ModelSettings
from pldrepro.data.tokenizers import END_OF_TEXT
from pldrepro.models.checkpoints.common import (
    CONFIG,
    WithoutDraws,
    check_shape,
    config_of,
    copy_tokenizer,
    exported,
    model_settings,
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
KEYS = {
    "num_layers": ("n_layer",),
    "hidden_size": ("n_embd",),
    "num_heads": ("n_head",),
    "ffn_size": ("n_inner",),
    "vocab_size": ("vocab_size",),
    "max_positions": ("n_positions",),
    "dropout": ("resid_pdrop", "embd_pdrop"),
    "attention_dropout": ("attn_pdrop",),
    "init_std": ("initializer_range",),
    "layer_norm_eps": ("layer_norm_epsilon",),
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
    values = exported(model, settings, scales)
    separator = None if tokenizer_folder is None else copy_tokenizer(tokenizer_folder, folder, settings, END_OF_TEXT)
    tensors = {_file_name(name): _turn(name, value).contiguous() for name, value in values.items()}
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **config_of(settings, KEYS, FIXED_CONFIG)}
    config |= dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), separator)
    write_model(folder, tensors, config)


@torch.no_grad()
def load_gpt(folder: Path, settings: ModelSettings) -> Gpt:
    """Read a decoder on the CPU, in float32.

    A missing or damaged file, and a shape or vocabulary other than the settings', is a ModelFileError.
    """
    config = read_config(folder, ("gpt2",), FIXED_CONFIG)
    if config.get("n_inner", 0) is None:  # transformers' default
        config["n_inner"] = 4 * config["n_embd"]
    check_shape(model_settings(config, KEYS, folder / CONFIG, family="gpt", norm="pre"), settings, folder)
    weights = read_weights(folder)
    with WithoutDraws():
        model = Gpt(settings)
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
