"""Similar scores: not more than a margin below the baseline's, by the lower limit of the interval.

On fine-tuned GLUE, as the papers have it, and on scores without fine-tuning (minimal pairs, cloze contrasts), a measure
of this suite.
"""

from __future__ import annotations

from dataclasses import replace

from pldrepro.analysis import comparisons, contrasts
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.early_stop import CHECKPOINT, early_stop
from pldrepro.analysis.measurement import Measurement, at_least, estimate_note, join_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import estimate_text, number, quantity_text

SIMILAR_POINTS = 1.0


def comparable(gain: Measurement) -> Measurement:
    """A gain in points for the claim that it is not -SIMILAR_POINTS or less: the effects count from there."""
    return gain if gain.paired is None else replace(gain, paired=above_margin(gain.paired))


def above_margin(gain: Paired) -> Paired:
    """A gain in points whose effects count from -SIMILAR_POINTS."""
    return replace(gain, effects=tuple(effect + SIMILAR_POINTS for effect in gain.effects))


def speedup_at_similar(evidence: Evidence, gain: Measurement, name: str) -> Measurement:
    """Reference time of the baseline's run over PLD's up to checkpoint 100, given that its score there is similar.

    ``gain``: points of that score above the finished baseline's.
    """
    if gain.paired is None:
        return gain
    note = (
        f"similar: the {name} difference is not below −{SIMILAR_POINTS:g} point by its lower limit; "
        f"here {estimate_text(gain.paired.estimate, 1)}"
    )
    speedup = comparisons.speedup(evidence, evidence.pld, "reference_time", CHECKPOINT)
    at, seeds = CHECKPOINT.removeprefix("ckp"), gain.paired.estimate.n
    about = f"{name} at checkpoint {at} minus the baseline's final one: {quantity_text(gain.paired.estimate, 'points')}"
    condition = at_least(gain.paired, -SIMILAR_POINTS, f"{about}, n = {seeds}")
    return Measurement(speedup, join_notes(note, gain.note), condition, basis=made_of(evidence))


def made_of(evidence: Evidence) -> str:
    """What the speedup at CHECKPOINT is made of: an earlier end, and less time per sample up to there."""
    parts = early_stop(evidence, [("pld", evidence.pld, "the time per sample")])
    if not parts:
        return ""
    stop, own, _ = (part.estimate for part in parts)
    assert stop is not None
    early, last = (name.removeprefix("ckp") for name in (CHECKPOINT, evidence.final_checkpoint(evidence.pld)))
    return (
        f"of this factor {number(stop.value, 2)} x is the earlier end (checkpoint {early} instead of {last}), which is "
        f"set and not measured, and {quantity_text(own, 'x')} the time per sample up to there"
    )


# ---- without fine-tuning ----


def contrast_gain(
    evidence: Evidence, score: str, arm: str, other: str, checkpoint: str | None = None
) -> Measurement:  # fmt: skip
    """Points of an arm's score at a checkpoint (none: its last) above another's last, with the error of the items."""
    title = contrasts.title(score)
    paired = contrasts.gain(evidence, score, arm, other, checkpoint)
    if paired is None:
        at = f" at {checkpoint}" if checkpoint else ""
        return Measurement(note=f"{arm}{at} and {other} have no score on {title} in common")
    level = contrasts.at(evidence, other, score)
    base = "" if level is None else f"{title}; {evidence.label(other)} has {estimate_text(level, 1)} %"
    items = f"the choice of items is ±{paired.shared_error:.1f} points of it (standard error)"
    loss = comparisons.loss_difference(evidence, arm, other) if checkpoint is None else None
    return Measurement(paired, join_notes(base, items, estimate_note("final loss minus its", loss, 3, "nats")))


def minimal_pairs_comparable(evidence: Evidence) -> Measurement:
    """Points above the baseline on minimal pairs at the end, for the claim of not being SIMILAR_POINTS below it."""
    return comparable(contrast_gain(evidence, contrasts.minimal_pairs(evidence), evidence.pld, evidence.baseline))


def cloze_comparable(evidence: Evidence) -> Measurement:
    """Points above the baseline on cloze contrasts at the end, for the claim of not being SIMILAR_POINTS below it."""
    return comparable(contrast_gain(evidence, contrasts.CLOZE, evidence.pld, evidence.baseline))


def speedup_at_similar_minimal_pairs(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to checkpoint 100, given a similar score on minimal pairs."""
    return _speedup(evidence, contrasts.minimal_pairs(evidence))


def speedup_at_similar_cloze(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to checkpoint 100, given a similar score on cloze items."""
    return _speedup(evidence, contrasts.CLOZE)


def _speedup(evidence: Evidence, score: str) -> Measurement:
    gain = contrast_gain(evidence, score, evidence.pld, evidence.baseline, CHECKPOINT)
    return speedup_at_similar(evidence, gain, contrasts.title(score))
