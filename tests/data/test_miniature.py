"""The generated language: deterministic, of few words, true to its grammar and world, and GLUE tasks without leaks."""

import hashlib
import itertools
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pldrepro.config.data import MiniatureSettings
from pldrepro.data.sources.miniature import MiniatureSource
from pldrepro.data.sources.miniature_language import MAX_WORDS, make_document, make_world, vocabulary
from pldrepro.data.sources.miniature_tasks import UNSEEN_SENTIMENT
from pldrepro.data.tasks import TASKS, Example

SMALL = MiniatureSettings(num_documents=300, train_examples=600, dev_examples=300)
SPLITS = [(task, split) for task in TASKS for split in ("train", *TASKS[task].eval_splits)]
SINGULAR_VERBS = {"is", "runs", "races", "sleeps", "naps", "sings", "swims", "likes", "loves", "hates"}
PLURAL_VERBS = {"are", "run", "race", "sleep", "nap", "sing", "swim", "like", "love", "hate"}
PLURAL_NOUNS = {"dogs", "hounds", "horses", "ponies", "cats", "birds"}


@pytest.fixture(scope="module")
def source() -> MiniatureSource:
    return MiniatureSource(SMALL)


@pytest.fixture(scope="module")
def glue(source: MiniatureSource) -> dict[tuple[str, str], list[Example]]:
    return {(task, split): list(source.glue(task, split)) for task, split in SPLITS}


def words_of(example: Example) -> list[str]:
    return f"{example.sentence1} {example.sentence2 or ''}".split()


def statements(source: MiniatureSource) -> list[list[str]]:
    """All declarative sentences of the corpus that are more than a one-word answer, as words."""
    text = " ".join(paragraph for document in source.documents() for paragraph in document)
    sentences = (part.split("?")[-1].split() for part in text.split("."))
    return [sentence for sentence in sentences if len(sentence) > 1]


def test_vocabulary_is_small_and_exactly_what_is_used(source, glue):
    corpus = {word for document in source.documents() for paragraph in document for word in paragraph.split()}
    examples = {word for part in glue.values() for example in part for word in words_of(example)}
    assert corpus == set(vocabulary())
    assert examples <= corpus
    assert len(corpus) == 73
    assert source.describe()["word_types"] == 73


def test_documents_are_the_same_on_every_machine(source):
    text = "\n".join("\n".join(document) for document in source.documents())
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "2e875f5ae56df938"


def test_examples_are_the_same_on_every_machine(glue):
    text = "\n".join(repr(example) for key in SPLITS for example in glue[key])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "0892f6d68196f1d3"


def test_seeds_give_other_languages():
    assert make_world(0) != make_world(1)
    assert make_document(0, 3, make_world(0)) != make_document(1, 3, make_world(0))


@given(st.integers(0, 2**20), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_document_depends_on_seed_and_index_only(index, seed):
    world = make_world(seed)
    document = make_document(seed, index, world)
    assert document == make_document(seed, index, world)
    assert document != make_document(seed, index + 1, world)
    assert len(document) == 8
    assert all(paragraph.endswith(" .") for paragraph in document)


def test_documents_do_not_depend_on_their_number(source):
    few = MiniatureSource(MiniatureSettings(num_documents=20))
    assert list(few.documents()) == list(itertools.islice(source.documents(), 20))


def test_verbs_agree_with_the_subject_over_what_stands_between(source):
    distant = 0
    for sentence in statements(source):
        subject = sentence[1] if sentence[0] == "the" else sentence[0]
        verbs = [word for word in sentence if word in SINGULAR_VERBS | PLURAL_VERBS]
        assert verbs, sentence
        assert set(verbs) <= (PLURAL_VERBS if subject in PLURAL_NOUNS else SINGULAR_VERBS), sentence
        distant += bool({"near", "by"} & set(sentence))
    assert distant > 500


def test_tastes_are_the_same_throughout_the_corpus(source):
    tastes = defaultdict(set)
    for sentence in statements(source):
        for verb, food in itertools.pairwise(sentence):
            if verb in ("likes", "like", "loves", "love", "hates", "hate"):
                subject = sentence[1] if sentence[0] == "the" else sentence[0]
                tastes[subject, "hate" if verb.startswith("hate") else "like"].add(food)
    assert len(tastes) > 20
    assert all(len(foods) == 1 for foods in tastes.values())
    assert {food for foods in tastes.values() for food in foods} == {"apples", "bread", "cheese", "fish"}


@pytest.mark.parametrize(("task", "split"), SPLITS)
def test_splits_have_their_size_classes_and_length(glue, task, split):
    examples = glue[task, split]
    assert len(examples) == (600 if split == "train" else 300)
    assert len({(example.sentence1, example.sentence2) for example in examples}) == len(examples)
    counts = Counter(example.label for example in examples)
    assert max(counts.values()) - min(counts.values()) <= 1
    if TASKS[task].is_regression:
        assert set(counts) == {0, 1.67, 3.33, 5}
    else:
        assert set(counts) == set(range(TASKS[task].num_labels))
    for example in examples:
        assert (example.sentence2 is not None) == TASKS[task].pair
        assert example.sentence1 != example.sentence2
        assert len(words_of(example)) <= MAX_WORDS


@pytest.mark.parametrize("task", TASKS)
def test_train_and_dev_are_disjoint(glue, task):
    train = {(example.sentence1, example.sentence2) for example in glue[task, "train"]}
    for split in TASKS[task].eval_splits:
        assert not train & {(example.sentence1, example.sentence2) for example in glue[task, split]}


@pytest.mark.parametrize("task", [task for task in TASKS if not TASKS[task].is_regression])
def test_neither_length_nor_one_word_gives_the_label_away(task):
    """The best guess from one feature alone stays near the majority; sentiment words are what sst2 is about."""
    examples = MiniatureSource(MiniatureSettings(train_examples=3000)).glue(task, "train")
    lengths = defaultdict(Counter)
    occurrences = defaultdict(Counter)
    for example in examples:
        lengths[len(words_of(example))][example.label] += 1
        for word in words_of(example):
            occurrences[word][example.label] += 1
    majority = 1 / TASKS[task].num_labels
    assert sum(max(counts.values()) for counts in lengths.values()) / 3000 < majority + 0.12
    if task != "sst2":
        for word, counts in occurrences.items():
            assert counts.total() < 100 or max(counts.values()) / counts.total() < majority + 0.15, (word, counts)


def test_unacceptable_sentences_do_not_occur_in_the_corpus(source, glue):
    corpus = {" ".join(sentence) + " ." for sentence in statements(source)}
    unacceptable = [example.sentence1 for example in glue["cola", "train"] if example.label == 0]
    assert unacceptable
    assert not corpus & set(unacceptable)


def test_some_sentiment_words_are_only_in_dev(glue):
    train, dev = ({word for example in glue["sst2", split] for word in words_of(example)} for split in ("train", "dev"))
    assert not UNSEEN_SENTIMENT & train
    assert dev >= UNSEEN_SENTIMENT


def test_mismatched_is_about_people_and_matched_about_animals(glue):
    names = {"anna", "ben", "carl", "dora"}
    assert not any(names & set(words_of(example)) for split in ("train", "dev") for example in glue["mnli", split])
    assert all(names & set(words_of(example)) for example in glue["mnli", "dev_mismatched"])


def test_a_split_that_does_not_exist_is_explained(source):
    assert source.glue("cola", "dev_mismatched") == "the miniature language has no dev_mismatched split of cola"
