"""Reading the csv tables that the analysis wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pldrepro.errors import RecordError


def read_table(path: Path, columns: Mapping[str, type], verb: str, optional: Sequence[str] = ()) -> pd.DataFrame:
    """A csv table of the analysis; a missing or damaged one is a RecordError that names it.

    ``columns``: name -> type of each; ``optional``: those that may be empty. The table may have more.
    """
    try:
        frame = pd.read_csv(path, dtype=dict(columns), keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise RecordError(f"{path}: no such table; `python -m pldrepro {verb}` writes it") from None
    except (OSError, ValueError, OverflowError) as error:
        raise RecordError(f"{path}: damaged: {error}; run `python -m pldrepro {verb}` again") from None
    absent = [name for name in columns if name not in frame]
    if absent:
        raise RecordError(f"{path}: column {', '.join(absent)} is missing; run `python -m pldrepro {verb}` again")
    empty = [name for name in columns if name not in optional and frame[name].isna().any()]
    if empty:
        raise RecordError(f"{path}: column {', '.join(empty)}: a field is empty; run `python -m pldrepro {verb}` again")
    return frame
