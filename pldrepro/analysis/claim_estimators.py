"""What the claims of the papers come down to: each measure turns the evidence into one effect with its interval.

A claim in ``config/papers`` names its measure. Time claims are judged in reference time (the machine's noise does not
decide them); measured time stands in the note. Every effect is paired by pre-training seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pldrepro.analysis import comparisons, glue_scores
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import accuracy_change, accuracy_gain, accuracy_pairs, analysis_share, time_saved
from pldrepro.analysis.text import FAMILIES, estimate_text, number
from pldrepro.analysis.tidy import estimate_of
from pldrepro.config.arm import Role
from pldrepro.costs.flops import recorded_step_flops

# "Similar accuracy": not more than this many GLUE points below the baseline, by the lower limit of the interval.
SIMILAR_GLUE_POINTS = 1.0
# A model that gets fewer last words of LAMBADA right is at the floor: its accuracy says nothing of a method.
FEW_RIGHT = 10


@dataclass(frozen=True)
class Measurement:
    """What a measure found.

    ``premise``: what the claim takes for granted (e.g. that the loss is reached at all) holds, is open, or fails.
    """

    paired: Paired | None = None
    note: str = ""
    premise: Literal["holds", "open", "fails"] = "holds"


def missing_arm(evidence: Evidence, measure: str) -> str:
    """Why a measure can find nothing: this study lacks the arm that it is about; empty when it has it."""
    role: Role = "sbld" if measure in SBLD_MEASURES else "pld"
    return "" if evidence.arm_with_role(role) in evidence.arms else f"no arm of role {role} in this study"


def _estimate_note(name: str, paired: Paired | None, digits: int, unit: str) -> str:
    return "" if paired is None else f"{name}: {estimate_text(paired.estimate, digits)} {unit}"


def join_notes(*notes: str) -> str:
    """The notes that say something, as one."""
    return "; ".join(note for note in notes if note)


def _undropped_note(evidence: Evidence, measure: Callable[[str], Paired | None], digits: int, unit: str) -> str:
    """What the same model reaches without dropping: that part of the effect is not PLD's."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None or twin == evidence.baseline:
        return ""
    return _estimate_note(f"without dropping ({evidence.label(twin)})", measure(twin), digits, unit)


def _skipping_note(evidence: Evidence) -> str:
    """What skipping alone saves: the comparison with the same model without dropping."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None:
        return ""
    saving = comparisons.saving_per_sample(evidence, evidence.pld, "reference_time", against=twin)
    return _estimate_note("against the same model without dropping", saving, 1, "%")


def time_saving(evidence: Evidence) -> Measurement:
    """Percent less reference time per sample than the baseline."""
    return Measurement(
        comparisons.saving_per_sample(evidence, evidence.pld, "reference_time"),
        join_notes(
            "reference time",
            _estimate_note(
                "measured time", comparisons.saving_per_sample(evidence, evidence.pld, "measured_time"), 1, "%"
            ),
            _skipping_note(evidence),
        ),
    )


def flops_saving(evidence: Evidence) -> Measurement:
    """Percent fewer FLOPs per sample than the baseline."""
    return Measurement(comparisons.saving_per_sample(evidence, evidence.pld, "flops"))


def speedup_equal_samples(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over that of PLD's run with as many samples."""
    return Measurement(
        comparisons.speedup(evidence, evidence.pld, "reference_time"),
        join_notes(
            "reference time",
            _estimate_note("measured time", comparisons.speedup(evidence, evidence.pld, "measured_time"), 2, "x"),
            _undropped_note(evidence, lambda arm: comparisons.speedup(evidence, arm, "reference_time"), 2, "x"),
        ),
    )


