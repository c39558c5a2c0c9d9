"""Tables in LaTeX, to be read in a paper: no scaling, broken headers, intervals in a second line, notes below.

Needs booktabs only. A table that is too wide for a line of text is set as several, each with the first column; so is
one that is too long for a page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from textwrap import wrap

from pldrepro.exhibits.layout import Cell, TableLayout

# An estimate of widths: points of a character in \footnotesize, of the space between columns, and of a line of text.
CHARACTER, CAPITAL, BETWEEN, TEXT_WIDTH = 4.25, 6.2, 7.0, 345.0
POINTS = {**dict.fromkeys(" .,:;[]()'ijlft", 2.8), **dict.fromkeys("%−±×mw", 7.0)}
# Of heights: points of a line of a cell, of the space between lines, of a caption, of a page; and of a line of notes,
# which has about so many characters.
LINE, GAP, CAPTION, TEXT_HEIGHT = 9.5, 2.0, 45.0, 550.0
NOTE, NOTE_LINE = 95, 8.0
HEADER, NAME = 11, 20  # characters after which a header and a first cell are broken
_CHARACTERS = {
    "\\": r"\textbackslash{}", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$", "±": r"$\pm$", "×": r"$\times$", "−": "$-$",
    "≥": r"$\ge$", "≤": r"$\le$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "²": "$^2$",
    "<": "$<$", ">": "$>$", "|": "$|$", "[": "{[}", "]": "{]}", "“": "``", "”": "''", "’": "'",
}  # fmt: skip


def latex(tables: Sequence[TableLayout], name: str) -> str:
    """Tables of an exhibit; their labels are tab:NAME, tab:NAME-2 ..."""
    parts = [part for table in tables if table.lines for part in _split(table)]
    head = f"% {name}: needs \\usepackage{{booktabs}}"
    return "\n\n".join([head, *(_table(part, _label(name, place)) for place, part in enumerate(parts, start=1))]) + "\n"


def _label(name: str, place: int) -> str:
    return f"tab:{name}" if place == 1 else f"tab:{name}-{place}"


def _split(table: TableLayout) -> list[TableLayout]:
    """The table, or as many of its columns and lines at a time as fit; the notes stand below the last one."""
    widths = [_width(table, place) for place in range(len(table.columns))]
    groups: list[list[int]] = [[]]
    for place in range(1, len(table.columns)):
        if groups[-1] and widths[0] + sum(widths[one] for one in groups[-1]) + widths[place] > TEXT_WIDTH:
            groups.append([])
        groups[-1].append(place)
    narrow = [
        replace(
            table, columns=tuple(table.columns[one] for one in (0, *group)),
            notes=table.notes if number == len(groups) else (),
        )
        for number, group in enumerate(groups, start=1)
    ]  # fmt: skip
    pieces = [piece for one in narrow for piece in _pages(one)]
    return [pieces[0], *(replace(piece, title=f"{table.title}, continued") for piece in pieces[1:])]


def _pages(table: TableLayout) -> list[TableLayout]:
    """The table, or as many of its lines at a time as fit on a page; lines of one name stay together."""
    groups = table.groups()
    heights = [sum(_height(table, place) for place in group) for group in groups]
    header = max((len(_broken(text, HEADER)) for text in table.headers), default=0) * LINE
    room = TEXT_HEIGHT - CAPTION - header - _notes_height(replace(table, notes=()))
    pages: list[list[int]] = [[]]  # of places in ``groups``
    for place, height in enumerate(heights):
        if pages[-1] and sum(heights[one] for one in pages[-1]) + height > room:
            pages.append([])
        pages[-1].append(place)
    last, whole = pages[-1], room - _notes_height(table) + _notes_height(replace(table, notes=()))
    if sum(heights[one] for one in last) > whole and len(last) > 1:  # the notes need room, too
        pages[-1:] = [last[: -(len(last) // 2)], last[-(len(last) // 2) :]]
    return [
        replace(
            table, lines=tuple(table.lines[line] for one in page for line in groups[one]),
            notes=table.notes if page is pages[-1] else (),
        )
        for page in pages
    ]  # fmt: skip


def _width(table: TableLayout, place: int) -> float:
    limit = NAME if place == 0 else HEADER + 5
    cells = [line for row in table.cells for line in (*_broken(row[place].text, limit), row[place].interval)]
    return max(map(_points, (*_broken(table.headers[place], HEADER), *cells)), default=0.0) + BETWEEN


def _points(text: str) -> float:
    return sum(POINTS.get(character, CAPITAL if character.isupper() else CHARACTER) for character in text)


def _height(table: TableLayout, line: int) -> float:
    return max(len(_cell_lines(cell, place == 0)) for place, cell in enumerate(table.cells[line])) * LINE + GAP


def _notes_height(table: TableLayout) -> float:
    return sum((1 + len(note) // NOTE) * NOTE_LINE for note in table.footnotes)


def _table(table: TableLayout, label: str) -> str:
    caption = _caption(table.title)
    rows = [" & ".join(_cell(cell, place == 0) for place, cell in enumerate(row)) + r" \\" for row in table.cells]
    headers = [_stack(_broken(header, HEADER), place == 0) for place, header in enumerate(table.headers)]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            " & ".join(headers) + r" \\",
            r"\midrule",
            "\n\\addlinespace[2pt]\n".join(rows),
            r"\bottomrule",
            r"\end{tabular}",
            *_notes(table.footnotes),
            r"\end{table}",
        ]
    )


def _caption(title: str) -> str:
    """A title without a number of its own, which LaTeX gives, and without that of the paper's table."""
    text = re.sub(r"^Table \d+(?: of the (?P<paper>[^:]+ paper))?(?:, continued)?: ", _paper, title)
    text = re.sub(r", [Tt]able \d+", "", text)
    return text[:1].upper() + text[1:]


def _paper(match: re.Match[str]) -> str:
    return f"{match['paper']}: " if match["paper"] else ""


def _notes(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    text = r"\par ".join(map(escape, notes))
    return [r"\par\smallskip", rf"\begin{{minipage}}{{\linewidth}}\scriptsize\raggedright {text}\end{{minipage}}"]


def _cell(cell: Cell, first: bool) -> str:
    return _stack(_cell_lines(cell, first), first, small=bool(cell.interval))


def _cell_lines(cell: Cell, first: bool) -> list[str]:
    return [*_broken(cell.text, NAME if first else HEADER + 5), *([cell.interval] if cell.interval else [])]


def _stack(lines: Sequence[str], left: bool, small: bool = False) -> str:
    """Lines over one another; the last one smaller where it is an interval."""
    set_ = [escape(line) for line in lines] or [""]
    if small:
        set_[-1] = rf"{{\scriptsize {set_[-1]}}}"
    if len(set_) == 1:
        return set_[0]
    inner = r" \\ ".join(set_)
    return rf"\begin{{tabular}}[t]{{@{{}}{'l' if left else 'r'}@{{}}}}{inner}\end{{tabular}}"


def _broken(text: str, width: int) -> list[str]:
    return wrap(text, width, break_long_words=False, break_on_hyphens=False)


def escape(text: str) -> str:
    """Text without characters that mean something to LaTeX, or that its fonts lack."""
    return "".join(_CHARACTERS.get(character, character) for character in text)


def document(texts: Iterable[str]) -> str:
    """A document of its own with some files of tables, to look at."""
    body = "\n\\clearpage\n".join(texts)
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\extrafloats{100}\n"
    return f"{head}\\begin{{document}}\n{body}\n\\end{{document}}\n"
