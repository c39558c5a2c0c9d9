"""Local files: text in every compression, GLUE's official layouts, and what is said of files that are not so."""

import gzip
import hashlib
import lzma
import os
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from pldrepro.config.data import DataSettings
from pldrepro.data.sources.text_files import FilesSource, read_lines
from pldrepro.data.tasks import TASKS, Example
from pldrepro.errors import DataError, SettingsError

TEXT = "One paragraph.\nAnother, of the same document: café.\n\n\nA second document.\n"
DOCUMENTS = [["One paragraph.", "Another, of the same document: café."], ["A second document."]]
PACK = {".txt": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstandard.compress}
GOOD = {  # task -> folder, file, content, examples
    "cola": ("CoLA", "train.tsv", 'gj04\t1\t\tHe said "no.\nbc01\t0\t*\tHim left.\n',
             [Example('He said "no.', None, 1), Example("Him left.", None, 0)]),
    "sst2": ("SST-2", "dev.tsv", "sentence\tlabel\nfine film\t1\ndull\t0\n",
             [Example("fine film", None, 1), Example("dull", None, 0)]),
    "mrpc": ("MRPC", "train.tsv", '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t7\t8\t"A b\tA "b"\r\n',
             [Example('"A b', 'A "b"', 1)]),
    "stsb": ("STS-B", "train.tsv",
             "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
             "0\tg\tf\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t4.250\n",
             [Example("A plane.", "An air plane.", 4.25)]),
    "qqp": ("QQP", "dev.tsv", "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t3\t4\tWhy?\t\t0\n",
            [Example("Why?", "", 0)]),
    "qnli": ("QNLI", "dev.tsv", "index\tquestion\tsentence\tlabel\n0\tWho?\tShe did.\tentailment\n",
             [Example("Who?", "She did.", 0)]),
    "rte": ("RTE", "dev.tsv", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\tnot_entailment\n",
            [Example("A.", "B.", 1)]),
    "mnli": ("MNLI", "dev_matched.tsv",
             "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\ta\tb\tneutral\tneutral\n1\tc\td\t-\t-\n"
             "2\te\tf\tneutral\tcontradiction\n3\tg\th\tneutral\tentailment\n",
             [Example("a", "b", 1), Example("e", "f", 2), Example("g", "h", 0)]),
}  # fmt: skip


def source(root: Path, *patterns: str) -> FilesSource:
    return FilesSource(DataSettings(source="files", root=str(root), text=patterns))


def put(root: Path, task: str, name: str, content: str) -> None:
    folder = root / "glue" / TASKS[task].files.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode())


