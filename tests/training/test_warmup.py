"""Before the clock of a run starts, all is compiled that the run will use, and the run is the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pldrepro.config.run import RunSettings
from pldrepro.data.corpus import prepare_corpus
from pldrepro.errors import OutOfTimeError
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.schema import PretrainSummary
from pldrepro.training import pretrain as module
from pldrepro.training import stopwatch
from pldrepro.training.pretrain import pretrain
from tests.support.runs import read_jsonl

Make = Callable[..., RunSettings]
COMPILED = {"compile": True, "micro_batch_size": 3}  # 8 samples a step: 3, 3 and 2
MEASURES = ("lesion", "gate_taylor", "gradient_norm", "fisher", "train_lesion")
GPT: dict[str, Any] = {
    "model": {"family": "gpt", "norm": "pre", "vocab_size": 300},
    "data": {"tokenizer": "bpe", "vocab_size": 300, "miniature": {"num_documents": 60}},
    "training": {"next_sentence": False},
}
METRICS = "metrics.jsonl"


def sbld(measure: str) -> dict[str, Any]:
    sensitivity = {"warmup_share": 0.25, "batches": 1, "measure": measure, "train_steps": 2}
    return {"arm": "sbld", "drop": {"dialect": "sbld", "sensitivity": sensitivity}}


ARMS: dict[str, dict[str, Any]] = {
    "pld": {},
    "baseline": {"arm": "baseline", "model": {"norm": "post"}, "drop": {"dialect": "none"}},
    **{measure: sbld(measure) for measure in MEASURES},
}


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """When each graph was compiled, which takes 100 seconds; any look at the clock takes a millisecond."""
    now, compiled = [0.0], []

    def slow(graph: torch.fx.GraphModule, _: list[Any]) -> Callable[..., Any]:
        now[0] += 100.0
        compiled.append(now[0])
        return graph.forward

    def clock() -> float:
        now[0] += 1e-3
        return now[0]

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=slow))
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter=clock))
    yield compiled
    torch.compiler.reset()


def trained(settings: RunSettings, corpus: Path, folder: Path) -> PretrainSummary:
    """The summary of a run that is trained here."""
    pretrain(settings, corpus, folder, progress=False)
    return load_pretrain(folder).summary


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    return [{k: v for k, v in line.items() if not k.endswith("seconds")} for line in read_jsonl(folder / METRICS)]


@pytest.mark.parametrize("arm", ARMS)
def test_nothing_is_compiled_while_the_clock_of_a_run_goes(
    tiny_run: Make, corpus: Path, tmp_path: Path, graphs: list[float], arm: str
) -> None:
    summary = trained(tiny_run(**ARMS[arm], impl=COMPILED), corpus, tmp_path)
    assert len(graphs) >= 3  # two sizes of training, one of validation
    assert summary.train_seconds < 1
    assert summary.warmup_seconds == pytest.approx(100 * len(graphs), abs=1)


def test_nothing_of_a_gpt_is_compiled_while_the_clock_goes(tiny_run: Make, tmp_path: Path, graphs: list[float]) -> None:
    settings = tiny_run(**GPT, impl=COMPILED)
    prepare_corpus(settings.data, tmp_path / "corpus", workers=1, progress=False)
    summary = trained(settings, tmp_path / "corpus", tmp_path / "run")
    assert summary.train_seconds < 1
    assert summary.warmup_seconds == pytest.approx(100 * len(graphs), abs=1)


@pytest.mark.parametrize("arm", ["pld", "gate_taylor", "train_lesion"])
def test_a_warmed_run_is_the_same_run(
    tiny_run: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, graphs: list[float], arm: str
) -> None:
    settings = tiny_run(**ARMS[arm], impl=COMPILED)
    warmed = trained(settings, corpus, tmp_path / "warmed")
    monkeypatch.setattr(module, "warm_up", lambda run: None)
    cold = trained(settings, corpus, tmp_path / "cold")
    assert (cold.warmup_seconds, warmed.flops, warmed.passes_by_layer) == (0, cold.flops, cold.passes_by_layer)
    assert timeless(tmp_path / "warmed") == timeless(tmp_path / "cold")


def test_every_start_of_a_run_is_counted(tiny_run: Make, corpus: Path, tmp_path: Path, graphs: list[float]) -> None:
    settings = tiny_run(impl=COMPILED)
    with pytest.raises(OutOfTimeError):
        pretrain(settings, corpus, tmp_path, max_seconds=0, progress=False)
    torch.compiler.reset()  # as in another process
    summary = trained(settings, corpus, tmp_path)
    assert summary.warmup_seconds == pytest.approx(100 * len(graphs), abs=1)


def test_an_uncompiled_run_on_the_cpu_needs_no_warming(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    assert trained(tiny_run(), corpus, tmp_path).warmup_seconds == 0
