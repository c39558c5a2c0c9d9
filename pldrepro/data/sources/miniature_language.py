"""The generated language: its words, its world of facts, and who speaks of them."""

from __future__ import annotations

import random
from typing import NamedTuple

# kind -> its nouns as (singular, plural); nouns of one kind are synonyms
ANIMALS: dict[str, tuple[tuple[str, str], ...]] = {
    "dog": (("dog", "dogs"), ("hound", "hounds")),
    "horse": (("horse", "horses"), ("pony", "ponies")),
    "cat": (("cat", "cats"),),
    "bird": (("bird", "birds"),),
}
NAMES = ("anna", "ben", "carl", "dora")
# value -> its words; words of one value are synonyms, the two values of a scale are opposites
SCALES: dict[str, dict[str, tuple[str, ...]]] = {
    "mood": {"happy": ("happy", "glad"), "sad": ("sad", "gloomy")},
    "quality": {"good": ("good", "great", "fine"), "bad": ("bad", "awful", "poor")},
    "size": {"big": ("big", "large"), "small": ("little", "small")},
}
ACTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "run": (("runs", "run"), ("races", "race")),
    "sleep": (("sleeps", "sleep"), ("naps", "nap")),
    "sing": (("sings", "sing"),),
    "swim": (("swims", "swim"),),
}
TASTES: dict[str, tuple[tuple[str, str], ...]] = {
    "like": (("likes", "like"), ("loves", "love")),
    "hate": (("hates", "hate"),),
}
FOODS = ("apples", "bread", "cheese", "fish")
PLACES = ("inside", "outside", "upstairs", "abroad")
PREPOSITIONS = ("near", "by")
ANSWERS = ("yes", "maybe", "no")  # in the order of mnli's classes
FUNCTION_WORDS = ("the", "not", "and", "is", "are", "where", "what", "how", "does", "do")
PUNCTUATION = (".", "?")

# what an actor's state says about it; taste comes from the world
DIMENSIONS: dict[str, tuple[str, ...]] = {
    **{scale: tuple(values) for scale, values in SCALES.items()},
    "action": tuple(ACTIONS),
    "place": PLACES,
}

TOPICS = (*DIMENSIONS, *TASTES)

NUM_PARAGRAPHS = 8  # of two or three sentences; long enough that most sequences of 24 tokens are from one document
CHECK_SHARE = 0.5  # paragraphs with a question for yes, no or maybe
QUESTION_SHARE = 0.15
SENTIMENT_SHARE = 0.25  # documents about mood and quality, from which sentiment words can be learned together
MAX_WORDS = 21  # of an example, so that it fits into 24 tokens with its special tokens


Words = list[str]
Statement = tuple[str, str]


class Actor(NamedTuple):
    """An animal kind in the singular or plural, or a name (never plural)."""

    kind: str
    plural: bool

    @property
    def is_name(self) -> bool:
        """Whether this actor is a person."""
        return self.kind in NAMES


class Fact(NamedTuple):
    """What the world says about a kind: the food it likes and the food it hates."""

    like: str
    hate: str


def vocabulary() -> tuple[str, ...]:
    """All word types of the language, punctuation included, sorted."""
    pairs = [*ANIMALS.values(), *ACTIONS.values(), *TASTES.values()]
    inflected = [word for synonyms in pairs for pair in synonyms for word in pair]
    adjectives = [word for scale in SCALES.values() for words in scale.values() for word in words]
    groups = (inflected, adjectives, NAMES, FOODS, PLACES, PREPOSITIONS, ANSWERS, FUNCTION_WORDS, PUNCTUATION)
    return tuple(sorted({word for group in groups for word in group}))


