"""What all model folders have: ``config.json`` (written last), ``model.safetensors`` and the tokenizer's files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pldrepro.config.base import validate
from pldrepro.config.model import ModelSettings
from pldrepro.errors import ModelFileError
from pldrepro.files import atomic_path, read_json, write_json
from pldrepro.models.blocks import is_output_projection

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip
Keys = Mapping[str, Sequence[str]]  # our setting -> the keys of config.json that hold it
SHAPE_FIELDS = ("norm", "num_layers", "hidden_size", "num_heads", "ffn_size", "vocab_size", "max_positions")


class WithoutDraws(TorchFunctionMode):
    """Modules that are built in this context have no initial weights: a file has them.

    Faster than the device "meta", where torch imports its compiler to draw nothing: two seconds of every evaluation.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The tensor itself for a function of torch.nn.init, else what torch does."""
        given = kwargs or {}
        if getattr(func, "__module__", None) == nn.init.__name__:
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@dataclass(frozen=True)
class Weights:
    """The tensors of a weights file."""

    path: Path
    tensors: dict[str, Tensor]

    def tensor(self, name: str, shape: Sequence[int] | None = None) -> Tensor:
        """One tensor; a ModelFileError when it is not there, or not of this shape."""
        if name not in self.tensors:
            raise ModelFileError(f"{self.path}: no tensor {name}")
        value = self.tensors[name]
        if shape is not None and list(value.shape) != list(shape):
            raise ModelFileError(f"{self.path}: {name}: shape {list(value.shape)}; allowed: {list(shape)}")
        return value


def read_weights(folder: Path) -> Weights:
    """The weights of a model folder; missing or damaged is a ModelFileError."""
    path = folder / WEIGHTS
    try:
        with safe_open(path, "pt") as file:
            return Weights(path, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except SafetensorError as error:
        raise ModelFileError(f"{path}: damaged or cut short: {error}") from None


def write_model(folder: Path, tensors: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Write weights and config.json, each atomically; what cannot be written is a ModelFileError."""
    path = folder / WEIGHTS
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            raise ModelFileError(f"{path}: not written: {error}") from None
    write_json(folder / CONFIG, config)


def read_config(folder: Path, model_types: Collection[str], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of one of the model types; a value other than a fixed one is a ModelFileError."""
    path = folder / CONFIG
    config = read_json(path)
    if not isinstance(config, dict) or config.get("model_type") not in model_types:
        raise ModelFileError(f"{path}: model_type is not one of: {', '.join(model_types)}")
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise ModelFileError(f"{path}: {key} is {json.dumps(config[key])}; allowed: {json.dumps(value)}")
    return config


def config_of(settings: ModelSettings, keys: Keys, fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says of a model; a setting may have several keys."""
    values = {key: getattr(settings, field) for field, names in keys.items() for key in names}
    return {**values, **fixed, "dtype": "float32"}


def model_settings(config: Mapping[str, Any], keys: Keys, path: Path, **more: Any) -> ModelSettings:
    """The settings of a model from its config.json; a missing key, or two that disagree, is a ModelFileError.

    more: settings that the keys do not give.
    """
    values = dict(more)
    for field, names in keys.items():
        absent = [key for key in names if key not in config]
        if absent:
            raise ModelFileError(f"{path}: no key {absent[0]!r}")
        values[field] = config[names[0]]
        if any(config[key] != values[field] for key in names):
            raise ModelFileError(f"{path}: {' and '.join(names)} differ; expected one {field} for both")
    return validate(ModelSettings, values, str(path))


def check_shape(found: ModelSettings, expected: ModelSettings, folder: Path) -> None:
    """The shape of a folder's model must be that of the settings, else ModelFileError."""
    for field in SHAPE_FIELDS:
        if getattr(found, field) != getattr(expected, field):
            raise ModelFileError(
                f"{folder / CONFIG}: {field} is {getattr(found, field)}; the settings have {getattr(expected, field)}"
            )


def exported(model: nn.Module, settings: ModelSettings, scales: Sequence[float] | None) -> dict[str, Tensor]:
    """Our name -> value of every parameter as a file holds it: on the CPU, in float32.

    scales, one per layer, else ValueError, are multiplied into the output projections: s f(x) = (s W) z + s b.
    """
    if scales is not None and len(scales) != settings.num_layers:
        raise ValueError(f"{len(scales)} scales for {settings.num_layers} layers; allowed: one scale per layer")
    values = {name: parameter.detach().to("cpu", torch.float32) for name, parameter in model.named_parameters()}
    if scales is None:
        return values
    return {
        name: value * scales[_layer(name)] if is_output_projection(name) else value for name, value in values.items()
    }


def _layer(name: str) -> int:
    """The layer (0..L-1) of a block's parameter."""
    module = name.split(".")
    return int(module[module.index("blocks") + 1])


def copy_tokenizer(source: Path, folder: Path, settings: ModelSettings, token: str) -> int:
    """Copy the tokenizer's files, checked against the model's vocabulary; returns the id of a special token."""
    path = source / "tokenizer.json"
    tokenizer = read_json(path)
    try:
        vocabulary = tokenizer["model"]["vocab"]
        num_tokens = 1 + max(*vocabulary.values(), *(token["id"] for token in tokenizer["added_tokens"]))
        token_id = int(vocabulary[token])
    except (KeyError, TypeError, AttributeError):
        raise ModelFileError(f"{path}: not a tokenizer with a vocabulary and {token}") from None
    if num_tokens > settings.vocab_size:
        raise ModelFileError(f"{path}: {num_tokens} tokens do not fit the model's vocab_size {settings.vocab_size}")
    for name in TOKENIZER_FILES:
        if (source / name).exists():
            with atomic_path(folder / name) as temporary:
                shutil.copyfile(source / name, temporary)
    return token_id
