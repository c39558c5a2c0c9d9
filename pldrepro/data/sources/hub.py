"""The real corpora through ``datasets``: repositories of the Hugging Face hub, or local directories in their layout."""

from __future__ import annotations

import errno
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pldrepro.config.contrasts import PairsSettings
from pldrepro.config.data import HubSettings, HubText
from pldrepro.data.minimal_pairs import Paradigm, pair_of
from pldrepro.data.tasks import TASKS, Example
from pldrepro.errors import DataError, SettingsError

PROBE_SECONDS = 3.0  # `datasets` itself retries for half a minute before it says that there is no network
# The hub's own conversion of a repository to parquet has no lasting commit: ``data_hash`` says what must come of it.
CONVERTED = "refs/convert/parquet"
NO_NETWORK = (
    "the hub cannot be reached ({reason}); run where the network is, or set {key} to a local directory "
    "in the hub's layout, or use data.source: files"
)


class HubSource:
    """Text, GLUE and LAMBADA through ``datasets`` (a ``Source``); no code of theirs is run."""

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        if not settings.text:
            raise SettingsError("data.hub.text: empty; the source 'hub' needs at least one entry of text")
        for number, entry in enumerate(settings.text):
            check_pinned(entry.path, entry.revision, f"data.hub.text.{number}", "path", "revision")
        if settings.lambada is not None:
            entry = settings.lambada
            check_pinned(entry.path, entry.revision, "data.hub.lambada", "path", "revision")
        check_pinned(settings.glue_path, settings.glue_revision, "data.hub", "glue_path", "glue_revision")

    def documents(self) -> Iterator[list[str]]:
        """Documents of all entries: ``rows_per_document`` rows each, a paragraph per line of a row."""
        for number, entry in enumerate(self.settings.text):
            key = f"data.hub.text.{number}.path"
            rows = _rows(entry.path, entry.name, entry.revision, entry.split, self.settings.streaming, key)
            yield from _documents(rows, entry)

    def glue(self, task: str, split: str) -> list[Example] | str:
        """Examples of one split, or why there is none."""
        path = self.settings.glue_path
        name = TASKS[task].hub_split(split)
        if Path(path).is_dir() and not any(any(Path(path).glob(pattern)) for pattern in _patterns(task, name)):
            return f"the data have no file {task}/{name}-*.parquet"
        rows = _rows(path, task, self.settings.glue_revision, name, self.settings.streaming, "data.hub.glue_path")
        return [_example(task, row, f"{path}: {task}/{name}: row {number}") for number, row in enumerate(rows, start=1)]

    def lambada(self) -> Iterator[str]:
        """The passages of the entry, a row each, if there is one."""
        entry = self.settings.lambada
        if entry is None:
            return
        key = "data.hub.lambada.path"
        for number, row in enumerate(
            _rows(entry.path, entry.name, entry.revision, entry.split, self.settings.streaming, key), start=1
        ):
            yield _text(row, number, entry)

    def minimal_pairs(self, settings: PairsSettings, paradigms: Sequence[str]) -> list[Paradigm] | str:
        """The pairs of a repository in BLiMP's layout, a configuration for each paradigm."""
        path, key = settings.hub_path, "contrasts.pairs.NAME"
        if path is None:
            return f"no repository is named ({key}.hub_path)"
        check_pinned(path, settings.hub_revision, key, "hub_path", "hub_revision")
        revision, streaming = settings.hub_revision, self.settings.streaming
        found = []
        for name in paradigms:
            rows = enumerate(_rows(path, name, revision, "train", streaming, f"{key}.hub_path"), start=1)
            found.append(Paradigm(name, [pair_of(row, f"{path}: {name}: row {number}") for number, row in rows]))
        return found

    def describe(self) -> dict[str, Any]:
        """Repositories and revisions; of a local directory, the name only."""
        text = [_entry(entry) for entry in self.settings.text]
        passages = self.settings.lambada
        return {"source": "hub", "text": text, **({} if passages is None else {"lambada": _entry(passages)})}


def _entry(entry: HubText) -> dict[str, Any]:
    """What the manifest says of one entry."""
    if Path(entry.path).is_dir():
        return {**entry.model_dump(), "path": Path(entry.path).name, "local": True}
    return entry.model_dump()


