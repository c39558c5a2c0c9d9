"""What the reviews of the PLD paper asked, each question with its exhibit and an answer made from the results.

The questions stand in ``config/papers/pld.yaml``; here every answer is a function of the evidence that gives
sentences with their numbers. Nothing in an answer is typed: what a study does not measure is said to be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pldrepro.analysis import comparisons
from pldrepro.analysis.arms import kept_layers
from pldrepro.analysis.comparisons import Paired
from pldrepro.analysis.family import family_of
from pldrepro.analysis.glue_table import table2
from pldrepro.analysis.memory import memory
from pldrepro.analysis.questions import Asked, accuracy_floor, asked
from pldrepro.analysis.reported import Paper
from pldrepro.analysis.results import Evidence
from pldrepro.analysis.sbld import IMAGES, accuracy_gain
from pldrepro.analysis.seed_spread import seeds, stability
from pldrepro.analysis.text import FAMILIES, estimate_text, number
from pldrepro.analysis.tidy import estimate_of, find
from pldrepro.analysis.time_to_target import (
    AT_LEAST,
    AT_MOST,
    PER_SAMPLE,
    UNKNOWN,
    Step,
    bounded,
    decompose,
    not_judged,
    targets,
)
from pldrepro.analysis.verdicts import ERROR_RATE, MIN_SEEDS, Family
from pldrepro.data.tasks import TASKS
from pldrepro.errors import RecordError, SettingsError
from pldrepro.exhibits.tables.sbld import TABLE1, TABLE2
from pldrepro.files import write_text

ANSWERED = "reviews.md"  # next to claims.csv


@dataclass(frozen=True)
class Compared:
    """A sentence with comparisons, in which {0}, {1} ... stand for the words that say on which side each is.

    ``words``: each comparison with the words for below and above 0 (of a ratio: 1). Which word holds is known when all
    tests of the set are.
    """

    text: str
    words: tuple[tuple[Paired, str, str], ...]

    def said(self, family: Family) -> str:
        """The sentence, with the side of each of its comparisons."""
        text = self.text
        for place, (paired, below, above) in enumerate(self.words):
            side = below if sum(paired.effects) < 0 else above
            text = text.replace(f"{{{place}}}", side if family.decided(paired) else "undecided")
        return text


Sentence = str | Compared
Answer = Callable[[Evidence, Paper], Sequence[Sentence]]


def loss_sentence(one: Asked) -> Sentence:
    """One arm's final loss against another's, with what both cost."""
    evidence, arm, other, gap = one.study, one.arm, one.other, one.paired
    if gap is None:
        return f"{evidence.label(arm)} and {evidence.label(other)} have no seed in common."
    cost = comparisons.relative_cost(evidence, arm, other, "reference_time")
    time = "" if cost is None else f" and needs {estimate_text(cost.estimate, 2)} times the reference time"
    lower = sum(effect < 0 for effect in gap.effects)
    return Compared(
        f"{evidence.label(arm)}: final validation loss minus that of “{evidence.label(other)}” "
        f"{estimate_text(gap.estimate, 3)} nats, {{0}} (lower in {lower} of {gap.estimate.n} seeds). "
        f"It keeps {_depth(evidence, arm)} layers{time}.",
        ((gap, "better", "worse"),),
    )


def _depth(evidence: Evidence, arm: str) -> str:
    return f"{number(kept_layers(evidence, arm).value, 2)} of {evidence.runs(arm)[0].summary.num_layers}"


def missing(evidence: Evidence, arms: Sequence[str]) -> list[str]:
    """The arms that this study lacks, as a sentence, if there are any."""
    absent = [arm for arm in arms if arm and arm not in evidence.arms]
    return [f"Not in this study: {', '.join(f'`{arm}`' for arm in absent)}."] if absent else []


def compared(question: str) -> Answer:
    """An answer that compares the final loss of the arms that name a question: with the baseline's or with PLD's."""

    def answer(evidence: Evidence, paper: Paper) -> list[Sentence]:
        sentences = [*map(loss_sentence, asked(evidence, question)), *missing(evidence, evidence.asked_in(question))]
        return sentences or ["No arm of these experiments belongs to this question."]

    return answer


BOUNDS = {AT_MOST: "at most ", AT_LEAST: "at least "}


def preln_or_pld(evidence: Evidence, paper: Paper) -> list[Sentence]:
    """The speedups to the baseline's final loss and scores as products: PreLN, the learning rate, dropping."""
    steps = [
        step_sentence(name, step, judged=target == "loss")
        for target, name in targets(evidence).items()
        for step in decompose(evidence, target)
    ]
    floors = [f"To {name}: not judged, {reason}." for name, reason in not_judged(evidence).items()]
    return [
        *([STEPS] if steps else []),
        *steps,
        *floors,
        *map(loss_sentence, asked(evidence, "preln_or_pld")),
        *missing(evidence, [evidence.arm_with_role("preln")]),
    ]


