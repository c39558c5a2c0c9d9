"""How tables are set: columns declared over tidy rows, shown as Markdown, LaTeX and HTML from one declaration.

A reported value carries the mark of its provenance wherever it is shown, and its table the footnote of that mark.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from pldrepro.analysis.reported import MARKS, mark_notes
from pldrepro.analysis.text import DASH, number
from pldrepro.analysis.tidy import half_interval, split

TidyRow = Mapping[Any, Any]
# A table of more columns is set smaller.
WIDE = 10


@dataclass(frozen=True)
class Cell:
    """What a cell says: a value, its interval, and the provenance of a reported one."""

    text: str
    interval: str = ""
    provenance: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.interval}" if self.interval else self.text


# ---- what a column can show of a tidy row; None: the row has no such number ----


def value(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """The estimate without its interval."""
    return None if pd.isna(row["measured"]) else Cell(number(column.of(row["measured"]), column.digits))


def interval(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """The estimate with its interval: 1.18 [1.14, 1.22]; of two values these: 1.17 / 1.19."""
    shown = value(row, column)
    if shown is None or pd.isna(row["low"]) or pd.isna(row["high"]):
        return shown
    if row["values"]:
        return Cell(" / ".join(number(column.of(one), column.digits) for one in split(row["values"])))
    low, high = (number(column.of(row[name]), column.digits) for name in ("low", "high"))
    return Cell(shown.text, f"[{low}, {high}]")


def plus_minus(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """The estimate with half of its interval, a symmetric one: 87.1 ±0.4."""
    shown = value(row, column)
    if shown is None or pd.isna(row["high"]):
        return shown
    if row["values"]:
        return interval(row, column)
    return Cell(shown.text, f"±{number(half_interval(row), column.digits)}")


def reported(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """The paper's value with the mark of its provenance."""
    if pd.isna(row["reported"]):
        return None
    mark = MARKS[row["provenance"]]
    return Cell(number(row["reported"], column.digits) + mark, provenance=row["provenance"])


def count(row: TidyRow, column: ColumnLayout) -> Cell | None:
    """How many values the estimate is over."""
    return Cell(str(row["n"])) if row["n"] else None


Show = Callable[[TidyRow, "ColumnLayout"], Cell | None]


@dataclass(frozen=True)
class ColumnLayout:
    """A column: its header, the tidy rows that it shows (by their keys; None: any), and how.

    Without any key it is a column of words, which every line brings along. ``of`` turns the estimate into what is
    shown (seconds into hours); ``absent`` is said where there is no number; ``note`` is put below a table that has
    the column.
    """

    header: str
    quantity: str | None = None
    digits: int = 0
    show: Show = interval
    cost_axis: str | None = None
    statistic: str | None = None
    condition: str | None = None
    of: Callable[[float], float] = float
    absent: str = DASH
    note: str = ""

    @property
    def keys(self) -> dict[str, str]:
        """What a tidy row must have to be shown here."""
        wanted = {name: getattr(self, name) for name in ("quantity", "cost_axis", "statistic", "condition")}
        return {name: key for name, key in wanted.items() if key is not None}

    def find(self, rows: Iterable[TidyRow]) -> TidyRow | None:
        """The row of a line that belongs here; two of them are a ValueError."""
        found = [row for row in rows if all(row[name] == key for name, key in self.keys.items())]
        if len(found) > 1:
            raise ValueError(f"column {self.header!r}: expected one tidy row with {self.keys}, got {len(found)}")
        return found[0] if found else None


@dataclass(frozen=True)
class Line:
    """A line of a table: the tidy rows that it is about, and words by header, which go before numbers.

    A line of the kind "reported" shows the paper's value wherever others show the estimate.
    """

    words: Mapping[str, str]
    rows: Sequence[TidyRow] = ()
    kind: Literal["", "reported", "measured"] = ""

    def cell(self, column: ColumnLayout) -> Cell:
        """What this line says in a column."""
        if column.header in self.words:
            return Cell(self.words[column.header])
        if not column.keys:
            raise ValueError(f"no words for the column {column.header!r}; got {', '.join(self.words)}")
        row = column.find(self.rows)
        show = reported if self.kind == "reported" else column.show
        return (None if row is None else show(row, column)) or Cell(column.absent)


