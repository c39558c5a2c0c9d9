"""Settings of earlier versions in today's names, so that runs of the same settings compare as equal.

Groups are named by their path in the settings, inner ones with a dot.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

# Group -> setting that is a constant now -> that constant; a run that had another value is refused as unknown.
CONSTANTS: dict[str, dict[str, Any]] = {
    "model": {"ffn_ratio": 4.0, "position_init": "normal"},
    "training": {"decay_factor": 0.99, "decay_intervals": 200, "epsilon": 1e-8, "max_gradient_norm": 1.0},
    "finetune": {"max_gradient_norm": 1.0},
    "data": {"augment": True},
    "data.miniature": {"seed": 0},
    "data.shapes": {"seed": 0},
}
# Group -> earlier name of a setting -> today's.
NAMES: dict[str, dict[str, str]] = {
    "training.learning_rates": {"same": "baseline"},
    "drop": {
        "block_share": "protected_fraction",
        "allow_share": "droppable_fraction",
        "allow_weight": "droppable_weight",
        "joining_layers": "new_layer_init",
        "unit": "resample_gates",
        "if_all_dropped": "empty_draw",
    },
}
# Group -> setting -> earlier name of a value -> today's.
VALUES: dict[str, dict[str, dict[str, str]]] = {
    "training": {"learning_rate": {"same": "baseline"}},
    "drop": {"allocation": {"first": "depth_truncation"}},
}


def in_todays_names(values: Any) -> Any:
    """Settings of a job, written by any version, as today's version would have written them.

    Where an earlier name and today's are both there, the earlier one stays, to be refused as unknown.
    """
    for group, constants in CONSTANTS.items():
        values = _changed(values, group.split("."), partial(_without, constants=constants))
    for group, names in NAMES.items():
        values = _changed(values, group.split("."), partial(_renamed, names=names))
    for group, settings in VALUES.items():
        values = _changed(values, group.split("."), partial(_with_values, settings=settings))
    return values


Change = Callable[[dict[str, Any]], dict[str, Any]]


def _changed(values: Any, path: list[str], change: Change) -> Any:
    """A copy of nested mappings in which the one at a path is changed; anything else is left as it is."""
    if not isinstance(values, dict):
        return values
    if not path:
        return change(values)
    key, *rest = path
    return {**values, key: _changed(values[key], rest, change)} if key in values else values


def _without(values: dict[str, Any], constants: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in constants or constants[key] != value}


def _renamed(values: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {key if names.get(key, key) in values else names.get(key, key): value for key, value in values.items()}


def _with_values(values: dict[str, Any], settings: dict[str, dict[str, str]]) -> dict[str, Any]:
    return {
        key: settings[key].get(value, value) if key in settings and isinstance(value, str) else value
        for key, value in values.items()
    }
