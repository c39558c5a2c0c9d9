"""Claims of the SBLD paper (our reading): time, accuracy, and SBLD against PLD."""

from __future__ import annotations

from dataclasses import replace

from pldrepro.analysis import comparisons, contrasts, word_rank
from pldrepro.analysis.arms import kept_layers
from pldrepro.analysis.measurement import Condition, Measurement, at_most, estimate_note, join_notes, until_reached
from pldrepro.analysis.reach import reach_loss, reach_speedup
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import accuracy_change, accuracy_gain, accuracy_pairs, analysis_share, time_saved
from pldrepro.analysis.similar import contrast_gain
from pldrepro.analysis.text import FAMILIES, estimate_text, number
from pldrepro.analysis.tidy import estimate_of

NO_PRIOR = "no arm that is PLD at SBLD's depth is in this study"


def same_samples(evidence: Evidence, arm: str, other: str) -> Condition | None:
    """The condition of a comparison of whole runs, None where it is met: that both arms trained on as many samples."""
    pairs = evidence.pairs(arm, other)
    return None if all(run.summary.samples == base.summary.samples for run, base in pairs) else Condition()


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
    level = number(sum(base for _, base in pairs) / len(pairs), 1)
    note = join_notes(
        f"points, {FAMILIES[evidence.family]}; the baseline has {level} %",
        estimate_note(
            "relative to the baseline", accuracy_change(evidence, evidence.sbld, evidence.baseline, name), 1, "%"
        ),
    )
    return Measurement(
        accuracy_gain(evidence, evidence.sbld, evidence.baseline, name),
        note,
        same_samples(evidence, evidence.sbld, evidence.baseline),
    )


def sbld_over_prior(evidence: Evidence) -> Measurement:
    """LAMBADA accuracy of SBLD above that of PLD at SBLD's mean kept depth, at the end of both runs [points]."""
    prior = prior_dropping(evidence)
    if prior is None:
        return Measurement(note=NO_PRIOR)
    gain = accuracy_gain(evidence, evidence.sbld, prior, "lambada_accuracy")
    if gain is None:
        return Measurement(note="the data of this study have no LAMBADA passages")
    gap = comparisons.loss_difference(evidence, evidence.sbld, prior)
    note = estimate_note(f"final loss minus that of {evidence.label(prior)}", gap, 3, "nats")
    return Measurement(gain, note, same_samples(evidence, evidence.sbld, prior))


def prior_dropping(evidence: Evidence) -> str | None:
    """The arm that is PLD at SBLD's mean kept depth; None where there is none."""
    return next((arm for arm in evidence.arms if is_pld_at(evidence, arm, evidence.sbld)), None)


def is_pld_at(evidence: Evidence, arm: str, other: str) -> bool:
    """Whether an arm has PLD's schedule and order of layers, matched to the mean kept depth of another."""
    drop = evidence.runs(arm)[0].settings.drop
    by_depth = drop.allocation in ("linear", "linear_from_first")
    return evidence.matched_depth(arm) == other and drop.schedule == "exponential" and by_depth


# ---- the same without fine-tuning ----


def sbld_minimal_pairs_gain(evidence: Evidence) -> Measurement:
    """Score of SBLD on minimal pairs above the baseline's at the end of both runs [points]."""
    return _contrast_gain(evidence, contrasts.minimal_pairs(evidence), evidence.baseline)


def sbld_cloze_gain(evidence: Evidence) -> Measurement:
    """Score of SBLD on cloze contrasts above the baseline's at the end of both runs [points]."""
    return _contrast_gain(evidence, contrasts.CLOZE, evidence.baseline)


def sbld_over_prior_minimal_pairs(evidence: Evidence) -> Measurement:
    """Score of SBLD on minimal pairs above that of PLD at SBLD's mean kept depth, at the end of both runs [points]."""
    return _contrast_gain(evidence, contrasts.minimal_pairs(evidence), prior_dropping(evidence))


