"""Every exception that this package raises for its users, and how a settings class puts its problems in words."""

from __future__ import annotations

import re
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

STOPPED = 75  # exit status of a run that was stopped in time and goes on when started again (EX_TEMPFAIL)
MAX_PROBLEMS, MAX_SHOWN = 10, 200  # of one message: problems, and characters of a value


class SettingsError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and what is allowed."""


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """The problems of values that do not fit a class, each with its path and what is allowed there; MAX_PROBLEMS."""
    problems = error.errors(include_url=False)
    more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return "; ".join([_explain(model, problem) for problem in problems[:MAX_PROBLEMS]] + more)


def _explain(model: type[BaseModel], problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("<")) or "(top level)"
    if problem["type"] == "extra_forbidden":
        owner = _model_at(model, problem["loc"][:-1])
        allowed = ", ".join(owner.model_fields) if owner else "none"
        return f"{where}: unknown key; allowed here: {allowed}"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    if problem["type"] == "missing":
        return f"{where}: missing"
    given = repr(problem["input"])
    given = given if len(given) <= MAX_SHOWN else f"{given[:MAX_SHOWN]}..."
    return f"{where}: {message}, got {given}" if problem["loc"] else message


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel] | None:
    """The settings class at a place in another one; the tags of ``text_or_images`` choose among several."""
    candidates = [model]
    for part in location:
        if part in ("<text>", "<images>"):
            candidates = candidates[:1] if part == "<text>" else candidates[1:]
        elif isinstance(part, str):
            field = candidates[0].model_fields.get(part) if candidates else None
            candidates = [] if field is None else _classes(field.annotation)
    return candidates[0] if candidates else None


def _classes(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes in a type, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _classes(part)]


class RecordError(RuntimeError):
    """A run folder that is missing, incomplete or damaged; the message names the run."""


class LockedError(RecordError):
    """Another process works in this folder; the message names it."""


class RefusedError(RecordError):
    """A run folder that does not belong to the study; the message says why."""


class DivergedError(RuntimeError):
    """The loss is not finite any more."""


class RankError(RuntimeError):
    """The ranks of a run do not hold the same model any more."""


class OutOfTimeError(RuntimeError):
    """Stopped by --max-seconds or a signal; the same command goes on from the resume checkpoint."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file and row and says what is allowed."""


class ModelFileError(ValueError):
    """A model folder that cannot be written or used; the message names the file."""