STEPS = (
    "A speedup is the time of the arm before over that of the arm with the change; below 1 it is slower. It is a "
    "product of two factors: fewer samples, and less time per sample. Those to the loss are judged with the findings "
    "of this set, a bound is not; those to other targets are shown with intervals of their own and not judged."
)


def step_sentence(name: str, step: Step, judged: bool) -> Sentence:
    """One change on the way from the baseline to PLD: by what factor a target is reached sooner."""
    about, reached = f"To {name}, {step.change}", f"reached in {step.reached} of {step.n} runs"
    if step.bound == UNKNOWN:
        return f"{about}: not known ({reached})."
    fewer, cheaper, both = (
        estimate_text(bounded(estimate_of(factor), "" if axis == PER_SAMPLE else step.bound), 2)
        for axis, factor in step.factors.items()
    )
    made_of = f"({fewer} by samples times {cheaper} by time per sample; {reached})"
    whole = step.factors["reference_time"]
    if step.bound or not judged or whole is None:
        return f"{about}: speedup {BOUNDS.get(step.bound, '')}{both} {made_of}."
    return Compared(f"{about}: speedup {both}, {{0}} {made_of}.", ((whole, "slower", "faster"),))


@dataclass(frozen=True)
class Rows:
    """An answer that reads tidy rows: which ones, and what is said of each."""

    table: Callable[[Evidence, Paper], pd.DataFrame]
    words: str  # of a row, with its columns and its ``value``
    digits: int
    absent: str  # where nothing was measured
    arms: Callable[[Evidence], Iterable[str | None]]
    where: dict[str, str]

    def __call__(self, evidence: Evidence, paper: Paper) -> list[str]:
        """A sentence for each row that has a value; where none has, that, and the reasons."""
        frame = self.table(evidence, paper)
        frame = frame[frame["arm"].isin([arm for arm in self.arms(evidence) if arm])]
        for column, value in self.where.items():
            frame = frame[frame[column] == value]
        found = frame[frame["measured"].notna()]
        reasons = [f"{note[:1].upper()}{note[1:]}." for note in dict.fromkeys(frame["note"]) if note]
        return [
            self.words.format(
                **row,
                value=estimate_text(estimate, self.digits),
                name=_metric(row["quantity"]),
                other=evidence.label(row["against"]) if row["against"] else "",
            )
            for index, row in found.iterrows()
            if (estimate := find(found.loc[[index]]))
        ] or [self.absent, *reasons]


def _metric(quantity: str) -> str:
    """A GLUE metric's name for people: CoLA (Matthews); of another quantity its own."""
    task, _, metric = quantity.partition("_")
    return f"{TASKS[task].title} ({METRIC_NAMES.get(metric, metric)})" if task in TASKS else quantity


METRIC_NAMES = {"matthews": "Matthews", "pearson": "Pearson", "spearman": "Spearman"}


def light_weight(evidence: Evidence, paper: Paper) -> list[str]:
    """What this study ran on and how long its runs took."""
    runs = [one for study in (evidence, *evidence.others) for one in study.pretrain if one.summary.steps]
    seconds = sum(one.summary.train_seconds for one in runs)
    devices = dict.fromkeys(one.provenance.device.type.upper() for one in runs)
    processors = dict.fromkeys(one.provenance.processor for one in runs)
    return [
        f"Everything here ran on {', '.join(devices)} ({', '.join(processors)}), "
        f"{len(runs)} pre-training runs in {number(seconds / 3600, 2)} hours of training time; "
        "`config/gpu.yaml` is a study at BERT-base's shape for one GPU."
    ]


