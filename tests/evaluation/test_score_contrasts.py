"""The contrasts of a run: hits of every item at every checkpoint, and what the summary makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pldrepro.config.contrasts import ContrastSettings
from pldrepro.config.data import DataSettings
from pldrepro.config.run import RunSettings
from pldrepro.data.contrasts import load_contrasts, prepare_contrasts
from pldrepro.data.corpus import open_corpus, prepare_corpus
from pldrepro.errors import SettingsError
from pldrepro.evaluation.score_contrasts import score_contrasts
from pldrepro.models.checkpoints.bert import load_pretraining
from pldrepro.models.checkpoints.gpt2 import load_gpt
from pldrepro.policy.drop import all_kept
from pldrepro.runs.folder import ContrastsRun
from pldrepro.runs.folder import load_contrasts as load_run
from pldrepro.training.pretrain import pretrain

SETTINGS = ContrastSettings(cloze=(("is", "are"), ("yes", "no")), max_cloze=20, batch_size=7)
FAMILIES = ("bert", "gpt")


@pytest.fixture(scope="module", params=FAMILIES)
def study(
    request: pytest.FixtureRequest, tiny_run: Callable[..., RunSettings], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with a corpus, its items, and a finished run."""
    root, changes = tmp_path_factory.mktemp(request.param), {}
    if request.param == "gpt":
        text = {"tokenizer": "bpe", "vocab_size": 320}
        changes = {"model": {"family": "gpt", "vocab_size": 320}, "data": text, "training": {"next_sentence": False}}
    run = tiny_run(**changes)
    assert isinstance(run.data, DataSettings)
    prepare_corpus(run.data, root / "corpus", workers=1, progress=False)
    prepare_contrasts(SETTINGS, run.data, root / "corpus", root / "items")
    pretrain(run, root / "corpus", root / "run", progress=False)
    return root


def score(root: Path, folder: Path, settings: ContrastSettings = SETTINGS) -> ContrastsRun:
    score_contrasts(root / "run", settings, root / "corpus", root / "items", folder, progress=False)
    return load_run(folder)


def test_every_checkpoint_is_asked_and_every_hit_kept(study: Path, tmp_path: Path) -> None:
    found = score(study, tmp_path)
    summary = found.summary
    assert list(summary.checkpoints) == ["ckp87", "ckp100", "ckp186"]
    assert {name: one.judges for name, one in summary.tasks["cloze"].items()} == {"is/are": True, "yes/no": True}
    for name, tasks in summary.checkpoints.items():
        hits, start = found.hits(name, "cloze"), 0
        for contrast, about in summary.tasks["cloze"].items():
            assert tasks["cloze"][contrast] == pytest.approx(hits[start : start + about.items].mean())
            start += about.items
        assert start == len(hits)


@torch.no_grad()
def test_a_hit_is_what_one_item_at_a_time_gives(study: Path, tmp_path: Path) -> None:
    """BERT: the masked word against its rival; GPT: the window with either word, whole."""
    found, items, corpus = score(study, tmp_path), load_contrasts(study / "items").cloze, open_corpus(study / "corpus")
    assert items is not None
    place, gates, expected = study / "run/checkpoints/ckp186", all_kept(4), []
    settings = load_settings(study)
    for window, at, rival, right in zip(items.windows, items.places, items.rivals, items.attested, strict=True):
        if settings.model.family == "bert":
            special = corpus.special_tokens
            row = torch.tensor([[special["[CLS]"], *window, special["[SEP]"]]])
            row[0, at + 1] = special["[MASK]"]
            logits, _ = load_pretraining(place, settings.model).eval()(row, None, torch.tensor([[at + 1]]), gates)
            expected.append(float(logits[0, right] > logits[0, rival]))
        else:
            both = torch.tensor(np.stack([window, window]))
            both[1, at] = rival
            start = torch.full((2, 1), corpus.special_tokens["<|endoftext|>"])
            logits = load_gpt(place, settings.model).eval()(torch.cat([start, both[:, :-1]], 1), gates)
            scores = logits.log_softmax(-1).gather(-1, both[..., None]).sum((1, 2))
            expected.append(float(scores[0] > scores[1]))
    assert found.hits("ckp186", "cloze").tolist() == expected


def load_settings(study: Path) -> Any:
    from pldrepro.runs.manifest import settings_of

    return settings_of(study / "run")


def test_the_last_checkpoint_is_always_among_them(study: Path, tmp_path: Path) -> None:
    found = score(study, tmp_path, SETTINGS.model_copy(update={"checkpoints": ("ckp100", "ckp9")}))
    assert list(found.summary.checkpoints) == ["ckp100", "ckp186"]


def test_a_finished_job_is_left_alone(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    score(study, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("pldrepro.evaluation.score_contrasts.load_model", None)
    score(study, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_scoring_again_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    first, second = (score(study, tmp_path / name).folder / "hits.safetensors" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_items_of_another_corpus_are_refused(study: Path, tmp_path: Path, tiny_run: Callable[..., RunSettings]) -> None:
    other = tiny_run(data={"miniature": {"num_documents": 100}}).data
    assert isinstance(other, DataSettings)
    prepare_corpus(other, tmp_path / "corpus", workers=1, progress=False)
    prepare_contrasts(SETTINGS, other, tmp_path / "corpus", tmp_path / "items")
    with pytest.raises(SettingsError):
        score_contrasts(study / "run", SETTINGS, study / "corpus", tmp_path / "items", tmp_path / "x", progress=False)
    with pytest.raises(SettingsError):
        score_contrasts(study / "run", SETTINGS, tmp_path / "corpus", study / "items", tmp_path / "x", progress=False)
