"""The story in words: every finding of story.csv becomes a clause by its outcome, every topic a sentence or two.

Another outcome gives another sentence. What a set does not measure is named once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from pldrepro.analysis.finding import NOTHING, SHOWN, Finding
from pldrepro.analysis.reported import mark_notes
from pldrepro.analysis.similar import SIMILAR_POINTS
from pldrepro.analysis.verdicts import VERDICTS
from pldrepro.exhibits.story_clauses import (
    FAVOURABLE,
    RANK_WORDS,
    SBLD_RIVALS,
    Words,
    amount,
    basis,
    joined,
    kind,
    less_time,
    of_claim,
    of_rival,
    of_side,
    shared_basis,
    sides,
    signed,
    smallest_seen,
    stopped_early,
    upper,
    why_open,
)


@dataclass(frozen=True)
class Sentence:
    """What is said of a topic, and where its numbers are from."""

    title: str
    text: str
    exhibits: tuple[str, ...]


Topic = Sequence[Finding]


def _get(topic: Topic, *parts: str) -> list[Finding]:
    """The findings of these parts that have a number, part by part."""
    return [one for part in parts for one in topic if one.part == part and one.outcome != NOTHING]


def _claims(topic: Topic, words: Mapping[str, Words]) -> list[str]:
    return [text for part in words for one in _get(topic, part) if (text := of_claim(one, words[part]))]


# ---- topics ----


def time(topic: Topic) -> list[str]:
    """Time per sample."""
    said = _claims(topic, {"saving": Words(
        "PLD needs less time per sample than the baseline", "PLD needs more time per sample than the baseline",
    )})  # fmt: skip
    said += [f"{upper(one.basis)}." for one in _get(topic, "saving") if one.basis and one.counts == "seeds"]
    for one in _get(topic, "twin"):
        saves = f"against the same model without dropping ({one.against}) it"
        said.append(
            of_side(one, f"{saves} needs more time", f"{saves} saves time", f"{saves} shows no significant saving")
        )
    return said


def flops(topic: Topic) -> list[str]:
    """FLOPs per sample, and the paper's two policies."""
    said = _claims(topic, {"saving": Words("PLD needs fewer FLOPs per sample", "PLD needs more FLOPs per sample")})
    equation, algorithm, limit = (_get(topic, part) for part in ("paper_eq", "paper_alg1", "limit"))
    if said and equation and algorithm:
        said.append(
            f"By arithmetic, at the paper's own shape its printed equation saves {amount(equation[0])} and its "
            f"Algorithm 1 {amount(algorithm[0])}."
        )
    for claim in _get(topic, "saving"):
        if claim.reported is not None and limit and _value(limit[0]) <= claim.reported <= _value(equation[0]):
            said.append(
                f"So the paper's {claim.reported:g} {claim.unit} fits the equation, not Algorithm 1, which at "
                f"{limit[0].note} saves less than {_value(limit[0]):g} {claim.unit} at any scale."
            )
    return said


def _value(finding: Finding) -> float:
    assert finding.estimate is not None
    return finding.estimate.value


def to_loss(topic: Topic) -> list[str]:
    """The speedup to the baseline's final loss."""
    reached = next(iter(_get(topic, "reached")), None)
    runs, fails = "", "does not reach the baseline's final loss"
    if reached is not None and reached.estimate is not None:
        runs = f" ({reached.estimate.value:.0f} of {reached.estimate.n} runs get there)"
        if reached.estimate.value == reached.estimate.n:
            fails = "touches the baseline's final loss but ends above it"
    bound = any(one.bound for one in _get(topic, "speedup"))
    most = "bounded by the time that a whole run saves" if bound else "not one to the same loss"
    said = _claims(topic, {"speedup": Words(
        f"PLD reaches the baseline's final loss sooner{runs}",
        f"PLD does not reach the baseline's final loss sooner{runs}",
        f"PLD {fails}{runs}. Its speedup is {most}",
    )})  # fmt: skip
    for one in _get(topic, "gap"):
        ends = "at its end its loss"
        said.append(of_side(one, f"{ends} is below the baseline's", f"{ends} is above the baseline's",
                            f"{ends} shows no significant difference from the baseline's"))  # fmt: skip
    return said