def other_domains(evidence: Evidence, paper: Paper) -> list[Sentence]:
    """PLD and SBLD against no dropping: on images, and on GPT, which is still text."""
    images, gpt = evidence.of(*IMAGES), evidence.of("gpt")
    sentences: list[Sentence] = []
    if images is None:
        sentences.append("Not measured here: this study has language models only.")
    found = asked(evidence, "other_domains")
    for study, accuracies in ((images, TABLE2.accuracies), (gpt, TABLE1.accuracies)):
        if study is None:
            continue
        if study is gpt and study is not evidence:
            sentences.append("The GPT of this study is a language model, too, so that it does not answer the question:")
        for arm in (study.pld, study.sbld):
            own = [one for one in found if one.study is study and one.arm == arm]
            sentences.append(_against_no_dropping(study, arm, own, accuracies))
    return sentences


def _against_no_dropping(
    study: Evidence, arm: str, found: Sequence[Asked], accuracies: Mapping[str, str]
) -> Sentence:  # fmt: skip
    """An arm against its study's baseline: final loss, cost and accuracies."""
    if not found:
        return f"{FAMILIES[study.family]}: not in this study: `{arm}`."
    loss = loss_sentence(found[0])
    text, words = (loss.text, list(loss.words)) if isinstance(loss, Compared) else (loss, [])
    judged = {one.quantity: one.paired for one in found[1:]}
    for name, header in accuracies.items():
        if (gain := judged.get(name)) is not None:
            text += f" Its {header} minus that of no dropping: {estimate_text(gain.estimate, 1)} points, "
            text += f"{{{len(words)}}}."
            words.append((gain, "worse", "better"))
        elif (floor := accuracy_floor(study, name)) and accuracy_gain(study, arm, study.baseline, name) is not None:
            text += f" Its {header} says nothing: {floor}."
    return Compared(f"{FAMILIES[study.family]}, {text}", tuple(words))


NO_SIDE = (
    "No side is judged: a ratio of standard deviations has its own interval, which is not adjusted for the tests of "
    "this set, and with so few runs only a large ratio would stand out."
)


def not_tested(rows: Rows) -> Answer:
    """Ratios of standard deviations, with a word on what they can tell."""

    def answer(evidence: Evidence, paper: Paper) -> list[str]:
        found = rows(evidence, paper)
        return found if found[0] == rows.absent else [*found, NO_SIDE]

    return answer


def listed(lead: str, rows: Rows) -> Answer:
    """All rows in one sentence."""

    def answer(evidence: Evidence, paper: Paper) -> list[str]:
        found = rows(evidence, paper)
        return found if found[0] == rows.absent else [f"{lead}: {'; '.join(found)}."]

    return answer


def both(*parts: Answer) -> Answer:
    """One answer after the other."""
    return lambda evidence, paper: [sentence for part in parts for sentence in part(evidence, paper)]


def which_split(evidence: Evidence, paper: Paper) -> list[str]:
    """The splits that scores are computed on."""
    if evidence.scores is None or evidence.scores.empty:
        return ["Nothing was fine-tuned in this study."]
    splits = ", ".join(sorted(evidence.scores["split"].unique()))
    original = next(row for row in paper.tables["table2"].rows if row.key == "original")
    return [f"All scores here are on development sets ({splits}). The paper's row “{original.label}”: {original.note}."]


def other_methods(evidence: Evidence, paper: Paper) -> list[str]:
    """Why methods that do not shorten the depth of a step are no arms."""
    return [
        "Not in this suite: its arms change which layers a step runs. ELECTRA changes the objective (to find replaced "
        "tokens, with a second network that replaces them), so that its loss is no masked-language-modelling loss: it "
        "could be compared by fine-tuned scores at equal time only, where these are above the floor.",
    ]