def check_pinned(path: str, revision: str | None, where: str, path_key: str, revision_key: str) -> None:
    """Refuse a path that is neither a directory nor a repository, and a repository that is not pinned."""
    if Path(path).is_dir():
        return
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise DataError(f"{where}.{path_key}: {path}: no such directory, and not a repository (owner/name)")
    if revision is None:
        raise SettingsError(
            f"{where}.{revision_key}: missing; allowed: the commit of {path} on the hub that all runs should read"
        )
    if revision != CONVERTED and not re.fullmatch("[0-9a-f]{40}", revision):
        raise SettingsError(
            f"{where}.{revision_key}: {revision}: a name that can move; allowed: the 40 digits of a commit of "
            f"{path}, or {CONVERTED}"
        )


def _rows(
    path: str, name: str | None, revision: str | None, split: str, streaming: bool, key: str
) -> Iterator[dict[str, Any]]:
    """The rows of one split, in order; ``key`` is the setting that an error names."""
    is_local = Path(path).is_dir()
    if not is_local:
        require_network(key, streaming)
    from datasets.exceptions import DatasetsError

    try:
        yield from load_rows(path, name, None if is_local else revision, split, streaming)
    except (DatasetsError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        if isinstance(error, ConnectionError):
            raise DataError(f"{path}: " + NO_NETWORK.format(reason=error, key=key)) from None
        place = " ".join(filter(None, (path, name, split)))
        raise DataError(f"{place}: {' '.join(str(error).split())}") from None


def _patterns(name: str | None, split: str) -> list[str]:
    """Where a repository of the hub keeps the parquet files of a split."""
    folders = ("data/", "") if name is None else (f"{name}/",)
    return [f"{folder}{split}{rest}" for folder in folders for rest in ("-*.parquet", "/*.parquet", ".parquet")]


def load_rows(path: str, name: str | None, revision: str | None, split: str, streaming: bool) -> Any:
    """The data set of one split, from the parquet files of a repository or of a directory in its layout."""
    from datasets import disable_progress_bars, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    disable_progress_bars()
    patterns = _patterns(name, split)
    for pattern in patterns:
        try:
            return load_dataset(path, data_files={split: pattern}, revision=revision, split=split, streaming=streaming)
        except DatasetNotFoundError:
            raise
        except FileNotFoundError:
            continue
    raise FileNotFoundError(f"no file {' or '.join(patterns)}")


def require_network(key: str, streaming: bool) -> None:
    """Fail at once where the hub cannot be reached."""
    from datasets import config
    from huggingface_hub import constants

    if config.HF_HUB_OFFLINE:
        if streaming:
            raise DataError(f"{key}: " + NO_NETWORK.format(reason="HF_HUB_OFFLINE is set", key=key))
        return  # what is in the cache may do
    reasons = ["no answer"]
    probe = threading.Thread(target=_probe, args=(constants.ENDPOINT, reasons), daemon=True)
    probe.start()
    probe.join(PROBE_SECONDS)  # looking up a name has no time limit of its own
    if reasons:
        raise DataError(f"{key}: " + NO_NETWORK.format(reason=reasons[0], key=key))


def _probe(url: str, reasons: list[str]) -> None:
    """Empty ``reasons`` when the hub answers, whatever it answers."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass
    except OSError as error:
        reasons[0] = str(getattr(error, "reason", error))
        return
    reasons.clear()


def _documents(rows: Iterator[dict[str, Any]], entry: HubText) -> Iterator[list[str]]:
    document: list[str] = []
    for number, row in enumerate(rows, start=1):
        text = _text(row, number, entry)
        document += [paragraph for line in text.split("\n") if (paragraph := line.strip())]
        if document and number % entry.rows_per_document == 0:
            yield document
            document = []
    if document:
        yield document


def _text(row: dict[str, Any], number: int, entry: HubText) -> str:
    text = row.get(entry.column)
    if not isinstance(text, str):
        raise DataError(
            f"{entry.path}: row {number}: no text in column {entry.column!r}; columns there: {', '.join(row)}"
        )
    return text


def _example(task: str, row: dict[str, Any], where: str) -> Example:
    columns = (*TASKS[task].hub_columns, "label")
    absent = [column for column in columns if row.get(column) is None]
    if absent:
        raise DataError(f"{where}: no {', '.join(absent)}; needed: {', '.join(columns)}; found: {', '.join(row)}")
    *sentences, label = (row[column] for column in columns)
    classes = TASKS[task].labels
    if classes and label not in range(len(classes)):
        raise DataError(f"{where}: label {label!r}; allowed: 0 to {len(classes) - 1} ({', '.join(classes)})")
    if not classes and not 0 <= label <= 5:
        raise DataError(f"{where}: score {label!r}; allowed: a number from 0 to 5")
    return Example(sentences[0], sentences[1] if len(sentences) == 2 else None, label)