def make_world(seed: int) -> dict[str, Fact]:
    """The facts of the world of this seed: kind or name -> Fact."""
    rng = random.Random(f"{seed}/world")
    kinds = rng.sample((*ANIMALS, *NAMES), len(ANIMALS) + len(NAMES))
    world = {}
    for i, kind in enumerate(kinds):
        # In turn, so that every food is liked and hated equally often and says nothing by itself.
        round_, like = divmod(i, len(FOODS))
        hate = (like + 1 + round_ % (len(FOODS) - 1)) % len(FOODS)
        world[kind] = Fact(FOODS[like], FOODS[hate])
    return world


class Speaker:
    """Puts statements into words: chooses among synonyms, negated opposites and sentence forms."""

    def __init__(self, world: dict[str, Fact], rng: random.Random) -> None:
        self.world = world
        self.rng = rng

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.rng.random() < probability

    def actor(self, names: float = 0.0) -> Actor:
        """A random actor: a person with probability ``names``, else animals."""
        if self.chance(names):
            return Actor(self.rng.choice(NAMES), False)
        return Actor(self.rng.choice(tuple(ANIMALS)), self.chance(0.5))

    def other(self, actor: Actor, names: float = 0.0) -> Actor:
        """A random actor of another kind."""
        while (other := self.actor(names)).kind == actor.kind:
            pass
        return other

    def statement(self, dimension: str | None = None, exclude: tuple[str, ...] = ()) -> Statement:
        """A random (dimension, value); ``exclude`` lists dimensions that may not be drawn."""
        dimension = dimension or self.rng.choice([d for d in DIMENSIONS if d not in exclude])
        return dimension, self.rng.choice(DIMENSIONS[dimension])

    def change(self, statement: Statement) -> Statement:
        """The same dimension with another value: a statement that cannot be true at the same time."""
        dimension, value = statement
        return dimension, self.rng.choice([v for v in DIMENSIONS[dimension] if v != value])

    def noun_phrase(self, actor: Actor) -> Words:
        """``the dogs``, ``the hounds``, ``anna``."""
        if actor.is_name:
            return [actor.kind]
        return ["the", self.rng.choice(ANIMALS[actor.kind])[actor.plural]]

    def subject(self, actor: Actor, companion: Actor | None = None) -> Words:
        """The noun phrase, with a prepositional phrase about the companion: ``the dogs near the cat``."""
        phrase = self.noun_phrase(actor)
        if companion is None:
            return phrase
        return [*phrase, self.rng.choice(PREPOSITIONS), *self.noun_phrase(companion)]

    def be(self, actor: Actor) -> str:
        """``is`` or ``are``."""
        return "are" if actor.plural else "is"

    def predicate(self, actor: Actor, statements: list[Statement], negation: float = 0.15) -> Words:
        """One or two statements as a verb phrase that agrees with the actor: ``are happy and run``."""
        words: Words = []
        for dimension, value in statements:
            if words:
                words.append("and")
            if dimension == "action":
                words += [self.rng.choice(ACTIONS[value])[actor.plural]]
            elif dimension in TASTES:
                words += [self.rng.choice(TASTES[dimension])[actor.plural], value]
            else:
                be = [] if self.be(actor) in words else [self.be(actor)]
                words += [*be, *self._property(dimension, value, negation)]
        return words

    def _property(self, dimension: str, value: str, negation: float) -> Words:
        """``happy``, ``not sad`` or ``outside``; ``not`` negates the next word only."""
        if dimension not in SCALES:
            return [value]
        if self.chance(negation):
            (opposite,) = (v for v in SCALES[dimension] if v != value)
            return ["not", self.rng.choice(SCALES[dimension][opposite])]
        return [self.rng.choice(SCALES[dimension][value])]

    def sentence(self, actor: Actor, statements: list[Statement], companion: Actor | None = None) -> Words:
        """``the dogs near the cat are happy and run .``"""
        return [*self.subject(actor, companion), *self.predicate(actor, statements), "."]

    def question(self, actor: Actor, dimension: str, companion: Actor | None = None) -> Words:
        """The question that a statement of this dimension answers: ``where are the dogs ?``"""
        subject = self.subject(actor, companion)
        auxiliary = "do" if actor.plural else "does"
        if dimension == "place":
            return ["where", self.be(actor), *subject, "?"]
        if dimension == "action":
            return ["what", auxiliary, *subject, "do", "?"]
        if dimension in TASTES:
            return ["what", auxiliary, *subject, self.rng.choice(TASTES[dimension])[1], "?"]
        return ["how", self.be(actor), *subject, "?"]

    def check(self, actor: Actor, statement: Statement) -> Words:
        """The statement as a question for yes or no: ``are the dogs happy ?``, ``does anna like bread ?``"""
        subject = self.subject(actor)
        dimension, value = statement
        auxiliary = "do" if actor.plural else "does"
        if dimension == "action":
            return [auxiliary, *subject, self.rng.choice(ACTIONS[value])[1], "?"]
        if dimension in TASTES:
            return [auxiliary, *subject, self.rng.choice(TASTES[dimension])[1], value, "?"]
        return [self.be(actor), *subject, *self._property(dimension, value, 0.15), "?"]


