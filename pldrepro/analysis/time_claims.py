"""Claims of the PLD paper on the time of a sample: measured in turn where that was done, else in reference time."""

from __future__ import annotations

from collections.abc import Callable

from pldrepro import stats
from pldrepro.analysis import comparisons, in_turn
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.measurement import Measurement, estimate_note, join_notes
from pldrepro.analysis.results import Evidence

Effect = Callable[[str, str, str], Paired | None]  # of an arm against another one, on an axis


def time_saving(evidence: Evidence) -> Measurement:
    """Percent less time per sample than the baseline."""

    def effect(arm: str, other: str, axis: str) -> Paired | None:
        if axis == "measured_in_turn":
            return in_turn.saving(evidence, arm, other)
        return comparisons.saving_per_sample(evidence, arm, axis, against=other)

    return _first_evidence(evidence, effect, 1, "%")


def speedup_equal_samples(evidence: Evidence) -> Measurement:
    """Time of the baseline's run over that of PLD's run with as many samples."""

    def effect(arm: str, other: str, axis: str) -> Paired | None:
        if axis == "measured_in_turn":
            return in_turn.speedup(evidence, arm, other)
        return comparisons.relative_cost(evidence, other, arm, axis)

    return _first_evidence(evidence, effect, 2, "x")


def _first_evidence(evidence: Evidence, effect: Effect, digits: int, unit: str) -> Measurement:
    """PLD against the baseline, measured in turn, else in reference time; what the other clocks say is in the note.

    Its basis is what the interval is of: a seed more narrows neither that of processes nor a calibration's.
    """
    pld, baseline, twin = evidence.pld, evidence.baseline, evidence.undropped_twin(evidence.pld)
    first, reference = (effect(pld, baseline, axis) for axis in ("measured_in_turn", "reference_time"))
    axis = "reference_time" if first is None else "measured_in_turn"
    basis = in_turn_basis(first) if first is not None else reference_basis(evidence, reference)
    notes = ["" if first is None else estimate_note("reference time", reference, digits, unit)]
    notes.append(estimate_note("measured time of the runs", effect(pld, baseline, "measured_time"), digits, unit))
    if twin is not None and twin != baseline:
        notes.append(estimate_note("against the same model without dropping", effect(pld, twin, axis), digits, unit))
    return Measurement(reference if first is None else first, join_notes(*notes), basis=basis)


def in_turn_basis(paired: Paired) -> str:
    """What an interval over processes is of."""
    return (
        f"steps measured in turn; n counts the {paired.estimate.n} processes, over which the interval is: more "
        "seeds do not narrow it"
    )


def reference_basis(evidence: Evidence, paired: Paired | None) -> str:
    """How much of an interval of reference time is the calibration's, how much the seeds'."""
    error, freedom = comparisons.price_error(evidence, evidence.pld, evidence.baseline)
    if paired is None or not error:
        return "reference time"
    seeds = stats.mean_interval(paired.effects)
    own = "" if seeds.high is None else f", the seeds' ±{100 * (seeds.high - seeds.value):.1f} %"
    part = stats.half_width(error, freedom)
    return (
        f"reference time; of its interval the calibration's part is ±{100 * part:.1f} % of the ratio, "
        f"which more seeds do not narrow{own}"
    )
