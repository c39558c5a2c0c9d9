"""Depth robustness: the validation loss of the last checkpoint of every probed arm with fewer layers than it has."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, select
from pldrepro.exhibits.text import INTERVAL_NOTE

# What is shown: condition of the tidy rows ("k": half of the layers) -> header.
SHOWN = {
    "first k": "first half",
    "odd": "every other (1st, 3rd, ...)",
    "even": "every other (2nd, 4th, ...)",
    "least_important_removed k": "least important half removed",
    "lesion": "lesion, mean of draws",
}
COLUMNS = (
    ColumnLayout("run"),
    ColumnLayout("L"),
    ColumnLayout("loss, all layers", "loss", 3, condition="all"),
    *(ColumnLayout(f"+ {header}", "loss_increase", 3, condition=condition) for condition, header in SHOWN.items()),
    ColumnLayout("n", "loss", show=count, condition="all", absent="0"),
)


def depth_robustness_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """The last checkpoint of every probed arm: loss intact, and by how much it rises with half of the layers."""
    title = f"Depth robustness: validation loss [nats] with fewer layers, study {evidence.scale}"
    if not evidence.probed:
        return [TableLayout(title, COLUMNS, notes=("No checkpoint was probed in this study.",))]
    keep = evidence.probes[0].summary.lesion_keep
    notes = (
        "+: what the loss rises by over all layers on the same held-out sequences; kept layers are not "
        "rescaled, and half of L is rounded down. Importance of a layer: the rise without that one layer, measured "
        f"on sequences that are not reported. Lesion: each layer kept with probability {keep:g}, the same "
        "draws for all.",
        INTERVAL_NOTE,
    )
    return [TableLayout(title, COLUMNS, tuple(_line(evidence, frame, arm) for arm in evidence.probed), notes)]


def _line(evidence: Evidence, frame: pd.DataFrame, arm: str) -> Line:
    layers, rows = evidence.runs(arm)[0].summary.num_layers, select(frame, arm=arm)
    half = {condition.replace(" k", f" {layers // 2}"): condition for condition in SHOWN}
    return Line(
        {"run": f"{evidence.label(arm)} {rows[0]['checkpoint']}", "L": str(layers)},
        [{**row, "condition": half.get(row["condition"], row["condition"])} for row in rows],
    )
