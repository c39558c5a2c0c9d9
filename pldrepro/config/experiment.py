"""Experiments: what the arms of a study are. One YAML file is one arm, or a grid of arms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pldrepro.config.arm import ArmTags
from pldrepro.config.base import Name, Strict, merge, read_mapping, validate
from pldrepro.errors import SettingsError, did_you_mean
from pldrepro.files import shipped

EXPERIMENTS_FOLDER = Path("config/experiments")


class DepthMatch(Strict):
    """Keep as many layers on average over the run as another arm."""

    arm: Name
    by: Literal["theta_bar", "num_layers"] = Field(
        "theta_bar", description="what is set: the limit of theta, or the number of layers of a model without dropping"
    )


class BudgetOf(Strict):
    """End, with the learning rate decayed, at the reference time that another arm takes up to a checkpoint."""

    arm: Name
    checkpoint: Name


class Experiment(ArmTags):
    """One arm: a label, what it is, the experiment it starts from, and the few lines that differ."""

    label: str
    description: str
    base: Name | None = None
    match_depth: DepthMatch | None = Field(None, description="not inherited from `base`")
    budget: BudgetOf | None = Field(None, description="not inherited from `base`")
    finetune_checkpoints: tuple[Name, ...] | None = Field(
        None, description="checkpoints to fine-tune; none: the final one"
    )
    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    drop: dict[str, Any] = {}


class GridEntry(Strict, extra="allow"):
    """One value of a grid's axis: its label, and the fields of an experiment that it sets."""

    label: str


class Grid(Strict, extra="allow"):
    """A file of arms: an experiment whose texts name the axes as {axis}, and the axes with their entries.

    There is an arm for each combination of entries. Its name is their names, joined by ``_``; its settings are the
    common ones with those of each entry merged over them.
    """

    label: str
    description: str
    grid: dict[Name, dict[Name, GridEntry]] = Field(min_length=1, description="axis -> name of the entry -> its fields")

    def arms(self) -> dict[str, dict[str, Any]]:
        """Name of each arm -> the fields of its experiment."""
        return dict(self._arm(names) for names in product(*self.grid.values()))

    def _arm(self, names: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
        entries = {axis: self.grid[axis][name] for axis, name in zip(self.grid, names, strict=True)}
        fields = dict(self.model_extra or {})
        for entry in entries.values():
            fields = merge(fields, entry.model_extra or {})
        texts = {"label": self.label, "description": self.description}
        for axis, entry in entries.items():
            texts = {key: text.replace(f"{{{axis}}}", entry.label) for key, text in texts.items()}
        return "_".join(names), {**fields, **texts}


@cache
def read_experiments(folder: Path) -> Mapping[str, Experiment]:
    """Every arm that a folder of experiments describes, by its name."""
    arms: dict[str, Experiment] = {}
    for path in sorted(shipped(folder).glob("*.yaml")):
        values = read_mapping(path)
        found = validate(Grid, values, str(path)).arms() if "grid" in values else {path.stem: values}
        for name, fields in found.items():
            origin = str(path) if name == path.stem else f"{path}, arm {name}"
            if name in arms:
                raise SettingsError(f"{origin}: another file describes an arm of this name")
            arms[name] = validate(Experiment, fields, origin)
    return arms


def named(name: str, known: Iterable[str]) -> str:
    """The experiment that an unknown name is like; where there is none, all of them."""
    return did_you_mean(name, known) or f"allowed: {', '.join(sorted(known))}"


def experiment_chain(name: str, folder: Path) -> list[Experiment]:
    """The experiment and its ancestors, root first."""
    known = read_experiments(folder)
    chain: list[Experiment] = []
    seen: list[str] = []
    current: str | None = name
    while current is not None:
        if current in seen:
            raise SettingsError(f"experiments {' -> '.join([*seen, current])}: `base` runs in a circle")
        if current not in known:
            raise SettingsError(f"{folder}: no experiment {current}; {named(current, known)}")
        seen.append(current)
        chain.insert(0, known[current])
        current = chain[0].base
    return chain


def experiments_folder(family: str) -> Path:
    """Folder of the shipped experiments with models of a family."""
    return EXPERIMENTS_FOLDER / ("bert" if family == "bert" else "gpt_and_vision")


def arm_tags(folder: Path) -> dict[str, ArmTags]:
    """The tags of every experiment of a folder that has any."""
    fields = ArmTags.model_fields
    found = {
        arm: ArmTags(**{name: getattr(experiment, name) for name in fields})
        for arm, experiment in read_experiments(folder).items()
    }
    return {arm: tags for arm, tags in found.items() if tags != ArmTags()}
