"""Peak memory of training."""

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
from pldrepro.stats import Estimate

# ---- memory ----


def memory(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """Peak memory of training: peak_memory [bytes], its ratio to the baseline's, parameters, kept_layers.

    Of runs on several ranks, reduced_bytes too: the bytes that each rank gives to the all-reduce in a step, mean.
    """
    rows: list[dict[str, Any]] = []
    for arm in evidence.methods:
        runs, final = evidence.runs(arm), evidence.final_checkpoint(arm)
        peaks = [peak for run in runs if (peak := run.summary.peak_memory_bytes) is not None]
        ratio = comparisons.ratio(
            (run.summary.peak_memory_bytes, base.summary.peak_memory_bytes)
            for run, base in evidence.pairs(arm, evidence.baseline)
        )
        parameters = Estimate(runs[0].summary.parameters, None, None, len(runs), "count")
        sent = [run.summary.reduced_bytes / run.summary.steps for run in runs if run.summary.reduced_bytes]
        found: Sequence[tuple[str, str, Estimate | None]] = (
            *([("reduced_bytes", "bytes", stats.mean_interval(sent))] if sent else []),
            ("peak_memory", "bytes", stats.mean_interval(peaks) if peaks else None),
            ("peak_memory_ratio", "x", estimate_of(ratio)),
            ("parameters", "parameters", parameters),
            ("kept_layers", "layers", kept_layers(evidence, arm)),
        )
        rows += [tidy_row(evidence, arm, final, quantity, estimate, unit=unit) for quantity, unit, estimate in found]
    return tidy(rows)
