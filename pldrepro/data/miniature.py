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
from pldrepro.data.stories import STORY_SHARE, make_passage, make_story_document

if TYPE_CHECKING:
    from pldrepro.data.glue import Example

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
# sentiment words that the training examples of sst2 never show: what they mean is learned in pre-training
UNSEEN_SENTIMENT = frozenset({"glad", "gloomy", "fine", "poor"})

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
        """``happy``, ``not sad`` or ``outside``; ``not`` belongs to the next word alone."""
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
    """The polarity of mood and quality, or of one of them beside a neutral statement; a quarter negated opposites."""
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
    # Each topic beside the one whose statements are as long and as frequent; no other is as short as an action.
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
SPLITS = ("train", "dev", "dev_mismatched")


class MiniatureSource:
    """Text, GLUE and LAMBADA-like passages of the generated language (``pldrepro.data.sources.Source``)."""

    def __init__(self, settings: MiniatureSettings) -> None:
        self.settings = settings
        self.world = make_world(settings.seed)

    def describe(self) -> dict[str, Any]:
        """The settings and the number of word types, for the manifest."""
        return {"source": "miniature", **self.settings.model_dump(), "word_types": len(vocabulary())}

    def documents(self) -> Iterator[list[str]]:
        """The documents, each a list of paragraphs; some of them are stories where there are passages."""
        for index in range(self.settings.num_documents):
            if self._is_story(index):
                yield make_story_document(self._speakers(f"story/{index}"), PLACES)
            else:
                yield make_document(self.settings.seed, index, self.world)

    def lambada(self) -> Iterator[str]:
        """The passages: see ``pldrepro.data.stories``."""
        for index in range(self.settings.lambada_passages):
            yield make_passage(self._speakers(f"lambada/{index}"), PLACES)

    def _is_story(self, index: int) -> bool:
        if not self.settings.lambada_passages:
            return False
        return random.Random(f"{self.settings.seed}/kind/{index}").random() < STORY_SHARE

    def _speakers(self, stream: str) -> Callable[[int], Speaker]:
        """A speaker for each attempt of a stream."""
        return lambda attempt: Speaker(self.world, random.Random(f"{self.settings.seed}/{stream}/{attempt}"))

    def glue(self, task: str, split: str) -> list[Example] | str:
        """The examples of a split, all different and labels in turn; or why there are none."""
        from pldrepro.data.glue import Example

        if split not in SPLITS or (split == "dev_mismatched" and task != "mnli"):
            return f"the miniature language has no {split} split of {task}"
        size = self.settings.train_examples if split == "train" else self.settings.dev_examples
        examples: dict[str, Example] = {}
        attempt = 0
        while len(examples) < size:
            speaker = Speaker(self.world, random.Random(f"{self.settings.seed}/{task}/{split}/{attempt}"))
            draft = WRITERS[task](speaker, len(examples), split)
            attempt += 1
            if _is_usable(draft, task, split):
                first = " ".join(draft.sentence1)
                second = None if draft.sentence2 is None else " ".join(draft.sentence2)
                examples.setdefault(f"{first} {second}", Example(first, second, draft.label))
        return list(examples.values())


def _is_usable(draft: Draft, task: str, split: str) -> bool:
    """Short enough, two different sentences, and of this split: train and dev share no example whatever their size."""
    words = [*draft.sentence1, *(draft.sentence2 or [])]
    if len(words) > MAX_WORDS or draft.sentence1 == draft.sentence2:
        return False
    if task == "sst2" and split == "train" and UNSEEN_SENTIMENT & set(words):
        return False
    is_dev = zlib.crc32(" ".join(words).encode()) % 4 == 0
    return is_dev == (split != "train")
