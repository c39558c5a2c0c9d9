"""Every exception that this package raises for its users, and how a settings class puts its problems in words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

STOPPED = 75  # exit status of a run that was stopped in time and goes on when started again (EX_TEMPFAIL)
MAX_PROBLEMS, MAX_SHOWN = 10, 200  # of one message: problems, and characters of a value


class SettingsError(ValueError):
    """A configuration that cannot be used; the message names the file, the key and what is allowed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The known name that is most like an unknown one, as a question; empty where none is like it."""
    return "".join(f"did you mean {near}?" for near in get_close_matches(name, list(known), n=1, cutoff=0.65))


def explain(model: type[BaseModel], error: ValidationError) -> str:
    """The problems of values that do not fit a class, each with its path and what is allowed there; MAX_PROBLEMS."""
    every = error.errors(include_url=False)
    # A list with a wrong entry counts as one without it, so that it can seem too short as well.
    wrong = {one["loc"][:place] for one in every for place in range(len(one["loc"]))}
    problems = [one for one in every if one["type"] != "too_short" or one["loc"] not in wrong]
    more = [f"and {len(problems) - MAX_PROBLEMS} more"] if len(problems) > MAX_PROBLEMS else []
    return "; ".join([_explain(model, problem) for problem in problems[:MAX_PROBLEMS]] + more)


def _explain(model: type[BaseModel], problem: Any) -> str:
    place = [str(part) for part in problem["loc"]]
    where = ".".join(part for part in place if not re.match(r"<|\w+\[", part)) or "(top level)"  # not a type in a union
    if problem["type"] == "extra_forbidden":
        owner = _model_at(model, problem["loc"][:-1])
        allowed = list(owner.model_fields) if owner else []
        near = did_you_mean(place[-1], allowed)
        return f"{where}: unknown key; {near}{' ' if near else ''}allowed here: {', '.join(allowed) or 'none'}"
    if problem["type"] == "missing":
        return f"{where}: missing"
    given = repr(problem["input"])
    given = given if len(given) <= MAX_SHOWN else f"{given[:MAX_SHOWN]}..."
    return f"{where}: {_message(problem)}, got {given}{_about(model, problem)}" if place else _message(problem)


def _about(model: type[BaseModel], problem: Any) -> str:
    """What the key of a value of a wrong type means, in brackets, where its class says so."""
    owner = _model_at(model, problem["loc"][:-1]) if problem["type"].endswith("_type") else None
    field = owner.model_fields.get(str(problem["loc"][-1])) if owner else None
    return f" ({field.description})" if field and field.description else ""


# What was expected, by the type of pydantic's error, with the limits of the error in braces.
EXPECTED = {
    "int_type": "a whole number", "int_parsing": "a whole number", "int_from_float": "a whole number",
    "float_type": "a number", "float_parsing": "a number", "finite_number": "a finite number",
    "greater_than": "a number above {gt:g}", "greater_than_equal": "{ge:g} or more",
    "less_than": "a number below {lt:g}", "less_than_equal": "{le:g} or less",
    "bool_type": "true or false", "bool_parsing": "true or false", "string_type": "text",
    "literal_error": "{expected}", "too_short": "{min_length} or more entries",
    "too_long": "at most {max_length} entries", "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values", "model_attributes_type": "a mapping of keys to values",
    "string_pattern_mismatch": "text that matches {pattern}",
}  # fmt: skip


def _message(problem: Any) -> str:
    """A problem of a value in words: what was expected, and where it is one of some names, which one is like it."""
    kind, given, limits = problem["type"], problem["input"], problem.get("ctx", {})
    if kind in ("tuple_type", "list_type"):
        example = "1, 2, 3" if isinstance(given, int | float) else given if isinstance(given, str) else "a, b"
        return f"expected a list in brackets, such as [{example[:MAX_SHOWN]}]"
    if kind not in EXPECTED:
        return re.sub(r"^Value error, ", "", problem["msg"])
    near = did_you_mean(str(given), re.findall(r"'([^']+)'", limits["expected"])) if kind == "literal_error" else ""
    return f"expected {EXPECTED[kind].format(**limits)}{f' ({near})' if near else ''}"


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
