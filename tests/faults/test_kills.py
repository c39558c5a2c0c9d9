"""Faults: whatever ends a process, the same command again ends where an undisturbed one does, bit for bit.

| fault | stages | times |
|---|---|---|
| SIGKILL at a random moment | corpus 5, GLUE 3, pre-training 6, checkpointing 5, fine-tuning 5, tables 3 | 27 |
| SIGTERM, SIGUSR1, SIGINT, SIGHUP at a random moment | pre-training | 3 each |
| resume checkpoint with a flipped byte, or cut short | pre-training | 6 |
| full disk | pre-training | 1 |
| live lock, stale lock | pre-training | 1 each |
| two processes started at once | pre-training | 1 |
| main process of the workflow killed while its job runs, then started again | workflow | 1 |

Every process is the command itself (``main``), in a fork that has its modules loaded: what is disturbed is its work,
not its start. What a scheduler does is tested with a real one: tests/cluster.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from tqdm import tqdm

import pldrepro.analysis.reported
import pldrepro.analysis.results
import pldrepro.exhibits.tables  # noqa: F401  # loaded before the forks
from pldrepro.__main__ import STOPPED, main
from pldrepro.config.run import RunSettings
from pldrepro.files import read_json
from pldrepro.runs.lock import holder_path
from pldrepro.training.run import Run
from tests.support import runs
from tests.support.ranks import FORK, PATIENCE, Make
from tests.support.repository import copy_repository, environment
from tests.support.runs import read_jsonl

# Depend on the clock, the process or the order in which it was interrupted; no result is among them.
CLOCKED = ("train_seconds", "analysis_seconds", "seconds", "peak_memory_bytes", "manifest.json", "provenance.json")


def start(arguments: list[str], log: Path, before: Callable[[], None] = lambda: None) -> multiprocessing.Process:
    """The command line in a process of its own, which does ``before`` first."""

    def child() -> None:
        # As in a terminal: whoever runs the tests in the background passes on that these are ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        # All forks share the progress bar's lock: one that is killed while it holds it would stop all later ones.
        tqdm.set_lock(threading.RLock())
        before()
        with log.open("a") as file:
            sys.stdout = sys.stderr = file
            status = main(arguments)
        os._exit(status)

    process = FORK.Process(target=child)
    process.start()
    return process  # type: ignore[return-value]


def end(arguments: list[str], log: Path) -> int:
    """Run the command line to its end; returns its status."""
    process = start(arguments, log)
    process.join(PATIENCE)
    assert process.exitcode is not None
    return process.exitcode


def unclocked(value: Any) -> Any:
    """A record without what depends on the clock."""
    if isinstance(value, dict):
        return {key: unclocked(item) for key, item in value.items() if key not in CLOCKED}
    return [unclocked(item) for item in value] if isinstance(value, list) else value


def digest(folder: Path) -> dict[str, str]:
    """Every file that a command left, but for clocks: name -> digest. Hidden ones, too: none may stay."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in CLOCKED):
        content = path.read_bytes()
        if path.suffix == ".jsonl":
            content = json.dumps(unclocked(read_jsonl(path))).encode()
        elif path.suffix == ".json":
            content = json.dumps(unclocked(read_json(path))).encode()
        elif path.name == "predictions.safetensors":
            content = content[8 + int.from_bytes(content[:8], "little") :]
        found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@dataclass(frozen=True)
class Stage:
    """A command, and the folder that it writes."""

    arguments: Callable[[Path], list[str]]
    undisturbed: dict[str, str]
    seconds: float

    def go(self, out: Path) -> int:
        """Run it to its end; returns its status."""
        return end(self.arguments(out), out.parent / f"{out.name}.log")