def test_patterns_take_turns_by_what_they_have_given(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("a" * 30 + "\n\n" + "b" * 30 + "\n\n" + "c" * 30 + "\n", encoding="utf-8")
    (tmp_path / "short.txt").write_text("\n\n".join(c * 10 for c in "uvwxyz") + "\n", encoding="utf-8")
    documents = ["".join(document)[0] for document in source(tmp_path, "long*", "*.txt").documents()]
    assert documents == list("auvwbxyzc")
    assert ["".join(document)[0] for document in source(tmp_path, "*.txt").documents()] == list("abcuvwxyz")


@pytest.mark.parametrize("suffix", PACK)
def test_text_in_every_compression(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(PACK[suffix](TEXT.encode()))
    assert list(source(tmp_path, "a*").documents()) == DOCUMENTS


def test_marks_and_line_ends_of_other_systems_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne.\r\n  \r\n\r\nTwo.")
    assert list(source(tmp_path, "a.txt").documents()) == [["One."], ["Two."]]


def test_files_follow_the_patterns_and_are_sorted_within_each_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b2.txt", "b1.txt", "sub/a.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    found = source(tmp_path, "b*.txt", "**/*.txt")
    assert [path.name for path in found.text_files()] == ["b1.txt", "b2.txt", "a.txt"]
    assert sorted(found.documents()) == [["b1.txt"], ["b2.txt"], ["sub/a.txt"]]
    assert [entry["file"] for entry in found.describe()["text"]] == ["b1.txt", "b2.txt", "sub/a.txt"]
    assert str(tmp_path) not in str(found.describe())


def test_a_document_without_end_is_cut_between_paragraphs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.data.sources.text_files.MAX_DOCUMENT_CHARACTERS", 10)
    (tmp_path / "a.txt").write_text("123456\n" * 5)
    assert list(source(tmp_path, "a.txt").documents()) == [["123456"] * 2, ["123456"] * 2, ["123456"]]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_compressed_files_of_several_parts_are_read_to_the_end(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(PACK[suffix](b"one\n") + PACK[suffix](b"two\n" * 100_000))
    assert sum(1 for _ in read_lines(tmp_path / f"a{suffix}")) == 100_001


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_file_cut_short_is_named(tmp_path: Path, suffix: str) -> None:
    lines = "".join(f"{number * 7919 % 10007}\n" for number in range(20_000))
    packed = PACK[suffix](lines.encode())
    (tmp_path / f"a{suffix}").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"a{suffix}: damaged or cut short after line \d+"):
        list(read_lines(tmp_path / f"a{suffix}"))


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    for suffix in (".gz", ".xz", ".zst"):
        (tmp_path / f"a{suffix}").write_text("plain text, not packed")
        with pytest.raises(DataError, match=rf"a{suffix}: damaged or cut short after line 0"):
            list(read_lines(tmp_path / f"a{suffix}"))


def test_text_that_is_not_utf8_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("fine é\n".encode() + b"not f\xe9ne\n")
    with pytest.raises(DataError, match=r"a\.txt: line 2"):
        list(source(tmp_path, "a.txt").documents())


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.data.sources.text_files.MAX_LINE_BYTES", 10)
    (tmp_path / "a.txt").write_text("short\n" + "x" * 11)
    with pytest.raises(DataError, match=r"a\.txt: line 2"):
        list(source(tmp_path, "a.txt").documents())


def test_patterns_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    with pytest.raises(DataError, match=rf"no file matches 'none\*' below {tmp_path}"):
        source(tmp_path, "none*").text_files()
    with pytest.raises(DataError, match=r"a\.pdf"):
        source(tmp_path, "a*").text_files()
    for pattern in ("/x/*", "../*", "b/../../*"):
        with pytest.raises(SettingsError, match=r"data.text"):
            source(tmp_path, pattern).text_files()
    with pytest.raises(SettingsError, match=r"data.text"):
        source(tmp_path).text_files()
    with pytest.raises(DataError, match=r"nowhere: no such folder \(data.root\)"):
        source(tmp_path / "nowhere", "a*")
    with pytest.raises(SettingsError, match=r"data.root"):
        FilesSource(DataSettings(source="files"))


UNREAD = {  # what lies next to a.txt -> how it is made
    "lost.txt": lambda path: path.symlink_to("nowhere"),
    "loop.txt": lambda path: path.symlink_to(path),
    "pipe.txt": os.mkfifo,
    "folder.txt": Path.mkdir,
    "OTHER.TXT": lambda path: path.write_text(TEXT),
    "twice.txt": lambda path: path.symlink_to("a.txt"),
    "same.txt": lambda path: path.hardlink_to(path.with_name("a.txt")),
}


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.parametrize("pattern", ["*.txt", "**/*.txt"])
def test_no_file_is_left_out_without_a_word_and_none_counts_twice(tmp_path: Path, name: str, pattern: str) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    assert list(source(tmp_path, pattern).documents()) == DOCUMENTS
    UNREAD[name](tmp_path / name)
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        list(source(tmp_path, pattern).documents())


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_linked_folder_that_a_pattern_does_not_enter_is_named(tmp_path: Path, target: str) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for folder in ("root", "elsewhere"):
        (tmp_path / folder / "a.txt").write_text(TEXT)
    (tmp_path / "root/linked").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match="root/linked: a link"):
        source(tmp_path / "root", "**/*.txt").text_files()
    if target == "nowhere":
        with pytest.raises(DataError, match="root/linked: a link that leads nowhere"):
            source(tmp_path / "root", "*.txt", "l*/*.txt").text_files()
    else:
        assert len(source(tmp_path / "root", "*.txt", "l*/*.txt").text_files()) == 2


def test_a_pattern_of_either_case_reads_both(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "B.TXT").write_text(TEXT)
    assert list(source(tmp_path, "*.[tT][xX][tT]").documents()) == 2 * DOCUMENTS


def test_text_of_two_bytes_a_letter_is_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.replace("é", "e").encode("utf-16-le"))
    with pytest.raises(DataError, match=r"a\.txt: line 1"):
        list(source(tmp_path, "a.txt").documents())


