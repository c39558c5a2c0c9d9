"""Predictions and labels of a GLUE metric."""

import numpy as np

METRICS = ("accuracy", "f1", "matthews", "pearson", "spearman")


def predictions_of(name: str, n: int = 60, runs: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (runs, n) with ties, and labels (n,)."""
    rng = np.random.default_rng(0)
    if name in ("pearson", "spearman"):
        labels = rng.integers(0, 11, n).astype(np.float32) / 2
        return (labels + rng.normal(0, 1, (runs, n))).round(1).astype(np.float32), labels
    labels = rng.integers(0, 3 if name == "accuracy" else 2, n)
    return np.where(rng.random((runs, n)) < 0.3, rng.integers(0, 2, (runs, n)), labels), labels
