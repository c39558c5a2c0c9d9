"""Depth robustness: the validation loss of the last checkpoint of every probed arm with fewer layers than it has."""

from __future__ import annotations

from pldrepro.analysis.depth import depth_robustness
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import INTERVAL_NOTE, estimate_text
from pldrepro.analysis.tidy import cell
from pldrepro.exhibits.layout import Panel

# What the panel shows: name of the tidy rows ("k": half of the layers) -> header.
SHOWN = {
    "first k": "first half",
    "odd": "every other (1st, 3rd, ...)",
    "even": "every other (2nd, 4th, ...)",
    "least_important_removed k": "least important half removed",
    "lesion": "lesion, mean of draws",
}
COLUMNS = ("run", "L", "loss, all layers", *(f"+ {header}" for header in SHOWN.values()), "n")


def depth_robustness_panels(evidence: Evidence, paper: Paper) -> list[Panel]:
    """The last checkpoint of every probed arm: loss intact, and by how much it rises with half of the layers."""
    caption = f"Depth robustness: validation loss [nats] with fewer layers, at scale {evidence.scale}"
    if not evidence.probed:
        return [Panel(caption, COLUMNS, (), ("No checkpoint was probed in this study.",))]
    frame = depth_robustness(evidence, paper)
    rows = []
    for arm in evidence.probed:
        checkpoint = str(frame[frame["arm"] == arm]["checkpoint"].iloc[0])
        layers = evidence.runs(arm)[0].summary["num_layers"]
        intact = cell(frame, arm, checkpoint, "loss", condition="all")
        axes = [axis.replace(" k", f" {layers // 2}") for axis in SHOWN]
        increases = [cell(frame, arm, checkpoint, "loss_increase", condition=axis) for axis in axes]
        rows.append(
            (
                f"{evidence.label(arm)} {checkpoint}",
                str(layers),
                estimate_text(intact, 3),
                *(estimate_text(increase, 3) for increase in increases),
                str(intact.n if intact else 0),
            )
        )
    keep = evidence.probes[0].summary["lesion_keep"]
    return [
        Panel(
            caption=caption,
            columns=COLUMNS,
            rows=tuple(rows),
            notes=(
                "+: what the loss rises by over all layers on the same held-out sequences; kept layers are not "
                "rescaled, and half of L is rounded down. Importance of a layer: the rise without it alone, measured "
                f"on sequences that are not reported. Lesion: each layer kept with probability {keep:g}, the same "
                "draws for all.",
                INTERVAL_NOTE,
            ),
        )
    ]
