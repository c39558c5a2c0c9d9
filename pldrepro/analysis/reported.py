"""The papers' reported values: ``config/papers/*.yaml``, typed. No number of a paper stands anywhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pldrepro.config.base import Name, Strict, read_yaml, validate
from pldrepro.data.tasks import TASKS
from pldrepro.errors import SettingsError
from pldrepro.files import shipped
from pldrepro.policy.drop import DIALECTS

PAPERS_FOLDER = Path("config/papers")
Provenance = Literal["verified", "secondary", "unverified", "derived"]
# Shown behind a number wherever it stands; a verified number has no mark.
MARKS: dict[str, str] = {"verified": "", "secondary": "‡", "unverified": "†", "derived": "§"}
MARK_MEANINGS: dict[str, str] = {
    "secondary": "reported value from a second-hand account",
    "unverified": "reported value not checked against the paper itself",
    "derived": "reported value derived from other reported values",
}

_GLUE = (
    *(t.value_name(split, metric) for t in TASKS.values() for split in t.eval_splits for metric in t.metrics),
    "glue",
)
# What tables, figures and the report take from a paper's file by name: without it they would fail halfway.
SHOWN: dict[str, tuple[str, ...]] = {
    "pld": (
        "settings.num_layers", "settings.hidden_size", "settings.sequence_length", "settings.num_steps",
        "settings.batch_size", "series.figure3_angle_postln", "series.figure3_angle_preln",
        "tables.table1.columns.hours", "tables.table1.columns.speedup", "tables.table1.columns.sample_reduction",
        *(f"tables.{table}.columns.{name}" for table in ("table2", "table3") for name in _GLUE),
        "tables.table2.rows.original",
    ),
    "sbld": ("settings.num_layers", "settings.hidden_size"),
}  # fmt: skip


def mark_notes(provenances: Iterable[str]) -> tuple[str, ...]:
    """The footnotes that explain the marks in use."""
    used = set(provenances)
    return tuple(f"{MARKS[name]} {meaning}." for name, meaning in MARK_MEANINGS.items() if name in used)


class Reported(Strict):
    """One number of a paper: value, unit, where it stands and how sure we are of it."""

    value: float
    unit: str
    where: str
    provenance: Provenance
    note: str = ""

    @property
    def mark(self) -> str:
        """The sign that is shown behind the number."""
        return MARKS[self.provenance]


class Column(Strict):
    """A column of a paper's table."""

    label: str
    unit: str


class Row(Strict):
    """A row of a paper's table; ``arm`` and ``checkpoint`` name what this suite compares with it."""

    key: Name
    label: str
    provenance: Provenance
    values: dict[str, float]
    provenances: dict[str, Provenance] = Field({}, description="of values that are surer, or less sure, than the row")
    arm: Name | None = None
    checkpoint: Name | None = None
    note: str = ""


class Table(Strict):
    """A table of a paper."""

    title: str
    where: str
    columns: dict[str, Column]
    rows: tuple[Row, ...]
    note: str = ""

    @model_validator(mode="after")
    def _known_columns(self) -> Table:
        for row in self.rows:
            unknown = (set(row.values) - set(self.columns)) | (set(row.provenances) - set(row.values))
            if unknown:
                raise ValueError(f"row {row.key}: unknown column {', '.join(sorted(unknown))}")
        return self

    def row(self, arm: str, checkpoint: str) -> Row | None:
        """The row that reports this arm at this checkpoint."""
        return next((row for row in self.rows if (row.arm, row.checkpoint) == (arm, checkpoint)), None)

    def reported(self, row: Row | None, column: str) -> Reported | None:
        """One cell; None where the paper has none."""
        if row is None or column not in row.values:
            return None
        return Reported(
            value=row.values[column],
            unit=self.columns[column].unit,
            where=self.where,
            provenance=row.provenances.get(column, row.provenance),
            note=row.note or self.note,
        )


class Series(Strict):
    """A curve that was read off a figure."""

    where: str
    provenance: Provenance
    unit: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    note: str = ""

    @model_validator(mode="after")
    def _same_length(self) -> Series:
        if len(self.x) != len(self.y):
            raise ValueError(f"x has {len(self.x)} values, y has {len(self.y)}")
        return self


class Needs(Strict):
    """What a study must have for a number to speak of a claim; ``pldrepro.analysis.needs`` says what it lacks."""

    layers: int | None = Field(None, ge=1, description="at least so many layers")
    probed_layers: int | None = Field(None, ge=1, description="at least so many layers of the runs probed early on")
    parameters: float | None = Field(None, gt=0, description="at least so many parameters of the baseline")
    tokens: float | None = Field(None, gt=0, description="at least so many tokens that the baseline trained on")
    epochs: float | None = Field(None, gt=0, description="at least so many passes of the baseline over its images")
    learning_rate_ratio: float | None = Field(
        None, gt=1, description="the higher learning rate is at least so many times the baseline's"
    )
    floor: Literal["glue", "lambada", "lambada_rank", "minimal_pairs", "cloze"] | None = Field(
        None, description="a score in which the baseline must beat a constant prediction and the model from scratch"
    )


