"""How much sooner an arm reaches what the baseline reaches, and which change that is due to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from pldrepro.analysis import comparisons, contrasts, floors, word_rank
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reach import Reach, reach_glue, reach_loss, reach_speedup
from pldrepro.analysis.reported import Paper, Reported
from pldrepro.analysis.results import AXES, Evidence
from pldrepro.analysis.tidy import claimed, estimate_of, tidy, tidy_row
from pldrepro.config.arm import Role
from pldrepro.stats import Estimate

# The checkpoint at which the paper says that PLD has a target.
REPORTED = {"loss": "ckp87", "glue": "ckp100"}
# The claim with that speedup.
CLAIMS = {"loss": "speedup_same_loss", "glue": "speedup_similar_accuracy"}
PER_SAMPLE = "reference_time_per_sample"
# Notes of a factor that is a bound, because runs that never get there count with their whole run; it has no interval.
AT_MOST = "at most: some runs never get there"
AT_LEAST = "at least: some runs of what it is compared with never get there"
UNKNOWN = "not known: some runs of either never get there"


def targets(evidence: Evidence) -> dict[str, str]:
    """What is to be reached, and its name: the loss, and each score that the floor rule lets judge."""
    return {target: name for target, (name, floor) in _candidates(evidence).items() if not floor}


def not_judged(evidence: Evidence) -> dict[str, str]:
    """The name of each score that sets no target -> why it is at its floor."""
    return {name: floor for name, floor in _candidates(evidence).values() if floor}


def _candidates(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """Target -> its name, and why it judges nothing (empty where it judges)."""
    found = {"loss": ("the baseline's final validation loss", "")}
    if evidence.family == "bert":
        found["glue"] = "the baseline's final GLUE score", floors.glue_floor(evidence)
    for score in contrasts.scores(evidence):
        name = f"the baseline's final score on {contrasts.title(score)}"
        found[score] = name, floors.contrast_floor(evidence, score)
    if word_rank.finals(evidence, evidence.baseline):
        found[word_rank.RANK] = f"the baseline's final {word_rank.TITLE}", floors.rank_floor(evidence)
    return found


def reach(evidence: Evidence, arm: str, target: str, axis: str) -> Reach:
    """How soon an arm reaches a target."""
    if target == "loss":
        return reach_loss(evidence, arm, axis)
    if target == "glue":
        return reach_glue(evidence, arm, axis, comparisons.glue_convention(evidence)[0])
    if target == word_rank.RANK:
        return word_rank.reach(evidence, arm, axis)
    return contrasts.reach(evidence, target, arm, axis)


def bounded(estimate: Estimate | None, note: str) -> Estimate | None:
    """An estimate; without its interval where it is a bound."""
    return replace(estimate, low=None, high=None, values=()) if estimate and note else estimate


def time_to_target(evidence: Evidence, paper: Paper) -> pd.DataFrame:
    """How soon each arm has what the baseline has at its end, as a speedup over the baseline's whole run.

    For each target T of ``targets``: reached_T [runs, of n]; speedup_to_T [x] on each axis, paired by seed, in which a
    run that never gets there counts with its whole run, a bound without an interval; then the decomposition of PLD's
    speedup: step_to_T [x], of the arm that a step ends at, and total_to_T. The paper's values stand with the first
    study; of a study of GPT that is shown with it there are no steps.
    """
    rows: list[dict[str, Any]] = []
    for study in studies(evidence):
        for target in targets(study):
            for arm in study.methods:
                rows += _target_rows(study, paper if study is evidence else None, arm, target)
    for target in targets(evidence):
        rows += _step_rows(evidence, paper, target)
    return tidy(rows)


def studies(evidence: Evidence) -> list[Evidence]:
    """This study, and those of GPT that are shown with it."""
    return [evidence, *(other for other in evidence.others if other.family == "gpt")]


def _target_rows(evidence: Evidence, paper: Paper | None, arm: str, target: str) -> list[dict[str, Any]]:
    final = evidence.final_checkpoint(arm)
    found = {axis: reach(evidence, arm, target, axis) for axis in AXES}
    count = found["samples"]
    if not count.costs:
        return []
    reported = reported_factors(paper, target) if paper and evidence.paper_arm(arm) == "pld" else {}
    reached = Estimate(count.reached, None, None, len(count.costs), "count")
    rows = [tidy_row(evidence, arm, final, f"reached_{target}", reached, unit="runs")]
    note = "" if count.reached == len(count.costs) else AT_MOST
    for axis, one in found.items():
        speedup = bounded(estimate_of(reach_speedup(evidence, arm, axis, one)), note)
        value = reported.get("reference_time" if axis == "measured_time" else axis)
        rows.append(
            tidy_row(evidence, arm, final, f"speedup_to_{target}", speedup, unit="x", cost_axis=axis, reported=value,
                     note=note)
        )  # fmt: skip
    return rows


def reported_factors(paper: Paper, target: str) -> dict[str, Reported]:
    """The paper's speedup of PLD to a target, and two factors derived of it: fewer samples, less time per sample.

    The speedup is that of the claim, which is quoted in more places than the row of the table.
    """
    if target not in REPORTED:
        return {}
    table = paper.tables["table1"]
    row = table.row("pld", REPORTED[target])
    speedup, reduction = claimed(paper, CLAIMS[target]), table.reported(row, "sample_reduction")
    if speedup is None or reduction is None:
        return {}
    samples = 1 / (1 - reduction.value / 100)
    parts = {"samples": samples, PER_SAMPLE: speedup.value / samples}
    # What is computed from an unverified value is unverified as well.
    mark = "unverified" if "unverified" in (speedup.provenance, reduction.provenance) else "derived"
    derived = {"where": table.where, "provenance": mark, "note": "from the speedup and the sample reduction"}
    return {
        **{name: speedup.model_copy(update={**derived, "value": value}) for name, value in parts.items()},
        "reference_time": speedup,
    }


# ---- PLD's speedup, step by step ----

# Role of an arm -> what it changes against the one before it; the last step is PLD's own.
CHANGES: dict[Role, str] = {"preln": "PreLN", "preln_higher_lr": "the higher learning rate", "pld": "dropping layers"}


@dataclass(frozen=True)
class Step:
    """One step from an arm to the next: what changed, and by what factor its parts made the target cheaper.

    ``bound``: whether its factors in samples and time are bounds, in words; empty: they are not.
    """

    change: str
    arm: str
    factors: dict[str, Paired | None]
    reached: int
    n: int
    bound: str = ""


def chain(evidence: Evidence) -> list[str]:
    """The arms from the baseline to PLD, those of them that this study has; empty without PLD."""
    arms = [evidence.baseline, *map(evidence.arm_with_role, CHANGES)]
    return [arm for arm in arms if arm in evidence.arms] if evidence.pld in evidence.arms else []


def joined_changes(evidence: Evidence) -> list[tuple[Role, str, str]]:
    """Role and arm after each step from the baseline to PLD, and what it changes.

    What an arm that is not in the study would have separated is one step together with the next; what two arms share (a
    GPT's baseline is PreLN, too) is no change.
    """
    found, before = [], _settings(evidence, evidence.baseline)
    for role, change in CHANGES.items():
        if (arm := evidence.arm_with_role(role)) in evidence.arms:
            after = _settings(evidence, arm)
            changes = [name for name in CHANGES.values() if before.get(name) != after.get(name)]
            found.append((role, arm, " and ".join(changes or [change])))
            before = after
    return found


def _settings(evidence: Evidence, arm: str) -> dict[str, object]:
    """What each of CHANGES is about, of an arm's first run."""
    settings = evidence.runs(arm)[0].settings
    about = getattr(settings.model, "norm", None), settings.training.learning_rate, settings.drop.schedule
    return dict(zip(CHANGES.values(), about, strict=True))


def decompose(evidence: Evidence, target: str) -> list[Step]:
    """PLD's speedup to a target as a product of steps, each of fewer samples x less reference time per sample.

    The last entry is the product itself. All factors are over the seeds that every arm of the chain has.
    """
    arms = chain(evidence)
    spent = {arm: _spent(evidence, target, arm) for arm in arms}
    seeds = [seed for seed in spent[arms[0]].costs if all(seed in one.costs for one in spent.values())] if arms else []
    if not seeds:
        return []
    steps, before = [], arms[0]
    for _, name, change in joined_changes(evidence):
        steps.append(_step(evidence, change, spent, (before, name), seeds))
        before = name
    return [*steps, _step(evidence, "all of it", spent, (arms[0], evidence.pld), seeds)]


def _spent(evidence: Evidence, target: str, arm: str) -> Reach:
    """Seed -> samples and reference time of an arm up to a target."""
    samples, time = (reach(evidence, arm, target, axis) for axis in ("samples", "reference_time"))
    return Reach({seed: (samples.costs[seed][1], time.costs[seed][1]) for seed in samples.costs}, samples.reached)


def _step(
    evidence: Evidence, change: str, spent: dict[str, Reach], arms: tuple[str, str], seeds: Sequence[int]
) -> Step:
    """By what factors an arm needs fewer samples, less time per sample, and less time than the arm before it."""
    before, after = ([spent[arm].costs[seed] for seed in seeds] for arm in arms)
    error, freedom = comparisons.price_error(evidence, *arms)
    pairs = list(zip(before, after, strict=True))
    factors = {
        "samples": comparisons.ratio((one[0], two[0]) for one, two in pairs),
        PER_SAMPLE: comparisons.ratio(
            ((_per_sample(one), _per_sample(two)) for one, two in pairs), shared_error=error, shared_freedom=freedom
        ),
        "reference_time": comparisons.ratio(
            ((one[1], two[1]) for one, two in pairs), shared_error=error, shared_freedom=freedom
        ),
    }
    last = spent[arms[1]]
    first, second = (spent[arm].reached < len(spent[arm].costs) for arm in arms)
    bound = {(False, True): AT_MOST, (True, False): AT_LEAST, (True, True): UNKNOWN}.get((first, second), "")
    return Step(change, arms[1], factors, last.reached, len(last.costs), bound)


def _per_sample(cost: tuple[float | None, float | None]) -> float | None:
    samples, seconds = cost
    return None if samples is None or seconds is None else seconds / samples


def _step_rows(evidence: Evidence, paper: Paper, target: str) -> list[dict[str, Any]]:
    rows = []
    steps = decompose(evidence, target)
    for step in steps:
        last = step is steps[-1]
        reported = reported_factors(paper, target) if last else {}
        final = evidence.final_checkpoint(step.arm)
        quantity = f"{'total' if last else 'step'}_to_{target}"
        for axis, factor in step.factors.items():
            note = "" if axis == PER_SAMPLE else step.bound
            rows.append(
                tidy_row(evidence, step.arm, final, quantity, bounded(estimate_of(factor), note), unit="x",
                         cost_axis=axis, condition=step.change, reported=reported.get(axis), note=note)
            )  # fmt: skip
    return rows
