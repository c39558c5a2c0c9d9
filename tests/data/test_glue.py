"""Prepared GLUE: what the arrays hold, and that a damaged folder is noticed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pldrepro.config.data import DataSettings
from pldrepro.data.glue import PreparedSplit, load_prepared, prepare_glue
from pldrepro.data.tasks import TASKS
from pldrepro.errors import DataError, RecordError

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "d"]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[DataSettings, Path, Path]:
    """Settings of files, a corpus of one vocabulary, and a folder for GLUE."""
    from pldrepro.data.corpus import prepare_corpus

    for name, text in {
        "text.txt": "a b\n\nc d\n",
        "vocab.txt": "\n".join(VOCABULARY),
        "glue/RTE/train.tsv": "sentence1\tsentence2\tlabel\na b c\td\tentailment\na\tb b b b b b\tnot_entailment\n",
        "glue/RTE/dev.tsv": "sentence1\tsentence2\tlabel\na\t[SEP]\tentailment\n",
        "glue/STS-B/train.tsv": "sentence1\tsentence2\tscore\na\tb\t2.5\n",
        "glue/STS-B/dev.tsv": "sentence1\tsentence2\tscore\na\tb\t0\n",
        "glue/CoLA/train.tsv": "x\t1\t\ta b c d a b c d\n",
        "glue/CoLA/dev.tsv": "x\t0\t*\tb\n",
        "glue/MNLI/train.tsv": "sentence1\tsentence2\tgold_label\na\tb\tneutral\n",
        "glue/MNLI/dev_matched.tsv": "sentence1\tsentence2\tgold_label\na\tb\tcontradiction\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    settings = DataSettings(
        source="files",
        root=str(tmp_path),
        text=("text.txt",),
        vocabulary=str(tmp_path / "vocab.txt"),
        validation_ratio=1,
    )
    prepare_corpus(settings, tmp_path / "corpus", workers=1, progress=False)
    return settings, tmp_path / "corpus", tmp_path / "prepared"


def prepare(folders: tuple[DataSettings, Path, Path], *tasks: str) -> Path:
    settings, corpus, out = folders
    prepare_glue(settings, tasks, 8, corpus, out, progress=False)
    return out


def sequences(split: PreparedSplit) -> list[list[int]]:
    return [split.input_ids[i:j].tolist() for i, j in zip(split.offsets, split.offsets[1:], strict=False)]


def test_tasks_are_those_of_the_paper() -> None:
    assert list(TASKS) == ["rte", "mrpc", "stsb", "cola", "sst2", "qnli", "qqp", "mnli"]
    assert sum(len(task.metrics) * len(task.eval_splits) for task in TASKS.values()) == 12
    assert [task.num_labels for task in TASKS.values()] == [2, 2, 1, 2, 2, 2, 2, 3]
    assert TASKS["mnli"].labels == ("entailment", "neutral", "contradiction")
    assert [name for name, task in TASKS.items() if not task.pair] == ["cola", "sst2"]


def test_pairs_and_their_truncation(folders: tuple[DataSettings, Path, Path]) -> None:
    rte = load_prepared(prepare(folders, "rte"), "rte")
    train = rte.splits["train"]
    # [CLS] a b c [SEP] d [SEP]; and, cut to 8 tokens, the longer sentence loses its end
    assert sequences(train) == [[2, 5, 6, 7, 3, 8, 3], [2, 5, 3, 6, 6, 6, 6, 3]]
    assert train.token_types.tolist() == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 1, 1, 1]
    assert train.labels.tolist() == [0, 1]
    assert [array.dtype for array in (train.input_ids, train.token_types, train.offsets, train.labels)] == [
        np.int32, np.int8, np.int64, np.int64,
    ]  # fmt: skip
    assert sequences(rte.splits["dev"]) == [[2, 5, 3, 1, 1, 1, 3]]  # "[SEP]" in a sentence is text
    assert rte.cut == {"train": 1, "dev": 0}


def test_single_sentences_and_scores(folders: tuple[DataSettings, Path, Path]) -> None:
    out = prepare(folders, "cola", "stsb")
    cola = load_prepared(out, "cola")
    assert sequences(cola.splits["train"]) == [[2, 5, 6, 7, 8, 5, 6, 3]]
    assert cola.cut == {"train": 1, "dev": 0}
    scores = load_prepared(out, "stsb").splits["train"].labels
    assert scores.dtype == np.float32
    assert scores.tolist() == [2.5]


def test_a_missing_split_is_recorded_in_words(folders: tuple[DataSettings, Path, Path]) -> None:
    mnli = load_prepared(prepare(folders, "mnli"), "mnli")
    assert set(mnli.splits) == {"train", "dev"}
    assert mnli.missing == {"dev_mismatched": "the data have no file MNLI/dev_mismatched.tsv (.gz .xz .zst)"}
    assert mnli.splits["dev"].labels.tolist() == [2]


def test_the_miniature_has_every_split(glue: Path) -> None:
    mnli = load_prepared(glue, "mnli")
    assert {split: len(mnli.splits[split]) for split in mnli.splits} == {"train": 32, "dev": 16, "dev_mismatched": 16}
    assert mnli.missing == {}


def test_the_same_data_give_the_same_bytes(folders: tuple[DataSettings, Path, Path]) -> None:
    out = prepare(folders, "rte", "mnli")
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    prepare(folders, "rte", "mnli")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_an_error_leaves_the_earlier_arrays(folders: tuple[DataSettings, Path, Path]) -> None:
    out = prepare(folders, "rte", "cola")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    root = Path(folders[0].root or "")
    (root / "glue/RTE/train.tsv").write_text("sentence1\tsentence2\tlabel\nb\tb\tentailment\n")
    (root / "glue/CoLA/dev.tsv").write_text("x\t7\t*\tb\n")
    with pytest.raises(DataError, match=r"dev\.tsv: row 1: column 'label'"):
        prepare(folders, "rte", "cola")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_task_without_training_data_or_of_no_name_is_an_error(folders: tuple[DataSettings, Path, Path]) -> None:
    with pytest.raises(DataError, match=r"QNLI/train\.tsv"):
        prepare(folders, "qnli")
    with pytest.raises(DataError, match="wnli"):
        prepare(folders, "wnli")


def test_damaged_folders_are_named(folders: tuple[DataSettings, Path, Path], tmp_path: Path) -> None:
    out = prepare(folders, "rte", "cola")
    with pytest.raises(DataError, match=r"mnli .*rte, cola"):
        load_prepared(out, "mnli")
    content = (out / "rte.safetensors").read_bytes()
    (out / "rte.safetensors").write_bytes(content[:-10])
    with pytest.raises(DataError, match=r"rte\.safetensors: .*`prepare glue`"):
        load_prepared(out, "rte")
    (out / "rte.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DataError, match=r"rte\.safetensors: (train|dev) "):
        load_prepared(out, "rte")
    shutil.copy(out / "cola.safetensors", out / "rte.safetensors")
    with pytest.raises(DataError, match=r"rte\.safetensors: train "):
        load_prepared(out, "rte")
    (out / "rte.safetensors").unlink()
    with pytest.raises(DataError, match=r"rte\.safetensors: no such file"):
        load_prepared(out, "rte")
    with pytest.raises(RecordError, match=r"manifest\.json: no such file"):
        load_prepared(tmp_path / "none", "rte")


def test_the_manifest_names_the_corpus(folders: tuple[DataSettings, Path, Path]) -> None:
    out = prepare(folders, "rte")
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["corpus"] == json.loads((folders[1] / "manifest.json").read_text())["hash"]
    assert manifest["sequence_length"] == 8
    assert manifest["tasks"]["rte"]["train"]["examples"] == 2