def sbld_over_prior_cloze(evidence: Evidence) -> Measurement:
    """Score of SBLD on cloze contrasts above that of PLD at SBLD's mean kept depth, at the end of both [points]."""
    return _contrast_gain(evidence, contrasts.CLOZE, prior_dropping(evidence))


def _contrast_gain(evidence: Evidence, score: str, other: str | None) -> Measurement:
    if other is None:
        return Measurement(note=NO_PRIOR)
    gain = contrast_gain(evidence, score, evidence.sbld, other)
    return replace(gain, condition=same_samples(evidence, evidence.sbld, other))


def sbld_rank_gain(evidence: Evidence) -> Measurement:
    """LAMBADA rank of SBLD above the baseline's at the end of both runs [points]."""
    return _rank_gain(evidence, evidence.baseline)


def sbld_over_prior_rank(evidence: Evidence) -> Measurement:
    """LAMBADA rank of SBLD above that of PLD at SBLD's mean kept depth, at the end of both runs [points]."""
    return _rank_gain(evidence, prior_dropping(evidence))


def _rank_gain(evidence: Evidence, other: str | None) -> Measurement:
    if other is None:
        return Measurement(note=NO_PRIOR)
    gain = word_rank.gain(evidence, evidence.sbld, other)
    if gain is None:
        return Measurement(note="no LAMBADA ranks of both arms in this study")
    level = word_rank.finals(evidence, other).values()
    note = join_notes(
        f"{word_rank.TITLE}; {evidence.label(other)} has {number(sum(level) / len(level), 1)} %",
        f"the choice of passages is ±{gain.shared_error:.1f} points of it (standard error)",
    )
    return Measurement(gain, note, same_samples(evidence, evidence.sbld, other))


# ---- convergence, and SBLD against PLD ----


def sbld_rank_convergence(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over SBLD's up to where it first has the baseline's final LAMBADA rank."""
    reach = word_rank.reach(evidence, evidence.sbld, "reference_time")
    gain = word_rank.gain(evidence, evidence.sbld, evidence.baseline)
    if gain is None:
        return Measurement(note="no LAMBADA ranks of both arms in this study")
    gap = gain.turned()
    return until_reached(
        reach_speedup(evidence, evidence.sbld, "reference_time", reach),
        reach,
        gap,
        "reference time, the analysis charged; linear between scored checkpoints",
        target="final LAMBADA rank",
        gap_note=estimate_note("short of it at the end", gap, 1, "points"),
    )


def sbld_convergence(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over SBLD's up to where it first reaches the baseline's final loss."""
    reach = reach_loss(evidence, evidence.sbld, "reference_time")
    return until_reached(
        reach_speedup(evidence, evidence.sbld, "reference_time", reach),
        reach,
        comparisons.loss_difference(evidence, evidence.sbld, evidence.baseline),
        "reference time, the analysis charged",
    )


def sbld_over_pld(evidence: Evidence) -> Measurement:
    """Final validation loss of PLD minus SBLD's [nats], given that SBLD's throughput is not below PLD's."""
    sbld, pld = evidence.sbld, evidence.pld
    if pld not in evidence.arms:
        return Measurement(note="no arm of role pld in this study")
    time = comparisons.relative_cost(evidence, sbld, pld, "reference_time")
    measured = estimate_of(comparisons.relative_cost(evidence, pld, sbld, "measured_time"))
    kept = [number(kept_layers(evidence, arm).value, 2) for arm in (sbld, pld)]
    return Measurement(
        comparisons.loss_difference(evidence, pld, sbld),
        join_notes(
            "final validation loss",
            "throughput over PLD's in reference time, the analysis charged: "
            f"{estimate_text(time.estimate.map(lambda value: 1 / value), 2)} x" if time else "",
            f"measured: {estimate_text(measured, 2)} x" if measured else "",
            f"mean kept layers: SBLD {kept[0]}, PLD {kept[1]}",
        ),
        same_samples(evidence, sbld, pld) or at_most(time),
        basis="PLD's loss minus SBLD's: above 0 SBLD's loss is the lower one",
    )  # fmt: skip
