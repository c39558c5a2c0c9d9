"""Two results folders compared, exhibit by exhibit: what moved beyond its interval, and which verdicts changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from pldrepro.analysis.moved import RELATIVE, Moved, changed_verdicts, compare_exhibit, largest_first, moved
from pldrepro.errors import RecordError
from pldrepro.exhibits.layout import markdown_table
from pldrepro.stats import CONFIDENCE

LISTED = 20  # rows that only one side has are named up to this number, and counted beyond it


def compare(first: Path, second: Path) -> str:
    """What moved between two results folders (tables/*.csv and claims.csv), as Markdown; both must hold these."""
    files = [_exhibits(folder) for folder in (first, second)]
    names = [[name for name in own if name not in other] for own, other in (files, files[::-1])]
    rows = {name: compare_exhibit(path, files[1][name]) for name, path in files[0].items() if name in files[1]}
    counts = {name: moved(frame) for name, frame in rows.items()}
    whole = moved(pd.concat(rows.values()))
    return "\n\n".join([
        "# What moved",
        f"A: `{first}`, B: `{second}`.",
        f"{whole.moved} of {whole.compared} compared rows moved ({whole.by_chance:.1f} expected by chance), "
        f"{whole.verdicts} verdicts changed.",
        _table(["exhibit", *HEADERS], ([name, *_cells(one)] for name, one in counts.items())),
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


HEADERS = (
    "compared", "moved", f"expected by chance at {CONFIDENCE:.0%}", "no interval",
    f"of these changed by more than {RELATIVE:.0%}", "only A", "only B", "verdicts changed",
)  # fmt: skip


def _cells(one: Moved) -> list[str]:
    """The counts of an exhibit under HEADERS."""
    counts = (one.compared, one.moved, f"{one.by_chance:.1f}", one.no_interval, one.changed, one.only_a, one.only_b)
    return [str(count) for count in (*counts, one.verdicts)]


def _sections(name: str, rows: pd.DataFrame) -> Iterable[str]:
    verdicts = changed_verdicts(rows)
    if rows["happened"].any() or len(verdicts):
        yield f"## {name}"
    if len(verdicts):
        yield _table(["verdict on", "A", "B"], verdicts[["row", "verdict_a", "verdict_b"]].to_numpy().tolist())
    for happened in ("moved", "changed"):
        part = largest_first(rows, happened)
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
            return "none" if pd.isna(value) else f"{value:.4g}".replace("-", "−")
        return str(value)

    return markdown_table(columns, [[text(value) for value in row] for row in rows])