@pytest.fixture(scope="module")
def stages(
    tiny_run: Make, corpus: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Stage]:
    """Stages by name, each run once undisturbed when it is first asked for."""
    folder = tmp_path_factory.mktemp("stages")
    sbld = {"dialect": "sbld", "sensitivity": {"warmup_share": 0.2, "batches": 1}}
    plain = tiny_run(drop=sbld, training={"num_steps": 60}, impl={"log_points": 20})
    saving = tiny_run(drop=sbld, training={"num_steps": 20}, impl={"log_points": 10, "save_every_seconds": 1e-9})
    data = tiny_run().data.model_dump_json()
    tuning = folder / "finetune.yaml"
    tuning.write_text("{learning_rates: [1.0e-3, 2.0e-3], seeds: [1, 2], epochs: 1, groups: {one: [rte, stsb]}}")

    def evidence() -> Path:
        paths = runs.write_study(folder / "study", seeds=(1, 2))
        levels = {(arm, seed, c): 50.0 + seed for arm in runs.ARMS for seed in (1, 2) for c in runs.SHARES}
        scores = runs.write_scores(folder / "scores.csv", levels)
        listing = {key: [str(path) for path in paths[key]] for key in ("pretrain", "finetune")}
        study = {
            **listing,
            "probes": [],
            "lambada": [],
            "calibration": str(paths["calibration"]),
            "arms": runs.listed_tags("bert"),
        }
        path = folder / "index.json"
        path.write_text(json.dumps({"scores": str(scores), "studies": [study]}))
        return path

    def pretrain(settings: RunSettings) -> list[str]:
        return ["run", "pretrain", "--settings", settings.model_dump_json(), "--data", str(corpus)]

    commands: dict[str, Callable[[], list[str]]] = {
        "corpus": lambda: ["prepare", "corpus", "--settings", data],
        "glue": lambda: [
            "prepare", "glue", "--settings", data, "--tasks", "rte", "stsb", "--sequence-length", "32",
            "--corpus", str(corpus),
        ],
        "pretrain": lambda: pretrain(plain),
        "checkpoint": lambda: pretrain(saving),
        "finetune": lambda: [
            "run", "finetune", "--settings", str(tuning), "--run", str(finished("pretrain")), "--checkpoint", "ckp186",
            "--group", "one", "--glue", str(glue),
        ],
        "tables": lambda: ["make", "exhibits", "--tables", "table1", "--index", str(evidence())],
    }  # fmt: skip
    made: dict[str, Stage] = {}

    def finished(name: str) -> Path:
        stage(name)
        return folder / name

    def stage(name: str) -> Stage:
        if name not in made:
            fixed = commands[name]()
            started = time.monotonic()
            assert end([*fixed, "--out", str(folder / name)], folder / f"{name}.log") == 0
            seconds = time.monotonic() - started
            made[name] = Stage(lambda out: [*fixed, "--out", str(out)], digest(folder / name), seconds)
        return made[name]

    return stage


# ---- signals at random moments ----


@pytest.mark.parametrize(
    ("name", "kills"), [("corpus", 5), ("glue", 3), ("pretrain", 6), ("checkpoint", 5), ("finetune", 5), ("tables", 3)]
)
def test_killed_at_random_moments(stages: Callable[[str], Stage], tmp_path: Path, name: str, kills: int) -> None:
    stage, moments = stages(name), random.Random(name)
    hits = attempt = 0
    longest = stage.seconds
    while hits < kills:
        attempt += 1
        out = tmp_path / str(attempt)
        for _ in range(3):
            process = start(stage.arguments(out), tmp_path / "log")
            process.join(moments.uniform(0, longest))
            process.kill()
            process.join()
            if process.exitcode == 0:  # complete before the signal
                longest /= 2
            hits += process.exitcode == -signal.SIGKILL
            assert process.exitcode in (0, -signal.SIGKILL), (tmp_path / "log").read_text()
        assert stage.go(out) == 0, (tmp_path / f"{attempt}.log").read_text()
        assert digest(out) == stage.undisturbed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_the_run_at_a_checkpoint(
    stages: Callable[[str], Stage], tmp_path: Path, number: signal.Signals
) -> None:
    stage, moments, out = stages("pretrain"), random.Random(number), tmp_path / "run"
    hits, longest = 0, stage.seconds / 6
    while hits < 3:
        begun = time.time_ns()
        process = start(stage.arguments(out), tmp_path / "log")
        while not (out / "metrics.jsonl").exists() or (out / "metrics.jsonl").stat().st_mtime_ns < begun:
            time.sleep(0.001)  # until the first step
        process.join(moments.uniform(0, longest))
        if process.is_alive():
            os.kill(process.pid or 0, number)
        process.join(PATIENCE)
        if process.exitcode == 0:  # it was complete already: once more from the beginning
            longest /= 2
            assert longest > 1e-6  # [s], else the signal does nothing
            shutil.rmtree(out)
            continue
        hits += 1
        assert process.exitcode == STOPPED
        assert (out / "resume/state.safetensors").stat().st_mtime_ns > begun
    assert f"OutOfTimeError: stopped by {number.name} at step" in (tmp_path / "log").read_text()
    assert stage.go(out) == 0
    assert digest(out) == stage.undisturbed


# ---- damage ----


@pytest.fixture
def stopped(stages: Callable[[str], Stage], tmp_path: Path) -> tuple[Stage, Path]:
    """A run that was stopped at its third step."""
    stage, out = stages("checkpoint"), tmp_path / "run"
    for _ in range(3):
        assert end([*stage.arguments(out), "--max-seconds", "0"], tmp_path / "run.log") == STOPPED
    return stage, out