ANSWERS: dict[str, Answer] = {
    "preln_or_pld": preln_or_pld,
    "schedules": compared("schedules"),
    "destabilises": both(
        not_tested(Rows(
            seeds, "{label}'s standard deviation of the final validation loss is {value} times that of “{other}”, "
            "paired by seed.", 2,
            "One seed, or no spread, leaves no ratio of standard deviations.",
            lambda evidence: [evidence.pld], {"quantity": "validation_loss", "statistic": "deviation_ratio"},
        )),
        listed("Standard deviation of the final validation loss [nats]", Rows(
            seeds, "{label} {value} (n = {n})", 3,
            "One seed has no standard deviation.",
            lambda evidence: evidence.methods, {"quantity": "validation_loss", "statistic": "deviation"},
        )),
    ),
    "known_methods": compared("known_methods"),
    "without_sampling": compared("without_sampling"),
    "needs_switchable_blocks": compared("needs_switchable_blocks"),
    "finetuning_stability": not_tested(Rows(
        stability, "{name}: {label}'s standard deviation over fine-tuning seeds is {value} times that of the same "
        "model without dropping.", 2,
        "No ratio can be given.",
        lambda evidence: [evidence.pld], {"statistic": "deviation_ratio"},
    )),
    "wall_clock": Rows(
        table2, "{label} {checkpoint}: {value} {unit} of reference time.", 0,
        "Nothing was fine-tuned, or no step times were measured.",
        lambda evidence: [evidence.baseline, evidence.pld],
        {"quantity": "training_time", "cost_axis": "reference_time"},
    ),
    "memory": Rows(
        memory, "{label}: for the backward pass an average step keeps {value} times the activations that the "
        "baseline's does; a step with all layers keeps what the whole model does, and that must fit.", 2,
        "No saved activations were recorded.",
        lambda evidence: [evidence.pld, evidence.undropped_twin(evidence.pld)],
        {"quantity": "saved_mean_depth_ratio"},
    ),
    "light_weight": light_weight,
    "other_domains": other_domains,
    "other_methods": other_methods,
    "which_split": which_split,
}  # fmt: skip


def answers(evidence: Evidence, papers: Mapping[str, Paper]) -> str:
    """The page, in Markdown."""
    if evidence.pld not in evidence.arms:
        raise RecordError(f"no arm of role pld among the runs: {', '.join(evidence.arms)}")
    paper = papers["pld"]
    unknown = [question.id for question in paper.questions if question.id not in ANSWERS]
    if unknown:
        raise SettingsError(f"question {unknown[0]}: no answer of that name; allowed: {', '.join(ANSWERS)}")
    family = family_of(evidence, papers)
    trained = [sum(run.summary.steps > 0 for run in study.pretrain) for study in (evidence, *evidence.others)]
    counts = [f"{count} of {study.scale}" for count, study in zip(trained, (evidence, *evidence.others), strict=True)]
    parts = [
        f"# What the reviews of the {paper.label} paper asked",
        f"Generated from {sum(trained)} pre-training runs ({', '.join(counts)}) by the target `reviews`; "
        "numbers are means over pre-training seeds with 95 % intervals, arms paired by seed. A loss difference below 0 "
        f"is better than the other arm's. {_judged(family)} Below {MIN_SEEDS} seeds nothing is judged; each interval "
        "is by itself.",
    ]
    for position, question in enumerate(paper.questions, start=1):
        sentences = [
            one.said(family) if isinstance(one, Compared) else one for one in ANSWERS[question.id](evidence, paper)
        ]
        exhibits = ", ".join(f"`{name}`" for name in question.exhibits)
        parts += [
            f"## {position}. {question.question}",
            f"Exhibit: {exhibits}." if exhibits else "No exhibit.",
            "\n".join(f"- {sentence}" for sentence in sentences),
        ]
    return "\n\n".join(parts) + "\n"


def _judged(family: Family) -> str:
    """How the sides of comparisons are adjusted."""
    if not family.all:
        return "No comparison here can be judged."
    return (
        "“Better” and “worse”, “faster” and “slower” are adjusted by Holm. What is also a claim or a finding "
        f"(other than of “Other ways to save”) is adjusted for the {family.size} tests of these, anything else for all "
        f"{family.all} tests of the set, each to a family-wise error of {100 * ERROR_RATE:g} %."
    )


def write_answers(evidence: Evidence, papers: Mapping[str, Paper], out: Path) -> None:
    """Write the page."""
    write_text(out, answers(evidence, papers))
