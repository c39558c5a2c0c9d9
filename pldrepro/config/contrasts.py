"""Judging checkpoints without fine-tuning: minimal pairs and cloze contrasts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from pldrepro.config.base import Distinct, Name, Strict, read_mapping, validate


class Paradigms(Strict):
    """Which paradigms of a set of minimal pairs judge a model: a YAML file in config/contrasts, fixed before training.

    A paradigm that word counts solve says nothing of grammar; one that is not in the file is a DataError.
    """

    source: str = Field(description="whose pairs these are, and their licence")
    judging: Annotated[tuple[str, ...], Distinct] = Field(min_length=1)
    not_judging: dict[str, str] = Field({}, description="paradigm -> why it does not judge; it is scored all the same")

    @model_validator(mode="after")
    def _in_one_list(self) -> Paradigms:
        both = sorted(set(self.judging) & set(self.not_judging))
        if both:
            raise ValueError(f"not_judging: {', '.join(both)} judge, too; allowed: one of the two")
        return self


def read_paradigms(path: Path) -> Paradigms:
    """The list of paradigms in a YAML file."""
    return validate(Paradigms, read_mapping(path), str(path))


class PairsSettings(Strict):
    """A set of minimal pairs: with data.source files from files below data_root, with hub from a repository."""

    files: str | None = Field(None, description="pattern below data_root: .jsonl as BLiMP's, else .txt as Zorro's")
    hub_path: str | None = Field(None, description="repository, or local directory in its layout, e.g. nyu-mll/blimp")
    hub_revision: str | None = Field(None, description="its commit; needed of a repository, none of a local directory")
    paradigms: str = Field(description="YAML file that says which paradigms judge")
    max_pairs: int | None = Field(None, ge=1, description="of each paradigm, drawn at random; none: all")


class ContrastSettings(Strict):
    """What every text model of a study is scored on without fine-tuning, and at which of its checkpoints."""

    pairs: dict[Name, PairsSettings] = Field({}, description="name of the set, e.g. zorro -> where it comes from")
    cloze: Annotated[tuple[tuple[str, str], ...], Distinct] = Field(
        (), description="pairs of single words; held-out text hides one, and the model chooses between the two"
    )
    max_cloze: int = Field(500, ge=1, description="items of either word of a cloze contrast, evenly over the text")
    checkpoints: Annotated[tuple[Name, ...], Field(min_length=1), Distinct] | None = Field(
        None, description="checkpoints to score; none: all that a run has"
    )
    batch_size: int = Field(256, ge=1, description="sequences per forward pass")

    @model_validator(mode="after")
    def _asks_something(self) -> ContrastSettings:
        if not self.pairs and not self.cloze:
            raise ValueError("pairs, cloze: both are empty; allowed: at least one set of pairs or one contrast")
        if "cloze" in self.pairs:
            raise ValueError("pairs: a set named cloze; allowed: another name")
        return self

    @property
    def lists(self) -> tuple[str, ...]:
        """The files that say which paradigms judge."""
        return tuple(pairs.paradigms for pairs in self.pairs.values())