@pytest.mark.parametrize("where", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_a_damaged_checkpoint_is_named_and_not_used(
    stopped: tuple[Stage, Path], tmp_path: Path, damage: str, where: float
) -> None:
    stage, out = stopped
    state = out / "resume/state.safetensors"
    content = bytearray(state.read_bytes())
    place = int(where * (len(content) - 1))
    if damage == "flip":
        content[place] ^= 64
    state.write_bytes(content if damage == "flip" else content[:place])
    log = tmp_path / "run.log"
    log.unlink()
    assert stage.go(out) == 1
    (line,) = log.read_text().splitlines()
    assert "resume/state.safetensors: damaged" in line
    assert "delete it to start this run again" in line
    state.unlink()
    assert stage.go(out) == 0
    assert digest(out) == stage.undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 150 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=150k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a full disk needs the right to mount a small one")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_named_and_costs_nothing(
    stages: Callable[[str], Stage], small_disk: Path, tmp_path: Path
) -> None:
    stage, out = stages("checkpoint"), small_disk / "run"
    log = tmp_path / "log"
    assert end(stage.arguments(out), log) == 1
    (line,) = [line for line in log.read_text().splitlines() if "Error" in line]
    assert str(small_disk) in line
    assert "No space left on device" in line
    assert not (out / "summary.json").exists()
    subprocess.run(["mount", "-o", "remount,size=10m", str(small_disk)], check=True)
    assert end(stage.arguments(out), log) == 0
    assert digest(out) == stage.undisturbed


# ---- who may write ----


@dataclass(frozen=True)
class Held:
    """A run that waits in its fifth step until it is let go."""

    process: multiprocessing.Process
    go: Any  # an event


def hold(stage: Stage, out: Path, log: Path) -> Held:
    """Start a run; returns when it waits in its fifth step."""
    there, go, train_step = FORK.Event(), FORK.Event(), Run.train_step

    def waits(run: Run) -> Any:
        if run.progress.step == 4:
            there.set()
            assert go.wait(PATIENCE)
        return train_step(run)

    def before() -> None:
        Run.train_step = waits  # type: ignore[method-assign]  # in that process only

    held = Held(start(stage.arguments(out), log, before), go)
    assert there.wait(PATIENCE), log.read_text()
    return held


def test_of_two_processes_one_is_refused_and_the_run_is_trained_once(
    stages: Callable[[str], Stage], tmp_path: Path
) -> None:
    """A live lock."""
    stage, out = stages("pretrain"), tmp_path / "run"
    first = hold(stage, out, tmp_path / "log")
    assert stage.go(out) == 1
    assert f"LockedError: {tmp_path}/.run.lock: " in (tmp_path / "run.log").read_text()
    first.go.set()
    first.process.join(PATIENCE)
    assert first.process.exitcode == 0, (tmp_path / "log").read_text()
    assert digest(out) == stage.undisturbed
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert stage.go(out) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


def test_a_stale_lock_is_taken(stages: Callable[[str], Stage], tmp_path: Path) -> None:
    stage, out = stages("pretrain"), tmp_path / "run"
    killed = hold(stage, out, tmp_path / "log").process
    killed.kill()
    killed.join()
    assert holder_path(tmp_path / "run").exists()
    assert stage.go(out) == 0
    assert digest(out) == stage.undisturbed
    assert not holder_path(tmp_path / "run").exists()


# ---- the workflow ----


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    command += ["--nolock", "--configfile", "few.yaml"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)


def process_of(folder: Path) -> int:
    """The process that trains in a copy of the repository."""
    (found,) = [
        process.pid
        for process in psutil.process_iter(["cmdline", "cwd"])
        if "pretrain" in (process.info["cmdline"] or ()) and process.info["cwd"] == str(folder)
    ]
    return found


def test_a_killed_workflow_is_started_again_while_its_job_goes_on(tmp_path: Path) -> None:
    """The second start is refused by the first one's job; the third finds it complete and trains nothing again."""
    copy_repository(tmp_path)
    settings = yaml.safe_load((tmp_path / "config/smoke_gpt.yaml").read_text())
    settings["settings"]["training"]["num_steps"] = 2000
    (tmp_path / "few.yaml").write_text(yaml.safe_dump({**settings, "results": "out"}))
    run, target = tmp_path / "out/runs/pretrain/pld/seed1", "out/runs/pretrain/pld/seed1/summary.json"
    first = snakemake(tmp_path, target)
    deadline = time.monotonic() + PATIENCE
    while not (run / "metrics.jsonl").exists():
        assert time.monotonic() < deadline
        assert first.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    job = process_of(tmp_path)
    os.kill(job, signal.SIGSTOP)  # so that it goes on, however long the next start takes
    first.kill()
    first.wait()
    assert snakemake(tmp_path, target).wait(PATIENCE) != 0
    refused = (tmp_path / "out/logs/pretrain/pld/seed1.log").read_text()
    assert "LockedError" in refused
    os.kill(job, signal.SIGCONT)
    while holder_path(run).exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = read_json(run / "manifest.json")
    (run / "summary.json").unlink(missing_ok=True)  # as Snakemake does with the output of a job that was interrupted
    assert snakemake(tmp_path, target).wait(PATIENCE) == 0
    assert read_json(run / "manifest.json") == before
    assert read_json(run / "summary.json") == before["summary"]
