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
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pldrepro.config.contrasts import PairsSettings
from pldrepro.config.data import MiniatureSettings
from pldrepro.data.sources.miniature_language import MAX_WORDS, PLACES, Speaker, make_document, make_world, vocabulary
from pldrepro.data.sources.miniature_stories import STORY_SHARE, make_passage, make_story_document
from pldrepro.data.sources.miniature_tasks import UNSEEN_SENTIMENT, WRITERS, Draft
from pldrepro.data.tasks import Example

SEED = 0  # of the language: with another one its world, its documents and its examples are others
SPLITS = ("train", "dev", "dev_mismatched")


class MiniatureSource:
    """Text, GLUE and LAMBADA-like passages of the generated language (``pldrepro.data.sources.source.Source``)."""

    def __init__(self, settings: MiniatureSettings) -> None:
        self.settings = settings
        self.world = make_world(SEED)

    def describe(self) -> dict[str, Any]:
        """The settings and the number of word types, for the manifest."""
        return {"source": "miniature", **self.settings.model_dump(), "word_types": len(vocabulary())}

    def documents(self) -> Iterator[list[str]]:
        """The documents, each a list of paragraphs; some of them are stories where there are passages."""
        for index in range(self.settings.num_documents):
            if self._is_story(index):
                yield make_story_document(self._speakers(f"story/{index}"), PLACES)
            else:
                yield make_document(SEED, index, self.world)

    def lambada(self) -> Iterator[str]:
        """The passages: see ``pldrepro.data.sources.miniature_stories``."""
        for index in range(self.settings.lambada_passages):
            yield make_passage(self._speakers(f"lambada/{index}"), PLACES)

    def minimal_pairs(self, settings: PairsSettings, paradigms: Sequence[str]) -> str:
        """Sets of minimal pairs are of real English."""
        return "the miniature language has no minimal pairs"

    def _is_story(self, index: int) -> bool:
        if not self.settings.lambada_passages:
            return False
        return random.Random(f"{SEED}/kind/{index}").random() < STORY_SHARE

    def _speakers(self, stream: str) -> Callable[[int], Speaker]:
        """A speaker for each attempt of a stream."""
        return lambda attempt: Speaker(self.world, random.Random(f"{SEED}/{stream}/{attempt}"))

    def glue(self, task: str, split: str) -> list[Example] | str:
        """The examples of a split, all different and labels in turn; or why there are none."""
        if split not in SPLITS or (split == "dev_mismatched" and task != "mnli"):
            return f"the miniature language has no {split} split of {task}"
        size = self.settings.train_examples if split == "train" else self.settings.dev_examples
        examples: dict[str, Example] = {}
        attempt = 0
        while len(examples) < size:
            speaker = Speaker(self.world, random.Random(f"{SEED}/{task}/{split}/{attempt}"))
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
