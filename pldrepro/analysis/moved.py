"""What moved between two tidy tables of one exhibit, row by row.

Rows are matched by their key columns, which is every column but those of MEASURED and TEXTS. A row moved when the
difference of its two values is outside the combined interval: the half widths that face each other, in quadrature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pldrepro.errors import RecordError
from pldrepro.stats import CONFIDENCE

NUMBERS = ("measured", "low", "high")
MEASURED = (*NUMBERS, "n")
TEXTS = (
    "label", "method", "reported", "reported_unit", "reported_where", "provenance", "note", "paper", "statement",
    "exhibit", "verdict", "p_holm", "bound", "lacks",
)  # fmt: skip
RELATIVE = 0.05  # where a side has no interval: relative changes above this are listed, as changes and not as moves
ROUNDING = 1e-9  # two values that differ by less than this share of the larger are the same number


def compare_exhibit(first: Path, second: Path) -> pd.DataFrame:
    """The rows of the two tidy tables of an exhibit, with what ``happened`` to each.

    Columns: row (its name), measured_a, measured_b, limit (the combined half width; NaN where a side has no interval),
    verdict_a, verdict_b, and happened: moved, changed, only A, only B, or nothing. The limit is from the lower value's
    upper half width and the upper value's lower one, as intervals of ratios are not symmetric (square-and-add, Newcombe
    1998, Statistics in Medicine 17, 873-890). A damaged table, or two rows with one key, is a RecordError.
    """
    frames = [_read(first), _read(second)]
    keys = [name for name in dict.fromkeys([*frames[0], *frames[1]]) if name not in (*MEASURED, *TEXTS)]
    a, b = (_values(path, frame, keys) for path, frame in zip((first, second), frames, strict=True))
    rows = a.merge(b, on="row", how="outer", suffixes=("_a", "_b"))
    low, high = np.minimum(rows["measured_a"], rows["measured_b"]), np.maximum(rows["measured_a"], rows["measured_b"])
    rising = rows["measured_a"] <= rows["measured_b"]
    upper_half = np.where(rising, rows["high_a"], rows["high_b"]) - low
    lower_half = high - np.where(rising, rows["low_b"], rows["low_a"])
    rows["limit"] = np.hypot(upper_half, lower_half)
    distance, rounding = high - low, ROUNDING * _larger(rows)
    measured = rows["measured_a"].notna(), rows["measured_b"].notna()
    rows["happened"] = np.select(
        [
            distance > rows["limit"] + rounding,
            rows["limit"].isna() & (distance > RELATIVE * _larger(rows)),
            measured[0] & ~measured[1],
            measured[1] & ~measured[0],
        ],
        ["moved", "changed", "only A", "only B"],
        default="",
    )
    return rows


def _larger(rows: pd.DataFrame) -> pd.Series:
    """The larger of the two values, without its sign."""
    return rows[["measured_a", "measured_b"]].abs().max(axis=1, skipna=False)


def _read(path: Path) -> pd.DataFrame:
    """A tidy table as text; one of a study that has nothing for it is empty."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame(columns=[*MEASURED])
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: damaged: {error}") from None
    absent = set(MEASURED) - set(frame.columns)
    if absent:
        raise RecordError(f"{path}: column {', '.join(sorted(absent))} is missing")
    return frame


def _values(path: Path, frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Name (its keys; a column that the table lacks counts as empty), numbers and verdict of every row."""
    named = frame.reindex(columns=list(keys), fill_value="").itertuples(index=False, name=None)
    names = [" · ".join(filter(None, row)) for row in named]
    rows = frame.reindex(columns=[*NUMBERS, "verdict"], fill_value="").assign(row=names)
    for name in NUMBERS:
        numbers = pd.to_numeric(rows[name], errors="coerce")
        wrong = rows[numbers.isna() & (rows[name] != "")]
        if len(wrong):
            raise RecordError(f"{path}: damaged: {wrong['row'].iloc[0]}: {name} {wrong[name].iloc[0]!r}")
        rows[name] = numbers.astype(float)
    twice = rows["row"][rows["row"].duplicated()]
    if len(twice):
        raise RecordError(f"{path}: two rows are both {twice.iloc[0]!r}")
    return rows


@dataclass(frozen=True)
class Moved:
    """How many rows moved, of one exhibit or of several; ``by_chance``: as many would, were there noise only."""

    compared: int
    moved: int
    by_chance: float
    no_interval: int
    changed: int
    only_a: int
    only_b: int
    verdicts: int


def moved(rows: pd.DataFrame) -> Moved:
    """What happened to rows of ``compare_exhibit``, counted."""
    happened = rows["happened"].value_counts()
    return Moved(
        compared=int(rows["limit"].notna().sum()),
        moved=int(happened.get("moved", 0)),
        by_chance=float((1 - CONFIDENCE) * (rows["limit"] > ROUNDING * _larger(rows)).sum()),
        no_interval=int((_larger(rows).notna() & rows["limit"].isna()).sum()),
        changed=int(happened.get("changed", 0)),
        only_a=int(happened.get("only A", 0)),
        only_b=int(happened.get("only B", 0)),
        verdicts=len(changed_verdicts(rows)),
    )


def largest_first(rows: pd.DataFrame, happened: str) -> pd.DataFrame:
    """The rows to which this happened, with their ``difference`` b - a; the largest by its limit, or value, first."""
    part = rows[rows["happened"] == happened]
    part = part.assign(difference=part["measured_b"] - part["measured_a"])
    size = part["difference"].abs() / part["limit"].fillna(_larger(part))
    return part.loc[size.sort_values(ascending=False).index]


def changed_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that both sides have, with two verdicts."""
    return rows[rows["verdict_a"].notna() & rows["verdict_b"].notna() & (rows["verdict_a"] != rows["verdict_b"])]
