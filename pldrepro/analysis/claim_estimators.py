"""What the claims of the papers come down to: each estimator turns the evidence into one effect with its interval.

A claim in ``config/papers`` names its estimator (``measure``), an entry of ``ESTIMATORS``. Time claims are judged in
reference time, which the machine's noise does not decide; measured time is in the note. Every effect is paired by
pre-training seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.early_stop import CHECKPOINT
from pldrepro.analysis.measurement import Measurement, at_least, at_most, estimate_note, join_notes, until_reached
from pldrepro.analysis.probe_claims import (
    gradient_preserving,
    random_dropping,
    upper_layers_refine,
    vanishing_gradients,
)
from pldrepro.analysis.reach import reach_loss, reach_speedup
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld_claims import (
    sbld_cloze_gain,
    sbld_convergence,
    sbld_lambada_gain,
    sbld_minimal_pairs_gain,
    sbld_over_pld,
    sbld_over_prior,
    sbld_over_prior_cloze,
    sbld_over_prior_minimal_pairs,
    sbld_over_prior_rank,
    sbld_rank_convergence,
    sbld_rank_gain,
    sbld_time_saving,
    sbld_top1_gain,
    sbld_top5_gain,
)
from pldrepro.analysis.similar import (
    cloze_comparable,
    comparable,
    minimal_pairs_comparable,
    speedup_at_similar,
    speedup_at_similar_cloze,
    speedup_at_similar_minimal_pairs,
)
from pldrepro.analysis.time_claims import speedup_equal_samples, time_saving
from pldrepro.config.arm import Role
from pldrepro.costs.flops import run_flops


def missing_arm(evidence: Evidence, estimator: str) -> str:
    """Why an estimator can find nothing: this study lacks the arm that it is about; empty when it has it."""
    role: Role = "sbld" if estimator in SBLD_ESTIMATORS else "pld"
    return "" if evidence.arm_with_role(role) in evidence.arms else f"no arm of role {role} in this study"


def _undropped_note(evidence: Evidence, measure: Callable[[str], Paired | None], digits: int, unit: str) -> str:
    """What the same model reaches without dropping: that part of the effect is not PLD's."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None or twin == evidence.baseline:
        return ""
    return estimate_note(f"without dropping ({evidence.label(twin)})", measure(twin), digits, unit)


def flops_saving(evidence: Evidence) -> Measurement:
    """Percent fewer FLOPs per sample than the baseline."""
    return Measurement(comparisons.saving_per_sample(evidence, evidence.pld, "flops"))


