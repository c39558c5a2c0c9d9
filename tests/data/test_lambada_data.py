"""LAMBADA passages of all sources: context and last word as tokens, beside the corpus; and the miniature's stories."""

import json
import os
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pldrepro.config.data import DataSettings, HubSettings, HubText, MiniatureSettings
from pldrepro.data.corpus import open_corpus, prepare_corpus
from pldrepro.data.lambada import Lambada, encode_passages, load_passages, save_lambada
from pldrepro.data.sources.hub import HubSource
from pldrepro.data.sources.miniature import MiniatureSource
from pldrepro.data.sources.miniature_language import vocabulary
from pldrepro.data.sources.text_files import FilesSource
from pldrepro.data.tokenizers.bpe import from_gpt2_files, train_bpe
from pldrepro.data.tokenizers.encoders import BytePairTokenizer, WordTokenizer
from pldrepro.data.tokenizers.wordpiece import load_tokenizer, train_wordpiece
from pldrepro.errors import DataError, SettingsError

DTYPE = np.dtype("<u2")
TEXTS = ["He asked the guard , and the guard opened the door .", "The door of the guard's house"] * 3
BPE = BytePairTokenizer(train_bpe(TEXTS, 300), DTYPE)
WORDPIECE = WordTokenizer(train_wordpiece([*TEXTS, "日本 x\u2028"] * 2, 90, lowercase=True), DTYPE)
DATA = Path(os.environ.get("PLDREPRO_DATA_ROOT", "none"))
WORDS = st.text(st.sampled_from("adeghorus ,.'\n\u00a0\u2028日é"), max_size=12)


# ---- the last word ----


def test_the_last_word_is_what_stands_after_the_last_space() -> None:
    tokenizer = train_bpe(TEXTS, 300)
    lambada = encode_passages(["the guard opened the door\n", "a\nb c's"], BytePairTokenizer(tokenizer, DTYPE), DTYPE)
    decoded = [tuple(tokenizer.decode(part.tolist()) for part in lambada.passage(index)) for index in (0, 1)]
    assert decoded == [("the guard opened the", " door"), ("a\nb", " c's")]
    assert len(lambada) == 2
    assert lambada.passage(0)[1].tolist() == [tokenizer.token_to_id("Ġdoor")]


@pytest.mark.parametrize("encoder", [BPE, WORDPIECE], ids=["bpe", "wordpiece"])
def test_context_and_word_are_the_tokens_of_the_whole_text(encoder: BytePairTokenizer | WordTokenizer) -> None:
    @given(WORDS, WORDS)
    def same(start: str, end: str) -> None:
        text = f"x{start} {end}x"
        context, word = encode_passages([text], encoder, DTYPE).passage(0)
        assert [*context, *word] == np.frombuffer(encoder.encode(text), dtype=DTYPE).tolist()

    same()


@pytest.mark.parametrize("text", ["word", " word", "", "word \n"])
def test_a_passage_of_one_word_is_named(text: str) -> None:
    with pytest.raises(DataError, match="passage 2:"):
        encode_passages(["two words", text], BPE, DTYPE)


@given(st.lists(st.tuples(*[st.lists(st.integers(0, 60_000), max_size=4)] * 2), max_size=4))
def test_passages_come_back_from_their_arrays(passages: list[tuple[list[int], list[int]]]) -> None:
    lambada = Lambada.of([(np.array(context), np.array(word)) for context, word in passages])
    assert len(lambada) == len(passages)
    assert [tuple(part.tolist() for part in lambada.passage(i)) for i in range(len(lambada))] == passages


def test_a_file_that_is_damaged_or_another_one_is_named(tmp_path: Path) -> None:
    lambada = encode_passages(["a b", "c d e"], BPE, DTYPE)
    entry = save_lambada(lambada, tmp_path)
    assert (entry.passages, entry.word_tokens) == (2, len(lambada.words))
    assert load_passages(tmp_path, entry).sha256 == lambada.sha256
    path = tmp_path / "lambada.safetensors"
    save_lambada(encode_passages(["a b", "c d f"], BPE, DTYPE), tmp_path)
    with pytest.raises(DataError, match=r"lambada\.safetensors"):
        load_passages(tmp_path, entry)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match=r"lambada\.safetensors"):
        load_passages(tmp_path, entry)
    path.unlink()
    with pytest.raises(DataError, match=r"lambada\.safetensors"):
        load_passages(tmp_path, entry)


# ---- sources ----


