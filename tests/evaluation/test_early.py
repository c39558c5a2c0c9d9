"""Probes early in training: the numbers of an ordinary run's checkpoint at that step, without its end."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pldrepro.config.run import EarlyRunSettings, RunSettings
from pldrepro.data.corpus import open_corpus
from pldrepro.errors import RecordError, SettingsError
from pldrepro.evaluation.early import probe_early
from pldrepro.evaluation.probe import Subject, held_out, layers
from pldrepro.models.checkpoints.bert import load_pretraining
from pldrepro.runs.folder import load_early
from pldrepro.training.objectives import MaskedLanguage
from pldrepro.training.pretrain import pretrain

Make = Callable[..., RunSettings]
BASELINE = {"arm": "baseline", "model": {"norm": "post"}, "drop": {"dialect": "none"}}
POINTS = {"one": 1 / 16, "three": 3 / 16, "ckp186": 1}  # of 16 steps


def early(run: RunSettings, *shares: float, sequences: int = 8) -> EarlyRunSettings:
    about = {"shares": shares, "sequences": sequences, "gradient_batches": 2}
    return EarlyRunSettings(**run.model_dump(), early=about)


@pytest.fixture(scope="module")
def probed(tiny_run: Make, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    probe_early(early(tiny_run(**BASELINE), 1 / 16, 3 / 16), corpus, folder, progress=False)
    return folder


def test_it_is_the_model_of_the_whole_run_at_that_step(
    probed: Path, tiny_run: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = tiny_run(**BASELINE, training={"checkpoints": POINTS})
    pretrain(settings, corpus, tmp_path, progress=False)
    objective = MaskedLanguage(settings, torch.device("cpu"))
    text = held_out(objective, open_corpus(corpus), 8)
    found = load_early(probed)
    assert {name: point.step for name, point in found.summary.checkpoints.items()} == {"step1": 1, "step3": 3}
    for name, step in (("one", "step1"), ("three", "step3")):
        model = load_pretraining(tmp_path / "checkpoints" / name, settings.model).eval()
        rows = layers(Subject(model, objective), text, 2)
        mine = [line.dump() for line in found.results if line.checkpoint == step]
        assert mine == [{**row.dump(), "checkpoint": step, "step": int(step[-1])} for row in rows]


def test_the_summary_says_what_the_whole_run_is(probed: Path) -> None:
    summary = load_early(probed).summary
    assert (summary.norm, summary.num_layers, summary.num_steps, summary.sequences) == ("post", 4, 16, 8)
    assert summary.checkpoints["step3"].share == 3 / 16


def test_a_finished_one_is_left_alone_and_another_is_made_anew(
    probed: Path, tiny_run: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = early(tiny_run(**BASELINE), 1 / 16)
    probe_early(settings, corpus, tmp_path, progress=False)
    (tmp_path / "results.jsonl").unlink()
    for read in (lambda: probe_early(settings, corpus, tmp_path, progress=False), lambda: load_early(tmp_path)):
        with pytest.raises(RecordError, match=r"results\.jsonl: missing"):
            read()
    probe_early(settings.model_copy(update={"seed": 2}), corpus, tmp_path, progress=False)
    assert load_early(tmp_path).summary.seed == 2


def test_it_is_for_bert_alone(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    gpt = tiny_run(model={"family": "gpt"}, data={"tokenizer": "bpe"}, training={"next_sentence": False})
    with pytest.raises(SettingsError):
        probe_early(early(gpt, 0.5), corpus, tmp_path, progress=False)
