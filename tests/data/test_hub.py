"""The hub source on local directories in the hub's layout; and without a network."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pldrepro.config.contrasts import PairsSettings
from pldrepro.config.data import DataSettings, HubSettings, HubText
from pldrepro.data.minimal_pairs import Paradigm
from pldrepro.data.sources import hub
from pldrepro.data.sources.hub import HubSource
from pldrepro.data.tasks import Example
from pldrepro.errors import DataError, SettingsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def put(path: Path, **columns: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path / "wiki/20231101.en/train-00000-of-00002.parquet", id=["1"], text=["A b.\n\n  C d.  \n"])
    put(tmp_path / "wiki/20231101.en/train-00001-of-00002.parquet", id=["2"], text=["E f."])
    put(tmp_path / "wiki/20231101.fr/train-00000-of-00001.parquet", id=["3"], text=["G h."])
    put(tmp_path / "books/plain_text/train/0000.parquet", text=["i .", "j .", "k ."])
    put(tmp_path / "plain/data/train-00000-of-00001.parquet", text=["l"])
    for split, label in {"train": 0, "validation_matched": 1, "validation_mismatched": 2, "test_matched": -1}.items():
        name = tmp_path / f"glue/mnli/{split}-00000-of-00001.parquet"
        put(name, premise=[split], hypothesis=["x"], label=[label], idx=[0])
    put(tmp_path / "glue/stsb/train-00000-of-00001.parquet", sentence1=["a"], sentence2=["b"], label=[3.5], idx=[0])
    put(tmp_path / "glue/cola/validation-00000-of-00001.parquet", sentence=["a"], label=[1], idx=[0])
    return tmp_path


def text(root: Path, streaming: bool = True, **entry: Any) -> list[list[str]]:
    entry["path"] = str(root / entry["path"])
    settings = HubSettings(text=(HubText(**entry),), glue_path=str(root), streaming=streaming)
    return list(HubSource(settings).documents())


def glue(root: Path, task: str, split: str) -> list[Example] | str:
    entry = HubText(path=str(root / "wiki"))
    return HubSource(HubSettings(text=(entry,), glue_path=str(root / "glue"))).glue(task, split)


@pytest.mark.parametrize("streaming", [True, False])
def test_the_configuration_and_its_shards_in_order(root: Path, streaming: bool) -> None:
    assert text(root, streaming, path="wiki", name="20231101.en") == [["A b.", "C d."], ["E f."]]


def test_rows_are_grouped_into_documents_across_the_hubs_own_conversion(root: Path) -> None:
    assert text(root, path="books", name="plain_text", rows_per_document=2) == [["i .", "j ."], ["k ."]]


def test_a_repository_without_configurations(root: Path) -> None:
    assert text(root, path="plain") == [["l"]]


def test_glue_splits_are_those_with_labels(root: Path) -> None:
    assert glue(root, "mnli", "dev") == [Example("validation_matched", "x", 1)]
    assert glue(root, "mnli", "dev_mismatched") == [Example("validation_mismatched", "x", 2)]
    assert glue(root, "stsb", "train") == [Example("a", "b", 3.5)]
    assert glue(root, "cola", "dev") == [Example("a", None, 1)]
    assert glue(root, "cola", "train") == "the data have no file cola/train-*.parquet"


def test_minimal_pairs_are_a_configuration_for_each_paradigm(root: Path) -> None:
    for name, good in {"agreement": "a dog runs", "binding": "he saw himself"}.items():
        put(root / f"blimp/{name}/train-00000-of-00001.parquet", sentence_good=[good], sentence_bad=["x"], UID=[name])
    source = HubSource(HubSettings(text=(HubText(path=str(root / "wiki")),), glue_path=str(root / "glue")))
    asked = PairsSettings(hub_path=str(root / "blimp"), paradigms="list.yaml")
    assert source.minimal_pairs(asked, ["agreement", "binding"]) == [
        Paradigm("agreement", [("x", "a dog runs")]),
        Paradigm("binding", [("x", "he saw himself")]),
    ]
    assert isinstance(source.minimal_pairs(PairsSettings(paradigms="list.yaml"), ["agreement"]), str)
    with pytest.raises(SettingsError):  # not pinned
        source.minimal_pairs(PairsSettings(hub_path="nyu-mll/blimp", paradigms="list.yaml"), ["agreement"])
    put(root / "blimp/agreement/train-00000-of-00001.parquet", sentence_good=["a"])
    with pytest.raises(DataError, match="agreement: row 1"):
        source.minimal_pairs(asked, ["agreement"])


def test_the_whole_corpus_from_directories(root: Path, tmp_path: Path) -> None:
    from pldrepro.data.corpus import open_corpus, prepare_corpus

    entries = (
        HubText(path=str(root / "wiki"), name="20231101.en"),
        HubText(path=str(root / "books"), name="plain_text"),
    )
    settings = DataSettings(
        source="hub", hub=HubSettings(text=entries, glue_path=str(root / "glue")), vocab_size=64, validation_ratio=1
    )
    manifest = prepare_corpus(settings, tmp_path / "out", workers=1, progress=False)
    assert open_corpus(tmp_path / "out").manifest.splits["validation"].documents == 2
    assert [entry["path"] for entry in manifest.source["text"]] == ["wiki", "books"]
    assert str(root) not in str(manifest)


def test_bad_rows_and_files_are_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"wiki: row 1: .*'body'"):
        text(root, path="wiki", name="20231101.en", column="body")
    with pytest.raises(DataError, match=r"wiki 20231101.de train: no file 20231101.de/train-\*.parquet"):
        text(root, path="wiki", name="20231101.de")
    put(root / "glue/rte/train-00000-of-00001.parquet", sentence1=["a"], sentence2=["b"], label=[2])
    with pytest.raises(DataError, match="rte/train: row 1: label 2"):
        glue(root, "rte", "train")
    put(root / "glue/sst2/train-00000-of-00001.parquet", text=["a"], label=[1])
    with pytest.raises(DataError, match=r"sst2/train: row 1: .*sentence"):
        glue(root, "sst2", "train")
    (root / "plain/data/train-00000-of-00001.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(DataError, match=r"plain train: .*arquet"):
        text(root, path="plain")


def test_repositories_are_pinned(root: Path) -> None:
    local = str(root)
    with pytest.raises(SettingsError, match=r"data\.hub\.text\.0\.revision"):
        HubSource(HubSettings(text=(HubText(path="a/b"),), glue_path=local))
    with pytest.raises(SettingsError, match=r"data\.hub\.glue_revision"):
        HubSource(HubSettings(text=(HubText(path=local),)))
    with pytest.raises(DataError, match=r"data\.hub\.text\.0\.path: /no/where"):
        HubSource(HubSettings(text=(HubText(path="/no/where"),), glue_path=local))
    with pytest.raises(SettingsError, match=r"data.hub.text: empty"):
        HubSource(HubSettings(glue_path=local))


def remote(streaming: bool = True) -> HubSource:
    entry = HubText(path="wikimedia/wikipedia", name="20231101.en", revision=COMMIT)
    return HubSource(HubSettings(text=(entry,), glue_revision=COMMIT, streaming=streaming))


def test_a_repository_is_read_like_a_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def load_dataset(path: str, **arguments: Any) -> list[dict[str, str]]:
        calls.append({"path": path, **arguments})
        if len(calls) == 1:
            raise FileNotFoundError("no such files")
        return [{"text": "A.\nB."}]

    monkeypatch.setattr(hub, "require_network", lambda key, streaming: None)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    assert list(remote().documents()) == [["A.", "B."]]
    common = {"path": "wikimedia/wikipedia", "revision": COMMIT, "split": "train", "streaming": True}
    assert calls == [
        {**common, "data_files": {"train": "20231101.en/train-*.parquet"}},
        {**common, "data_files": {"train": "20231101.en/train/*.parquet"}},
    ]


def test_without_a_network_it_fails_and_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # a port where nobody listens
    with pytest.raises(DataError, match="hub"):
        next(remote().documents())
    with pytest.raises(DataError, match=r"data\.hub\.glue_path"):
        remote().glue("rte", "train")


def test_a_hub_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.1)
    end_of_test = threading.Event()
    monkeypatch.setattr(hub, "_probe", lambda url, reasons: end_of_test.wait())
    with pytest.raises(DataError, match="no answer"):
        next(remote().documents())
    end_of_test.set()


def test_offline_mode_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"\(HF_HUB_OFFLINE is set\)"):
        next(remote().documents())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"wikimedia/wikipedia"):
        next(remote(streaming=False).documents())