def files_settings(root: Path, **changes: Any) -> DataSettings:
    values = {"source": "files", "root": str(root), "text": ["text.txt"], "tokenizer": "bpe", "vocab_size": 300}
    return DataSettings.model_validate({**values, "validation_ratio": 1, "lambada": "passages.jsonl", **changes})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "text.txt").write_text(
        "One Café.\nTwo <|endoftext|>.\n\nThree .\n\nFour .\n\nFive .\n", encoding="utf-8"
    )
    lines = [json.dumps({"text": text}) for text in ("In a house\nlived a mouse", "Two words")]
    (tmp_path / "passages.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


def prepare(settings: DataSettings, out: Path, workers: int = 1) -> dict[str, Any]:
    return prepare_corpus(settings, out, workers=workers, progress=False).dump()


def test_documents_of_a_byte_pair_corpus_keep_their_lines_and_case(root: Path) -> None:
    manifest = prepare(files_settings(root, lambada=None), root / "out")
    opened, tokenizer = open_corpus(root / "out"), load_tokenizer(root / "out" / "tokenizer")
    assert manifest["tokenizer"] == "bpe"
    assert manifest["special_tokens"] == {"<|endoftext|>": 0}
    assert "lowercase" not in manifest["settings"]
    ends = np.flatnonzero(opened.train == 0)
    assert len(ends) == 2  # "<|endoftext|>" in a text is text
    assert ends[-1] == len(opened.train) - 1
    assert tokenizer.decode(opened.train[: ends[0]].tolist()) == "One Café.\nTwo <|endoftext|>."
    assert tokenizer.decode(opened.train[ends[0] + 1 : -1].tolist()) == "Four ."
    assert tokenizer.decode(opened.validation.tolist(), skip_special_tokens=False) == (
        "Three .<|endoftext|>Five .<|endoftext|>"
    )


def test_passages_lie_beside_the_corpus_and_belong_to_its_hash(root: Path) -> None:
    without = prepare(files_settings(root, lambada=None), root / "out")
    assert open_corpus(root / "out").lambada is None
    assert "lambada" not in without
    manifest = prepare(files_settings(root), root / "out")
    lambada = open_corpus(root / "out").lambada
    assert lambada is not None
    assert manifest["lambada"] == {"passages": 2, "word_tokens": len(lambada.words), "sha256": lambada.sha256}
    assert manifest["source"]["lambada"] == "passages.jsonl"
    assert manifest["hash"] != without["hash"]
    decode = load_tokenizer(root / "out" / "tokenizer").decode
    assert decode(lambada.passage(0)[0].tolist()) == "In a house\nlived a"
    assert prepare(files_settings(root, lambada=None), root / "out") == without
    assert not (root / "out" / "lambada.safetensors").exists()


def test_two_workers_write_the_same_bytes(root: Path) -> None:
    for workers in (1, 2):
        prepare(files_settings(root), root / str(workers), workers)
    one, two = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (root / "1", root / "2")
    )
    assert one == two


def test_vocabulary_and_merges_from_files_make_the_same_corpus(root: Path) -> None:
    trained = prepare(files_settings(root), root / "a")
    tokenizer = root / "a" / "tokenizer"
    names = {"vocabulary": str(tokenizer / "vocab.json"), "merges": str(tokenizer / "merges.txt")}
    assert prepare(files_settings(root, **names), root / "b")["hash"] == trained["hash"]


@pytest.mark.parametrize("line", ["x", "[1]", "{}", '{"text": 1}'])
def test_a_line_that_is_no_passage_is_named_and_leaves_the_earlier_corpus(root: Path, line: str) -> None:
    manifest = prepare(files_settings(root), root / "out")
    with (root / "passages.jsonl").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(DataError, match=r"passages\.jsonl: line 3:"):
        prepare(files_settings(root), root / "out")
    assert open_corpus(root / "out").manifest.dump() == manifest


def test_a_file_of_passages_is_below_the_root(root: Path) -> None:
    assert list(FilesSource(files_settings(root, lambada=None)).lambada()) == []
    with pytest.raises(DataError, match=r"none\.jsonl.*data\.lambada"):
        list(FilesSource(files_settings(root, lambada="none.jsonl")).lambada())
    with pytest.raises(SettingsError, match=r"data\.lambada: /passages\.jsonl"):
        list(FilesSource(files_settings(root, lambada="/passages.jsonl")).lambada())


def test_passages_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "passages/default/test-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a b", "c d"]}), path)
    entry = HubText(path=str(tmp_path / "passages"), name="default", split="test")
    text = (HubText(path=str(tmp_path)),)
    source = HubSource(HubSettings(text=text, glue_path=str(tmp_path), lambada=entry))
    assert list(source.lambada()) == ["a b", "c d"]
    assert source.describe()["lambada"]["path"] == "passages"
    without = HubSource(HubSettings(text=text, glue_path=str(tmp_path)))
    assert list(without.lambada()) == []
    assert "lambada" not in without.describe()
    wrong = entry.model_copy(update={"column": "passage"})
    with pytest.raises(DataError, match=r"row 1: .*'passage'"):
        list(HubSource(HubSettings(text=text, glue_path=str(tmp_path), lambada=wrong)).lambada())
    unpinned = HubText(path="owner/passages")
    with pytest.raises(SettingsError, match=r"data\.hub\.lambada\.revision"):
        HubSource(HubSettings(text=text, glue_path=str(tmp_path), lambada=unpinned))


