"""Faults of runs on several ranks: interrupted, one rank killed, all stopped by a signal to the command."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pldrepro.config.run import RunSettings
from pldrepro.errors import STOPPED, OutOfTimeError, RankError
from pldrepro.runs.lock import holder_path
from pldrepro.training.distributed import process_group
from pldrepro.training.pretrain import pretrain
from pldrepro.training.run import Run
from tests.support.ranks import PATIENCE, Make, on_ranks, train, weights
from tests.support.runs import read_jsonl

WORDS = "roberta_prelayernorm.embeddings.word_embeddings.weight"


def test_two_runs_on_two_ranks_are_bit_identical_with_dropout_and_an_interruption(
    tiny_run: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = tiny_run(impl={"ranks": 2, "save_every_seconds": 1e-9})
    whole = train(settings, corpus, tmp_path / "whole")
    resumed = tmp_path / "resumed"

    def work() -> None:
        stop = 1e9 if os.environ["RANK"] == "0" else 0.0  # one rank's clock is enough to stop all
        with (
            process_group(settings.impl) as world,
            pytest.raises(OutOfTimeError, match=r"stopped (after 0 s|by another rank)"),
        ):
            pretrain(settings, corpus, resumed, progress=False, world=world, max_seconds=stop)

    for _ in range(3):
        assert on_ranks(2, work) == [0, 0]
    train(settings, corpus, resumed)
    first, second = weights(whole), weights(resumed)
    assert all(torch.equal(first[name], second[name]) for name in first)
    alone = train(tiny_run(), corpus, tmp_path / "alone")
    assert not torch.equal(first[WORDS], weights(alone)[WORDS])  # other masks of dropout


def test_a_killed_rank_ends_the_others_and_the_run_goes_on_bit_for_bit(
    tiny_run: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = tiny_run(impl={"ranks": 2, "save_every_seconds": 1e-9})
    whole, folder = train(settings, corpus, tmp_path / "whole"), tmp_path / "killed"
    train_step = Run.train_step

    def dies(run: Run) -> Any:
        if run.world.rank == 1 and run.progress.step == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(run)

    def work() -> None:
        Run.train_step = dies  # type: ignore[method-assign]  # in this process alone
        with process_group(settings.impl) as world:
            pretrain(settings, corpus, folder, progress=False, world=world)

    assert on_ranks(2, work) == [1, -signal.SIGKILL]
    assert not (folder / "summary.json").exists()
    train(settings, corpus, folder)
    first, second = weights(whole), weights(folder)
    assert all(torch.equal(first[name], second[name]) for name in first)


def command(settings: RunSettings, corpus: Path, folder: Path) -> list[str]:
    """The command line of a run, in a folder of its own."""
    (folder / "run.json").write_text(settings.model_dump_json())
    fixed = [sys.executable, "-m", "pldrepro", "run", "pretrain", "--settings", str(folder / "run.json")]
    return [*fixed, "--data", str(corpus), "--out", str(folder / "run")]


def trains(arguments: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a command; returns when its run has written a line."""
    metrics = folder / "run/metrics.jsonl"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(arguments, stderr=log)
    deadline = time.monotonic() + PATIENCE
    while not metrics.exists() or not read_jsonl(metrics):
        assert time.monotonic() < deadline
        assert process.poll() is None, (folder / "log").read_text()
        time.sleep(0.1)
    return process


def test_the_command_starts_its_ranks_and_a_signal_stops_them_all(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(training={"num_steps": 3000}, impl={"ranks": 2, "log_points": 3000})
    process = trains(command(settings, corpus, tmp_path), tmp_path)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(PATIENCE) == STOPPED
    text = (tmp_path / "log").read_text()
    assert re.search(r"rank [01]: OutOfTimeError: stopped by (SIGUSR1|SIGTERM) at step \d+ of 3000", text), text
    assert (tmp_path / "run/resume/state.safetensors").is_file()
    assert not holder_path(tmp_path / "run").exists()
    other = RunSettings.model_validate({**settings.model_dump(), "seed": 2})
    refused = subprocess.run(command(other, corpus, tmp_path), capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert re.fullmatch(r"rank 0: SettingsError: .*\n", refused.stderr), refused.stderr


def test_a_time_limit_ends_the_command_with_its_status_and_leaves_no_rank(
    tiny_run: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = tiny_run(impl={"ranks": 2})
    arguments = [*command(settings, corpus, tmp_path), "--max-seconds", "0"]
    for step in (1, 2):
        ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert ended.returncode == STOPPED, ended.stderr
        assert f"OutOfTimeError: stopped after 0 s at step {step} of 16" in ended.stderr
        assert not [one for one in psutil.process_iter(["cmdline"]) if arguments[-3] in (one.info["cmdline"] or ())]
        assert not holder_path(tmp_path / "run").exists()


def test_killed_torchrun_leaves_no_rank(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(training={"num_steps": 3000}, impl={"ranks": 2, "log_points": 3000})
    process = trains(command(settings, corpus, tmp_path), tmp_path)
    ranks = psutil.Process(process.pid).children(recursive=True)
    assert len(ranks) >= 2
    ranks[0].suspend()
    process.kill()
    process.wait(PATIENCE)
    _, alive = psutil.wait_procs(ranks, timeout=PATIENCE)
    assert not alive


def test_a_rank_that_does_not_answer_ends_the_others(
    tiny_run: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, train_step = tiny_run(impl={"ranks": 2}), Run.train_step
    monkeypatch.setattr("pldrepro.training.distributed.ANSWER_SECONDS", 2)

    def waits(run: Run) -> Any:
        if run.world.rank == 1 and run.progress.step == 3:
            time.sleep(20)
        return train_step(run)

    def work() -> None:
        Run.train_step = waits  # type: ignore[method-assign]  # in this process alone
        first = os.environ["RANK"] == "0"
        with pytest.raises(RankError if first else Exception), process_group(settings.impl) as world:
            pretrain(settings, corpus, tmp_path / "run", progress=False, world=world)

    assert on_ranks(2, work)[0] == 0