def parts(topic: Topic) -> list[str]:
    """What of the speedup, or of the final loss, each change is responsible for."""
    times = _get(topic, "preln_time", "preln_higher_lr_time", "pld_time")
    if times:
        common, own = shared_basis(times)
        pieces = [f"{one.note} {amount(one)}{_brackets(own(one), _undecided(one))}" for one in times]
        return [f"The speedup is the product of the three changes{_brackets(common)}: {_and(pieces)}."]
    losses = _get(topic, "preln_loss", "preln_higher_lr_loss", "pld_loss")
    if not losses:
        return []
    common, own = shared_basis(losses)
    pieces = [f"{one.note} {signed(one)}{_brackets(own(one), _undecided(one))}" for one in losses]
    better = _brackets(common, "below 0 is better")
    return [f"What each change adds to the final loss{better}: {_and(pieces)}."]


def _brackets(*said: str) -> str:
    return f" ({joined(*said)})" if any(said) else ""


def _undecided(finding: Finding) -> str:
    return why_open(finding) or "not significant" if finding.outcome == "undecided" else ""


def _and(pieces: Sequence[str]) -> str:
    return pieces[0] if len(pieces) == 1 else f"{', '.join(pieces[:-1])} and {pieces[-1]}"


SCORES = {"glue": "GLUE score", "minimal_pairs": "score on minimal pairs", "cloze": "score on cloze contrasts"}


def early(topic: Topic) -> list[str]:
    """Whether scores are similar at checkpoint 100 of 186, and what the time up to there is."""
    speedups = [(name, one) for score, name in SCORES.items() for one in _get(topic, f"{score}_speedup")]
    if not speedups:
        return []
    said = []
    for name, one in speedups:
        gain = next(iter(_get(topic, one.part.replace("_speedup", "_gain"))), None)
        said.append(f"{_similar(name, one)}{_gain(gain, one)}.")
    first, kinds = speedups[0][1], {kind(one) for _, one in speedups}
    equal = "; whether at equal quality is open"
    if "favourable" in kinds:
        equal = ""
    elif "premise fails" in kinds:
        equal = ", but not at equal quality"
    made_of = f" {upper(first.basis)}." if first.basis else ""
    whole = f"The baseline's whole run takes {amount(first)} the time that PLD takes up to there"
    return [*said, f"{whole} ({basis(first)}){equal}.{made_of}"]


def _gain(finding: Finding | None, speedup: Finding) -> str:
    """A score's difference from the finished baseline's, with how many seeds are on its side."""
    if finding is None:
        return ""
    why = "" if speedup.open == "condition" else why_open(speedup)  # the condition is this difference
    return f": {amount(finding)} ({joined(basis(finding), sides(finding), why)})"


def _similar(name: str, finding: Finding) -> str:
    """Whether a score at checkpoint 100 is similar to the finished baseline's, by the claim's verdict."""
    there, finished = f"PLD's {name} there", "the finished baseline's"
    similar = f", not more than {SIMILAR_POINTS:g} point below"
    return {
        "favourable": f"{there} is similar to {finished}{similar} ({FAVOURABLE.get(finding.outcome)})",
        "premise fails": f"{there} is more than {SIMILAR_POINTS:g} point below {finished}",
        "contradicted": f"{there} is similar to {finished}{similar}, but PLD was not faster",
        "lacks": f"The {name} is not judged: it needs {finding.note}",
    }.get(kind(finding), f"It is open whether {there} is similar to {finished}{similar}")


def equal_samples(topic: Topic) -> list[str]:
    """Loss at equal samples against the same model without dropping."""
    said = [
        of_side(
            one, f"dropping lowers the final loss at equal samples, against {one.against}",
            f"dropping raises the final loss at equal samples, against {one.against}",
            f"dropping shows no significant effect on the final loss at equal samples, against {one.against}",
        ) + (smallest_seen(one) if one.outcome == "undecided" else "")
        for one in _get(topic, "loss")
    ]  # fmt: skip
    return said + [
        f"With the baseline's learning rate for both the difference is {signed(one)} ({basis(one)}; shown, not tested)."
        for one in _get(topic, "lower_rate")
    ]


def equal_cost(topic: Topic) -> list[str]:
    """Loss at equal cost against runs decayed there, and against a shallower model."""
    said = []
    for one in _get(topic, "twin", "baseline"):
        times = (time for time in topic if (time.part, time.arm) == (f"{one.part}_time", one.against))
        cost = "".join(f" ({less_time(time)} than PLD)" for time in times)
        said.append(of_rival(one, f"at about equal time PLD's final loss, against {one.against}{cost},"))
    said += stopped_early(_get(topic, "early"))
    for one in _get(topic, "fewer_layers"):
        time = [other for other in _get(topic, "fewer_layers_time") if other.arm == one.against]
        cost = f" ({amount(time[0])} less time than PLD)" if time else ""
        rival = f"against a model without dropping that has about as many layers as PLD keeps{cost}, PLD's final loss"
        said.append(of_rival(one, rival))
    return said


