"""GLUE in the generated language: one writer for each task."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pldrepro.data.sources.miniature_language import (
    ANIMALS,
    FOODS,
    NAMES,
    PREPOSITIONS,
    SCALES,
    TASTES,
    Actor,
    Speaker,
    Words,
)

# sentiment words that the training examples of sst2 never show: what they mean is learned in pre-training
UNSEEN_SENTIMENT = frozenset({"glad", "gloomy", "fine", "poor"})


class Draft(NamedTuple):
    """An example before its words are joined."""

    sentence1: Words
    sentence2: Words | None
    label: float


def _cola(speaker: Speaker, index: int, split: str) -> Draft:
    """Acceptable, or with one wrong verb form behind the intervening phrases, or with two neighbouring words swapped.

    One to three phrases stand between, more than the text ever has, and half of the sentences have two verbs.
    """
    actor = speaker.actor()
    subject, last = speaker.noun_phrase(actor), actor
    for _ in range(speaker.rng.randrange(1, 4)):
        last = speaker.other(last)
        subject += [speaker.rng.choice(PREPOSITIONS), *speaker.noun_phrase(last)]
    acceptable = index % 2
    statements = [speaker.statement()]
    if speaker.chance(0.5):
        statements = [speaker.statement(exclude=("action",)), speaker.statement("action")]
    wrong_form = not acceptable and speaker.chance(0.75)
    wrong_verb = speaker.rng.choice(statements) if wrong_form else None
    parts = [
        speaker.predicate(Actor(actor.kind, actor.plural ^ (statement == wrong_verb)), [statement])
        for statement in statements
    ]
    words = [*subject, *parts[0], *(word for part in parts[1:] for word in ("and", *part)), "."]
    if not acceptable and not wrong_form:
        place = speaker.rng.randrange(len(words) - 2)
        words[place], words[place + 1] = words[place + 1], words[place]
    return Draft(words, None, acceptable)


def _sst2(speaker: Speaker, index: int, split: str) -> Draft:
    """The polarity of mood and quality, or of one of them with a neutral statement; a quarter negated opposites."""
    actor = speaker.actor(names=0.3)
    label = index % 2
    values = {"mood": ("sad", "happy")[label], "quality": ("bad", "good")[label]}
    first, second = speaker.rng.sample([*values.items()], 2)
    if speaker.chance(0.5):
        second = speaker.statement(exclude=("mood", "quality"))
    companion = speaker.other(actor, names=0.3) if speaker.chance(0.5) else None
    statements = speaker.rng.sample([first, second], 2)
    return Draft([*speaker.subject(actor, companion), *speaker.predicate(actor, statements, 0.25), "."], None, label)


def _rewrite(speaker: Speaker, num_changes: int) -> tuple[Words, Words]:
    """Two sentences with three slots that differ in the meaning of ``num_changes`` slots, else in words and order.

    Slots: the actor, a statement, and a companion or a second statement.
    """
    actor = speaker.actor(names=0.2)
    companion = speaker.other(actor, names=0.2) if speaker.chance(0.5) else None
    first = speaker.statement()
    statements = [first] if companion else [first, speaker.statement(exclude=(first[0],))]
    changes = speaker.rng.sample(range(3), num_changes)
    kinds = [actor.kind, companion.kind if companion else ""]
    new_actor, new_companion, new_statements = actor, companion, list(statements)
    if 0 in changes:
        new_actor = _replace(actor, kinds, speaker)
    if 1 in changes:
        new_statements[0] = speaker.change(first)
    if 2 in changes and companion:
        new_companion = _replace(companion, [*kinds, new_actor.kind], speaker)
    elif 2 in changes:
        new_statements[1] = speaker.change(statements[1])
    speaker.rng.shuffle(new_statements)
    return speaker.sentence(actor, statements, companion), speaker.sentence(new_actor, new_statements, new_companion)


def _replace(actor: Actor, kinds: list[str], speaker: Speaker) -> Actor:
    """An actor of none of these kinds: people for people, animals in the same number for animals."""
    candidates = NAMES if actor.is_name else tuple(ANIMALS)
    return Actor(speaker.rng.choice([kind for kind in candidates if kind not in kinds]), actor.plural)


def _mrpc(speaker: Speaker, index: int, split: str) -> Draft:
    """The same meaning in other words and order, or with one, two or three slots changed."""
    label = index % 2
    return Draft(*_rewrite(speaker, 0 if label else speaker.rng.choice((1, 2, 3))), label)


def _stsb(speaker: Speaker, index: int, split: str) -> Draft:
    """5 x share of the three slots that mean the same."""
    changes = index % 4
    return Draft(*_rewrite(speaker, changes), round(5 * (1 - changes / 3), 2))


def _qqp(speaker: Speaker, index: int, split: str) -> Draft:
    """The same question with synonyms, or about another actor or another dimension."""
    label = index % 2
    actor = speaker.actor(names=0.3)
    companion = speaker.other(actor)
    # Questions of one group are equally long; a change stays within the group, so that length says nothing.
    group = speaker.rng.choice((("mood", "place"), ("action", *TASTES)))
    topic = speaker.rng.choice(group)
    question = speaker.question(actor, topic, companion)
    if not label:
        change = speaker.rng.randrange(3)
        if change == 0:
            topic = speaker.rng.choice([other for other in group if other != topic])
        elif change == 1:
            actor, companion = companion, actor
        else:
            actor = _replace(actor, [actor.kind, companion.kind], speaker)
    return Draft(question, speaker.question(actor, topic, companion), label)


def _mnli(speaker: Speaker, index: int, split: str) -> Draft:
    """Two statements as premise; the hypothesis restates one (0), is about something else (1) or contradicts (2).

    Animals in train and dev, people in dev_mismatched.
    """
    label = index % 3
    names = 1.0 if split == "dev_mismatched" else 0.0
    return _inference(speaker, label, speaker.actor(names))


def _inference(speaker: Speaker, label: int, actor: Actor) -> Draft:
    hypothesis = speaker.statement()
    related = {0: hypothesis, 1: speaker.statement(exclude=(hypothesis[0],)), 2: speaker.change(hypothesis)}[label]
    other = speaker.statement(exclude=(hypothesis[0], related[0]))
    premise = [related, other]
    speaker.rng.shuffle(premise)
    return Draft(speaker.sentence(actor, premise), speaker.sentence(actor, [hypothesis]), label)


def _rte(speaker: Speaker, index: int, split: str) -> Draft:
    """Entailed (0) or not (1): half as in mnli, half by the facts of the world: ``the hounds love bread .``"""
    label = index % 2
    actor = speaker.actor(names=0.5)
    if speaker.chance(0.5):
        return _inference(speaker, speaker.rng.choice((1, 2)) if label else 0, actor)._replace(label=label)
    # The food is drawn first and the actor to suit it, so that no food goes with one label.
    taste, food = speaker.rng.choice(tuple(TASTES)), speaker.rng.choice(FOODS)
    while (getattr(speaker.world[actor.kind], taste) == food) == label:
        actor = speaker.actor(names=0.5)
    premise = speaker.sentence(actor, [speaker.statement()])
    return Draft(premise, speaker.sentence(actor, [(taste, food)]), label)


def _qnli(speaker: Speaker, index: int, split: str) -> Draft:
    """A question and a sentence that answers it (0), or is about another actor or something else (1)."""
    label = index % 2
    actor = speaker.actor(names=0.3)
    companion = speaker.other(actor, names=0.3)
    scale = speaker.rng.choice(tuple(SCALES))
    # Each topic next to the one whose statements are as long and as frequent; no other is as short as an action.
    others = {scale: "place", "place": scale, "like": "hate", "hate": "like", "action": None}
    topic = speaker.rng.choice(tuple(others))
    question = speaker.question(actor, topic)
    other = others[topic]
    if label and other and speaker.chance(0.5):
        topic = other
    elif label:
        actor, companion = companion, actor
    statement = (topic, getattr(speaker.world[actor.kind], topic)) if topic in TASTES else speaker.statement(topic)
    return Draft(question, speaker.sentence(actor, [statement], companion if speaker.chance(0.5) else None), label)


WRITERS: dict[str, Callable[[Speaker, int, str], Draft]] = {
    "rte": _rte,
    "mrpc": _mrpc,
    "stsb": _stsb,
    "cola": _cola,
    "sst2": _sst2,
    "qnli": _qnli,
    "qqp": _qqp,
    "mnli": _mnli,
}
