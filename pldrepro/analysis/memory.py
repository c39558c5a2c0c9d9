"""Memory of training: the activations that a step saves for its backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pldrepro import stats
from pldrepro.analysis import comparisons
from pldrepro.analysis.arms import kept_layers
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.tidy import estimate_of, tidy, tidy_row
from pldrepro.runs.folder import PretrainRun
from pldrepro.stats import Estimate


def memory(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Saved activations of a micro-batch: saved_all_layers and saved_mean_depth [bytes], relative to the baseline's.

    Parameters and kept_layers, too; of runs on a GPU peak_memory [bytes], which the device itself counts; of runs on
    several ranks reduced_bytes: the bytes that each rank gives to the all-reduce in a step, mean.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.methods:
        runs, final = evidence.runs(arm), evidence.final_checkpoint(arm)
        peaks = [
            peak
            for run in runs
            if run.provenance.device.type != "cpu" and (peak := run.summary.peak_memory_bytes) is not None
        ]
        parameters = Estimate(runs[0].summary.parameters, None, None, len(runs), "count")
        sent = [run.summary.reduced_bytes / run.summary.steps for run in runs if run.summary.reduced_bytes]
        found: Sequence[tuple[str, str, Estimate | None]] = (
            *([("reduced_bytes", "bytes", stats.mean_interval(sent))] if sent else []),
            *([("peak_memory", "bytes", stats.mean_interval(peaks))] if peaks else []),
            *_saved(evidence, arm),
            ("parameters", "parameters", parameters),
            ("kept_layers", "layers", kept_layers(evidence, arm)),
        )
        rows += [tidy_row(evidence, arm, final, quantity, estimate, unit=unit) for quantity, unit, estimate in found]
    return tidy(rows)


def _saved(evidence: Evidence, arm: str) -> list[tuple[str, str, Estimate | None]]:
    """Saved activations with all layers and at the mean kept depth: in bytes, and relative to the baseline's."""
    found: list[tuple[str, str, Estimate | None]] = []
    for name in ("all_layers", "mean_depth"):
        own = [value for run in evidence.runs(arm) if (value := _bytes(run, name)) is not None]
        ratio = comparisons.ratio(
            (_bytes(run, name), _bytes(base, name)) for run, base in evidence.pairs(arm, evidence.baseline)
        )
        found.append((f"saved_{name}", "bytes", stats.mean_interval(own) if own else None))
        found.append((f"saved_{name}_ratio", "x", estimate_of(ratio)))
    return found


def _bytes(run: PretrainRun, name: str) -> float | None:
    saved = run.summary.saved_bytes
    return None if saved is None else float(getattr(saved, name))
