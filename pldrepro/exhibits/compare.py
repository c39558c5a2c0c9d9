"""Compare two results folders, exhibit by exhibit: what moved beyond its interval, and which verdicts changed.

Rows are matched by their key columns, which is every column but those of MEASURED and BESIDE. A row moved when the
difference of its two values lies outside the combined interval: the half widths that face each other, in quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pldrepro.errors import RecordError
from pldrepro.exhibits.layout import markdown_table
from pldrepro.stats import CONFIDENCE

MEASURED = ("measured", "low", "high", "n")
BESIDE = (
    "label", "method", "reported", "reported_unit", "reported_where", "provenance", "note", "paper", "statement",
    "exhibit", "verdict",
)  # fmt: skip
CLAIMS = "claims"
# Where a side has no interval: relative changes above this are listed, as changes and not as moves.
RELATIVE = 0.05
# Two values that differ by less than this share of the larger are the same number.
ROUNDING = 1e-9
# Rows that only one side has are named up to this number, and counted beyond it.
LISTED = 20
Key = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """What a row of an exhibit holds beside its keys; None where it holds no number."""

    value: float | None
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Change:
    """A row whose value is another one; ``limit``: the combined half width, None where a side has no interval."""

    row: str
    first: float
    second: float
    limit: float | None

    @property
    def distance(self) -> float:
        """How far apart the two values are."""
        return abs(self.second - self.first)

    @property
    def size(self) -> float:
        """The larger of the two values, without its sign."""
        return max(abs(self.first), abs(self.second))


@dataclass(frozen=True)
class Comparison:
    """One exhibit of both folders.

    ``compared`` rows have an interval on both sides, of which those of ``varying`` have a width; those that ``moved``
    lie outside of it. ``without`` rows have a value on both sides but not an interval, and those that ``changed`` did
    so by more than RELATIVE. Rows that are measured on one side alone are named. ``verdicts``: (claim, first, second)
    where the two differ.
    """

    exhibit: str
    compared: int
    varying: int
    moved: tuple[Change, ...]
    without: int
    changed: tuple[Change, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    verdicts: tuple[tuple[str, str, str], ...] = ()

    @property
    def expected(self) -> float:
        """Rows that would move by chance, if nothing but independent noise lay between the two."""
        return (1 - CONFIDENCE) * self.varying

    @property
    def same(self) -> bool:
        """Whether there is nothing to tell."""
        return not (self.moved or self.changed or self.only_first or self.only_second or self.verdicts)


def compare(first: Path, second: Path) -> str:
    """What moved between two results folders (tables/*.csv and claims.csv), as Markdown; both must hold these."""
    exhibits = [_exhibits(folder) for folder in (first, second)]
    common = [name for name in exhibits[0] if name in exhibits[1]]
    found = [compare_exhibit(name, exhibits[0][name], exhibits[1][name]) for name in common]
    alone = [[name for name in own if name not in common] for own in exhibits]
    return _render((first, second), found, alone)


def _exhibits(folder: Path) -> dict[str, Path]:
    """Name -> file of every exhibit in a results folder, claims last; what is missing is a RecordError."""
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such results folder")
    tables = sorted((folder / "tables").glob("*.csv"))
    if not tables:
        raise RecordError(f"{folder / 'tables'}: no tables (*.csv) here")
    claims = folder / "claims.csv"
    if not claims.is_file():
        raise RecordError(f"{claims}: no claims here; run `make claims` first")
    return {**{path.stem: path for path in tables}, CLAIMS: claims}


def compare_exhibit(name: str, first: Path, second: Path) -> Comparison:
    """Compare the two tidy tables of an exhibit; a damaged one, or two rows with one key, is a RecordError."""
    frames = _read(first), _read(second)
    columns = [str(column) for column in dict.fromkeys([*frames[0], *frames[1]])]
    keys = [column for column in columns if column not in (*MEASURED, *BESIDE)]
    rows, others = _rows(first, frames[0], keys), _rows(second, frames[1], keys)
    both = [(_name(key), rows[key], others[key]) for key in rows if key in others]
    changes = [change for name, a, b in both if (change := _change(name, a, b)) is not None]
    certain = [change for change in changes if change.limit is not None]
    unsure = [change for change in changes if change.limit is None]
    return Comparison(
        exhibit=name,
        compared=len(certain),
        varying=sum(_width(change) > ROUNDING * change.size for change in certain),
        moved=tuple(change for change in certain if change.distance > _width(change) + ROUNDING * change.size),
        without=len(unsure),
        changed=tuple(change for change in unsure if change.distance > RELATIVE * change.size),
        only_first=_alone(rows, others),
        only_second=_alone(others, rows),
        verdicts=tuple((name, a.verdict, b.verdict) for name, a, b in both if a.verdict != b.verdict),
    )


def _name(key: Key) -> str:
    return " · ".join(text for text in key if text)


def _alone(rows: Mapping[Key, Row], others: Mapping[Key, Row]) -> tuple[str, ...]:
    """Names of the rows that are measured here and not there."""
    nothing = Row(None, None, None, "")
    return tuple(
        _name(key) for key, row in rows.items() if row.value is not None and others.get(key, nothing).value is None
    )


def _change(name: str, first: Row, second: Row) -> Change | None:
    """Two measured values and the half widths that face each other, in quadrature; None where one was not measured.

    Of asymmetric intervals (ratios) the lower value's upper half and the upper value's lower half. Source: Newcombe
    1998, Statistics in Medicine 17, 873-890 (square-and-add).
    """
    if first.value is None or second.value is None:
        return None
    lower, upper = (first, second) if first.value <= second.value else (second, first)
    limit = None
    if lower.high is not None and upper.low is not None:
        limit = math.hypot(lower.high - min(first.value, second.value), max(first.value, second.value) - upper.low)
    return Change(name, first.value, second.value, limit)


def _width(change: Change) -> float:
    return change.limit or 0.0


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


def _rows(path: Path, frame: pd.DataFrame, keys: Sequence[str]) -> dict[Key, Row]:
    """The rows of a tidy table by their keys; a column that it lacks counts as empty."""
    rows: dict[Key, Row] = {}
    for record in frame.to_dict("records"):
        key = tuple(str(record.get(name, "")) for name in keys)
        if key in rows:
            raise RecordError(f"{path}: two rows are both {_name(key)!r}")
        try:
            value, low, high = (float(record[name]) if record[name] else None for name in ("measured", "low", "high"))
        except ValueError as error:
            raise RecordError(f"{path}: damaged: {_name(key)}: {error}") from None
        rows[key] = Row(value, low, high, str(record.get("verdict", "")))
    return rows


# ---- Markdown ----


def _render(folders: tuple[Path, Path], found: Sequence[Comparison], alone: Sequence[Sequence[str]]) -> str:
    lines = [
        "# What moved",
        f"A: `{folders[0]}`, B: `{folders[1]}`.",
        _verdict(found, alone),
        _table(
            (
                "exhibit", "compared", "moved", f"expected by chance at {CONFIDENCE:.0%}", "no interval",
                f"of these changed by more than {RELATIVE:.0%}", "only A", "only B", "verdicts changed",
            ),
            (
                (
                    one.exhibit, one.compared, len(one.moved), f"{one.expected:.1f}", one.without, len(one.changed),
                    len(one.only_first), len(one.only_second), len(one.verdicts),
                )
                for one in found
            ),
        ),
        f"A row moved when its two values differ by more than both {CONFIDENCE:.0%} intervals, in quadrature, allow. "
        "Expected by chance holds for independent runs without any change between them; rows of one exhibit share "
        "runs, so they move together. A half width of 0 is a number that its seeds agree on exactly (samples, FLOPs, "
        "the price of a run that drops nothing): any other value there has moved, none by chance. Without an interval "
        f"on both sides (one seed) nothing can be said to move: changes of more than {RELATIVE:.0%} are listed apart.",
        *(
            f"Only {side} has the {'exhibits' if len(names) > 1 else 'exhibit'} {', '.join(names)}."
            for side, names in zip("AB", alone, strict=True)
            if names
        ),
        *(section for one in found if not one.same for section in _section(one)),
    ]  # fmt: skip
    return "\n\n".join(lines) + "\n"


def _verdict(found: Sequence[Comparison], alone: Sequence[Sequence[str]]) -> str:
    """The whole comparison in a line."""
    compared, moved = sum(one.compared for one in found), sum(len(one.moved) for one in found)
    verdicts = sum(len(one.verdicts) for one in found)
    if not moved and not verdicts:
        same = all(one.same for one in found) and not any(alone)
        rest = "" if same else " What only one side has, or has no interval, stands below."
        return f"Nothing moved: {compared} rows compared, no verdict changed.{rest}"
    expected = sum(one.expected for one in found)
    return (
        f"{moved} of {compared} compared rows moved ({expected:.1f} expected by chance), "
        f"{verdicts or 'no'} verdict{'s' if verdicts > 1 else ''} changed."
    )


def _section(one: Comparison) -> Iterable[str]:
    yield f"## {one.exhibit}"
    if one.verdicts:
        yield _table(("verdict on", "A", "B"), one.verdicts)
    if one.moved:
        yield _changes("moved", one.moved)
    if one.changed:
        yield _changes("changed, no interval", one.changed)
    for side, rows in (("A", one.only_first), ("B", one.only_second)):
        if rows:
            more = f" and {len(rows) - LISTED} more" if len(rows) > LISTED else ""
            yield f"Measured in {side} alone: {'; '.join(rows[:LISTED])}{more}."


def _changes(name: str, changes: Sequence[Change]) -> str:
    """The changes as a table, the largest first: in units of the combined half width, or relative."""
    ordered = sorted(changes, key=_size, reverse=True)
    return _table(
        (name, "A", "B", "difference", "combined half width"),
        (
            (one.row, _text(one.first), _text(one.second), _text(one.second - one.first), _text(one.limit))
            for one in ordered
        ),
    )


def _size(change: Change) -> float:
    scale = change.size if change.limit is None else change.limit
    return change.distance / scale if scale else math.inf


def _text(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}".replace("-", "−")


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return markdown_table(columns, [[str(value) for value in row] for row in rows])