def speedup_to_baseline_loss(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to where it first reaches the baseline's final loss."""
    return _to_baseline_loss(evidence, "reference_time", percent=False)


def sample_saving_to_baseline_loss(evidence: Evidence) -> Measurement:
    """Percent fewer samples than the baseline's run until PLD first reaches the baseline's final loss."""
    return _to_baseline_loss(evidence, "samples", percent=True)


def _to_baseline_loss(evidence: Evidence, axis: str, percent: bool) -> Measurement:
    reach = comparisons.reach_loss(evidence, evidence.pld, axis)
    paired, reached, pairs = _sooner(evidence, evidence.pld, axis, percent), reach.reached, len(reach.costs)
    undropped = _undropped_note(
        evidence, lambda arm: _sooner(evidence, arm, axis, percent), *((1, "%") if percent else (2, "x"))
    )
    if reached == pairs:
        return Measurement(paired, undropped)
    gap = comparisons.loss_difference(evidence, evidence.pld, evidence.baseline)
    note = (
        f"the baseline's final loss was reached in {reached} of {pairs} runs; the others count with their whole run, "
        f"a bound; {_estimate_note('final loss minus baseline', gap, 3, 'nats')}"
    )
    return Measurement(
        paired, join_notes(note, undropped), "fails" if premise_of(gap, 0.0) == "fails" and not reached else "open"
    )


def _sooner(evidence: Evidence, arm: str, axis: str, percent: bool) -> Paired | None:
    """What an arm saves until it reaches the baseline's final loss: in percent, or as a speedup."""
    reach = comparisons.reach_loss(evidence, arm, axis)
    if percent:
        return comparisons.ratio(((own, base) for base, own in reach.costs.values()), comparisons.percent_less)
    return comparisons.reach_speedup(evidence, arm, axis, reach)


def _glue_gain(evidence: Evidence, checkpoint: str, other: str) -> Measurement:
    if (evidence.pld, checkpoint) not in evidence.finetuned:
        return Measurement(note=f"{evidence.pld} {checkpoint} was not fine-tuned")
    final = evidence.final_checkpoint(other)
    convention, note = comparisons.glue_convention(evidence)
    paired = comparisons.glue_gain(evidence, evidence.pld, checkpoint, other, final, convention)
    count = len(common_values(evidence, checkpoint, other, final))
    if not count:
        return Measurement(note=f"{other} {final} was not fine-tuned on the same tasks")
    missing = "" if count == len(glue_scores.VALUES) else f"over {count} of {len(glue_scores.VALUES)} values"
    return Measurement(paired, join_notes(missing, note))


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


def glue_gain_ckp100(evidence: Evidence) -> Measurement:
    """GLUE points above the finished baseline at PLD's checkpoint 100 of 186."""
    return _glue_gain(evidence, "ckp100", evidence.baseline)


def glue_gain_over_undropped(evidence: Evidence) -> Measurement:
    """GLUE points above the same model that drops nothing."""
    twin = evidence.undropped_twin(evidence.pld)
    if twin is None:
        return Measurement(note="no arm that differs from PLD by not dropping layers alone")
    return _glue_gain(evidence, evidence.final_checkpoint(evidence.pld), twin)


def speedup_at_similar_glue(evidence: Evidence) -> Measurement:
    """Reference time of the baseline's run over PLD's up to checkpoint 100, given that its GLUE score is similar."""
    gain = glue_gain_ckp100(evidence)
    if gain.paired is None:
        return gain
    note = (
        f"similar: the GLUE difference is not below −{SIMILAR_GLUE_POINTS:g} point by its lower limit; "
        f"here {estimate_text(gain.paired.estimate, 1)}"
    )
    speedup = comparisons.speedup(evidence, evidence.pld, "reference_time", "ckp100")
    return Measurement(speedup, join_notes(note, gain.note), premise_of(_shortfall(gain), SIMILAR_GLUE_POINTS))


def hurt_by_higher_rate(evidence: Evidence) -> Measurement:
    """Final loss of the baseline at PLD's learning rate minus that at its own [nats]; PLD must reach the latter."""
    higher = evidence.arm_with_role("baseline_higher_lr")
    if higher not in evidence.arms:
        return Measurement(note="the baseline at the higher learning rate is not an arm of this study")
    gap = comparisons.loss_difference(evidence, higher, evidence.baseline)
    own = comparisons.loss_difference(evidence, evidence.pld, evidence.baseline)
    note = _estimate_note("PLD's final loss minus the baseline's", own, 3, "nats")
    return Measurement(gap, note, premise_of(own, 0.0))


def premise_of(difference: Paired | None, most: float) -> Literal["holds", "open", "fails"]:
    """Whether a difference is at most ``most``: by its upper limit it holds, by its lower limit it fails."""
    if difference is None or difference.estimate.high is None or difference.estimate.low is None:
        return "open"
    if difference.estimate.high <= most:
        return "holds"
    return "fails" if difference.estimate.low > most else "open"


def _shortfall(gain: Measurement) -> Paired | None:
    """A gain with its sign turned: by how much it falls short of 0."""
    return None if gain.paired is None else comparisons.difference((-effect, 0.0) for effect in gain.paired.effects)


def flops_at_the_limit(evidence: Evidence) -> Measurement:
    """Percent fewer FLOPs in the second half of PLD's run than without dropping, counted."""
    shares = []
    for run in evidence.runs(evidence.pld):
        half = next(line for line in run.validation if line["step"] >= run.summary["steps"] / 2)
        sequences = run.summary["samples"] - half["samples"]
        whole = recorded_step_flops(run.settings).of(run.summary["num_layers"], sequences)
        shares.append((run.summary["flops"] - half["flops"], whole))
    return Measurement(comparisons.ratio(shares, comparisons.percent_less), "in the second half of the run, counted")


# ---- probes ----


def preln_arm(evidence: Evidence) -> str | None:
    """The probed PreLN arm that drops nothing: at the baseline's learning rate where there is one."""
    arms = (evidence.arm_with_role("preln"), evidence.arm_with_role("preln_higher_lr"))
    return next((arm for arm in arms if arm in evidence.probed), None)


def _probed_pair(evidence: Evidence) -> tuple[str, str] | None:
    """The baseline and the PreLN arm, where both were probed."""
    preln = preln_arm(evidence)
    return None if preln is None or evidence.baseline not in evidence.probed else (evidence.baseline, preln)


NOT_PROBED = Measurement(note="the checkpoints of PostLN and PreLN were not both probed")


def _by_seed(frame: pd.DataFrame, arm: str) -> dict[int, pd.DataFrame]:
    own = frame[frame["arm"] == arm]
    return {int(seed): own[own["seed"] == seed] for seed in own["seed"].unique()}


def _paired_effect(
    frame: pd.DataFrame, arms: tuple[str, str], effect: Callable[[pd.DataFrame], float]
) -> list[tuple[float, float]]:
    """The effect in the first and in the second arm, for each seed that both have."""
    first, second = (_by_seed(frame, arm) for arm in arms)
    return [(effect(first[seed]), effect(second[seed])) for seed in first if seed in second]


def vanishing_gradients(evidence: Evidence) -> Measurement:
    """PostLN's gradient norm at the last layer over that at the first; PreLN's must be nearer to 1."""
    arms = _probed_pair(evidence)
    if arms is None:
        return NOT_PROBED
    frame = evidence.probe_results
    frame = frame[(frame["quantity"] == "gradient_norm") & (frame["part"] == "block")]

    def last_over_first(part: pd.DataFrame) -> float:
        first, last = (part[part["layer"] == layer]["value"].map(math.log) for layer in (1, part["num_layers"].iloc[0]))
        return math.exp(last.mean() - first.mean())

    pairs = _paired_effect(frame, arms, last_over_first)
    preln = _estimate_note(
        f"{evidence.label(arms[1])}", comparisons.ratio((second, 1.0) for _, second in pairs), 2, "x"
    )
    farther = comparisons.difference((abs(math.log(second)), abs(math.log(first))) for first, second in pairs)
    note = join_notes("last layer over first, geometric mean over checkpoints", preln)
    return Measurement(comparisons.ratio((first, 1.0) for first, _ in pairs), note, premise_of(farther, 0.0))


def gradient_preserving(evidence: Evidence) -> Measurement:
    """How much farther from 1 PostLN's gradient-preserving ratios are than PreLN's: mean |ln ratio|, difference."""
    arms = _probed_pair(evidence)
    if arms is None:
        return NOT_PROBED
    frame = evidence.probe_results
    frame = frame[frame["quantity"] == "gradient_ratio"]
    pairs = _paired_effect(frame, arms, lambda part: float(part["value"].map(math.log).abs().mean()))
    preln = comparisons.ratio((math.exp(second), 1.0) for _, second in pairs)
    note = _estimate_note("PreLN's typical factor from 1", preln, 2, "x")
    return Measurement(comparisons.difference(pairs), join_notes("mean |ln ratio| over layers and checkpoints", note))


def upper_layers_refine(evidence: Evidence) -> Measurement:
    """Mean angle between input and output of PreLN's lower half of layers minus that of its upper half, at the end."""
    arm = preln_arm(evidence)
    if arm is None:
        return Measurement(note="the checkpoints of PreLN were not probed")
    frame = _last(evidence.probe_results, arm)
    frame = frame[frame["quantity"] == "angle"]
    lower = frame["layer"] < (frame["num_layers"] + 1) / 2
    upper = frame["layer"] > (frame["num_layers"] + 1) / 2
    means = [part.groupby("seed")["value"].mean() for part in (frame[lower], frame[upper])]
    pairs = [(means[0][seed], means[1][seed]) for seed in means[0].index]
    return Measurement(
        comparisons.difference(pairs), f"{evidence.label(arm)}, lower half of the layers minus upper half"
    )


def _last(frame: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The rows of an arm's last probed checkpoint."""
    own = frame[frame["arm"] == arm]
    return own[own["share"] == own["share"].max()]


def lesion(evidence: Evidence) -> Measurement:
    """Loss that random lesions cost PostLN minus what they cost PreLN, at the end of the run [nats]."""
    arms = _probed_pair(evidence)
    if arms is None:
        return NOT_PROBED
    frame = pd.concat([_last(evidence.probe_results, arm) for arm in arms])
    frame = frame[(frame["quantity"] == "loss") & (frame["text"] == "all")]

    def increase(part: pd.DataFrame) -> float:
        means = part.groupby("selection")["value"].mean()
        return float(means["lesion"] - means["all"])

    pairs = _paired_effect(frame, arms, increase)
    texts = [
        _estimate_note(evidence.label(arm), comparisons.difference((pair[at], 0.0) for pair in pairs), 2, "nats")
        for at, arm in enumerate(arms)
    ]
    return Measurement(comparisons.difference(pairs), join_notes("loss increase by the same draws", *texts))


# ---- fine-tuning along the run and over the grid, and the limit of theta ----


def rising_scores(evidence: Evidence) -> Measurement:
    """GLUE points from PLD's first fine-tuned checkpoint to its last, given that it passes the baseline."""
    points = [name for arm, name in evidence.finetuned if arm == evidence.pld]
    if len(points) < 2:
        return Measurement(note="PLD was not fine-tuned at several checkpoints")
    convention, note = comparisons.glue_convention(evidence)
    rise = comparisons.glue_gain(evidence, evidence.pld, points[-1], evidence.pld, points[0], convention)
    gain = glue_gain_final(evidence)
    passed = _estimate_note("at the end, above the baseline", gain.paired, 1, "points")
    return Measurement(
        rise, join_notes(f"from {points[0]} to {points[-1]}", passed, note), premise_of(_shortfall(gain), 0.0)
    )


def robust_over_rates(evidence: Evidence) -> Measurement:
    """Spread of the baseline's fine-tuning scores over the learning-rate grid minus that of PLD's [points]."""
    if evidence.scores is None or evidence.scores["learning_rate"].nunique() < 2:
        return Measurement(note="fine-tuning ran at one learning rate")
    medians = comparisons.rate_medians(evidence, evidence.scores)
    tasks = medians[medians["panel"] != "mean"]

    def spread(arm: str, seed: int) -> float | None:
        own = tasks[(tasks["arm"] == arm) & (tasks["seed"] == seed)].groupby("panel")["value"]
        return None if not len(own) else float((own.max() - own.min()).mean())

    pairs = [
        (spread(evidence.baseline, base.seed), spread(evidence.pld, run.seed))
        for run, base in evidence.pairs(evidence.pld, evidence.baseline)
    ]
    known = [(first, second) for first, second in pairs if first is not None and second is not None]
    return Measurement(comparisons.difference(known), "best minus worst rate of the grid, mean over tasks")


def small_theta_bar(evidence: Evidence) -> Measurement:
    """Final loss at the smallest theta_bar below PLD's minus that at PLD's own [nats]; the larger ones in the note."""
    limits = evidence.theta_arms
    own = limits[evidence.pld]
    smaller = [arm for arm in limits if limits[arm] < own]
    if not smaller:
        return Measurement(note="no arm with a theta_bar below PLD's is in this study")
    texts = [
        _estimate_note(
            f"{limits[arm]:g} minus {own:g}", comparisons.loss_difference(evidence, arm, evidence.pld), 3, "nats"
        )
        for arm in limits
        if limits[arm] > own
    ]
    gap = comparisons.loss_difference(evidence, smaller[0], evidence.pld)
    return Measurement(gap, join_notes(f"final loss, theta_bar {limits[smaller[0]]:g} minus {own:g}", *texts))


# ---- SBLD (our reading) ----


def same_samples(evidence: Evidence, arm: str, other: str) -> Literal["holds", "open"]:
    """The premise of a comparison of whole runs: that both arms trained on as many samples."""
    pairs = evidence.pairs(arm, other)
    return "holds" if all(run.summary["samples"] == base.summary["samples"] for run, base in pairs) else "open"


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
            _estimate_note("measured time", time_saved(evidence, sbld, base, "measured_time"), 1, "%"),
            _estimate_note("final loss minus baseline", gap, 3, "nats"),
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
        _estimate_note(
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
    passages = {(one.summary["arm"], one.summary["seed"]): one.summary["passages"] for one in evidence.lambada}
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
        number(sum(run.summary["mean_kept_layers"] for run in evidence.runs(arm)) / len(evidence.runs(arm)), 2)
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


PLD_MEASURES: dict[str, Callable[[Evidence], Measurement]] = {
    measure.__name__: measure
    for measure in (
        time_saving, flops_saving, speedup_equal_samples, speedup_to_baseline_loss, sample_saving_to_baseline_loss,
        glue_gain_final, glue_gain_ckp100, glue_gain_over_undropped, speedup_at_similar_glue, hurt_by_higher_rate,
        flops_at_the_limit, vanishing_gradients, gradient_preserving, upper_layers_refine, lesion, rising_scores,
        robust_over_rates, small_theta_bar,
    )
}  # fmt: skip
SBLD_MEASURES: dict[str, Callable[[Evidence], Measurement]] = {
    measure.__name__: measure
    for measure in (sbld_time_saving, sbld_lambada_gain, sbld_top1_gain, sbld_top5_gain, sbld_over_pld)
}
MEASURES = PLD_MEASURES | SBLD_MEASURES
