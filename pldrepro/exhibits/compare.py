"""Compare two results folders, exhibit by exhibit: what moved beyond its interval, and which verdicts changed.

Rows are matched by their key columns, which is every column but those of MEASURED and TEXTS. A row moved when the
difference of its two values is outside the combined interval: the half widths that face each other, in quadrature.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pldrepro.errors import RecordError
from pldrepro.exhibits.layout import markdown_table
from pldrepro.stats import CONFIDENCE

NUMBERS = ("measured", "low", "high")
MEASURED = (*NUMBERS, "n")
TEXTS = (
    "label", "method", "reported", "reported_unit", "reported_where", "provenance", "note", "paper", "statement",
    "exhibit", "verdict", "p_holm", "bound", "lacks",
)  # fmt: skip
RELATIVE = 0.05  # where a side has no interval: relative changes above this are listed, as changes and not as moves
ROUNDING = 1e-9  # two values that differ by less than this share of the larger are the same number
LISTED = 20  # rows that only one side has are named up to this number, and counted beyond it


def compare(first: Path, second: Path) -> str:
    """What moved between two results folders (tables/*.csv and claims.csv), as Markdown; both must hold these."""
    files = [_exhibits(folder) for folder in (first, second)]
    names = [[name for name in own if name not in other] for own, other in (files, files[::-1])]
    rows = {name: compare_exhibit(path, files[1][name]) for name, path in files[0].items() if name in files[1]}
    counts = pd.DataFrame({name: _counts(frame) for name, frame in rows.items()}).T
    compared, moved, verdicts = (int(counts[name].sum()) for name in ("compared", "moved", "verdicts changed"))
    expected = sum(_expected(frame) for frame in rows.values())
    return "\n\n".join([
        "# What moved",
        f"A: `{first}`, B: `{second}`.",
        f"{moved} of {compared} compared rows moved ({expected:.1f} expected by chance), {verdicts} verdicts changed.",
        _table(["exhibit", *counts], ([name, *row] for name, row in counts.iterrows())),
        f"A row moved when its two values differ by more than both {CONFIDENCE:.0%} intervals, in quadrature, allow. "
        "Expected by chance holds for independent runs without any change between them; rows of one exhibit share "
        "runs, so they move together. A half width of 0 is a number that its seeds agree on exactly (samples, FLOPs, "
        "the price of a run that drops nothing): any other value there has moved, none by chance. Without an interval "
        f"on both sides (one seed) nothing can be said to move: changes of more than {RELATIVE:.0%} are listed apart.",
        *(f"Only {side} has {', '.join(own)}." for side, own in zip("AB", names, strict=True) if own),
        *(section for name, frame in rows.items() for section in _sections(name, frame)),
    ]) + "\n"  # fmt: skip


def _exhibits(folder: Path) -> dict[str, Path]:
    """Name -> file of every exhibit in a results folder, claims last; what is missing is a RecordError."""
    tables, claims = sorted((folder / "tables").glob("*.csv")), folder / "claims.csv"
    if not tables or not claims.is_file():
        raise RecordError(f"{folder}: expected a results folder with tables/*.csv and claims.csv")
    return {path.stem: path for path in (*tables, claims)}


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
    distance, rounding = high - low, ROUNDING * _size(rows)
    measured = rows["measured_a"].notna(), rows["measured_b"].notna()
    rows["happened"] = np.select(
        [
            distance > rows["limit"] + rounding,
            rows["limit"].isna() & (distance > RELATIVE * _size(rows)),
            measured[0] & ~measured[1],
            measured[1] & ~measured[0],
        ],
        ["moved", "changed", "only A", "only B"],
        default="",
    )
    return rows


def _size(rows: pd.DataFrame) -> pd.Series:
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


# ---- Markdown ----


def _expected(rows: pd.DataFrame) -> float:
    """Rows that would move by chance, if nothing but independent noise lay between the two."""
    return float((1 - CONFIDENCE) * (rows["limit"] > ROUNDING * _size(rows)).sum())


def _verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows that both sides have, with two verdicts."""
    return rows[rows["verdict_a"].notna() & rows["verdict_b"].notna() & (rows["verdict_a"] != rows["verdict_b"])]


def _counts(rows: pd.DataFrame) -> dict[str, object]:
    both, happened = _size(rows).notna(), rows["happened"].value_counts()
    return {
        "compared": int(rows["limit"].notna().sum()),
        "moved": happened.get("moved", 0),
        f"expected by chance at {CONFIDENCE:.0%}": f"{_expected(rows):.1f}",
        "no interval": int((both & rows["limit"].isna()).sum()),
        f"of these changed by more than {RELATIVE:.0%}": happened.get("changed", 0),
        "only A": happened.get("only A", 0),
        "only B": happened.get("only B", 0),
        "verdicts changed": len(_verdicts(rows)),
    }


def _sections(name: str, rows: pd.DataFrame) -> Iterable[str]:
    verdicts = _verdicts(rows)
    if rows["happened"].any() or len(verdicts):
        yield f"## {name}"
    if len(verdicts):
        yield _table(["verdict on", "A", "B"], verdicts[["row", "verdict_a", "verdict_b"]].to_numpy().tolist())
    for happened in ("moved", "changed"):
        part = rows[rows["happened"] == happened]
        difference = part["measured_b"] - part["measured_a"]
        largest = (difference.abs() / part["limit"].fillna(_size(part))).sort_values(ascending=False).index
        part = part.assign(difference=difference).loc[largest]
        if len(part):
            columns = ["row", "measured_a", "measured_b", "difference", "limit"]
            title = [happened, "A", "B", "difference", "combined half width"]
            yield _table(title, part[columns].to_numpy().tolist())
    for side in "AB":
        own = rows.loc[rows["happened"] == f"only {side}", "row"]
        if len(own):
            more = f" and {len(own) - LISTED} more" if len(own) > LISTED else ""
            yield f"Measured in {side} only: {'; '.join(own[:LISTED])}{more}."


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    def text(value: object) -> str:
        if isinstance(value, float):
            return "none" if np.isnan(value) else f"{value:.4g}".replace("-", "−")
        return str(value)

    return markdown_table(columns, [[text(value) for value in row] for row in rows])
