"""A schedule from a pilot pair of runs: PWEGD fitted to the variance between training with and without dropping.

SBLD's abstract-level description says that its schedule is fitted to this variance over training time; what exactly is
fitted is not public. Our reading: V(tau) is the squared difference of the two runs' training losses, averaged over
shares of the run, and v(tau) of ``drop.pwegd`` is fitted to V by least squares. Layers are then kept where
dropping them disturbed the training most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from pldrepro.errors import SettingsError
from pldrepro.runs.folder import PretrainRun

DEGREE = 2  # of the polynomial
BETAS = np.geomspace(1.0, 400.0, 200)  # rates that are tried, per run
WINDOWS = 20  # shares of the run over which the squared difference is averaged


def fit_pwegd(times: Sequence[float], variances: Sequence[float], degree: int = DEGREE) -> tuple[list[float], float]:
    """Weights a_j >= 0 and rate beta of the curve (sum_j a_j tau^j) exp(-beta tau) nearest to V(tau), tau in [0, 1].

    The weights are scaled to a sum of 1, because the schedule depends on the curve's shape alone.
    """
    tau, target = np.asarray(times, dtype=float), np.asarray(variances, dtype=float)
    if len(tau) < degree + 2 or not target.max() > 0:
        raise SettingsError(
            f"a fit needs at least {degree + 2} points and a difference between the runs; got {len(tau)} points"
        )
    best: tuple[float, np.ndarray, float] | None = None
    for beta in BETAS:
        curves = np.stack([tau**j * np.exp(-beta * tau) for j in range(degree + 1)], axis=1)
        weights, residual = nnls(curves, target / target.max())
        if weights.any() and (best is None or residual < best[0]):
            best = residual, weights, float(beta)
    assert best is not None
    _, weights, beta = best
    return [float(value) for value in weights / weights.sum()], beta


def pilot_variance(baseline: PretrainRun, dropped: PretrainRun) -> tuple[list[float], list[float]]:
    """tau and V(tau) [nats^2] of a pair of runs of one length: mean squared difference of the training losses."""
    curves = [{line.step: line.loss for line in run.training} for run in (baseline, dropped)]
    steps = sorted(set(curves[0]) & set(curves[1]))
    lengths = {run.summary.steps for run in (baseline, dropped)}
    if len(lengths) > 1 or not steps:
        raise SettingsError(f"{baseline.folder} and {dropped.folder}: not a pair of runs with the same steps")
    total = lengths.pop()
    squares = {step: (curves[1][step] - curves[0][step]) ** 2 for step in steps}
    windows: dict[int, list[tuple[float, float]]] = {}
    for step, square in squares.items():
        windows.setdefault((step - 1) * WINDOWS // total, []).append((step / total, square))
    means = [np.mean(points, axis=0) for _, points in sorted(windows.items())]
    return [float(tau) for tau, _ in means], [float(square) for _, square in means]


def fitted_schedule(baseline: PretrainRun, dropped: PretrainRun) -> str:
    """The settings of the fitted schedule, as a line of YAML for an experiment's ``drop``."""
    weights, beta = fit_pwegd(*pilot_variance(baseline, dropped))
    return f"drop: {{dialect: sbld, pwegd_weights: [{', '.join(f'{w:.4g}' for w in weights)}], pwegd_beta: {beta:.4g}}}"
