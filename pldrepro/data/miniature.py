"""The miniature: a generated, English-like language of about 80 word types, and all eight GLUE tasks in it.

A *document* tells about two actors (kinds of animals, in the singular or plural, or people by name). Each actor has
a hidden *state*: one value in every dimension of ``DIMENSIONS``. Sentences voice parts of the state with synonyms and
negated opposites, so that a masked word can be restored only from agreement, from the rest of the document, and from
the *world*: facts about every actor that hold in the whole corpus. See docs/miniature.md.

Every document and example has a random generator of its own, seeded by (seed, stream, index).
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from pldrepro.config import MiniatureSettings

if TYPE_CHECKING:
    from pldrepro.data.glue import Example

# kind -> its nouns as (singular, plural); nouns of one kind are synonyms
ANIMALS: dict[str, tuple[tuple[str, str], ...]] = {
    "dog": (("dog", "dogs"), ("hound", "hounds")),
    "horse": (("horse", "horses"), ("pony", "ponies")),
    "cat": (("cat", "cats"),),
    "bird": (("bird", "birds"),),
}
NAMES = ("anna", "ben", "carl", "dora", "emma", "finn")
# value -> its words; words of one value are synonyms, the two values of a scale are opposites
SCALES: dict[str, dict[str, tuple[str, ...]]] = {
    "mood": {"happy": ("happy", "glad"), "sad": ("sad", "gloomy")},
    "quality": {"good": ("good", "great", "fine", "nice"), "bad": ("bad", "awful", "poor", "nasty")},
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
PLACES = ("river", "hill", "house", "tree")
PREPOSITIONS = ("near", "by")
FUNCTION_WORDS = ("the", "at", "home", "not", "and", "is", "are", "who", "where", "what", "how", "does", "do")
PUNCTUATION = (".", "?", ",")

# what an actor's state says about it; taste comes from the world
DIMENSIONS: dict[str, tuple[str, ...]] = {
    **{scale: tuple(values) for scale, values in SCALES.items()},
    "action": tuple(ACTIONS),
    "place": PLACES,
}
POLARITY = {"happy": 1, "good": 1, "sad": 0, "bad": 0}
# sentiment words that the training examples of sst2 never show: what they mean is learned in pre-training
UNSEEN_SENTIMENT = frozenset({"glad", "gloomy", "fine", "nice", "poor", "nasty"})

NUM_SENTENCES = 8
NUM_TOPICS = 3
HOME_SHARE = 0.5

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
    """What the world says about a kind: where its home is, the food it likes and the food it hates."""

    home: str
    like: str
    hate: str


def vocabulary() -> tuple[str, ...]:
    """All word types of the language, punctuation included, sorted."""
    pairs = [*ANIMALS.values(), *ACTIONS.values(), *TASTES.values()]
    inflected = [word for synonyms in pairs for pair in synonyms for word in pair]
    adjectives = [word for scale in SCALES.values() for words in scale.values() for word in words]
    groups = (inflected, adjectives, NAMES, FOODS, PLACES, PREPOSITIONS, FUNCTION_WORDS, PUNCTUATION)
    return tuple(sorted({word for group in groups for word in group}))


def make_world(seed: int) -> dict[str, Fact]:
    """The facts of the world of this seed: kind or name -> Fact."""
    rng = random.Random(f"{seed}/world")
    return {kind: Fact(rng.choice(PLACES), *rng.sample(FOODS, 2)) for kind in (*ANIMALS, *NAMES)}


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

    def location(self, actor: Actor, place: str) -> Words:
        """``at the river``; where the actor's home is there, ``at home`` as well."""
        if place == self.world[actor.kind].home and self.chance(HOME_SHARE):
            return ["at", "home"]
        return ["at", "the", place]

    def predicate(self, actor: Actor, statement: Statement, negation: float = 0.25) -> Words:
        """One statement as a verb phrase that agrees with the actor; taste statements have a food as value."""
        dimension, value = statement
        if dimension in SCALES:
            if self.chance(negation):
                (opposite,) = (v for v in SCALES[dimension] if v != value)
                return [self.be(actor), "not", self.rng.choice(SCALES[dimension][opposite])]
            return [self.be(actor), self.rng.choice(SCALES[dimension][value])]
        if dimension == "action":
            return [self.rng.choice(ACTIONS[value])[actor.plural]]
        if dimension == "place":
            return [self.be(actor), *self.location(actor, value)]
        return [self.rng.choice(TASTES[dimension])[actor.plural], value]

    def sentence(self, actor: Actor, statements: list[Statement], companion: Actor | None = None) -> Words:
        """``the dogs near the cat are happy and run .``"""
        words = self.subject(actor, companion)
        for i, statement in enumerate(statements):
            words += ["and"] * (i > 0) + self.predicate(actor, statement)
        return [*words, "."]

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


