"""GLUE's metrics as a local ``evaluate.Metric``: nothing is downloaded, counted or reported anywhere.

Importing ``evaluate`` takes seconds, so only ``score`` imports this module, when it runs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import numpy as np

from pldrepro.analysis.glue_metrics import TASK_METRICS, metric_values


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Let importing a module fail, as where it is not installed."""
    before: dict[str, Any] = {name: one for name, one in sys.modules.items() if name == module}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        sys.modules.update(before)


# For pipelines that nothing here uses, evaluate imports transformers where there is one, and with it torch: most of its
# time.
with hidden("transformers"):
    import evaluate


class Glue(evaluate.Metric):
    """The metrics of one GLUE task (``config_name``), in 0..1 or -1..1, of many runs at once.

    ``predictions`` and ``references`` are sequences of R runs, each of its N examples; each metric is a list of R
    values. Many at once, because a call of evaluate has a fixed cost.
    """

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in TASK_METRICS:
            raise ValueError(f"unknown GLUE task {self.config_name!r}; allowed: {', '.join(TASK_METRICS)}")
        values = datasets.Sequence(datasets.Value("float32" if self.config_name == "stsb" else "int64"))
        return evaluate.MetricInfo(
            description="GLUE metrics of one task",
            citation="",
            inputs_description="predictions and references of each run: class ids, or scores for stsb",
            features=datasets.Features({"predictions": values, "references": values}),
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, list[float]]:
        runs = [
            (np.asarray(run)[np.newaxis], np.asarray(labels))
            for run, labels in zip(predictions, references, strict=True)
        ]
        return {
            name: [float(metric_values(name, run, labels)[0]) for run, labels in runs]
            for name in TASK_METRICS[str(self.config_name)]
        }
