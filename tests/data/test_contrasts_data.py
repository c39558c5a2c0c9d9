"""What models are asked without fine-tuning: pairs and cloze items of a prepared corpus, the same for all arms."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pldrepro.config.contrasts import ContrastSettings, read_paradigms
from pldrepro.config.data import DataSettings
from pldrepro.config.run import RunSettings
from pldrepro.config.study import load_study
from pldrepro.data.contrasts import Contrasts, load_contrasts, prepare_contrasts, words_of
from pldrepro.data.corpus import open_corpus, prepare_corpus
from pldrepro.errors import DataError, SettingsError

REAL = Path(os.environ.get("PLDREPRO_DATA_ROOT", "/nonexistent"))
CLOZE = (("is", "are"), ("does", "do"), ("was", "were"))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[DataSettings, Path]:
    """Text, two paradigms of Zorro and one of BLiMP in files, and the corpus made of them."""
    sentences = ["the dog is here .", "the dogs are here .", "where is the dog ?", "where are the dogs ?"]
    put(tmp_path / "text/a.txt", "\n\n".join(sentences * 40))
    put(tmp_path / "zorro/agreement.txt", "the dog are here .\nthe dog is here .\nthe dogs is .\nthe dogs are .\n")
    put(tmp_path / "zorro/order.txt", "here the .\nthe here .\n")
    pair = {"sentence_good": "where is the dog ?", "sentence_bad": "where are the dog ?"}
    put(tmp_path / "blimp/questions.jsonl", json.dumps(pair) + "\n")
    paradigms = {"source": "made up", "judging": ["agreement", "questions"], "not_judging": {"order": "nonsense"}}
    put(tmp_path / "list.yaml", yaml.safe_dump(paradigms))
    data = DataSettings(
        source="files", root=str(tmp_path), text=("text/*.txt",), vocab_size=60, sequence_length=12, validation_ratio=2
    )
    prepare_corpus(data, tmp_path / "corpus", workers=1, progress=False)
    return data, tmp_path


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def asked(root: Path, **changes: object) -> ContrastSettings:
    paradigms = str(root / "list.yaml")
    pairs = {
        "zorro": {"files": "zorro/*.txt*", "paradigms": paradigms},
        "blimp": {"files": "blimp/*.jsonl*", "paradigms": paradigms},
    }
    return ContrastSettings.model_validate({"pairs": pairs, "cloze": CLOZE, **changes})


def prepare(folders: tuple[DataSettings, Path], settings: ContrastSettings) -> Contrasts:
    data, root = folders
    prepare_contrasts(settings, data, root / "corpus", root / "items")
    return load_contrasts(root / "items")


def test_both_formats_and_the_words_of_held_out_text(folders: tuple[DataSettings, Path]) -> None:
    made = prepare(folders, asked(folders[1]))
    tasks = made.manifest.tasks
    assert {name: [one.name for one in task.items] for name, task in tasks.items()} == {
        "zorro": ["agreement", "order"], "blimp": ["questions"], "cloze": ["is/are"],
    }  # fmt: skip
    agreement, order = tasks["zorro"].items
    assert (agreement.items, agreement.judges, order.judges, order.reason) == (2, True, False, "nonsense")
    # "is" and "are" are equally frequent, so that unigrams are at a tie; trigrams know what follows what.
    assert (agreement.unigram, agreement.trigram) == (0.5, 1.0)
    assert (order.unigram, order.longer) == (0.5, 0.0)
    assert set(made.manifest.missing) == {"does/do", "was/were"}
    assert made.cloze is not None
    assert len(made.cloze) == tasks["cloze"].items[0].items >= 20
    assert made.cloze.windows.shape[1] == 10  # of 12 tokens less [CLS] and [SEP]
    assert made.manifest.corpus == open_corpus(folders[1] / "corpus").hash


def test_the_same_items_are_made_again_and_others_have_another_hash(folders: tuple[DataSettings, Path]) -> None:
    first, again = (prepare(folders, asked(folders[1])).manifest for _ in range(2))
    assert first == again
    assert prepare(folders, asked(folders[1], max_cloze=11)).manifest.hash != first.hash


def test_what_the_data_lack_is_left_out_with_the_reason(folders: tuple[DataSettings, Path]) -> None:
    absent = {"zorro": {"files": "nowhere/*.txt", "paradigms": str(folders[1] / "list.yaml")}}
    made = prepare(folders, asked(folders[1], pairs=absent, cloze=(("was", "were"),)))
    assert made.manifest.tasks == {}
    assert set(made.manifest.missing) == {"zorro", "was/were"}
    assert (made.pairs, made.cloze) == ({}, None)


def test_a_paradigm_that_no_list_names_is_refused(folders: tuple[DataSettings, Path]) -> None:
    put(folders[1] / "zorro/unknown.txt", "a b .\nb a .\n")
    with pytest.raises(DataError, match="unknown"):
        prepare(folders, asked(folders[1]))


def test_fewer_pairs_are_taken_where_asked(folders: tuple[DataSettings, Path]) -> None:
    settings = asked(folders[1])
    few = settings.pairs["zorro"].model_copy(update={"max_pairs": 1})
    made = prepare(folders, settings.model_copy(update={"pairs": {"zorro": few}}))
    assert [one.items for one in made.manifest.tasks["zorro"].items] == [1, 1]


def tiny(make: Callable[..., RunSettings], **data: object) -> DataSettings:
    settings = make(**({"model": {"family": "gpt", "vocab_size": 320}, "data": data} if data else {})).data
    assert isinstance(settings, DataSettings)
    return settings


def test_the_miniature_language_has_cloze_items_and_says_why_it_has_no_pairs(
    corpus: Path, tmp_path: Path, tiny_run: Callable[..., RunSettings]
) -> None:
    pairs = {"zorro": {"files": "zorro/*.txt", "paradigms": "config/contrasts/zorro.yaml"}}
    settings = ContrastSettings.model_validate({"pairs": pairs, "cloze": CLOZE, "max_cloze": 20})
    made = prepare_contrasts(settings, tiny(tiny_run), corpus, tmp_path)
    assert "is/are" in {one.name for one in made.tasks["cloze"].items}
    assert {"zorro", "was/were"} <= set(made.missing)


def test_words_of_a_byte_pair_vocabulary_have_a_space_before_them(
    tmp_path: Path, tiny_run: Callable[..., RunSettings]
) -> None:
    data = tiny(tiny_run, tokenizer="bpe", vocab_size=320)
    prepare_corpus(data, tmp_path / "corpus", workers=1, progress=False)
    corpus = open_corpus(tmp_path / "corpus")
    words = words_of(corpus)
    vocabulary = json.loads((corpus.tokenizer_folder / "vocab.json").read_text(encoding="utf-8"))
    assert words.ids["is"] == vocabulary["Ġis"]
    assert not words.continues[vocabulary["Ġis"]]
    assert words.continues[vocabulary["s"]]
    assert not words.continues[vocabulary["."]]
    made = prepare_contrasts(ContrastSettings(cloze=(("is", "are"),)), data, tmp_path / "corpus", tmp_path / "items")
    items = load_contrasts(tmp_path / "items").cloze
    assert items is not None
    assert items.windows.shape[1] == 23
    assert set(items.attested) == {vocabulary["Ġis"], vocabulary["Ġare"]}
    assert list(made.tasks) == ["cloze"]


# ---- settings and the shipped lists ----


def test_a_study_checks_its_lists_and_checkpoints() -> None:
    study = yaml.safe_load(Path("config/smoke.yaml").read_text("utf-8")) | {"companions": {}, "contrast_arms": None}
    good = {"cloze": [["is", "are"]], "checkpoints": ["ckp9"]}
    assert load_study(study | {"contrasts": good}).contrast_runs() == load_study(study).pretrain_runs()
    with pytest.raises(SettingsError, match="ckp10"):
        load_study(study | {"contrasts": good | {"checkpoints": ["ckp10"]}})
    with pytest.raises(SettingsError, match=r"nowhere\.yaml"):
        load_study(study | {"contrasts": good | {"pairs": {"zorro": {"paradigms": "nowhere.yaml"}}}})
    with pytest.raises(SettingsError, match="cloze"):
        load_study(study | {"contrasts": {"checkpoints": ["ckp9"]}})
    images = yaml.safe_load(Path("config/smoke_images.yaml").read_text("utf-8"))
    with pytest.raises(SettingsError, match="text"):
        load_study(images | {"contrasts": {"cloze": [["is", "are"]]}})


@pytest.mark.parametrize(("name", "count"), [("zorro", 23), ("blimp", 67)])
def test_the_shipped_lists_have_every_paradigm_once(name: str, count: int) -> None:
    listed = read_paradigms(Path(f"config/contrasts/{name}.yaml"))
    assert len(listed.judging) + len(listed.not_judging) == count


@pytest.mark.skipif(not (REAL / "zorro").is_dir(), reason="no zorro/ and blimp/ in PLDREPRO_DATA_ROOT")
@pytest.mark.parametrize("name", ["zorro", "blimp"])
def test_the_shipped_lists_name_the_real_files(name: str) -> None:
    listed = read_paradigms(Path(f"config/contrasts/{name}.yaml"))
    found = {path.name.split(".")[0] for path in (REAL / name).iterdir()}
    assert found <= {*listed.judging, *listed.not_judging}
