"""Claims of the PLD paper on what is measured on checkpoints: gradients, what a layer does, lesions."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from pldrepro.analysis import comparisons
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.measurement import Measurement, at_most, estimate_note, join_notes
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import estimate_text
from pldrepro.stats import geometric_interval, mean_interval

NOT_EARLY = Measurement(note="PostLN and PreLN were not both probed early in training")
NOT_PROBED = Measurement(note="the checkpoints of PostLN and PreLN were not both probed")


def preln_arm(evidence: Evidence) -> str | None:
    """The probed PreLN arm that drops nothing: at the baseline's learning rate where there is one."""
    arms = (evidence.arm_with_role("preln"), evidence.arm_with_role("preln_higher_lr"))
    return next((arm for arm in arms if arm in evidence.probed), None)


def _probed_pair(evidence: Evidence) -> tuple[str, str] | None:
    """The baseline and the PreLN arm, where both were probed."""
    preln = preln_arm(evidence)
    return None if preln is None or evidence.baseline not in evidence.probed else (evidence.baseline, preln)


def _early_pair(evidence: Evidence) -> tuple[str, str] | None:
    """The baseline and the PreLN arm that were probed early in training, if both were."""
    arms = {run.summary.norm: run.summary.arm for run in reversed(evidence.early)}
    return (arms["post"], arms["pre"]) if {"post", "pre"} <= arms.keys() else None


def _by_seed(frame: pd.DataFrame, arm: str) -> dict[int, pd.DataFrame]:
    own = frame[frame["arm"] == arm]
    return {int(seed): own[own["seed"] == seed] for seed in own["seed"].unique()}


def _paired_effect(
    frame: pd.DataFrame, arms: tuple[str, str], effect: Callable[[pd.DataFrame], float]
) -> list[tuple[float, float]]:
    """The effect in the first and in the second arm, for each seed that both have."""
    first, second = (_by_seed(frame, arm) for arm in arms)
    return [(effect(first[seed]), effect(second[seed])) for seed in first if seed in second]


def _last_over_first(part: pd.DataFrame) -> float:
    """Gradient norm of the last layer over that of the first, geometric mean over steps."""
    first, last = (part[part["layer"] == layer]["value"].map(math.log) for layer in (1, part["num_layers"].iloc[0]))
    return math.exp(last.mean() - first.mean())


def _by_step(
    frame: pd.DataFrame,
    arms: tuple[str, str],
    effect: Callable[[pd.DataFrame], float],
    text: Callable[[list[float]], str],
) -> list[str]:
    """The effect at each probed step, in words: the first arm's mean over seeds and the second's."""
    texts = []
    for step, part in frame.groupby("step"):
        first, second = (text(list(values)) for values in zip(*_paired_effect(part, arms, effect), strict=True))
        texts.append(f"step {step}: {first} and {second}")
    return texts


def vanishing_gradients(evidence: Evidence) -> Measurement:
    """PostLN's gradient norm at the last layer over that at the first, early on; PreLN's must be nearer to 1."""
    arms = _early_pair(evidence)
    if arms is None:
        return NOT_EARLY
    frame = evidence.early_results
    frame = frame[(frame["quantity"] == "gradient_norm") & (frame["part"] == "block")]
    pairs = _paired_effect(frame, arms, _last_over_first)
    farther = comparisons.difference((abs(math.log(second)), abs(math.log(first))) for first, second in pairs)
    texts = _by_step(frame, arms, _last_over_first, lambda values: estimate_text(geometric_interval(values), 2))
    basis = f"norm of the last layer's gradient over the first's, PostLN and PreLN: {', '.join(texts)}"
    effect = comparisons.ratio((first, 1.0) for first, _ in pairs)
    return Measurement(effect, early_note(evidence), at_most(farther), basis=basis)


def early_note(evidence: Evidence) -> str:
    """What runs the early probes are of."""
    summary = evidence.early[0].summary
    return f"mean over all probed steps of runs with {summary.num_layers} layers, {summary.num_steps} steps long"


def _log_distance(part: pd.DataFrame) -> float:
    """Mean |ln ratio| over layers and steps."""
    return float(part["value"].map(math.log).abs().mean())


