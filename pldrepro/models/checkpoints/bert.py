"""Model files that plain transformers can load, and that this package loads back; transformers is not imported.

A folder holds ``config.json`` (written last), ``model.safetensors`` and the tokenizer's files. PostLN is a ``bert``,
PreLN a ``roberta-prelayernorm``; both give the same logits there as here. A roberta-prelayernorm counts its positions
from pad_token_id + 1, so its table of positions starts with rows that no real token uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from pldrepro.config.base import validate
from pldrepro.config.model import ModelSettings, Pooling
from pldrepro.errors import ModelFileError
from pldrepro.models.bert import NUM_TOKEN_TYPES, BertForPreTraining, BertForSequenceClassification
from pldrepro.models.blocks import initialise
from pldrepro.models.checkpoints.common import (
    CONFIG,
    Weights,
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

Norm = Literal["post", "pre"]
Kind = Literal["pretraining", "classifier"]
AnyBert = TypeVar("AnyBert", bound=nn.Module)

MODEL_TYPES: dict[Norm, str] = {"post": "bert", "pre": "roberta-prelayernorm"}
ARCHITECTURES: dict[tuple[Norm, Kind], str] = {
    ("post", "pretraining"): "BertForPreTraining",
    ("post", "classifier"): "BertForSequenceClassification",
    ("pre", "pretraining"): "RobertaPreLayerNormForMaskedLM",
    ("pre", "classifier"): "RobertaPreLayerNormForSequenceClassification",
}
ENCODERS: dict[Norm, str] = {"post": "bert", "pre": "roberta_prelayernorm"}
# Our name of a module -> its name in the file; the fused qkv becomes query, key and value.
EMBEDDINGS = {
    "word_embeddings": "embeddings.word_embeddings",
    "position_embeddings": "embeddings.position_embeddings",
    "token_type_embeddings": "embeddings.token_type_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "final_norm": "LayerNorm",
}
BLOCK: dict[Norm, dict[str, str]] = {
    "post": {
        "attention_norm": "attention.output.LayerNorm",
        "attention_output": "attention.output.dense",
        "ffn_norm": "output.LayerNorm",
        "ffn_up": "intermediate.dense",
        "ffn_down": "output.dense",
    },
    "pre": {
        "attention_norm": "attention.LayerNorm",
        "attention_output": "attention.output.dense",
        "ffn_norm": "intermediate.LayerNorm",
        "ffn_up": "intermediate.dense",
        "ffn_down": "output.dense",
    },
}
HEADS: dict[tuple[Norm, Kind], dict[str, str]] = {
    ("post", "pretraining"): {
        "mlm_head": "cls.predictions",
        "mlm_head.dense": "cls.predictions.transform.dense",
        "mlm_head.norm": "cls.predictions.transform.LayerNorm",
        "pooler.dense": "bert.pooler.dense",
        "nsp_head": "cls.seq_relationship",
    },
    ("post", "classifier"): {"pooler.dense": "bert.pooler.dense", "classifier": "classifier"},
    ("pre", "pretraining"): {
        "mlm_head": "lm_head",
        "mlm_head.dense": "lm_head.dense",
        "mlm_head.norm": "lm_head.layer_norm",
        "pooler.dense": "roberta_prelayernorm.pooler.dense",
        "nsp_head": "nsp_head",
    },
    ("pre", "classifier"): {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"},
}
# What a file may lack and is then drawn afresh: a masked-language model of transformers has no pooler and no NSP
# head, and a pre-training model has no classifier.
OPTIONAL = ("pooler.dense", "nsp_head", "classifier")
KEYS = {
    "num_layers": ("num_hidden_layers",),
    "hidden_size": ("hidden_size",),
    "num_heads": ("num_attention_heads",),
    "ffn_size": ("intermediate_size",),
    "vocab_size": ("vocab_size",),
    "max_positions": ("max_position_embeddings",),
    "dropout": ("hidden_dropout_prob",),
    "attention_dropout": ("attention_probs_dropout_prob",),
    "init_std": ("initializer_range",),
    "layer_norm_eps": ("layer_norm_eps",),
}
# What our model does not implement; a file that asks for something else is refused.
FIXED_CONFIG = {
    "hidden_act": "gelu",
    "type_vocab_size": NUM_TOKEN_TYPES,
    "tie_word_embeddings": True,
    "is_decoder": False,
    "position_embedding_type": "absolute",
}


def save_bert(
    model: BertForPreTraining | BertForSequenceClassification,
    settings: ModelSettings,
    folder: Path,
    tokenizer_folder: Path | None = None,
    scales: Sequence[float] | None = None,
) -> None:
    """Write a model that AutoModelForMaskedLM, or of a classifier AutoModelForSequenceClassification, loads.

    The file of a pre-training model holds its pooler and NSP head, too. scales, one per layer (drop.evaluation_scales),
    are multiplied into the blocks' output projections, so that the saved model needs no gates.
    """
    num_labels = model.classifier.out_features if isinstance(model, BertForSequenceClassification) else None
    kind: Kind = "pretraining" if num_labels is None else "classifier"
    values = exported(model, settings, scales)
    pad_token_id = 0 if tokenizer_folder is None else copy_tokenizer(tokenizer_folder, folder, settings, "[PAD]")
    tensors: dict[str, Tensor] = {}
    for name, value in values.items():
        names = _file_names(name, settings.norm, kind)
        if name == "bert.position_embeddings.weight":
            value = torch.cat([value.new_zeros(_first_position(settings.norm, pad_token_id), value.shape[1]), value])
        tensors.update(zip(names, (part.clone() for part in value.chunk(len(names))), strict=True))
    write_model(folder, tensors, _config(settings, kind, num_labels, pad_token_id))


def load_pretraining(folder: Path, settings: ModelSettings) -> BertForPreTraining:
    """Read a pre-training model on the CPU, in float32.

    A masked-language model without pooler or NSP head gets them drawn from seed 0. A missing or damaged file, and a
    shape or vocabulary other than the settings', is a ModelFileError.
    """
    file = _read(folder)
    check_shape(file.settings, settings, folder)
    with WithoutDraws():
        model = BertForPreTraining(settings)
    return _fill(model, file, fresh_seed=0)


def load_for_finetuning(
    folder: Path, num_labels: int, seed: int, dropout: float, pooling: Pooling = "cls"
) -> BertForSequenceClassification:
    """Encoder and pooler of a pre-training model with a classifier drawn from ``seed`` (and a pooler, if it has none).

    dropout: of hidden states, attention and classifier input, in [0, 1).
    """
    file = _read(folder)
    values = {**file.settings.model_dump(), "dropout": dropout, "attention_dropout": dropout}
    with WithoutDraws():
        model = BertForSequenceClassification(validate(ModelSettings, values, "fine-tuning"), num_labels, pooling)
    return _fill(model, file, fresh_seed=seed)


def _first_position(norm: Norm, pad_token_id: int) -> int:
    """Row of the file's table of positions that the first token uses."""
    return 0 if norm == "post" else pad_token_id + 1


