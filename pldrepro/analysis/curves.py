"""What figures of cost draw: losses and FLOPs along the runs, final losses, the time of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pldrepro.analysis.arms import validation_loss
from pldrepro.analysis.keep import kept_layers_data
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.costs.flops import run_flops
from pldrepro.runs.step_times import StepTimes


def trade_off_data(evidence: Evidence) -> pd.DataFrame:
    """One row per method: final validation loss with its 95 % t interval, and time relative to the baseline's."""
    axis = evidence.clock
    whole = np.mean([evidence.cost(run, axis) for run in evidence.runs(evidence.baseline)])
    rows = []
    for arm in evidence.methods:
        runs = evidence.runs(arm)
        loss = validation_loss(evidence, arm)
        time = np.mean([evidence.cost(run, axis) for run in runs]) / whole
        rows.append(
            {"arm": arm, "label": evidence.label(arm), "time": time, "loss": loss.value, "low": loss.low,
             "high": loss.high, "n": loss.n}
        )  # fmt: skip
    return pd.DataFrame(rows)


def is_far_above(losses: pd.Series[float]) -> pd.Series[bool]:
    """Which losses are more than three interquartile ranges above the upper quartile; none of fewer than five."""
    low, high = np.percentile(losses, [25, 75])
    return (losses > high + 3 * (high - low)) & (len(losses) >= 5)


def loss_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """One row per validation of every run of these arms, with its cost on each axis."""
    rows = []
    for arm in arms:
        for run in evidence.runs(arm):
            for line in run.validation:
                costs = {axis: evidence.cost_at(run, axis, line) for axis in AXES}
                rows.append(
                    {"arm": arm, "label": run.label, "seed": run.seed, "step": line.step, **costs,
                     "validation_loss": line.loss}
                )  # fmt: skip
    return pd.DataFrame(rows)


def relative_loss_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """``loss_data`` with the column ``relative``: time as percent of the baseline's whole run, mean over its seeds."""
    whole = float(np.mean([evidence.cost(run, evidence.clock) for run in evidence.runs(evidence.baseline)]))
    data = loss_data(evidence, arms)
    return data.assign(relative=100 * data[evidence.clock] / whole)


def mean_over_runs(data: pd.DataFrame, axis: str) -> pd.DataFrame:
    """Cost on an axis and validation loss of an arm in ``loss_data``: mean over its runs at equal steps.

    Runs of an arm validate at the same steps; their costs differ by the gates drawn, so both are averaged.
    """
    return data.groupby("step")[[axis, "validation_loss"]].mean()


def mean_by_share(data: pd.DataFrame) -> pd.DataFrame:
    """``mean_over_runs`` over samples, with the column ``share``: of the arm's whole run."""
    mean = mean_over_runs(data, "samples")
    return mean.assign(share=mean["samples"] / mean["samples"].max())


def flops_data(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """FLOPs between two log lines relative to those of all layers, counted (mean over seeds) and predicted."""
    parts = []
    for arm in arms:
        run = evidence.runs(arm)[0]
        step = run_flops(run.settings)
        depth = kept_layers_data(evidence, [arm])
        whole = step.of(run.summary.num_layers)
        relative = {
            name: depth[column].map(step.of).div(whole)
            for name, column in (("predicted", "expected"), ("counted", "measured"))
        }
        parts.append(depth[["arm", "share"]].assign(**relative))
    return pd.concat(parts)


def mean_flops_saving(data: pd.DataFrame, arm: str) -> float:
    """Percent fewer FLOPs than all layers would take, counted: mean over the log lines of ``flops_data``."""
    return 100 * (1 - float(data[data["arm"] == arm]["counted"].mean()))


def tau_data(shape: StepTimes) -> pd.DataFrame:
    """One row per number of active layers (0..L): median step time with its interval [s], and the linear fit."""
    kept = np.arange(shape.num_layers + 1)
    return pd.DataFrame(
        {
            "norm": shape.norm, "num_layers": shape.num_layers, "active_layers": kept, "median": shape.median,
            "low": shape.low, "high": shape.high, "n": shape.n, "fit": shape.fit.intercept + shape.fit.slope * kept,
        }
    )  # fmt: skip


def final_validations(evidence: Evidence, arms: Sequence[str]) -> pd.DataFrame:
    """The last validation of the runs that were cut to a budget."""
    if not arms:
        return pd.DataFrame()
    data = loss_data(evidence, arms)
    return data.loc[data.groupby(["arm", "seed"], sort=False)["step"].idxmax()].assign(kind="end")