def test_the_files_that_were_read_are_recorded_with_their_digest(tmp_path: Path) -> None:
    (tmp_path / "a.zst").write_bytes(zstandard.ZstdCompressor(write_checksum=False).compress(TEXT.encode()))
    (file,) = source(tmp_path, "*.zst").describe()["text"]
    assert file == {
        "file": "a.zst",
        "bytes": (tmp_path / "a.zst").stat().st_size,
        "sha256": hashlib.sha256((tmp_path / "a.zst").read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("task", GOOD)
def test_official_layouts(tmp_path: Path, task: str) -> None:
    _, name, content, examples = GOOD[task]
    assert TASKS[task].files.folder == GOOD[task][0]
    put(tmp_path, task, name, content)
    assert source(tmp_path).glue(task, name.split(".")[0].split("_")[0]) == examples


def test_every_task_has_a_layout_with_its_classes() -> None:
    assert all(len(TASKS[task].files.classes) == len(TASKS[task].labels) for task in TASKS)
    assert all(len(TASKS[task].files.columns) == 2 + TASKS[task].pair for task in TASKS)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_packed_tables(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "glue" / "SST-2"
    folder.mkdir(parents=True)
    (folder / f"train.tsv{suffix}").write_bytes(PACK[suffix](b"sentence\tlabel\ndull\t0\n"))
    assert source(tmp_path).glue("sst2", "train") == [Example("dull", None, 0)]


def test_a_split_that_is_not_there_is_said_in_words(tmp_path: Path) -> None:
    put(tmp_path, "mnli", "dev_matched.tsv", GOOD["mnli"][2])
    reason = source(tmp_path).glue("mnli", "dev_mismatched")
    assert reason == "the data have no file MNLI/dev_mismatched.tsv (.gz .xz .zst)"


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("sst2", "text\tlabel\nfine\t1\n", r"row 1: no column 'sentence'; needed: sentence, label; found: text, label"),
        ("sst2", "sentence\tlabel\nfine\t1\ndull\t2\n", r"row 3: column 'label': label '2'; allowed: 0, 1"),
        ("sst2", "sentence\tlabel\nfine\n", r"row 2: 1 fields; allowed: 2 \(sentence, label\)"),
        ("sst2", "sentence\tlabel\n", r"no rows"),
        ("sst2", "", r"row 1: no column 'sentence', 'label'"),
        ("cola", "sentence\tlabel\n", r"row 1: 2 fields; allowed: 4 \(source, label, mark, sentence\)"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tyes\n", r"row 2: .*'yes'; allowed: entailment, not_ent"),
        ("mnli", "sentence1\tsentence2\tgold_label\na\tb\t-\n", r"no row with a label other than '-'"),
        ("sst2", "sentence\tlabel\rfine\t1\r", r"lines end with only CR"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\t5.1\n", r"row 2: .*score '5.1'; allowed: a number from 0 to 5"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\tnan\n", r"row 2: .*score 'nan'"),
        ("qqp", "question1\tquestion2\tis_duplicate\na\tb\t1\nhalf a row\n", r"row 3: too few fields, as in 1 of 2"),
        ("qqp", "question1\tquestion2\tis_duplicate\na\tb\t1\tx\n", r"row 2: 4 fields; allowed: 3"),
    ],
)
def test_bad_tables_name_file_and_row(tmp_path: Path, task: str, content: str, message: str) -> None:
    put(tmp_path, task, "train.tsv", content)
    with pytest.raises(DataError, match=rf"{TASKS[task].files.folder}/train\.tsv: {message}"):
        source(tmp_path).glue(task, "train")


def test_the_few_broken_rows_of_official_qqp_are_left_out(tmp_path: Path) -> None:
    rows = "q1\tq2\t1\n" * 2000
    put(tmp_path, "qqp", "train.tsv", f"question1\tquestion2\tis_duplicate\n{rows}first half\nsecond half\tq2\n{rows}")
    assert len(source(tmp_path).glue("qqp", "train")) == 4000


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_a_line_without_an_end_is_refused_in_bounded_memory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pldrepro.data.sources.text_files.MAX_LINE_BYTES", 1_000_000)
    size = 200_000_000 if suffix == ".zst" else 50_000_000
    (tmp_path / f"a{suffix}").write_bytes(PACK[suffix](b"fine\n" + bytes(size)))
    assert (tmp_path / f"a{suffix}").stat().st_size < size / 500
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"a{suffix}: line 2"):
        list(read_lines(tmp_path / f"a{suffix}"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.45 * size


def test_a_table_that_is_held_in_memory_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pldrepro.data.sources.text_files.MAX_TABLE_CHARACTERS", 1000)
    (tmp_path / "glue/SST-2").mkdir(parents=True)
    (tmp_path / "glue/SST-2/dev.tsv.gz").write_bytes(gzip.compress(b"sentence\tlabel\n" + b"fine\t1\n" * 500))
    (tmp_path / "l.jsonl").write_bytes(b'{"text": "a b"}\n' * 500)
    source = FilesSource(DataSettings(source="files", root=str(tmp_path), lambada="l.jsonl"))
    with pytest.raises(DataError, match=r"dev\.tsv\.gz: line \d+"):
        source.glue("sst2", "dev")
    with pytest.raises(DataError, match=r"l\.jsonl: line \d+"):
        list(source.lambada())