def make_document(seed: int, index: int, world: dict[str, Fact]) -> list[str]:
    """Document ``index`` as a list of paragraphs; it depends on nothing but the arguments."""
    rng = random.Random(f"{seed}/document/{index}")
    speaker = Speaker(world, rng)
    first = speaker.actor(names=0.4)
    actors = (first, speaker.other(first, names=0.4))
    topics = ("mood", "quality") if speaker.chance(SENTIMENT_SHARE) else tuple(rng.sample(TOPICS, 2))
    states = {actor: _make_state(actor, speaker) for actor in actors}
    return [" ".join(_make_paragraph(actors, topics, states, speaker)) for _ in range(NUM_PARAGRAPHS)]


def _make_paragraph(
    actors: tuple[Actor, Actor], topics: tuple[str, ...], states: dict[Actor, dict[str, str]], speaker: Speaker
) -> Words:
    """A sentence about one of the actors, and a question that it answers, another sentence, or a check."""
    actor, companion = actors if speaker.chance(0.7) else actors[::-1]
    chosen = speaker.rng.sample(topics, 2 if speaker.chance(0.4) else 1)
    statements = [(topic, states[actor][topic]) for topic in chosen]
    sentence = speaker.sentence(actor, statements, companion if speaker.chance(0.5) else None)
    form = speaker.rng.random()
    if form < CHECK_SHARE:
        return [*sentence, *_check(actor, companion, statements, speaker)]
    if form < CHECK_SHARE + QUESTION_SHARE:
        return [*speaker.question(actor, chosen[0]), *sentence]
    topic = speaker.rng.choice(topics)
    teller = actor if speaker.chance(0.6) else companion
    return [*sentence, *speaker.sentence(teller, [(topic, states[teller][topic])])]


def _check(actor: Actor, companion: Actor, statements: list[Statement], speaker: Speaker) -> Words:
    """A question about the sentence before it and its answer: yes, no, or maybe where the sentence does not say."""
    told = speaker.rng.choice(statements)
    answer = speaker.rng.choice(ANSWERS)
    if told[0] in TASTES:
        answer = "yes"
    if answer == "yes":
        asked = told
    elif answer == "no":
        asked = speaker.change(told)
    elif speaker.chance(0.4):
        actor, asked = companion, told
    else:
        asked = speaker.statement(exclude=tuple(dimension for dimension, _ in statements))
    return [*speaker.check(actor, asked), answer, "."]


def _make_state(actor: Actor, speaker: Speaker) -> dict[str, str]:
    """One value per dimension: mood and quality go together, tastes are those of the world."""
    positive = speaker.chance(0.5)
    fact = speaker.world[actor.kind]
    state = dict(speaker.statement(dimension) for dimension in DIMENSIONS)
    state["mood"] = "happy" if positive else "sad"
    state["quality"] = "good" if positive else "bad"
    return {**state, "like": fact.like, "hate": fact.hate}
