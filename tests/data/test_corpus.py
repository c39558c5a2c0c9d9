"""The prepared corpus: its split, its bytes whatever the workers, and what happens when something fails."""

import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pldrepro.config.data import DataSettings
from pldrepro.data import corpus
from pldrepro.data.corpus import open_corpus, prepare_corpus
from pldrepro.data.tokenizers.wordpiece import load_tokenizer
from pldrepro.errors import DataError, RecordError

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def number(value: int) -> str:
    return " ".join(WORDS[int(digit)] for digit in str(value))


@pytest.fixture
def settings(tmp_path: Path) -> DataSettings:
    """Forty documents, number i in words and a second paragraph; a validation document after every three."""
    text = "\n\n".join(f"{number(index)}\nand, {number(index * index)}." for index in range(40))
    (tmp_path / "text.txt").write_text(text)
    return DataSettings(source="files", root=str(tmp_path), text=("text.txt",), vocab_size=60, validation_ratio=3)


def prepare(settings: DataSettings, out: Path, workers: int = 1, **changes: Any) -> dict[str, Any]:
    manifest = prepare_corpus(settings.model_copy(update=changes), out, workers=workers, progress=False)
    return manifest.model_dump(mode="json")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts(folder: Path, tokens: np.ndarray) -> list[str]:
    """The documents of a split, decoded."""
    tokenizer = load_tokenizer(folder / "tokenizer")
    ends = np.flatnonzero(tokens == 3)
    assert ends[-1] == len(tokens) - 1
    return [tokenizer.decode(part.tolist()) for part in np.split(tokens, ends + 1)[:-1]]


def test_every_fourth_document_is_for_validation(settings: DataSettings, tmp_path: Path) -> None:
    manifest = prepare(settings, tmp_path / "out")
    opened = open_corpus(tmp_path / "out")
    validation = texts(tmp_path / "out", opened.validation)
    assert len(validation) == 10
    assert validation[:2] == ["three and, nine.", "seven and, four nine."]
    assert texts(tmp_path / "out", opened.train)[:3] == ["zero and, zero.", "one and, one.", "two and, four."]
    assert manifest["splits"]["train"]["documents"] == 30
    assert manifest["splits"]["train"]["tokens"] == len(opened.train)
    size = len((tmp_path / "text.txt").read_bytes())
    line_ends = 40 + 2 * 39
    assert sum(split["bytes"] for split in manifest["splits"].values()) == size - line_ends


def test_manifest_and_corpus_agree(settings: DataSettings, tmp_path: Path) -> None:
    manifest = prepare(settings, tmp_path / "out")
    opened = open_corpus(tmp_path / "out")
    assert (
        opened.manifest.model_dump(mode="json")
        == manifest
        == json.loads((tmp_path / "out" / "manifest.json").read_text())
    )
    assert opened.hash == manifest["hash"]
    assert opened.vocab_size == 60
    assert opened.special_tokens == {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}
    assert opened.tokenizer_folder == tmp_path / "out" / "tokenizer"
    assert opened.train.dtype == np.dtype("<u2")
    assert str(tmp_path) not in json.dumps(manifest)
    assert not set(opened.train[opened.train < 5]) - {3}


