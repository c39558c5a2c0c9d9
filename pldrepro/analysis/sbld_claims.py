"""Claims of the SBLD paper (our reading): time, accuracy, and SBLD against PLD."""

from __future__ import annotations

from typing import Literal

from pldrepro.analysis import comparisons
from pldrepro.analysis.measurement import Measurement, estimate_note, join_notes, premise_of
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import accuracy_change, accuracy_gain, accuracy_pairs, analysis_share, time_saved
from pldrepro.analysis.text import FAMILIES, estimate_text, number
from pldrepro.analysis.tidy import estimate_of

# A model that gets fewer last words of LAMBADA right is at the floor: its accuracy says nothing of a method.
FEW_RIGHT = 10


def same_samples(evidence: Evidence, arm: str, other: str) -> Literal["holds", "open"]:
    """The premise of a comparison of whole runs: that both arms trained on as many samples."""
    pairs = evidence.pairs(arm, other)
    return "holds" if all(run.summary.samples == base.summary.samples for run, base in pairs) else "open"


def sbld_time_saving(evidence: Evidence) -> Measurement:
    """Percent less reference time of SBLD's whole run than of the baseline's, its analysis charged."""
    sbld, base = evidence.sbld, evidence.baseline
    share = analysis_share(evidence, sbld, "reference_time")
    gap = comparisons.loss_difference(evidence, sbld, base)
    return Measurement(
        time_saved(evidence, sbld, base, "reference_time"),
        join_notes(
            "reference time of the whole run",
            "" if share is None else f"{number(share.value, 1)} % of SBLD's is its analysis of sensitivity",
            estimate_note("measured time", time_saved(evidence, sbld, base, "measured_time"), 1, "%"),
            estimate_note("final loss minus baseline", gap, 3, "nats"),
        ),
        same_samples(evidence, sbld, base),
    )


def sbld_lambada_gain(evidence: Evidence) -> Measurement:
    """LAMBADA accuracy of SBLD above the baseline's at the end of both runs [points]; relative in the note [%]."""
    return _accuracy_gain(evidence, "lambada_accuracy", "the data of this study have no LAMBADA passages")


def sbld_top1_gain(evidence: Evidence) -> Measurement:
    """Top-1 accuracy of SBLD above the baseline's at the end of both runs [points]."""
    return _accuracy_gain(evidence, "accuracy", "no accuracy was recorded")


def sbld_top5_gain(evidence: Evidence) -> Measurement:
    """Top-5 accuracy of SBLD above the baseline's at the end of both runs [points]."""
    return _accuracy_gain(evidence, "top5", "no top-5 accuracy was recorded")


def _accuracy_gain(evidence: Evidence, name: str, missing: str) -> Measurement:
    pairs = accuracy_pairs(evidence, evidence.sbld, evidence.baseline, name)
    if not pairs:
        return Measurement(note=missing)
    right = fewest_right(evidence, name)
    level = number(sum(base for _, base in pairs) / len(pairs), 1)
    note = join_notes(
        f"points, {FAMILIES[evidence.family]}; the baseline has {level} %",
        estimate_note(
            "relative to the baseline", accuracy_change(evidence, evidence.sbld, evidence.baseline, name), 1, "%"
        ),
    )
    return Measurement(
        accuracy_gain(evidence, evidence.sbld, evidence.baseline, name),
        join_notes(note, "" if right is None else f"{right} right in the worst run: too few to compare"),
        "open" if right is not None else same_samples(evidence, evidence.sbld, evidence.baseline),
    )


def fewest_right(evidence: Evidence, name: str) -> int | None:
    """Right answers of the worst run of SBLD and the baseline on LAMBADA, where they are fewer than FEW_RIGHT."""
    if name != "lambada_accuracy":
        return None
    passages = {(one.summary.arm, one.summary.seed): one.summary.passages for one in evidence.lambada}
    counts = []
    for arm in (evidence.sbld, evidence.baseline):
        for run in evidence.runs(arm):
            share = evidence.quality(run, name)
            if share is not None:
                counts.append(round(share * passages[run.arm, run.seed]))
    return min(counts) if counts and min(counts) < FEW_RIGHT else None


def sbld_over_pld(evidence: Evidence) -> Measurement:
    """Final validation loss of PLD minus SBLD's [nats], given that SBLD's throughput is not below PLD's."""
    sbld, pld = evidence.sbld, evidence.pld
    if pld not in evidence.arms:
        return Measurement(note="no arm of role pld in this study")
    time = comparisons.relative_cost(evidence, sbld, pld, "reference_time")
    measured = estimate_of(comparisons.relative_cost(evidence, pld, sbld, "measured_time"))
    kept = [
        number(sum(run.summary.mean_kept_layers for run in evidence.runs(arm)) / len(evidence.runs(arm)), 2)
        for arm in (sbld, pld)
    ]
    premise = "open" if time is None else premise_of(time, 1.0)
    return Measurement(
        comparisons.loss_difference(evidence, pld, sbld),
        join_notes(
            "final validation loss",
            "throughput over PLD's in reference time, the analysis charged: "
            f"{estimate_text(time.estimate.map(lambda value: 1 / value), 2)} x" if time else "",
            f"measured: {estimate_text(measured, 2)} x" if measured else "",
            f"mean kept layers: SBLD {kept[0]}, PLD {kept[1]}",
        ),
        premise if same_samples(evidence, sbld, pld) == "holds" else "open",
    )  # fmt: skip