def _file_names(name: str, norm: Norm, kind: Kind) -> tuple[str, ...]:
    """The names in the file of one of our parameters: three for the fused qkv, none for what it cannot hold."""
    module, _, field = name.rpartition(".")
    path = module.split(".")
    if path[0] != "bert":
        heads = HEADS[norm, kind]
        return (f"{heads[module]}.{field}",) if module in heads else ()
    if path[1] != "blocks":
        return (f"{ENCODERS[norm]}.{EMBEDDINGS[path[1]]}.{field}",)
    layer = f"{ENCODERS[norm]}.encoder.layer.{path[2]}"
    if path[3] == "qkv":
        return tuple(f"{layer}.attention.self.{part}.{field}" for part in ("query", "key", "value"))
    return (f"{layer}.{BLOCK[norm][path[3]]}.{field}",)


def _config(settings: ModelSettings, kind: Kind, num_labels: int | None, pad_token_id: int) -> dict[str, Any]:
    config = {
        "architectures": [ARCHITECTURES[settings.norm, kind]],
        "model_type": MODEL_TYPES[settings.norm],
        **config_of(settings, KEYS, FIXED_CONFIG),
        "pad_token_id": pad_token_id,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    config["max_position_embeddings"] += _first_position(settings.norm, pad_token_id)
    if num_labels is not None:
        labels = [f"LABEL_{index}" for index in range(num_labels)]
        config["id2label"] = {str(index): label for index, label in enumerate(labels)}
        config["label2id"] = {label: index for index, label in enumerate(labels)}
    return config


@dataclass(frozen=True)
class _ModelFile:
    """A model folder that was read: what config.json says, and the weights."""

    settings: ModelSettings
    first_position: int
    weights: Weights


def _read(folder: Path) -> _ModelFile:
    """Read the folder of a pre-training model and check what its config.json asks for."""
    norms = {model_type: norm for norm, model_type in MODEL_TYPES.items()}
    config = read_config(folder, norms, FIXED_CONFIG)
    norm = norms[config["model_type"]]
    if not all(isinstance(config.get(key), int) for key in ("max_position_embeddings", "pad_token_id")):
        raise ModelFileError(f"{folder / CONFIG}: expected whole numbers as max_position_embeddings and pad_token_id")
    first_position = _first_position(norm, config["pad_token_id"])
    config["max_position_embeddings"] -= first_position
    return _ModelFile(model_settings(config, KEYS, folder / CONFIG, norm=norm), first_position, read_weights(folder))


@torch.no_grad()
def _fill(model: AnyBert, file: _ModelFile, fresh_seed: int) -> AnyBert:
    """Give a model without weights those of a file; what it may lack (OPTIONAL) is drawn from fresh_seed."""
    fresh = set()
    for name, parameter in model.named_parameters():
        names = _file_names(name, file.settings.norm, "pretraining")
        optional = name.rpartition(".")[0] in OPTIONAL
        if optional and not any(part in file.weights.tensors for part in names):
            fresh.add(name)
            continue
        skipped = file.first_position if name == "bert.position_embeddings.weight" else 0
        rows = parameter.shape[0] // len(names)
        for index, part in enumerate(names):
            value = file.weights.tensor(part, [rows + skipped, *parameter.shape[1:]])
            parameter[index * rows : (index + 1) * rows].copy_(value[skipped:])
    if fresh:
        initialise(model, fresh_seed, fresh)
    return model
