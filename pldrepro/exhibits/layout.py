"""How tables are set: numbers as text, a Panel of cells as Markdown and LaTeX, and the tidy rows behind it.

Reported values carry the mark of their provenance wherever they are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """A table as text: caption, header, rows and notes."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown_table(self) -> str:
        """The cells as a GitHub-flavoured Markdown table."""
        lines = [self.columns, tuple("---" for _ in self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def markdown(self) -> str:
        """The panel in Markdown: caption, table and notes."""
        return "\n\n".join([f"**{self.caption}**", self.markdown_table(), *self.notes]) + "\n"

    def latex(self) -> str:
        """The panel as a LaTeX table (booktabs, graphicx)."""
        lines = ["\\toprule", _latex_row(self.columns), "\\midrule", *map(_latex_row, self.rows), "\\bottomrule"]
        return "\n".join(
            [
                "\\begin{table*}",
                "\\centering",
                f"\\caption{{{_latex(self.caption)}}}",
                "\\resizebox{\\textwidth}{!}{%",
                f"\\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
                *lines,
                "\\end{tabular}}",
                *(f"\\par\\footnotesize {_latex(note)}" for note in self.notes),
                "\\end{table*}",
            ]
        )


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "&": r"\&", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$", "±": r"$\pm$", "×": r"$\times$", "−": "$-$",
    "≥": r"$\ge$", "≤": r"$\le$", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _latex_row(cells: Iterable[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"
