"""Settings of earlier versions that are constants now: a run that had these values is the same run today."""

from __future__ import annotations

from typing import Any

RETIRED: dict[str, dict[str, float]] = {
    "model": {"ffn_ratio": 4.0},
    "training": {"decay_factor": 0.99, "decay_intervals": 200, "epsilon": 1e-8, "max_gradient_norm": 1.0},
    "finetune": {"max_gradient_norm": 1.0},
}


def without_constants(values: Any) -> Any:
    """Settings as they were written, less the retired ones that had the value of today's constant; others stay."""
    if not isinstance(values, dict):
        return values
    kept = dict(values)
    for group, constants in RETIRED.items():
        if isinstance(kept.get(group), dict):
            kept[group] = {key: value for key, value in kept[group].items() if constants.get(key, not value) != value}
    return kept