def other_ways(topic: Topic) -> list[str]:
    """Other ways to save, by the side of PLD's final loss that theirs is on."""
    times = {one.arm: one for one in topic if one.part.endswith("_time")}
    found: dict[str, list[Finding]] = {}
    for one in topic:
        if one.outcome not in (SHOWN, NOTHING):
            found.setdefault(one.outcome, []).append(one)
    said = {"below": "Below", "undecided": "Not shown to differ from", "above": "Above"}
    texts = [f"{said[side]} PLD's final loss at equal samples (their loss minus PLD's): "
             f"{_and([_other_way(one, times) for one in found[side]])}." for side in said if side in found]  # fmt: skip
    rate, best = _get(topic, "rate"), _get(topic, "best")
    several = sum(map(len, found.values())) > 1
    if texts and rate:
        changed = f"changes the final loss of PreLN without dropping by {signed(rate[0])}"
        texts.append(f"{'All of them use' if several else 'It uses'} PLD's learning rate, which by itself {changed}.")
    if texts and best:
        lowest = f"The lowest mean loss is that of {best[0].arm}:" if several else "Its loss is"
        texts.append(f"{lowest} {signed(best[0])} against the baseline's.")
    return texts


def _other_way(finding: Finding, times: Mapping[str, Finding]) -> str:
    """An arm with its loss minus PLD's, and what it saves of PLD's time."""
    time = times.get(finding.arm)
    saves = "" if time is None else f"{less_time(time)} than PLD"
    agree = sides(finding) if finding.outcome == "undecided" else ""
    return f"{finding.arm} {signed(finding)} ({joined(saves, basis(finding), agree, why_open(finding))})"


def glue(topic: Topic) -> list[str]:
    """Final GLUE."""
    floor = next((one.note for one in _get(topic, "baseline", "twin") if one.note), "")
    if floor:
        return [f"GLUE is not judged here; that needs {floor}."]
    base, twin = "the baseline's", "that of the same model without dropping"
    said = _claims(topic, {
        "baseline": Words(f"PLD's final GLUE score is above {base}", f"PLD's final GLUE score is below {base}"),
        "twin": Words(f"it is above {twin}", f"it is below {twin}"),
    })  # fmt: skip
    seen = [smallest_seen(one).strip() for one in _get(topic, "baseline") if one.outcome == "inconclusive"]
    return [*said, *filter(None, seen)]


def unfinetuned(topic: Topic) -> list[str]:
    """Final scores without fine-tuning."""
    said = []
    for score in ("minimal_pairs", "cloze"):
        name = SCORES[score]
        said += _claims(topic, {score: Words(
            f"PLD's final {name} is at least comparable to the baseline's (not more than {SIMILAR_POINTS:g} point "
            "below)",
            f"PLD's final {name} is more than {SIMILAR_POINTS:g} point below the baseline's",
        )})  # fmt: skip
        seen = (smallest_seen(one).strip() for one in _get(topic, score) if one.outcome == "inconclusive")
        said += filter(None, seen)
        for one in _get(topic, f"{score}_twin"):
            rival = f"against {one.against} it"
            said.append(of_rival(one, rival))
    return said


def sbld(topic: Topic) -> list[str]:
    """SBLD on GPT."""
    said = _claims(
        topic, {"time": Words("SBLD (our reading) saves training time", "SBLD (our reading) saves no training time")}
    )
    found = [(name, one) for part, name in SBLD_RIVALS.items() for one in _get(topic, part)]
    common, own = shared_basis([one for _, one in found])
    pieces = [
        f"{signed(one)} against {name}{f', {one.note}' if one.note else ''}{_brackets(own(one), _undecided(one))}"
        for name, one in found
    ]
    if pieces:
        said.append(f"Its final loss on GPT{_brackets(common, 'below 0 is better')}: {_and(pieces)}.")
    return said + _claims(topic, {"rank": RANK_WORDS})


def images(topic: Topic) -> list[str]:
    """SBLD on images."""
    words = ("is below", "is above", "shows no significant difference from")
    return [
        of_side(one, *(f"SBLD's top-1 accuracy on {one.note} {side} that of {one.against}" for side in words))
        for one in topic
    ]


LAST_TO_FIRST = "; norm at PostLN's last layer over that at its first, mean of the probed steps"


