"""Local files: UTF-8 text, GLUE as TSVs in the official layouts, and LAMBADA as JSON lines."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any

from pldrepro.config.contrasts import PairsSettings
from pldrepro.config.data import DataSettings
from pldrepro.data.minimal_pairs import Paradigm, parse_pairs
from pldrepro.data.sources.patterns import matching, refuse_twice
from pldrepro.data.tasks import TASKS, Example, Layout
from pldrepro.errors import DataError, SettingsError
from pldrepro.records import FileEntry

MAX_LINE_BYTES = 32_000_000  # of a paragraph: what bounds the memory
MAX_DOCUMENT_CHARACTERS = 4_000_000  # a longer document is cut between paragraphs
BLOCK_BYTES = 1 << 20
UTF16_ZEROS = 4  # a line of which more than one byte in so many is 0 is no UTF-8
MAX_TABLE_CHARACTERS = (
    2_000_000_000  # of a table or of all passages, which are held in memory; GLUE's largest has 80 MB
)
ZSTD_BLOCK_BYTES = 1 << 10  # packed; as a block of 4 bytes can stand for 128 KiB, what comes of it is at most 32 MiB


class FilesSource:
    """Text, GLUE and LAMBADA below one folder (``pldrepro.data.sources.source.Source``)."""

    def __init__(self, settings: DataSettings) -> None:
        if settings.root is None:
            raise SettingsError("data.root: missing; the source 'files' needs the folder of text and GLUE (data_root)")
        self.root = Path(settings.root)
        self.patterns = settings.text
        self.glue_folder = self.root / settings.glue
        self.lambada_file = None if settings.lambada is None else self.root / settings.lambada
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder (data.root)")

    def text_files(self) -> list[Path]:
        """The files of all patterns, in the order of the patterns and sorted within each."""
        return [path for files in self._files_of_patterns() for path in files]

    def _files_of_patterns(self) -> list[list[Path]]:
        """The files of each pattern, without those that an earlier pattern has."""
        if not self.patterns:
            raise SettingsError(
                "data.text: empty; the source 'files' needs at least one pattern of text below data.root"
            )
        groups: list[list[Path]] = []
        for pattern in self.patterns:
            matches = matching(self.root, pattern, "data.text")
            if not matches:
                raise DataError(f"data.text: no file matches {pattern!r} below {self.root}")
            for path in matches:
                if path.suffix.lower() not in OPENERS:
                    raise DataError(f"{path}: text file of unknown kind; allowed: {' '.join(OPENERS)}")
            earlier = {path for files in groups for path in files}
            groups.append([path for path in matches if path not in earlier])
        refuse_twice(path for files in groups for path in files)
        return groups

    def documents(self) -> Iterator[list[str]]:
        """Documents of all text files: a paragraph per line, a blank line between documents.

        Several patterns take turns, so that as long as each has documents they contribute as many characters.
        """
        streams = [(_documents(path) for path in files) for files in self._files_of_patterns()]
        running = dict(enumerate(map(chain.from_iterable, streams)))
        characters = dict.fromkeys(running, 0)
        while running:
            turn = min(running, key=characters.__getitem__)
            document = next(running[turn], None)
            if document is None:
                del running[turn]
                continue
            characters[turn] += sum(map(len, document))
            yield document

    def glue(self, task: str, split: str) -> list[Example] | str:
        """Examples of a TSV, or why there is none."""
        layout, dev = TASKS[task].files, TASKS[task].dev
        folder = self.glue_folder / layout.folder
        name = dev[split].file if split in dev else f"{split}.tsv"
        candidates = [folder / (name + suffix) for suffix in ("", ".gz", ".xz", ".zst")]
        for path in candidates:
            if path.is_symlink() and not path.exists():
                raise DataError(f"{path}: a link that leads nowhere")
            if path.is_file():
                return list(_examples(path, task, layout))
        return f"the data have no file {layout.folder}/{name} (.gz .xz .zst)"

    def lambada(self) -> Iterator[str]:
        """The ``text`` of each line of the file of passages, if there is one."""
        if self.lambada_file is None:
            return
        if not self.lambada_file.is_relative_to(self.root) or ".." in self.lambada_file.parts:
            raise SettingsError(f"data.lambada: {self.lambada_file}: allowed: a file below {self.root}, without '..'")
        if not self.lambada_file.is_file():
            raise DataError(f"{self.lambada_file}: no such file (data.lambada)")
        for number, line in _table(self.lambada_file):
            try:
                text = json.loads(line)["text"]
            except (ValueError, KeyError, TypeError, RecursionError):
                text = None
            if not isinstance(text, str):
                raise DataError(f"{self.lambada_file}: line {number}: allowed: a JSON object with `text`")
            yield text

    def minimal_pairs(self, settings: PairsSettings, paradigms: Sequence[str]) -> list[Paradigm] | str:
        """The pairs of the files of a pattern, a paradigm each: BLiMP's where the name says .jsonl, else Zorro's."""
        if settings.files is None:
            return "no files are named (contrasts.pairs.NAME.files)"
        found = matching(self.root, settings.files, "contrasts.pairs.NAME.files")
        refuse_twice(found)
        if not found:
            return f"the data have no file {settings.files}"
        return [
            Paradigm(path.name.split(".")[0], parse_pairs(_table(path), str(path), ".jsonl" in path.suffixes))
            for path in found
        ]

    def describe(self) -> dict[str, Any]:
        """Patterns, text files with size and SHA-256, and the name of the file of passages, if there is one.

        The digest is ours: a packed file need not have one, and may be damaged without a word.
        """
        files = [{"file": str(path.relative_to(self.root)), **FileEntry.of(path).dump()} for path in self.text_files()]
        passages = {} if self.lambada_file is None else {"lambada": str(self.lambada_file.relative_to(self.root))}
        return {"source": "files", "patterns": list(self.patterns), "text": files, **passages}


class _ZstdFile(io.RawIOBase):
    """Reads a .zst file of any number of frames; unlike zstandard's own reader, a file cut short is an EOFError."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor()
        self._frame: Any = None
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._pending:
            block = (self._frame.unused_data if self._frame and self._frame.eof else b"") or self._file.read(
                ZSTD_BLOCK_BYTES
            )
            if self._frame is None or self._frame.eof:
                if not block:
                    return 0
                self._frame = self._decompressor.decompressobj()
            elif not block:
                raise EOFError("compressed file ended before the end-of-stream marker")
            self._pending = self._frame.decompress(block)
        size = min(len(buffer), len(self._pending))
        buffer[:size], self._pending = self._pending[:size], self._pending[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


OPENERS: dict[str, Callable[[Path], Any]] = {
    ".txt": lambda path: path.open("rb"),
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": lambda path: io.BufferedReader(_ZstdFile(path.open("rb")), BLOCK_BYTES),
}


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and text of each line of a UTF-8 file, plain or compressed, without the line's end."""
    damaged: tuple[type[Exception], ...] = (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)
    if path.suffix.lower() == ".zst":
        import zstandard

        damaged = (*damaged, zstandard.ZstdError)
    with OPENERS.get(path.suffix.lower(), OPENERS[".txt"])(path) as file:
        number = 0
        while True:
            try:
                line = file.readline(MAX_LINE_BYTES)
            except damaged as error:
                raise DataError(f"{path}: damaged or cut short after line {number}: {error}") from None
            if not line:
                return
            number += 1
            if len(line) == MAX_LINE_BYTES:
                raise DataError(f"{path}: line {number} is too long; allowed: {MAX_LINE_BYTES} bytes in a paragraph")
            if UTF16_ZEROS * line.count(0) > len(line):
                raise DataError(f"{path}: line {number} is not UTF-8: it looks like UTF-16")
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}: line {number} is not UTF-8 (byte {error.start + 1} of the line)") from None
            yield number, text.removeprefix("\ufeff").rstrip("\r\n") if number == 1 else text.rstrip("\r\n")