def speedup_to_baseline_loss(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to where it first reaches the baseline's final loss."""
    return _to_baseline_loss(evidence, "reference_time", percent=False)


def sample_saving_to_baseline_loss(evidence: Evidence) -> Measurement:
    """Percent fewer samples than the baseline's run until PLD first reaches the baseline's final loss."""
    return _to_baseline_loss(evidence, "samples", percent=True)


def _to_baseline_loss(evidence: Evidence, axis: str, percent: bool) -> Measurement:
    undropped = _undropped_note(
        evidence, lambda arm: _sooner(evidence, arm, axis, percent), *((1, "%") if percent else (2, "x"))
    )
    return until_reached(
        _sooner(evidence, evidence.pld, axis, percent),
        reach_loss(evidence, evidence.pld, axis),
        comparisons.loss_difference(evidence, evidence.pld, evidence.baseline),
        undropped,
    )


def _sooner(evidence: Evidence, arm: str, axis: str, percent: bool) -> Paired | None:
    """What an arm saves until it reaches the baseline's final loss: in percent, or as a speedup."""
    reach = reach_loss(evidence, arm, axis)
    if percent:
        return comparisons.ratio(((own, base) for base, own in reach.costs.values()), comparisons.percent_less)
    return reach_speedup(evidence, arm, axis, reach)


def _glue_gain(evidence: Evidence, checkpoint: str, other: str) -> Measurement:
    if (evidence.pld, checkpoint) not in evidence.finetuned:
        return Measurement(note=f"{evidence.pld} {checkpoint} was not fine-tuned")
    final = evidence.final_checkpoint(other)
    convention, note = comparisons.glue_convention(evidence)
    paired = comparisons.glue_gain(evidence, evidence.pld, checkpoint, other, final, convention)
    if not common_values(evidence, checkpoint, other, final):
        return Measurement(note=f"{other} {final} was not fine-tuned on the same tasks")
    return Measurement(
        paired, join_notes(coverage(common_values(evidence, checkpoint, other, final), convention), note)
    )


def coverage(names: Iterable[str], convention: str) -> str:
    """Over how many of its values a GLUE score in a convention is; empty when it is over all of them."""
    score = glue_scores.glue_scores(dict.fromkeys(names, 1.0))[convention]
    return "" if score.count == score.possible else f"over {score.note}"


def common_values(evidence: Evidence, checkpoint: str, other: str, final: str) -> set[str]:
    """Names of the values that PLD and another arm both have."""
    first, second = (
        {name for (arm, _, at), values in evidence.glue_values.items() if (arm, at) == key for name in values}
        for key in ((evidence.pld, checkpoint), (other, final))
    )
    return first & second


def glue_gain_final(evidence: Evidence) -> Measurement:
    """GLUE points above the baseline at the end of both runs."""
    return _glue_gain(evidence, evidence.final_checkpoint(evidence.pld), evidence.baseline)


def glue_comparable(evidence: Evidence) -> Measurement:
    """GLUE points above the baseline at the end, for the claim that PLD is not SIMILAR_POINTS below it or more."""
    return comparable(glue_gain_final(evidence))


def glue_gain_ckp100(evidence: Evidence) -> Measurement:
    """GLUE points above the finished baseline at PLD's checkpoint 100 of 186."""
    return _glue_gain(evidence, CHECKPOINT, evidence.baseline)


def glue_gain_over_undropped(evidence: Evidence) -> Measurement:
    """GLUE points above the same model that drops nothing."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None:
        return Measurement(note="no arm that differs from PLD only by not dropping layers")
    return _glue_gain(evidence, evidence.final_checkpoint(evidence.pld), twin)


def speedup_at_similar_glue(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to checkpoint 100, given that its GLUE score is similar."""
    return speedup_at_similar(evidence, glue_gain_ckp100(evidence), "GLUE")


def hurt_by_higher_rate(evidence: Evidence) -> Measurement:
    """Final loss of the baseline at PLD's learning rate minus that at its own [nats]; PLD must reach the latter."""
    higher = evidence.arm_with_role("baseline_higher_lr")
    if higher not in evidence.arms:
        return Measurement(note="the baseline at the higher learning rate is not an arm of this study")
    gap = comparisons.loss_difference(evidence, higher, evidence.baseline)
    own = comparisons.loss_difference(evidence, evidence.pld, evidence.baseline)
    note = estimate_note("PLD's final loss minus the baseline's", own, 3, "nats")
    return Measurement(gap, note, at_most(own))


def postln_dropping(evidence: Evidence) -> Measurement:
    """What dropping layers adds to PostLN's final loss minus what the same dropping adds to PreLN's [nats], by seed."""
    postln = evidence.runs(evidence.baseline)[0].summary.norm == "post"
    arms = dropped_twins(evidence, evidence.baseline) if postln else []
    if not arms:
        return Measurement(note="no arm that differs from a PostLN baseline by dropping layers only is in this study")
    pairs = [(arms[0], evidence.baseline), *_preln_dropping(evidence, arms[0])]
    gaps = [(one, twin, comparisons.loss_difference(evidence, one, twin)) for one, twin in pairs]
    texts = [
        estimate_note(f"{evidence.label(one)} minus {evidence.label(twin)}", gap, 3, "nats") for one, twin, gap in gaps
    ]
    if len(pairs) < 2:
        return Measurement(note=join_notes("no PreLN arm that drops in the same way is in this study", *texts))
    added = [comparisons.loss_by_seed(evidence, *pair) for pair in pairs[:2]]
    both = [(added[0][seed], added[1][seed]) for seed in added[0] if seed in added[1]]
    return Measurement(comparisons.difference(both), join_notes("final loss", *texts))


def dropped_twins(evidence: Evidence, arm: str) -> list[str]:
    """The arms that differ from one without dropping by dropping layers only: at a constant rate first."""
    twins = [other for other in evidence.methods if other != arm and evidence.undropped_twin(other) == arm]
    return sorted(twins, key=lambda other: evidence.runs(other)[0].settings.drop.schedule != "constant")


def _preln_dropping(evidence: Evidence, postln: str) -> list[tuple[str, str]]:
    """The PreLN arms that drop as a PostLN arm does, each with its twin without dropping; those at its rate first."""
    own = evidence.runs(postln)[0].settings
    settings = {arm: evidence.runs(arm)[0].settings for arm in evidence.methods}
    same = [arm for arm, one in settings.items() if one.model.norm == "pre" and one.drop == own.drop]
    same.sort(key=lambda arm: settings[arm].training.peak_learning_rate != own.training.peak_learning_rate)
    twins = [(arm, evidence.undropped_twin(arm)) for arm in same]
    return [(arm, twin) for arm, twin in twins if twin is not None]


def flops_at_the_limit(evidence: Evidence) -> Measurement:
    """Percent fewer FLOPs in the second half of PLD's run than without dropping, counted."""
    shares = []
    for run in evidence.runs(evidence.pld):
        half = next(line for line in run.validation if line.step >= run.summary.steps / 2)
        sequences = run.summary.samples - half.samples
        whole = run_flops(run.settings).of(run.summary.num_layers, sequences)
        shares.append((run.summary.flops - half.flops, whole))
    return Measurement(comparisons.ratio(shares, comparisons.percent_less), "in the second half of the run, counted")


# ---- fine-tuning along the run and over the grid, and the limit of theta ----


def rising_scores(evidence: Evidence) -> Measurement:
    """GLUE points from PLD's first fine-tuned checkpoint to its last, given that it passes the baseline."""
    points = [name for arm, name in evidence.finetuned if arm == evidence.pld]
    if len(points) < 2:
        return Measurement(note=f"a rise needs two fine-tuned checkpoints of PLD, there are {len(points)}")
    convention, note = comparisons.glue_convention(evidence)

    def rise(first: str, last: str) -> Paired | None:
        return comparisons.glue_gain(evidence, evidence.pld, last, evidence.pld, first, convention)

    steps = [(first, last) for first, last in pairwise(points) if len(points) > 2]
    texts = [estimate_note(f"{first} to {last}", rise(first, last), 1, "points") for first, last in steps]
    gain = glue_gain_final(evidence)
    passed = estimate_note("final GLUE minus the baseline's", gain.paired, 1, "points")
    note = join_notes(*texts, note)
    basis = f"the rise is from {points[0]} to {points[-1]}"
    return Measurement(rise(points[0], points[-1]), note, at_least(gain.paired, about=passed), basis=basis)


def robust_over_rates(evidence: Evidence) -> Measurement:
    """Spread of the baseline's fine-tuning scores over the learning-rate grid minus that of PLD's [points]."""
    if evidence.scores is None or evidence.scores["learning_rate"].nunique() < 2:
        return Measurement(note="fine-tuning ran at one learning rate")
    medians = comparisons.rate_medians(evidence, evidence.scores)
    tasks = medians[medians["quantity"] != "mean"]

    def spread(arm: str, seed: int) -> float | None:
        own = tasks[(tasks["arm"] == arm) & (tasks["seed"] == seed)].groupby("quantity")["value"]
        return None if not len(own) else float((own.max() - own.min()).mean())

    pairs = [
        (spread(evidence.baseline, base.seed), spread(evidence.pld, run.seed))
        for run, base in evidence.pairs(evidence.pld, evidence.baseline)
    ]
    known = [(first, second) for first, second in pairs if first is not None and second is not None]
    return Measurement(comparisons.difference(known), "best minus worst rate of the grid, mean over tasks")


def small_theta_bar(evidence: Evidence) -> Measurement:
    """Final loss at the smallest theta_bar below PLD's minus that at PLD's own [nats]; the others in words."""
    limits = evidence.theta_arms
    own = limits[evidence.pld]
    smaller = [arm for arm in limits if limits[arm] < own]
    if not smaller:
        return Measurement(note="no arm with a theta_bar below PLD's is in this study")
    texts = [
        estimate_note(
            f"{limits[arm]:g} minus {own:g}", comparisons.loss_difference(evidence, arm, evidence.pld), 3, "nats"
        )
        for arm in limits
        if arm not in (evidence.pld, smaller[0])
    ]
    gap = comparisons.loss_difference(evidence, smaller[0], evidence.pld)
    return Measurement(gap, basis=join_notes(f"final loss, theta_bar {limits[smaller[0]]:g} minus {own:g}", *texts))


PLD_ESTIMATORS: dict[str, Callable[[Evidence], Measurement]] = {
    estimator.__name__: estimator
    for estimator in (
        time_saving, flops_saving, speedup_equal_samples, speedup_to_baseline_loss, sample_saving_to_baseline_loss,
        glue_gain_final, glue_comparable, glue_gain_ckp100, glue_gain_over_undropped, speedup_at_similar_glue,
        minimal_pairs_comparable, cloze_comparable, speedup_at_similar_minimal_pairs, speedup_at_similar_cloze,
        hurt_by_higher_rate, postln_dropping, flops_at_the_limit, vanishing_gradients, gradient_preserving,
        upper_layers_refine, random_dropping, rising_scores, robust_over_rates, small_theta_bar,
    )
}  # fmt: skip
SBLD_ESTIMATORS: dict[str, Callable[[Evidence], Measurement]] = {
    estimator.__name__: estimator
    for estimator in (
        sbld_time_saving, sbld_lambada_gain, sbld_top1_gain, sbld_top5_gain, sbld_over_pld, sbld_over_prior,
        sbld_convergence, sbld_minimal_pairs_gain, sbld_cloze_gain, sbld_over_prior_minimal_pairs,
        sbld_over_prior_cloze, sbld_rank_gain, sbld_over_prior_rank, sbld_rank_convergence,
    )
}  # fmt: skip
ESTIMATORS = PLD_ESTIMATORS | SBLD_ESTIMATORS
