"""The floor rule: a score judges methods only where the baseline has learned what it measures.

The baseline must score higher than the best constant prediction (of two sentences or words: than chance) and than the
same model without pre-training (the arm of role ``scratch``), each time by more than MARGIN by the lower limit of the
interval over seeds. Without such an arm the floor is not shown to be beaten. A task on which fine-tuning the baseline
failed to train is at its floor, whatever its score. Every function here gives the reason, empty above the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pldrepro import stats
from pldrepro.analysis import contrasts, glue_metrics, glue_scores, word_rank
from pldrepro.analysis.fits import fits, is_trained
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.text import number
from pldrepro.data.tasks import TASKS

MARGIN = 1.0  # points
# A model that gets fewer last words of LAMBADA right is at the floor: its accuracy says nothing of a method.
FEW_RIGHT = 10


def not_beaten(
    baseline: Mapping[int, float], scratch: Mapping[int, float], constant: float | None,
    constant_name: str = "a constant prediction",
) -> str:  # fmt: skip
    """Why scores of the baseline [points, by seed] do not beat those of the model from scratch and a constant's."""
    if constant is None:
        return "what a constant prediction scores is not known"
    rivals = {
        constant_name: dict.fromkeys(baseline, constant),
        "the model from scratch": {seed: scratch[seed] for seed in baseline if seed in scratch},
    }
    for name, scores in rivals.items():
        if not scores:
            return f"{name} (arm of role scratch) has no runs with the baseline's seeds"
        gap = stats.mean_interval([baseline[seed] - score for seed, score in scores.items()])
        if gap.low is None or gap.low <= MARGIN:
            own, other = (sum(some) / len(some) for some in ([baseline[seed] for seed in scores], scores.values()))
            return (
                f"the baseline's {number(own, 1)} is not shown to be more than {MARGIN:g} point above "
                f"{name}'s {number(other, 1)}"
            )
    return ""


# ---- GLUE ----


def glue_floor(evidence: Evidence) -> str:
    """Why the baseline's final nine-metric GLUE score is at the floor; empty where it is above."""
    return _value_floor(evidence, glue_scores.NINE)


def task_floor(evidence: Evidence, task: str) -> str:
    """Why the baseline's final score on a task, in its primary metric, is at the floor; empty where it is above."""
    return _value_floor(evidence, (glue_scores.PRIMARY[task],))


def failed_tasks(evidence: Evidence) -> set[str]:
    """The tasks on which at least half of the baseline's final fits did not beat a constant on their own examples."""
    found, final = fits(evidence), evidence.final_checkpoint(evidence.baseline)
    return {task for task in TASKS if is_trained(found, evidence.baseline, final, task) is False}


def _value_floor(evidence: Evidence, names: tuple[str, ...]) -> str:
    """Of the mean of some values: those of tasks that did not train are left out, and may not be half of them."""
    constants = constant_scores(evidence)
    baseline = _finals(evidence, evidence.baseline)
    scratch = _finals(evidence, evidence.arm_with_role("scratch"))
    if not baseline:
        return "the baseline was not fine-tuned"
    there = set.intersection(*(set(values) for values in (*baseline.values(), *scratch.values())))
    common = [name for name in names if name in there]
    if not common:
        return "nothing that both the baseline and the model from scratch were fine-tuned on"
    failed = failed_tasks(evidence)
    trained = [name for name in common if glue_scores.VALUES[name][0] not in failed]
    if 2 * len(trained) <= len(common):
        tasks = dict.fromkeys(TASKS[glue_scores.VALUES[name][0]].title for name in common if name not in trained)
        return f"fine-tuning the baseline did not beat a constant on its own training set: {', '.join(tasks)}"
    common = trained

    def mean(values: Mapping[str, float]) -> float:
        return sum(values[name] for name in common) / len(common)

    return not_beaten(
        {seed: mean(values) for seed, values in baseline.items()},
        {seed: mean(values) for seed, values in scratch.items()},
        mean(constants) if set(common) <= set(constants) else None,
    )


def _finals(evidence: Evidence, arm: str) -> dict[int, dict[str, float]]:
    """Seed -> the values of an arm at its end; none for an arm without runs."""
    runs = evidence.runs(arm)
    found = {run.seed: evidence.glue_values.get((arm, run.seed, evidence.final_checkpoint(arm)), {}) for run in runs}
    return {seed: values for seed, values in found.items() if values}


def constant_scores(evidence: Evidence) -> dict[str, float]:
    """Value of GLUE -> percent that the best constant prediction gets, from the labels that the runs were scored on."""
    names = {parts: name for name, parts in glue_scores.VALUES.items()}
    found: dict[str, float] = {}
    for run in evidence.finetune:
        if set(run.summary.tasks) <= {glue_scores.VALUES[name][0] for name in found}:
            continue
        for (task, split), labels in glue_scores.read_labels(run).items():
            for metric in glue_metrics.TASK_METRICS[task]:
                if (name := names.get((task, split, metric))) is not None:
                    found[name] = 100 * glue_metrics.constant_value(metric, labels)
    return found


# ---- LAMBADA ----


def lambada_floor(evidence: Evidence) -> str:
    """Why the baseline's final LAMBADA accuracy is at the floor; empty where it is above. One word always: 0 right."""
    baseline, scratch = (_lambada(evidence, arm) for arm in (evidence.baseline, evidence.arm_with_role("scratch")))
    if not baseline:
        return "the data of this study have no LAMBADA passages"
    right = [round(share * passages) for share, passages in baseline.values()]
    if min(right) < FEW_RIGHT:
        return f"{min(right)} right in the baseline's worst run: too few to compare"
    own, other = ({seed: 100 * share for seed, (share, _) in some.items()} for some in (baseline, scratch))
    return not_beaten(own, other, 0.0)


def _lambada(evidence: Evidence, arm: str) -> dict[int, tuple[float, int]]:
    """Seed -> share of the passages that an arm gets right at its end, and their number."""
    found = {}
    for scored in (one.summary for one in evidence.lambada if one.summary.arm == arm):
        share = scored.checkpoints[evidence.final_checkpoint(arm)].lambada_accuracy
        found[scored.seed] = (share, scored.passages)
    return found


def rank_floor(evidence: Evidence) -> str:
    """Why the baseline's final LAMBADA rank is at the floor; empty where it is above."""
    baseline, scratch = (
        word_rank.finals(evidence, arm) for arm in (evidence.baseline, evidence.arm_with_role("scratch"))
    )
    if not baseline:
        return "the baseline has no LAMBADA ranks"
    return not_beaten(baseline, scratch, word_rank.CHANCE, "chance")


# ---- minimal pairs and cloze contrasts ----


def contrast_floor(evidence: Evidence, score: str) -> str:
    """Why the baseline's final score without fine-tuning is at the floor; empty where it is above."""
    baseline, scratch = (
        contrasts.finals(evidence, score, arm) for arm in (evidence.baseline, evidence.arm_with_role("scratch"))
    )
    if not baseline:
        return f"the baseline has no score on {contrasts.title(score)}"
    return not_beaten(baseline, scratch, contrasts.CHANCE, "chance")


FLOORS: dict[str, Callable[[Evidence], str]] = {
    "glue": glue_floor,
    "lambada": lambada_floor,
    "lambada_rank": rank_floor,
    "minimal_pairs": lambda evidence: contrast_floor(evidence, contrasts.minimal_pairs(evidence)),
    "cloze": lambda evidence: contrast_floor(evidence, contrasts.CLOZE),
}
