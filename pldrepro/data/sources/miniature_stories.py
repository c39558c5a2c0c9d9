"""Stories of the miniature language: its LAMBADA, and the documents from which that can be learned.

A story tells where one to three actors are, says something else about one of them, and then tells the places again,
twice in any order and with any synonyms. A *passage* is a story that ends with the first place told again:

    the dogs are inside . anna is abroad . anna is not big . the hounds are inside

The last sentence does not give the place away: all four are equally probable, whoever it is about. What comes before
decides it: the sentence with the same actor, two to four sentences earlier. Each actor is at another
place, so that naming any place that was told is right in one of as many passages as there are actors.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from pldrepro.data.sources.miniature_language import Actor, Speaker, Words

NUM_ACTORS = (1, 2, 3)
NUM_AGAIN = 6  # sentences that tell the places again
STORY_SHARE = 0.75  # documents that are stories, where there are passages
STORIES_PER_DOCUMENT = 5
NAMES_SHARE = 0.5  # actors that are people
ASIDES = ("mood", "size", "action")  # what is told between the places and the places again


def make_story_document(new_speaker: Callable[[int], Speaker], places: tuple[str, ...]) -> list[str]:
    """A document of stories, each of them a paragraph; new_speaker: of attempt 0, 1, 2 ..."""
    paragraphs: list[str] = []
    attempt = 0
    while len(paragraphs) < STORIES_PER_DOCUMENT:
        beginning, again = _tell(new_speaker(attempt), places)
        attempt += 1
        if not _is_passage(beginning, places):
            paragraphs.append(" ".join([*beginning, *(word for sentence in again for word in sentence)]))
    return paragraphs


def make_passage(new_speaker: Callable[[int], Speaker], places: tuple[str, ...]) -> str:
    """A passage, whose beginning is in no document, not even with other places; new_speaker: as above."""
    attempt = 0
    while True:
        beginning, again = _tell(new_speaker(attempt), places)
        if _is_passage(beginning, places):
            return " ".join([*beginning, *again[0][:-1]])
        attempt += 1


def _tell(speaker: Speaker, places: tuple[str, ...]) -> tuple[Words, list[Words]]:
    """Where all are, with the aside; and the sentences that tell it again."""
    num_actors = speaker.rng.choice(NUM_ACTORS)
    actors: list[Actor] = []
    while len(actors) < num_actors:
        actor = speaker.actor(NAMES_SHARE)
        if all(actor.kind != other.kind for other in actors):
            actors.append(actor)
    facts = [("place", place) for place in speaker.rng.sample(places, num_actors)]
    beginning = [word for actor, fact in zip(actors, facts, strict=True) for word in speaker.sentence(actor, [fact])]
    aside = speaker.statement(speaker.rng.choice(ASIDES))
    beginning += speaker.sentence(speaker.rng.choice(actors), [aside])
    order = [speaker.rng.randrange(num_actors) for _ in range(NUM_AGAIN)]
    return beginning, [speaker.sentence(actors[index], [facts[index]]) for index in order]


def _is_passage(beginning: Words, places: tuple[str, ...]) -> bool:
    """Whether stories that begin so are passages; the others are told in documents.

    The places do not matter, or else some would be more probable than others with the actors of a passage.
    """
    return zlib.crc32(" ".join(word for word in beginning if word not in places).encode()) % 4 == 0