@pytest.mark.skipif(
    not all((DATA / name).is_file() for name in ("vocab/gpt2_vocab.json", "lambada/lambada_test.jsonl")),
    reason="no vocab/gpt2_vocab.json and lambada/lambada_test.jsonl in PLDREPRO_DATA_ROOT",
)
def test_the_real_passages_with_gpt2s_tokens() -> None:
    settings = files_settings(DATA, lambada="lambada/lambada_test.jsonl")
    tokenizer = from_gpt2_files(DATA / "vocab/gpt2_vocab.json", DATA / "vocab/gpt2_merges.txt")
    lambada = encode_passages(FilesSource(settings).lambada(), BytePairTokenizer(tokenizer, DTYPE), DTYPE)
    assert len(lambada) == 5153
    assert tokenizer.decode(lambada.passage(0)[1].tolist()) == " signs"
    assert np.diff(lambada.word_offsets).min() == 1


# ---- the miniature ----

PLACES = ("inside", "outside", "upstairs", "abroad")
SYNONYMS = {"hound": "dog", "hounds": "dogs", "pony": "horse", "ponies": "horses"}
SENTENCE = re.compile(rf"^(?:the )?(\w+) (?:is|are) ({'|'.join(PLACES)})$")


@pytest.fixture(scope="module")
def source() -> MiniatureSource:
    return MiniatureSource(MiniatureSettings(num_documents=300, lambada_passages=3000))


@pytest.fixture(scope="module")
def passages(source: MiniatureSource) -> list[str]:
    return list(source.lambada())


def told(sentence: str) -> tuple[str, str] | None:
    """(actor, place) of a sentence about a place."""
    found = SENTENCE.match(sentence)
    return None if found is None else (SYNONYMS.get(found[1], found[1]), found[2])


def test_the_passage_decides_the_last_word(passages: list[str]) -> None:
    distances = Counter()
    for passage in passages:
        *before, last = passage.split(" . ")
        actor, place = told(last) or ("", "")
        facts = [told(sentence) for sentence in before]
        assert dict(filter(None, facts))[actor] == place
        assert facts.count((actor, place)) == 1
        distances[len(before) - facts.index((actor, place))] += 1
    assert set(distances) == {2, 3, 4}  # never the sentence before


def test_the_last_sentence_alone_leaves_the_last_word_open(passages: list[str]) -> None:
    answers = defaultdict(Counter)
    for passage in passages:
        start, _, place = passage.split(" . ")[-1].rpartition(" ")
        answers[start][place] += 1
    assert len(answers) == 16  # 12 nouns and 4 names
    assert sum(max(counts.values()) for counts in answers.values()) / 3000 < 0.3  # the best guess, after the event
    for counts in answers.values():
        assert set(counts) == set(PLACES)
        expected = counts.total() / 4
        assert sum((count - expected) ** 2 / expected for count in counts.values()) < 16.3  # chi-squared, 3: p > 0.001


def test_a_place_that_was_told_is_right_in_one_of_as_many_as_there_are_actors(passages: list[str]) -> None:
    counts = Counter(len(set(filter(None, map(told, passage.split(" . "))))) for passage in passages)
    assert set(counts) == {1, 2, 3}
    assert all(900 < count < 1100 for count in counts.values())


def test_no_passage_begins_like_a_story_of_the_documents_whatever_the_places(
    source: MiniatureSource, passages: list[str]
) -> None:
    def start(sentences: list[str]) -> str:
        return re.sub("|".join(PLACES), "", " . ".join(sentences))

    beginnings = {start(passage.split(" . ")[:-1]) for passage in passages}
    paragraphs = [paragraph.split(" . ") for document in source.documents() for paragraph in document]
    starts = {start(paragraph[:count]) for paragraph in paragraphs for count in (2, 3, 4)}
    assert not beginnings & starts


def test_three_of_four_documents_are_stories_and_the_others_as_they_were(source: MiniatureSource) -> None:
    documents = list(source.documents())
    plain = list(MiniatureSource(MiniatureSettings(num_documents=300)).documents())
    stories = [document for document, before in zip(documents, plain, strict=True) if document != before]
    assert 200 < len(stories) < 250
    assert all(len(document) == 5 for document in stories)
    places = [sum(told(s.removesuffix(" .")) is not None for s in p.split(" . ")) for d in stories for p in d]
    assert set(places) == {7, 8, 9}  # one to three, and six again


def test_stories_and_passages_are_the_same_on_every_machine_and_of_the_same_words(
    source: MiniatureSource, passages: list[str]
) -> None:
    assert passages[0] == "the cats are outside . anna is abroad . anna is gloomy . anna is abroad"
    assert {word for passage in passages for word in passage.split()} <= set(vocabulary())
    fewer = MiniatureSource(MiniatureSettings(num_documents=10, lambada_passages=2))
    assert list(fewer.lambada()) == passages[:2]
    assert list(fewer.documents()) == [document for _, document in zip(range(10), source.documents(), strict=False)]


def test_a_miniature_without_passages_has_no_lambada() -> None:
    assert list(MiniatureSource(MiniatureSettings(num_documents=10)).lambada()) == []
