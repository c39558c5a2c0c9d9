"""Which comparisons answer the questions that the reviews of the PLD paper asked; the words are in the exhibits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pldrepro.analysis import comparisons, floors
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import IMAGE_ACCURACIES, IMAGES, accuracy_gain
from pldrepro.analysis.time_to_target import decompose

LOSS = "validation_loss"
# Questions that are answered by the final losses of the arms that name them.
OF_ARMS = ("schedules", "known_methods", "without_sampling", "needs_switchable_blocks")


@dataclass(frozen=True)
class Asked:
    """A comparison of two arms of a study, in final loss or in an accuracy; None where they have no seed in common."""

    study: Evidence
    arm: str
    other: str
    quantity: str
    paired: Paired | None


def asked(evidence: Evidence, question: str) -> list[Asked]:
    """The comparisons that answer a question."""
    if question == "preln_or_pld":
        twin = evidence.undropped_twin(evidence.pld)
        return [of_loss(evidence, evidence.pld, twin)] if twin else []
    if question == "other_domains":
        return [one for study in _other_domains(evidence) for one in _against_no_dropping(study)]
    if question in OF_ARMS:
        arms = [arm for arm in evidence.asked_in(question) if arm in evidence.arms]
        return [of_loss(evidence, arm, _nearest(evidence, arm)) for arm in arms]
    return []


def comparisons_asked(evidence: Evidence, papers: Mapping[str, Paper]) -> list[Paired]:
    """The comparisons that answer the reviewers' questions and are judged, with the steps of the speedup to a loss."""
    if evidence.pld not in evidence.arms:
        return []
    found = [one for paper in papers.values() for question in paper.questions for one in asked(evidence, question.id)]
    steps = [step.factors["reference_time"] for step in decompose(evidence, "loss") if not step.bound]
    return [one for one in (*(one.paired for one in found), *steps) if one is not None]


def of_loss(evidence: Evidence, arm: str, other: str) -> Asked:
    """Final validation loss of an arm minus another's."""
    return Asked(evidence, arm, other, LOSS, comparisons.loss_difference(evidence, arm, other))


def _nearest(evidence: Evidence, arm: str) -> str:
    """The baseline for an arm of its model, PLD for any other."""
    own, base = (evidence.runs(name)[0].settings.model for name in (arm, evidence.baseline))
    return evidence.baseline if own == base else evidence.pld


def _other_domains(evidence: Evidence) -> list[Evidence]:
    return [study for study in (evidence.of(*IMAGES), evidence.of("gpt")) if study is not None]


def _against_no_dropping(study: Evidence) -> list[Asked]:
    """PLD and SBLD of a study against its baseline: final loss, and accuracies that are above their floor."""
    names = IMAGE_ACCURACIES if study.family in IMAGES else ("lambada_accuracy",)
    found = []
    for arm in (study.pld, study.sbld):
        if arm in study.arms:
            found.append(of_loss(study, arm, study.baseline))
            gains = {name: accuracy_gain(study, arm, study.baseline, name) for name in names}
            found += [
                Asked(study, arm, study.baseline, name, gain)
                for name, gain in gains.items()
                if gain is not None and not accuracy_floor(study, name)
            ]
    return found


def accuracy_floor(study: Evidence, name: str) -> str:
    """Why an accuracy judges nothing; empty where it judges."""
    return floors.lambada_floor(study) if name.startswith("lambada") else ""
