"""The prepared corpus: documents of a source as memory-mapped token arrays, each document followed by a separator.

The separator is [SEP] (WordPiece) or <|endoftext|> (byte pairs). LAMBADA passages of the source are next to the arrays.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pldrepro.config.data import DataSettings
from pldrepro.data.arrays import check_hash
from pldrepro.data.lambada import FILE as LAMBADA_FILE
from pldrepro.data.lambada import Lambada, encode_passages, load_passages, save_lambada
from pldrepro.data.manifests import (
    CorpusManifest,
    PassagesEntry,
    Split,
    TokensEntry,
    check_prepared,
    read_prepared,
    write_prepared,
)
from pldrepro.data.sources.source import Source, open_source
from pldrepro.data.sources.text_files import FilesSource
from pldrepro.data.tokenizers.encoders import Encoder, make_encoder
from pldrepro.errors import DataError
from pldrepro.files import atomic_path
from pldrepro.records import FileEntry

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPLITS: tuple[Split, ...] = ("train", "validation")
CHUNK_CHARACTERS = 1_000_000  # of text that a worker gets at a time
CHUNKS_PER_WORKER = 3  # in flight; bounds the memory
# A vocabulary of 30,000 pieces is settled by far less text than a corpus has: it is trained on training documents
# taken evenly from the first gigabyte, at most this much of them.
TOKENIZER_SAMPLE_BYTES = 24_000_000
TOKENIZER_READ_BYTES = 1_000_000_000

Document = list[str]
Chunk = list[tuple[int, Document]]  # (split, document)


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus: token arrays that stay on disk."""

    folder: Path
    manifest: CorpusManifest
    train: np.ndarray  # (N,) token ids, uint16 or uint32
    validation: np.ndarray
    lambada: Lambada | None = None  # where the source has passages

    @property
    def hash(self) -> str:
        """Digest of tokens, vocabulary and LAMBADA passages."""
        return self.manifest.hash

    @property
    def vocab_size(self) -> int:
        """Entries of the tokenizer's vocabulary."""
        return self.manifest.vocab_size

    @property
    def special_tokens(self) -> dict[str, int]:
        """Special token -> id."""
        return self.manifest.special_tokens

    @property
    def tokenizer_folder(self) -> Path:
        """Folder that ``transformers.AutoTokenizer`` can load."""
        return self.folder / "tokenizer"


def open_corpus(folder: Path) -> Corpus:
    """Map a prepared corpus; a file that is not what the manifest says is a DataError."""
    manifest = read_prepared(folder, CorpusManifest, "prepare corpus")
    dtype = np.dtype(manifest.dtype).newbyteorder("<")
    arrays = []
    for split in SPLITS:
        about, name = manifest.splits[split], f"{split}.bin"
        check_prepared(
            folder, {name: FileEntry(bytes=about.tokens * dtype.itemsize, sha256=about.sha256)}, "prepare corpus"
        )
        arrays.append(np.memmap(folder / name, dtype=dtype, mode="r"))
    check_tokenizer(folder, manifest)
    lambada = load_passages(folder, manifest.lambada) if manifest.lambada else None
    return Corpus(folder, manifest, arrays[0], arrays[1], lambada)


def check_tokenizer(folder: Path, manifest: CorpusManifest) -> None:
    """A DataError where a file of a corpus's tokenizer is not what the manifest says; earlier versions did not say."""
    check_prepared(folder, manifest.files, "prepare corpus")