def why(topic: Topic) -> list[str]:
    """Figures 1 and 2."""
    return _claims(topic, {
        "vanishing": Words(
            f"early in training PostLN's gradient norms fall towards lower layers, PreLN's fall less{LAST_TO_FIRST}",
            f"early in training PostLN's gradient norms do not fall towards lower layers{LAST_TO_FIRST}",
            f"early in training PreLN's gradient norms are farther from balance than PostLN's{LAST_TO_FIRST}",
        ),
        "preserving": Words(
            "PreLN's blocks preserve the gradient's norm better than PostLN's, by the difference in mean |ln ratio|",
            "PostLN's blocks preserve the gradient's norm better than PreLN's, by the difference in mean |ln ratio|",
        ),
    })  # fmt: skip


def still_open(topic: Topic) -> list[str]:
    """How many claims have which verdict."""
    counts = {one.part: int(_value(one)) for one in topic if one.estimate and one.estimate.value}
    total = next((one.estimate.n for one in topic if one.estimate), 0)
    fewer = {one.part: f" (on {one.note} estimate{'s' if one.note != '1' else ''})" for one in topic if one.note}
    pieces = [f"{counts[name]} {name}{fewer.get(name, '')}" for name in VERDICTS if name in counts]
    few, ours = (counts.get(name, 0) for name in ("few seeds", "ours"))
    more = f" Of the inconclusive ones {few} lack{'s' if few == 1 else ''} seeds." if few else ""
    on_ours = f" ({ours} of them on measures of ours)" if ours else ""
    return [f"Of {total} claims of the papers{on_ours}: {', '.join(pieces)}.{more}"] if pieces else []


@dataclass(frozen=True)
class About:
    """A topic's title, its words, and what is said to be missing where it has no number."""

    title: str
    words: Callable[[Topic], list[str]]
    missing: str = ""


TOPICS: dict[str, About] = {
    "time": About("Time per sample", time, "the time of a sample"),
    "flops": About("FLOPs per sample", flops, "the FLOPs of a sample"),
    "to_loss": About("Time to the baseline's loss", to_loss, "the time to the baseline's loss"),
    "parts": About("Where it comes from", parts),
    "early": About("Quality at checkpoint 100 of 186", early, "scores at checkpoint 100 of 186"),
    "equal_samples": About("Cost of dropping, equal samples", equal_samples, "PLD's model without dropping"),
    "equal_cost": About("Cost of dropping, equal cost", equal_cost, "a model without dropping at PLD's cost"),
    "other_ways": About("Other ways to save", other_ways, "other ways to run fewer layers per step"),
    "glue": About("GLUE", glue, "GLUE"),
    "unfinetuned": About("Without fine-tuning", unfinetuned, "minimal pairs or cloze contrasts that judge"),
    "sbld": About("SBLD", sbld, "SBLD on GPT"),
    "images": About("Images", images, "images"),
    "why": About("Why PreLN", why, "gradients early in training (Figures 1 and 2)"),
    "open": About("Verdicts", still_open),
}


def sentences(findings: Sequence[Finding]) -> list[Sentence]:
    """The story: a topic each; what has no number is named in the last one."""
    found, absent = [], []
    for name, about in TOPICS.items():
        topic = [one for one in findings if one.topic == name]
        text = " ".join(about.words(topic))
        if text:
            exhibits = dict.fromkeys(one.exhibit for one in topic if one.exhibit and one.outcome != NOTHING)
            found.append(Sentence(about.title, text, tuple(exhibits)))
        elif about.missing:
            absent.append(about.missing)
    return [*found, Sentence("Not in this set", f"{upper(_and(absent))}.", ())] if absent else found


def story_marks(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What the marks behind reported values mean, of those in use."""
    return mark_notes(one.provenance for one in findings if one.reported is not None and one.outcome != SHOWN)


def format_story(findings: Sequence[Finding], width: int = 118) -> str:
    """The story for a terminal."""
    said = [fill(f"{one.title}: {one.text}", width, subsequent_indent="  ") for one in sentences(findings)]
    return "\n".join([*said, *story_marks(findings)])


def markdown_story(findings: Sequence[Finding]) -> str:
    """The story as a list in Markdown, each sentence with its exhibits."""
    lines = []
    for one in sentences(findings):
        exhibits = ", ".join(f"`{name}`" for name in one.exhibits)
        lines.append(f"- **{one.title}.** {one.text}" + (f" ({exhibits})" if exhibits else ""))
    return "\n".join([*lines, *(f"\n{note}" for note in story_marks(findings))])
