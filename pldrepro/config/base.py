"""What all settings share: the strict base class, field types, YAML and JSON in, errors that name file and key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pldrepro.errors import SettingsError, did_you_mean, explain
from pldrepro.files import shipped

Model = TypeVar("Model", bound=BaseModel)
MAX_LAYERS = 1000  # bounds what a policy and a price are computed over
# A folder that files go to: in the workflow's file names {} are wildcards, and a leading - makes an option of a name.
Folder = Annotated[str, Field(pattern=r"^[^-{}\x00-\x1f\x7f][^{}\x00-\x1f\x7f]*$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]


class Strict(BaseModel):
    """Base of all settings: immutable, finite, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _fraction(value: Any) -> float:
    """Accept 0.5 and the text "87/186"."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(
        r"([0-9]{0,9}\.?[0-9]{1,20}(?:[eE][-+]?[0-9]{1,2})?)(?:/(0{0,9}[1-9][0-9]{0,8}))?", value, re.ASCII
    )
    if match is None:
        raise ValueError("neither a number nor a fraction such as 87/186")
    return float(Fraction(match[1]) / Fraction(match[2] or 1))


Share = Annotated[float, BeforeValidator(_fraction), Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]


def _no_repeats(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A run that is listed twice would count as two."""
    if len(set(values)) != len(values):
        raise ValueError("an entry is repeated")
    return values


Distinct = AfterValidator(_no_repeats)


def text_or_images(key: str) -> Callable[[Any], str]:
    """Chooses between the settings of text and of images, by the value of ``family`` or ``kind``."""

    def choose(value: Any) -> str:
        given = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
        return "<images>" if given in ("swinv2", "vit", "images") else "<text>"

    return choose


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``base`` with ``changes`` merged over it, mapping by mapping; null removes a key (RFC 7396)."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merge(result[key], value)
        else:
            result[key] = value
    return result


def read_yaml(path: Path) -> Any:
    """A YAML or JSON file, safely loaded; one that comes with the suite is found from any folder."""
    try:
        text = shipped(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        near = did_you_mean(path.name, (one.name for one in shipped(path.parent).glob(f"*{path.suffix}")))
        raise SettingsError(f"{path}: no such file{f'; {near}' if near else ''}") from None
    except (OSError, ValueError) as error:  # a folder, or bytes that are not UTF-8
        raise SettingsError(f"{path}: not readable as YAML: {error}") from None
    return parse_yaml(text, str(path))


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a repeated key of a mapping: YAML forbids it, and one of the values would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        repeated = {key for key in keys if keys.count(key) > 1}
        if repeated:
            raise yaml.constructor.ConstructorError(None, None, f"repeated key {repeated.pop()!r}", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str, origin: str) -> Any:
    """YAML, safely loaded."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2026-99-99, which looks like a date
        raise SettingsError(f"{origin}: not readable as YAML: {' '.join(str(error).split())}") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """A YAML file that holds a mapping."""
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: allowed: a mapping of keys to values")
    return values


def validate(model: type[Model], values: Any, origin: str) -> Model:
    """Check values against a settings class; every problem in one message, with its path and what is allowed."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{origin}: {explain(model, error)}") from None


def read_settings(model: type[Model], text_or_path: str) -> Model:
    """Settings from a JSON text, or from a JSON or YAML file."""
    if not text_or_path.lstrip().startswith("{"):
        return validate(model, read_yaml(Path(text_or_path)), text_or_path)
    try:
        values = json.loads(text_or_path)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"settings: not readable as JSON: {error}") from None
    return validate(model, values, "settings")