def prepare_corpus(settings: DataSettings, out: Path, *, workers: int, progress: bool = True) -> CorpusManifest:
    """Tokenize a source into ``out`` with several processes; returns the manifest.

    Document i of the source is a validation document where i % (validation_ratio + 1) == validation_ratio. The
    bytes written do not depend on ``workers``. Memory is bounded whatever the corpus; an earlier corpus in ``out``
    is replaced only when the new one is complete.
    """
    from tqdm import tqdm

    from pldrepro.data.tokenizers.wordpiece import save_tokenizer, special_ids

    # Only `workers` says how many cores are used: by the workers, and before them by the training of the vocabulary.
    os.environ["TOKENIZERS_PARALLELISM"] = "true" if workers > 1 else "false"
    os.environ["RAYON_NUM_THREADS"] = str(workers)
    source = open_source(settings)
    if isinstance(source, FilesSource) and progress:
        sizes = [path.stat().st_size for path in source.text_files()]
        print(f"text: {len(sizes)} files, {sum(sizes)} bytes", file=sys.stderr)
    with tqdm(
        unit="B", unit_scale=True, file=sys.stderr, disable=not progress,
        total=None if settings.max_megabytes is None else round(settings.max_megabytes * 1e6),
    ) as bar:  # fmt: skip
        tokenizer = _make_tokenizer(settings, source, bar)
        bar.reset()
        bar.set_description("tokenize")
        vocab_size = tokenizer.get_vocab_size()
        dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
        passages = encode_passages(source.lambada(), make_encoder(tokenizer, dtype), dtype)
        chunks = _chunks(_documents(settings, source))
        with atomic_path(out / "train.bin") as train, atomic_path(out / "validation.bin") as validation:
            counts, digests = _write(_tokenized(chunks, tokenizer, dtype, workers), (train, validation), dtype, bar)
            splits = _splits(counts, digests, settings)
            (out / "manifest.json").unlink(missing_ok=True)  # until the new one is written, there is no corpus here
    save_tokenizer(tokenizer, out / "tokenizer", settings.sequence_length, settings.lowercase)
    (out / LAMBADA_FILE).unlink(missing_ok=True)  # of an earlier corpus
    lambada = save_lambada(passages, out) if len(passages) else None
    manifest = CorpusManifest(
        source=source.describe(),
        tokenizer=settings.tokenizer,
        vocab_size=vocab_size,
        dtype="uint16" if dtype.itemsize == 2 else "uint32",
        special_tokens=special_ids(tokenizer),
        settings=_settings_of_result(settings),
        splits=splits,
        lambada=lambada,
        hash=_hash(splits, out / "tokenizer", settings, lambada),
        files={f"tokenizer/{path.name}": FileEntry.of(path) for path in sorted((out / "tokenizer").iterdir())},
    )
    check_hash(manifest.hash, settings.hash, "data_hash", out)
    return write_prepared(out, manifest)


def _settings_of_result(settings: DataSettings) -> dict[str, Any]:
    """What shapes the corpus, without the paths of this machine."""
    names = ("source", "max_megabytes", "vocab_size", "lowercase", "validation_ratio")
    return {
        **{name: getattr(settings, name) for name in names if name != "lowercase" or settings.tokenizer == "wordpiece"},
        "vocabulary": "trained on the corpus" if settings.vocabulary is None else Path(settings.vocabulary).name,
    }


def _hash(
    splits: Mapping[Split, TokensEntry], tokenizer: Path, settings: DataSettings, lambada: PassagesEntry | None
) -> str:
    digest = hashlib.sha256()
    for split in SPLITS:
        digest.update(bytes.fromhex(splits[split].sha256))
    if settings.tokenizer == "bpe":
        digest.update((tokenizer / "vocab.json").read_bytes() + (tokenizer / "merges.txt").read_bytes())
    else:
        digest.update((tokenizer / "vocab.txt").read_bytes())
        digest.update(b"lowercase" if settings.lowercase else b"cased")
    if lambada is not None:
        digest.update(bytes.fromhex(lambada.sha256))
    return digest.hexdigest()


def _documents(settings: DataSettings, source: Source) -> Iterator[tuple[int, Document]]:
    """(split, document) of each document within ``max_megabytes``."""
    limit = float("inf") if settings.max_megabytes is None else settings.max_megabytes * 1e6
    for index, document in enumerate(source.documents()):
        limit -= _size(document)
        if limit < 0:
            return
        yield int(index % (settings.validation_ratio + 1) == settings.validation_ratio), document


def _size(document: Document) -> int:
    """Bytes of UTF-8."""
    return sum(len(paragraph) if paragraph.isascii() else len(paragraph.encode()) for paragraph in document)


def _make_tokenizer(settings: DataSettings, source: Source, bar: Any) -> Tokenizer:
    from pldrepro.data.tokenizers.bpe import from_gpt2_files, train_bpe
    from pldrepro.data.tokenizers.wordpiece import from_vocabulary, train_wordpiece

    if settings.vocabulary is not None:
        if settings.merges is not None:
            return from_gpt2_files(Path(settings.vocabulary), Path(settings.merges))
        return from_vocabulary(Path(settings.vocabulary), settings.lowercase)
    bar.set_description("read for the vocabulary")
    training = (document for split, document in _documents(settings, source) if split == 0)
    sample = _even_sample(_counted(training, bar))
    if not sample:
        raise DataError("the corpus is empty: no document with text (see data.text and data.max_megabytes)")
    bar.set_description("train the vocabulary")
    if settings.tokenizer == "bpe":
        return train_bpe(sample, settings.vocab_size)
    return train_wordpiece(sample, settings.vocab_size, settings.lowercase)


def _counted(documents: Iterable[Document], bar: Any) -> Iterator[tuple[int, Document]]:
    """(bytes, document) of the documents within TOKENIZER_READ_BYTES."""
    total = 0
    for document in documents:
        size = _size(document)
        total += size
        if total > TOKENIZER_READ_BYTES:
            return
        bar.update(size)
        yield size, document