def select(frame: pd.DataFrame, **keys: str) -> Sequence[TidyRow]:
    """The rows of a tidy table with these keys."""
    found = np.ones(len(frame), dtype=bool)
    for name, key in keys.items():
        found &= frame[name].to_numpy() == key
    return frame[found].to_dict("records")


@dataclass(frozen=True)
class TableLayout:
    """A table ready to be set; the footnotes of the marks that it shows are its own."""

    title: str
    columns: tuple[ColumnLayout, ...]
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headers(self) -> tuple[str, ...]:
        """The headers of the columns."""
        return tuple(column.header for column in self.columns)

    @cached_property
    def cells(self) -> tuple[tuple[Cell, ...], ...]:
        """The cells, line by line."""
        return tuple(tuple(line.cell(column) for column in self.columns) for line in self.lines)

    @property
    def rows(self) -> tuple[tuple[str, ...], ...]:
        """The cells as text."""
        return tuple(tuple(map(str, line)) for line in self.cells)

    @property
    def footnotes(self) -> tuple[str, ...]:
        """The notes, those of the columns, and what the marks mean."""
        of_columns = dict.fromkeys(column.note for column in self.columns if column.note)
        return (*of_columns, *self.notes, *mark_notes(cell.provenance for line in self.cells for cell in line))

    def markdown(self) -> str:
        """Title, table and notes in Markdown."""
        return "\n\n".join([f"**{self.title}**", markdown_table(self.headers, self.rows), *self.footnotes]) + "\n"

    # ---- without what has no value ----

    def trimmed(self) -> TableLayout:
        """Without the lines and columns that have no number, which a note names."""
        groups = self.groups()
        kept = [group for group in groups if any(self._has_number(place) for place in group)]
        names = dict.fromkeys(self.cells[group[0]][0].text for group in groups if group not in kept)
        there = {self.cells[group[0]][0].text for group in kept}
        absent = [name for name in names if name not in there]
        lines = [place for group in kept for place in group]
        columns = [
            place
            for place, column in enumerate(self.columns)
            if not column.keys or any(self.cells[line][place].text not in ("", DASH) for line in lines)
        ]
        return replace(
            self, columns=tuple(self.columns[place] for place in columns),
            lines=tuple(self.lines[place] for place in lines),
            notes=(*self.notes, f"Without a number here: {'; '.join(absent)}.") if absent else self.notes,
        )  # fmt: skip

    def groups(self) -> list[list[int]]:
        """The places of the lines; a line without a name goes on with the one before it."""
        groups: list[list[int]] = []
        for place, cells in enumerate(self.cells):
            if cells[0].text or not groups:
                groups.append([])
            groups[-1].append(place)
        return groups

    def _has_number(self, place: int) -> bool:
        """Whether a line shows a number of its own; what counts or is reported next to others is none."""
        line = self.lines[place]
        own = [column for column in self.columns if column.keys and (line.kind or column.show not in (count, reported))]
        shown = [line.cell(column).text not in ("", column.absent) for column in own]
        return any(shown) or not own

    def papers_own(self) -> TableLayout | None:
        """Only the columns and lines in which the paper reports something; None where there is none.

        Lines of one name belong together: a reported one and a measured one.
        """
        told = {
            (column.quantity, column.cost_axis)
            for place, column in enumerate(self.columns)
            if any(cells[place].provenance for cells in self.cells)
        }
        kept = tuple(
            column for column in self.columns if not column.keys or (column.quantity, column.cost_axis) in told
        )
        named = [self.cells[group[0]][0].text for group in self.groups()]
        theirs = {
            name
            for name, group in zip(named, self.groups(), strict=True)
            if any(cell.provenance for place in group for cell in self.cells[place])
        }
        lines = tuple(
            self.lines[place]
            for name, group in zip(named, self.groups(), strict=True)
            if name in theirs
            for place in group
        )
        return replace(self, columns=kept, lines=lines).trimmed() if told else None


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells as a GitHub-flavoured Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def html(tables: Sequence[TableLayout], anchor: str) -> str:
    """Tables as a fragment of HTML, for the report; ``anchor`` is the id of the first."""
    return template("table.html").render(tables=tables, anchor=anchor, wide=WIDE, reported=reported)


def template(name: str) -> Any:
    """A template of this folder; an unknown name in it is an error."""
    return Environment(
        loader=PackageLoader("pldrepro.exhibits", "."), autoescape=True, undefined=StrictUndefined
    ).get_template(name)
