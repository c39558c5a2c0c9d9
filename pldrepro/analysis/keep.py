"""What a policy keeps: keep probabilities from the recorded settings and ranks, kept layers as counted and expected."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import pandas as pd

from pldrepro.analysis.results import Evidence
from pldrepro.policy import drop
from pldrepro.runs.folder import PretrainRun


def keep_data(run: PretrainRun, points: int = 201) -> pd.DataFrame:
    """Keep probability of every layer (1..L) along a run, from its recorded drop settings and ranks."""
    settings = run.settings.drop
    steps, layers = run.settings.training.num_steps, run.summary.num_layers
    rows = []
    for step in np.unique(np.linspace(0, steps - 1, points).round().astype(int)).tolist():
        keep = drop.keep_probabilities(settings, step, steps, layers, recorded_ranks(run, step))
        rows += [
            {"arm": run.arm, "step": step, "share": step / steps, "layer": layer, "keep_probability": probability}
            for layer, probability in zip(drop.layer_numbers(layers), keep, strict=True)
        ]
    return pd.DataFrame(rows)


def recorded_ranks(run: PretrainRun, step: int) -> tuple[int, ...] | None:
    """Ranks of the layers at a step of a run: as its last analysis before the step gave them; None: not known yet."""
    done = [line.ranks for line in run.sensitivity if line.step <= step]
    return tuple(done[-1]) if done else drop.rank_layers(run.settings.drop, run.summary.num_layers, None, run.seed)


def kept_layers_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """Kept layers per forward pass between two log lines: counted and expected; counts are means over seeds."""
    rows = []
    for arm in arms:
        runs = evidence.runs(arm)
        settings = runs[0].settings.drop
        steps, layers = runs[0].settings.training.num_steps, runs[0].summary.num_layers
        counted = pd.concat([_kept_per_pass(run) for run in runs]).groupby("step")["kept"].mean()
        before = [0, *counted.index[:-1]]
        for start, end, kept in zip(before, counted.index, counted, strict=True):
            between = np.unique(np.linspace(start, end - 1, 20).astype(int)).tolist()
            expected = np.mean([drop.expected_depth(settings, step, steps, layers) for step in between])
            rows.append({"arm": arm, "share": (start + end) / 2 / steps, "expected": expected, "measured": kept})
    return pd.DataFrame(rows)


def _kept_per_pass(run: PretrainRun) -> pd.DataFrame:
    lines = [(line.step, line.kept_layers) for line in run.training]
    steps, kept = (np.array([0, *column]) for column in zip(*lines, strict=True))
    passes = sum(run.summary.passes_by_kept_layers.values()) / run.summary.steps
    return pd.DataFrame({"step": steps[1:], "kept": np.diff(kept) / np.diff(steps) / passes})


def keep_map(study: Evidence, arm: str) -> pd.DataFrame:
    """Keep probability by layer (1..L) and step, mean over seeds, and ``kept``, the share of passes that kept it."""
    runs = study.runs(arm)
    frames = [keep_data(run) for run in runs]
    mean = pd.concat(frames).groupby(["layer", "step"])["keep_probability"].mean().reset_index()
    kept = np.mean([kept_shares(run) for run in runs], axis=0)
    return mean.assign(
        family=study.family, arm=arm, label=study.label(arm), kept=[kept[layer - 1] for layer in mean["layer"]]
    )


def stage_ends(study: Evidence) -> list[int]:
    """The last layer (1..L) of each stage of a study's model; empty where it has no stages."""
    return list(accumulate(getattr(study.runs(study.baseline)[0].settings.model, "stages", ())))


def kept_shares(run: PretrainRun) -> list[float]:
    """Share of the forward passes of a run in which each layer was kept; (L,), NaN where it was not recorded."""
    counts: Sequence[float] = run.summary.passes_by_layer or [float("nan")] * run.summary.num_layers
    passes = sum(run.summary.passes_by_kept_layers.values())
    return [count / passes for count in counts]