def _even_sample(documents: Iterable[tuple[int, Document]]) -> list[str]:
    """Paragraphs of every n-th document, n the power of two that keeps them under TOKENIZER_SAMPLE_BYTES."""
    kept: list[tuple[int, Document]] = []
    total, stride = 0, 1
    for index, (size, document) in enumerate(documents):
        if index % stride:
            continue
        kept.append((size, document))
        total += size
        while total > TOKENIZER_SAMPLE_BYTES and len(kept) > 1:
            kept, stride = kept[::2], 2 * stride
            total = sum(size for size, _ in kept)
    return [paragraph for _, document in kept for paragraph in document]


def _chunks(documents: Iterable[tuple[int, Document]]) -> Iterator[Chunk]:
    chunk: Chunk = []
    size = 0
    for split, document in documents:
        chunk.append((split, document))
        size += sum(map(len, document))
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@dataclass
class Tokenized:
    """The tokens of a chunk, split by split."""

    tokens: tuple[bytes, bytes]
    documents: tuple[int, int]
    text_bytes: tuple[int, int]


def encode_chunk(encoder: Encoder, chunk: Chunk) -> Tokenized:
    """Documents of a chunk, each followed by the separator; a document without tokens is left out."""
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    text_bytes = [0, 0]
    for split, document in chunk:
        text_bytes[split] += _size(document)
        tokens = encoder.encode_document(document)
        if tokens:
            parts[split].append(tokens + encoder.separator)
    return Tokenized(
        (b"".join(parts[0]), b"".join(parts[1])),
        (len(parts[0]), len(parts[1])),
        (text_bytes[0], text_bytes[1]),
    )


_worker: Encoder | None = None  # of this process, where it is a worker


def _start_worker(tokenizer: str, dtype: str) -> None:
    from tokenizers import Tokenizer

    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_follow_parent, daemon=True).start()
    _worker = make_encoder(Tokenizer.from_str(tokenizer), np.dtype(dtype))


def _follow_parent() -> None:
    """End this worker when the main process is killed; it would wait for the next chunk for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(chunk: Chunk) -> Tokenized:
    assert _worker is not None
    return encode_chunk(_worker, chunk)


def _tokenized(
    chunks: Iterable[Chunk], tokenizer: Tokenizer, dtype: np.dtype[Any], workers: int
) -> Iterator[Tokenized]:
    """The tokens of each chunk, in order; at most CHUNKS_PER_WORKER chunks per worker are in flight."""
    if workers == 1:
        encoder = make_encoder(tokenizer, dtype)
        yield from (encode_chunk(encoder, chunk) for chunk in chunks)
        return
    pending: deque[Future[Tokenized]] = deque()
    with ProcessPoolExecutor(
        workers, get_context("spawn"), initializer=_start_worker, initargs=(tokenizer.to_str(), dtype.str)
    ) as pool:
        for chunk in chunks:
            pending.append(pool.submit(_work, chunk))
            if len(pending) >= CHUNKS_PER_WORKER * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _write(
    tokenized: Iterable[Tokenized], paths: tuple[Path, Path], dtype: np.dtype[Any], bar: Any
) -> tuple[np.ndarray, list[str]]:
    """Append the tokens to the two files; returns documents, tokens and bytes of text (3, 2), and their digests."""
    digests = [hashlib.sha256() for _ in SPLITS]
    counts = np.zeros((3, 2), dtype=np.int64)  # documents, tokens, bytes of text
    with paths[0].open("wb") as train, paths[1].open("wb") as validation:
        for result in tokenized:
            for file, digest, tokens in zip((train, validation), digests, result.tokens, strict=True):
                file.write(tokens)
                digest.update(tokens)
            counts += (result.documents, [len(tokens) // dtype.itemsize for tokens in result.tokens], result.text_bytes)
            bar.update(sum(result.text_bytes))
    return counts, [digest.hexdigest() for digest in digests]


def _splits(counts: np.ndarray, digests: Sequence[str], settings: DataSettings) -> dict[Split, TokensEntry]:
    """What the manifest says of the splits; one without a document is a DataError."""
    found = counts[0].sum()
    if not found:
        raise DataError("the corpus is empty: no document with text (see data.text and data.max_megabytes)")
    if not counts[0].all():
        raise DataError(
            f"the corpus has {found} documents and none for validation; allowed: at least "
            f"{settings.validation_ratio + 1} with data.validation_ratio {settings.validation_ratio}"
        )
    return {
        split: TokensEntry(documents=documents, tokens=tokens, bytes=size, sha256=digest)
        for split, (documents, tokens, size), digest in zip(SPLITS, counts.T.tolist(), digests, strict=True)
    }