def make_document(seed: int, index: int, world: dict[str, Fact]) -> list[str]:
    """Document ``index`` as a list of paragraphs; it depends on nothing but the arguments."""
    rng = random.Random(f"{seed}/document/{index}")
    speaker = Speaker(world, rng)
    first = speaker.actor(names=0.4)
    actors = (first, speaker.other(first, names=0.4))
    topics = rng.sample((*DIMENSIONS, "like", "hate"), NUM_TOPICS)
    states = {actor: _make_state(actor, speaker) for actor in actors}
    paragraphs: list[str] = []
    for _ in range(NUM_SENTENCES // 2):
        actor, companion = actors if speaker.chance(0.7) else actors[::-1]
        chosen = rng.sample(topics, 2)
        attached = companion if speaker.chance(0.5) else None
        if speaker.chance(0.25):
            opening = speaker.question(actor, chosen[0], attached)
            answer = speaker.sentence(actor, [(chosen[0], states[actor][chosen[0]])], None)
            paragraphs.append(" ".join([*opening, *answer]))
            continue
        two = [(topic, states[actor][topic]) for topic in chosen]
        one = speaker.sentence(actor, two[: 1 + speaker.chance(0.5)], attached)
        other = speaker.sentence(companion, [(chosen[0], states[companion][chosen[0]])], None)
        paragraphs.append(" ".join([*one, *other]))
    return paragraphs


def _make_state(actor: Actor, speaker: Speaker) -> dict[str, str]:
    """One value per dimension: mood and quality go together, tastes are those of the world."""
    positive = speaker.chance(0.5)
    fact = speaker.world[actor.kind]
    state = dict(speaker.statement(dimension) for dimension in DIMENSIONS)
    state["mood"] = "happy" if positive else "sad"
    state["quality"] = "good" if positive else "bad"
    if speaker.chance(HOME_SHARE):
        state["place"] = fact.home
    return {**state, "like": fact.like, "hate": fact.hate}


class Draft(NamedTuple):
    """An example before its words are joined."""

    sentence1: Words
    sentence2: Words | None
    label: float


def _cola(speaker: Speaker, index: int, split: str) -> Draft:
    """Acceptable, or with a wrong verb form behind an intervening phrase, or with two neighbouring words swapped."""
    actor = speaker.actor()
    companion = speaker.other(actor)
    statements = [speaker.statement()]
    subject = speaker.subject(actor, companion)
    acceptable = index % 2
    wrong_form = not acceptable and speaker.chance(0.75)
    verb_actor = Actor(actor.kind, actor.plural ^ wrong_form)
    words = [*subject, *speaker.predicate(verb_actor, statements[0]), "."]
    if not acceptable and not wrong_form:
        place = speaker.rng.randrange(len(words) - 2)
        words[place], words[place + 1] = words[place + 1], words[place]
    return Draft(words, None, acceptable)


def _sst2(speaker: Speaker, index: int, split: str) -> Draft:
    """The polarity of a mood or quality, half of them as negated opposites, beside a neutral statement."""
    actor = speaker.actor(names=0.3)
    label = index % 2
    value = speaker.rng.choice([v for v, polarity in POLARITY.items() if polarity == label])
    dimension = "mood" if value in SCALES["mood"] else "quality"
    other = speaker.statement(exclude=("mood", "quality"))
    companion = speaker.other(actor, names=0.3) if speaker.chance(0.5) else None
    parts = [speaker.predicate(actor, (dimension, value), negation=0.5), speaker.predicate(actor, other)]
    if split == "train" and UNSEEN_SENTIMENT & set(parts[0]):
        return _sst2(speaker, index, split)
    speaker.rng.shuffle(parts)
    return Draft([*speaker.subject(actor, companion), *parts[0], "and", *parts[1], "."], None, label)


def _rewrite(speaker: Speaker, num_changes: int) -> tuple[Words, Words]:
    """Two sentences over four slots (actor, companion, two statements) that differ in meaning in ``num_changes``."""
    actor = speaker.actor()
    companion = speaker.other(actor)
    first = speaker.statement()
    second = speaker.statement(exclude=(first[0],))
    changes = speaker.rng.sample(range(4), num_changes)
    new_actor, new_companion = actor, companion
    while 0 in changes and (new_actor.kind == actor.kind or new_actor.kind == companion.kind):
        new_actor = Actor(speaker.actor().kind, actor.plural)
    while 1 in changes and new_companion.kind in (companion.kind, actor.kind, new_actor.kind):
        new_companion = Actor(speaker.actor().kind, companion.plural)
    statements = [
        speaker.change(first) if 2 in changes else first,
        speaker.change(second) if 3 in changes else second,
    ]
    speaker.rng.shuffle(statements)
    return (
        speaker.sentence(actor, [first, second], companion),
        speaker.sentence(new_actor, statements, new_companion),
    )


def _mrpc(speaker: Speaker, index: int, split: str) -> Draft:
    """The same meaning in other words and order, or with one slot changed."""
    label = index % 2
    return Draft(*_rewrite(speaker, 0 if label else 1), label)


def _stsb(speaker: Speaker, index: int, split: str) -> Draft:
    """5 x share of the four slots that mean the same."""
    changes = index % 5
    return Draft(*_rewrite(speaker, changes), 5 * (1 - changes / 4))


def _qqp(speaker: Speaker, index: int, split: str) -> Draft:
    """The same question with synonyms, or about another actor or another dimension."""
    label = index % 2
    actor = speaker.actor(names=0.3)
    companion = speaker.other(actor)
    topic = speaker.rng.choice(("mood", "action", "place", "like", "hate"))
    question = speaker.question(actor, topic, companion)
    if not label:
        change = speaker.rng.randrange(3)
        if change == 0:
            topic = speaker.rng.choice([t for t in ("mood", "action", "place", "like", "hate") if t != topic])
        elif change == 1:
            actor, companion = companion, actor
        else:
            kept = actor
            while actor.kind in (kept.kind, companion.kind):
                actor = speaker.actor(names=0.3)
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
    """As mnli in two classes, with people and animals: entailed, or neutral or contradicted."""
    label = index % 2
    return _inference(speaker, 0 if label == 0 else speaker.rng.choice((1, 2)), speaker.actor(names=0.5))._replace(
        label=label
    )


def _qnli(speaker: Speaker, index: int, split: str) -> Draft:
    """A question and a sentence that answers it (0), or is about another actor or something else (1)."""
    label = index % 2
    actor = speaker.actor(names=0.3)
    companion = speaker.other(actor)
    topic = speaker.rng.choice(tuple(DIMENSIONS))
    question = speaker.question(actor, topic)
    statement = speaker.statement(topic)
    if label and speaker.chance(0.5):
        scales = tuple(SCALES) if topic in SCALES else (topic,)
        statement = speaker.statement(exclude=scales)
    elif label:
        actor, companion = companion, actor
    return Draft(question, speaker.sentence(actor, [statement], companion), label)


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
SPLITS = ("train", "dev", "dev_mismatched")


class MiniatureSource:
    """Text and GLUE of the generated language (``pldrepro.data.sources.Source``)."""

    def __init__(self, settings: MiniatureSettings) -> None:
        self.settings = settings
        self.world = make_world(settings.seed)

    def describe(self) -> dict[str, Any]:
        """What is recorded in manifests."""
        return {"source": "miniature", **self.settings.model_dump(), "word_types": len(vocabulary())}

    def documents(self) -> Iterator[list[str]]:
        """The documents, each a list of paragraphs of one or two sentences."""
        for index in range(self.settings.num_documents):
            yield make_document(self.settings.seed, index, self.world)

    def glue(self, task: str, split: str) -> list[Example] | str:
        """The examples of a split, all different and labels in turn; or why there are none."""
        from pldrepro.data.glue import Example

        if split not in SPLITS or (split == "dev_mismatched" and task != "mnli"):
            return f"the miniature language has no {split} split of {task}"
        size = self.settings.train_examples if split == "train" else self.settings.dev_examples
        examples: list[Example] = []
        seen: set[str] = set()
        attempt = 0
        while len(examples) < size:
            speaker = Speaker(self.world, random.Random(f"{self.settings.seed}/{task}/{split}/{attempt}"))
            draft = WRITERS[task](speaker, len(examples), split)
            attempt += 1
            text = " ".join([*draft.sentence1, "|", *(draft.sentence2 or [])])
            if draft.sentence1 == draft.sentence2 or text in seen or _belongs_to_dev(text) != (split != "train"):
                continue
            seen.add(text)
            second = None if draft.sentence2 is None else " ".join(draft.sentence2)
            examples.append(Example(" ".join(draft.sentence1), second, draft.label))
        return examples


def _belongs_to_dev(text: str) -> bool:
    """Assign a text to train or dev by its checksum, so that the splits are disjoint whatever their sizes."""
    return zlib.crc32(text.encode()) % 4 == 0
