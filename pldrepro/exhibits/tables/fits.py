"""Whether fine-tuning trained: a line for each task and method."""

from __future__ import annotations

import pandas as pd

from pldrepro.analysis import glue_scores
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.data.tasks import TASKS
from pldrepro.exhibits.layout import ColumnLayout, Line, TableLayout, count, select, value
from pldrepro.runs.schema import FIT_MARGIN

COLUMNS = (
    ColumnLayout("task"),
    ColumnLayout("arm"),
    ColumnLayout("fits", show=count, statistic="failed"),
    ColumnLayout("training loss", None, 3, statistic="train_loss"),
    ColumnLayout("best constant", None, 3, statistic="constant_loss"),
    ColumnLayout("failed [%]", None, 0, statistic="failed"),
    ColumnLayout("cut, train [%]", None, 1, value, statistic="cut_train"),
    ColumnLayout("cut, dev [%]", None, 1, value, statistic="cut_dev"),
    ColumnLayout("untrained positions, train [%]", None, 1, value, statistic="untrained_train"),
    ColumnLayout("untrained positions, dev [%]", None, 1, value, statistic="untrained_dev"),
)


def fits_layout(evidence: Evidence, paper: Paper, frame: pd.DataFrame) -> list[TableLayout]:
    """A line per task and method."""
    title = f"Training loss of fine-tuning, study {evidence.scale}"
    if frame.empty:
        return [TableLayout(title, COLUMNS, notes=("No training loss of fine-tuning was recorded.",))]
    lines = tuple(
        Line({"task": TASKS[task].title, "arm": evidence.label(arm)}, select(part, arm=arm))
        for task, name in glue_scores.PRIMARY.items()
        for part in [frame[frame["quantity"] == name]]
        for arm in dict.fromkeys(part["arm"])
    )
    notes = (
        "Fits of the final checkpoints at the selected learning rate. Training loss: mean over the last epoch "
        "(cross-entropy in nats; STS-B: squared error), median over fine-tuning seeds, mean over pre-training seeds "
        "[95 % t interval]. Best constant: the lowest loss of one and the same prediction for all training examples. "
        f"A fit whose training loss is not {FIT_MARGIN:.0%} below it has failed; share in percent [Clopper–Pearson "
        "interval].",
        "Cut: examples longer than the sequence length. Untrained positions: examples longer than the sequences of "
        "pre-training, whose later positions only fine-tuning trained.",
    )
    return [TableLayout(title, COLUMNS, lines, notes)]