def gradient_preserving(evidence: Evidence) -> Measurement:
    """How much farther from 1 PostLN's gradient-preserving ratios are than PreLN's, early on: mean |ln ratio|."""
    arms = _early_pair(evidence)
    if arms is None:
        return NOT_EARLY
    frame = evidence.early_results
    frame = frame[frame["quantity"] == "gradient_ratio"]
    texts = _by_step(frame, arms, _log_distance, lambda values: estimate_text(mean_interval(values), 3))
    note = join_notes(early_note(evidence), "|ln ratio|, PostLN and PreLN", *texts)
    return Measurement(comparisons.difference(_paired_effect(frame, arms, _log_distance)), note)


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
    others = frame[lower & (frame["layer"] > 1)].groupby("seed")["value"].mean()
    rest = comparisons.difference((others[seed], means[1][seed]) for seed in others.index)
    note = estimate_note("without the first block, which reads the embeddings", rest, 1, "degrees")
    above = mean_interval([means[1][seed] for seed in means[1].index])
    basis = join_notes(
        evidence.label(arm), f"the upper half turns its input by {estimate_text(above, 1)} degrees a layer", note
    )
    return Measurement(comparisons.difference(pairs), basis=basis)


def _last(frame: pd.DataFrame, arm: str) -> pd.DataFrame:
    """The rows of an arm's last probed checkpoint."""
    own = frame[frame["arm"] == arm]
    return own[own["share"] == own["share"].max()]


def lesion(evidence: Evidence) -> Paired | None:
    """Loss that random lesions of the last checkpoint cost PostLN minus what they cost PreLN [nats]."""
    arms = _probed_pair(evidence)
    if arms is None:
        return None
    frame = pd.concat([_last(evidence.probe_results, arm) for arm in arms])
    frame = frame[(frame["quantity"] == "loss") & (frame["text"] == "all")]

    def increase(part: pd.DataFrame) -> float:
        means = part.groupby("selection")["value"].mean()
        return float(means["lesion"] - means["all"])

    return comparisons.difference(_paired_effect(frame, arms, increase))


def random_dropping(evidence: Evidence) -> Measurement:
    """Loss that training with half the layers at random costs PostLN minus what it costs PreLN [nats], by seed.

    Each against the same model trained with all layers; mean over the learning rates at which all four were trained.
    The lesion of a finished checkpoint is another reading of Figure 4, which is shown with the number.
    """
    lesioned = estimate_note(
        "layers removed at random from the finished models instead, PostLN minus PreLN", lesion(evidence), 2, "nats"
    )
    notes: list[str] = []
    found: dict[tuple[str, str], dict[int, float]] = {}
    for arm, twin in random_arms(evidence).items():
        settings = evidence.runs(arm)[0].settings
        found[settings.training.learning_rate, settings.model.norm] = comparisons.loss_by_seed(evidence, arm, twin)
        name = f"{evidence.label(arm)} minus {evidence.label(twin)}"
        notes.append(estimate_note(name, comparisons.loss_difference(evidence, arm, twin), 2, "nats"))
    rates = [rate for rate, norm in found if norm == "post" and (rate, "pre") in found]
    seeds = [seed for rate in rates for norm in ("post", "pre") for seed in found[rate, norm]]
    common = sorted({seed for seed in seeds if seeds.count(seed) == 2 * len(rates)})
    if not common:
        missing = "no pair of arms was trained with half the layers at random"
        return Measurement(note=join_notes(missing, lesioned, *notes))
    means = {norm: [sum(found[rate, norm][seed] for rate in rates) / len(rates) for seed in common]
             for norm in ("post", "pre")}  # fmt: skip
    at = "" if len(rates) == 1 else f"mean over {len(rates)} learning rates"
    effect = comparisons.difference(zip(means["post"], means["pre"], strict=True))
    return Measurement(effect, join_notes(*notes), basis=join_notes(at, lesioned))


def random_arms(evidence: Evidence) -> dict[str, str]:
    """The arms that keep every layer with probability 1/2 in all of their training -> the same model undropped."""
    twins = {
        arm: evidence.undropped_twin(arm)
        for arm in evidence.methods
        if (drop := evidence.runs(arm)[0].settings.drop).schedule == "constant"
        and (drop.allocation, drop.theta_bar) == ("uniform", 0.5)
    }
    return {arm: twin for arm, twin in twins.items() if twin is not None}