def _table(path: Path) -> Iterator[tuple[int, str]]:
    """``read_lines`` of a file that is held in memory as a whole, up to MAX_TABLE_CHARACTERS."""
    size = 0
    for number, line in read_lines(path):
        size += len(line)
        if size > MAX_TABLE_CHARACTERS:
            raise DataError(f"{path}: line {number}: allowed: {MAX_TABLE_CHARACTERS} characters up to here")
        yield number, line


def _documents(path: Path) -> Iterator[list[str]]:
    document: list[str] = []
    size = 0
    for _, line in read_lines(path):
        paragraph = line.strip()
        if document and (not paragraph or size > MAX_DOCUMENT_CHARACTERS):
            yield document
            document, size = [], 0
        if paragraph:
            document.append(paragraph)
            size += len(paragraph)
    if document:
        yield document


MAX_BROKEN_ROWS = 0.001  # share of a file's rows


def _examples(path: Path, task: str, layout: Layout) -> Iterator[Example]:
    rows = _table(path)
    first = "" if layout.header else next(rows, (1, ""))[1]
    if "\r" in first:
        raise DataError(f"{path}: lines end with only CR; allowed: LF, or CR and LF")
    header = layout.header or tuple(first.split("\t"))
    absent = [column for column in layout.columns if column not in header]
    if absent:
        raise DataError(
            f"{path}: row 1: no column {', '.join(map(repr, absent))}; needed: {', '.join(layout.columns)}; "
            f"found: {', '.join(header)}"
        )
    places = [header.index(column) for column in layout.columns]
    num_rows = num_examples = 0
    broken: list[int] = []
    for number, line in rows:
        num_rows += 1
        fields = line.split("\t")
        if len(fields) != len(header):
            if layout.may_break_rows and len(fields) < len(header):
                broken.append(number)
                continue
            raise DataError(f"{path}: row {number}: {len(fields)} fields; allowed: {len(header)} ({', '.join(header)})")
        *sentences, label = (fields[place] for place in places)
        if label == layout.skipped_label:
            continue
        num_examples += 1
        yield Example(
            sentences[0],
            sentences[1] if TASKS[task].pair else None,
            _label(label, layout, f"{path}: row {number}: column {layout.columns[-1]!r}"),
        )
    if not num_rows:
        raise DataError(f"{path}: no rows")
    if not num_examples:
        raise DataError(f"{path}: no row with a label other than {layout.skipped_label!r}")
    if len(broken) > MAX_BROKEN_ROWS * num_rows:
        raise DataError(
            f"{path}: row {broken[0]}: too few fields, as in {len(broken)} of {num_rows} rows; "
            f"allowed: {len(header)} ({', '.join(header)})"
        )


def _label(text: str, layout: Layout, where: str) -> int | float:
    if layout.classes:
        if text not in layout.classes:
            raise DataError(f"{where}: label {text!r}; allowed: {', '.join(layout.classes)}")
        return layout.classes.index(text)
    score = float(text) if re.fullmatch(r"[0-9]{1,20}(\.[0-9]{0,20})?", text, re.ASCII) else -1.0
    if not 0 <= score <= 5:
        raise DataError(f"{where}: score {text!r}; allowed: a number from 0 to 5")
    return score