class Claim(Strict):
    """A claim of a paper in a form that can be measured: an effect, its null value and the claimed side of it."""

    id: Name
    statement: str
    unit: str
    direction: Literal["higher", "lower"] = Field(description="side of `null_value` on which the claim lies")
    null_value: float = Field(description="the value that means no effect: 0 for a difference, 1 for a ratio")
    where: str
    exhibit: Name
    provenance: Provenance
    reported: float | None = Field(None, description="none: the number is unknown to us, or the claim is a direction")
    measure: str | None = Field(
        None, description="function of pldrepro.analysis.claim_estimators; none: nothing measures it yet"
    )
    families: tuple[Literal["bert", "gpt", "swinv2", "vit"], ...] = Field(
        (), description="families of models that the claim is about; none: of the first study of a set"
    )
    estimate: Name | None = Field(
        None, description="claims of one name rest on one estimate in several forms: the first one's verdict is theirs"
    )
    needs: Needs = Field(default=Needs(), description="what a study needs for any verdict")
    size_needs: Needs = Field(default=Needs(), description="what it needs for a verdict on the reported size")
    ours: bool = Field(False, description="the claim is the paper's, what it is measured by is this suite's")
    by_construction: bool = Field(False, description="the effect follows from what the design sets: nothing to judge")
    dialects: tuple[Name, ...] = Field(
        (), description="policies whose saving at the paper's own shape is computed and shown with the claim"
    )
    at_the_limit: bool = Field(False, description="the dialects' saving is that at the end of the schedule")
    note: str = ""

    @property
    def reported_interval(self) -> tuple[float, float] | None:
        """The values that round to the reported one: 1.3 -> 1.25 to 1.35; None where there is none."""
        if self.reported is None:
            return None
        digits = f"{self.reported:.12g}".partition(".")[2]
        half = 0.5 * 10.0 ** -len(digits)
        return self.reported - half, self.reported + half

    @model_validator(mode="after")
    def _reported_side(self) -> Claim:
        if self.measure is None and not self.note:
            raise ValueError(f"claim {self.id}: without a measure it needs a note that says why")
        if self.reported is not None and (self.reported > self.null_value) != (self.direction == "higher"):
            raise ValueError(
                f"claim {self.id}: reported {self.reported} is not {self.direction} than {self.null_value}"
            )
        unknown = set(self.dialects) - set(DIALECTS)
        if unknown:
            raise ValueError(f"claim {self.id}: no such dialect: {', '.join(sorted(unknown))}")
        return self


class Question(Strict):
    """A question that the reviews of a paper asked; ``id`` names its answer in pldrepro.exhibits.reviews."""

    id: Name
    question: str
    exhibits: tuple[Name, ...] = ()


class Paper(Strict):
    """A paper: what it is, its settings, tables, digitised curves, claims, and what its reviews asked."""

    key: Name
    title: str
    authors: tuple[str, ...]
    venue: str
    label: str
    arxiv: str | None = None
    doi: str | None = None
    settings: dict[Name, Reported] = Field(default_factory=dict)
    tables: dict[Name, Table] = Field(default_factory=dict)
    series: dict[Name, Series] = Field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    questions: tuple[Question, ...] = ()

    @model_validator(mode="after")
    def _unique_claims(self) -> Paper:
        ids = [claim.id for claim in self.claims]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"claims: id used twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _has_what_exhibits_show(self) -> Paper:
        needed = SHOWN.get(self.key, ())
        there = {
            *(f"settings.{name}" for name in self.settings),
            *(f"series.{name}" for name in self.series),
            *(f"tables.{name}.columns.{column}" for name in self.tables for column in self.tables[name].columns),
            *(f"tables.{name}.rows.{row.key}" for name in self.tables for row in self.tables[name].rows),
        }
        absent = [name for name in needed if name not in there]
        if absent:
            raise ValueError(f"lacks {', '.join(absent)}, which exhibits show")
        return self


def load_papers(paths: Sequence[Path] = ()) -> dict[str, Paper]:
    """Papers by key from their files (none: all of config/papers); a file that does not fit is a SettingsError."""
    paths = paths or sorted(shipped(PAPERS_FOLDER).glob("*.yaml"))
    if not paths:
        raise SettingsError(f"{PAPERS_FOLDER}: no papers (*.yaml) here")
    papers = [validate(Paper, read_yaml(path), str(path)) for path in paths]
    found = {paper.key: paper for paper in papers}
    if len(found) < len(papers):
        raise SettingsError(f"{', '.join(map(str, paths))}: key: two papers of one key")
    return found


def paper_of(name: str, papers: Mapping[str, Paper]) -> Paper:
    """The paper whose values a table or figure shows: SBLD's, or PLD's."""
    return papers["sbld" if name.startswith("sbld") else "pld"]
