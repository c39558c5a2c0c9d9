"""Typed records: the base class of everything that a file holds, and reading with validation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from pldrepro.errors import RecordError, explain

if TYPE_CHECKING:
    import pandas as pd
from typing import Annotated

from pydantic import ConfigDict, Field

# ---- reading runs back: the only entry of the analysis half ----


def read_checked(path: Path, kind: type[BaseModel], hint: str = "") -> Any:
    """The values of a JSON file that is what a class says; otherwise a RecordError with file, key and the hint."""
    return _checked(_content(path, hint), kind, f"{path}", hint)


def read_checked_lines(path: Path, kind: type[BaseModel], hint: str = "") -> list[dict[str, Any]]:
    """The values of a JSON-lines file whose lines are what a class says; a RecordError names the line, too."""
    lines = _content(path, hint).splitlines()
    return [_checked(line, kind, f"{path}: line {number}", hint) for number, line in enumerate(lines, start=1)]


def _content(path: Path, hint: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise RecordError(f"{path}: {reason}{hint}") from None


def _checked(content: bytes, kind: type[BaseModel], where: str, hint: str) -> Any:
    """The values as they are written, once they have been found to be what the class says."""
    try:
        kind.model_validate_json(content)
        return json.loads(content)
    except ValidationError as error:
        damaged = "damaged JSON: " if error.errors()[0]["type"] == "json_invalid" else ""
        raise RecordError(f"{where}: {damaged}{explain(kind, error)}{hint}") from None
    except ValueError as error:
        raise RecordError(f"{where}: damaged JSON: {error}{hint}") from None


def read_table(path: Path, columns: Mapping[str, type], verb: str, optional: Sequence[str] = ()) -> pd.DataFrame:
    """A csv table of the analysis; a missing or damaged one is a RecordError that names it.

    ``columns``: name -> type of each; ``optional``: those that may be empty. The table may have more.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise RecordError(f"{path}: no such table; run `{verb}` first") from None
    except (OSError, ValueError, OverflowError) as error:
        raise RecordError(f"{path}: damaged: {error}; run `{verb}` again") from None
    absent = [name for name in columns if name not in frame]
    if absent:
        raise RecordError(f"{path}: column {', '.join(absent)} is missing; run `{verb}` again")
    empty = [name for name in columns if name not in optional and frame[name].isna().any()]
    if empty:
        raise RecordError(f"{path}: column {', '.join(empty)}: a field is empty; run `{verb}` again")
    return frame


Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Positive = Annotated[int, Field(ge=1, le=2**63 - 1)]
Cost = Annotated[float, Field(gt=0, le=1e30)]
Number = Annotated[float, Field(ge=-1e30, le=1e30)]
Loss = Annotated[float, Field(ge=0, le=700, description="nats; its exponential is finite")]
File = Annotated[str, Field(pattern=r"^/?[^/\x00]{1,255}(/+[^/\x00]{1,255})*/?$", max_length=2000)]
Kept = Annotated[str, Field(pattern=r"^[0-9]{1,4}$", description="a number of kept layers")]


class Recorded(BaseModel):
    """Base of what records hold: no type is converted but an integer to a number, every number is finite."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class AnyRecord(Recorded):
    """A mapping of which nothing is read."""