def test_two_workers_write_the_same_bytes(
    settings: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 100)  # many chunks, more than may be in flight
    prepare(settings, tmp_path / "one", workers=1)
    prepare(settings, tmp_path / "two", workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_chunks_do_not_change_the_bytes(
    settings: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(settings, tmp_path / "one")
    monkeypatch.setattr(corpus, "CHUNK_CHARACTERS", 1)
    prepare(settings, tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_other_text_or_vocabulary_is_another_corpus(settings: DataSettings, tmp_path: Path) -> None:
    hashes = {prepare(settings, tmp_path / "a")["hash"], prepare(settings, tmp_path / "b")["hash"]}
    assert len(hashes) == 1
    hashes.add(prepare(settings, tmp_path / "c", vocab_size=61)["hash"])
    hashes.add(prepare(settings, tmp_path / "d", validation_ratio=4)["hash"])
    assert len(hashes) == 3


def test_max_megabytes_stops_before_the_document_that_would_exceed_it(settings: DataSettings, tmp_path: Path) -> None:
    # the first eight documents: zero..seven and their squares
    sizes = [len(number(i)) + len(f"and, {number(i * i)}.") for i in range(8)]
    manifest = prepare(settings, tmp_path / "out", max_megabytes=sum(sizes) / 1e6)
    assert sum(split["documents"] for split in manifest["splits"].values()) == 8
    manifest = prepare(settings, tmp_path / "out", max_megabytes=(sum(sizes) - 1) / 1e6)
    assert sum(split["documents"] for split in manifest["splits"].values()) == 7


def test_a_large_vocabulary_takes_four_bytes_a_token(settings: DataSettings, tmp_path: Path) -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(65_600)), *WORDS]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    prepare(settings, tmp_path / "out", vocabulary=str(tmp_path / "vocab.txt"))
    opened = open_corpus(tmp_path / "out")
    assert opened.train.dtype == np.dtype("<u4")
    assert opened.train[0] == 65_605  # "zero"


def test_the_vocabulary_never_sees_validation_text(settings: DataSettings, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("a a\n\na a\n\na a\n\nq q\n")
    prepare(settings, tmp_path / "out")
    assert "q" not in load_tokenizer(tmp_path / "out" / "tokenizer").get_vocab()


def test_the_sample_for_the_vocabulary_is_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "TOKENIZER_SAMPLE_BYTES", 300)
    sample = corpus._even_sample((10, [str(index)]) for index in range(1000))
    assert sample == [str(index) for index in range(0, 1000, 64)]


def test_an_empty_corpus_is_an_error(settings: DataSettings, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("\n \n\n")
    with pytest.raises(DataError, match="the corpus is empty"):
        prepare(settings, tmp_path / "out")
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    with pytest.raises(DataError, match="the corpus is empty"):
        prepare(settings, tmp_path / "out", vocabulary=str(tmp_path / "vocab.txt"))
    assert not list((tmp_path / "out").iterdir())


def test_too_few_documents_for_validation_says_how_many_are_needed(settings: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="ratio 300"):
        prepare(settings, tmp_path / "out", validation_ratio=300)


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_text_late_in_the_corpus_leaves_the_earlier_one(
    settings: DataSettings, tmp_path: Path, workers: int
) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    vocabulary = str(tmp_path / "vocab.txt")
    prepare(settings, tmp_path / "out", vocabulary=vocabulary)
    before = contents(tmp_path / "out")
    with (tmp_path / "text.txt").open("ab") as file:
        file.write(b"\n\xff\n")
    with pytest.raises(DataError, match=r"text\.txt: line 120 is not UTF-8"):
        prepare(settings, tmp_path / "out", workers=workers, vocabulary=vocabulary)
    assert contents(tmp_path / "out") == before


def test_a_full_disk_is_an_os_error_and_leaves_the_earlier_corpus(
    settings: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(settings, tmp_path / "out")
    before = contents(tmp_path / "out")
    real = corpus._write

    def full(*arguments: Any) -> Any:
        real(*arguments)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(corpus, "_write", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*/out'$"):
        prepare(settings, tmp_path / "out", validation_ratio=4)
    assert contents(tmp_path / "out") == before


ENDLESS = """
import sys, time
from pathlib import Path
from pldrepro.config.data import DataSettings
from pldrepro.data import corpus

class Endless:
    def documents(self):
        yield from (["one two three"] for _ in range(100_000))
        time.sleep(60)

    def lambada(self):
        return iter(())

if __name__ == "__main__":
    corpus.CHUNK_CHARACTERS = 10_000
    corpus.open_source = lambda settings: Endless()
    corpus.prepare_corpus(DataSettings(vocabulary=sys.argv[1]), Path(sys.argv[2]), workers=2, progress=False)
"""


def test_a_killed_preparation_leaves_no_process_and_its_rest_is_removed(settings: DataSettings, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    (tmp_path / "endless.py").write_text(ENDLESS)
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "endless.py"), str(tmp_path / "vocab.txt"), str(out)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    ) as process:
        while not any(path.stat().st_size for path in out.glob(".train.bin.*")):
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
        process.communicate(timeout=60)  # the output ends when the last worker, which shares it, has ended
    assert any(out.glob(".train.bin.*"))
    prepare(settings, out)
    assert not any(out.glob(".*"))


def test_a_corpus_cut_short_or_not_there_is_named(settings: DataSettings, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"manifest\.json: no such file"):
        open_corpus(tmp_path / "none")
    manifest = prepare(settings, tmp_path / "out")
    path = tmp_path / "out" / "train.bin"
    path.write_bytes(path.read_bytes()[:-2])
    assert path.stat().st_size == 2 * manifest["splits"]["train"]["tokens"] - 2
    with pytest.raises(DataError, match=r"train\.bin"):
        open_corpus(tmp_path / "out")


def test_the_miniature_corpus_opens(corpus: Path) -> None:
    opened = open_corpus(corpus)
    assert opened.manifest.source["source"] == "miniature"
    assert opened.vocab_size <= 128
