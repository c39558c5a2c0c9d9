"""What befalls jobs on a cluster, done to a run through Snakemake. After each: the same result, trained once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from pldrepro.files import read_json
from pldrepro.runs.lock import holder_path
from pldrepro.runs.manifest import verified
from tests.support.repository import copy_repository, environment, snakemake
from tests.support.slurm_jobs import jobs_in, slurm, timeless

RUN = "results/fault/runs/pretrain/pld/seed1"
TARGET = (f"{RUN}/summary.json", "--configfile", "config/fault.yaml")
PROFILE = ("--profile", "profiles/slurm-test")
GPU = ("pretrain:gpu=1", "pretrain:slurm_partition=gpu")
DEADLINE = 300  # [s] for anything that is waited for


def by_scancel(job: int, _: Path) -> None:
    """SIGTERM to every process of the job, and SIGKILL after the grace period."""
    slurm("scancel", str(job))


def by_sigterm(job: int, _: Path) -> None:
    slurm("scancel", "--signal=TERM", str(job))


def by_sigusr1(job: int, _: Path) -> None:
    """As with `sbatch --signal=USR1@SECONDS`, before the time limit."""
    slurm("scancel", "--signal=USR1", str(job))


def by_sigkill(job: int, _: Path) -> None:
    """SIGKILL at once: no time to save anything."""
    slurm("scancel", "--signal=KILL", str(job))


def by_time_limit(_: int, folder: Path) -> None:
    """Hold the run until its minute is over: SIGCONT and SIGTERM, and SIGKILL after the grace period."""
    os.kill(read_json(holder_path(folder / RUN))["pid"], signal.SIGSTOP)


def by_itself(_: int, __: Path) -> None:
    """Too little memory for the first attempt."""


# How a job is disturbed, the state that Slurm gives it then, and what Snakemake is told beside the profile.
FAULTS: dict[str, tuple[Callable[[int, Path], None], str, tuple[str, ...]]] = {
    "scancel": (by_scancel, "CANCELLED", ()),
    "sigterm": (by_sigterm, "FAILED", ()),
    "sigusr1": (by_sigusr1, "FAILED", ()),
    "sigkill": (by_sigkill, "CANCELLED", ()),
    "time limit": (by_time_limit, "TIMEOUT", ("--set-resources", *GPU, "pretrain:runtime=attempt")),
    "memory": (by_itself, "FAILED", ("--set-resources", *GPU, "pretrain:mem_mb=150 * attempt ** 3")),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all that the run needs."""
    folder = copy_repository(tmp_path_factory.mktemp("prepared"))
    study = yaml.safe_load((folder / "config/smoke.yaml").read_text("utf-8"))
    del study["companions"]
    study.update(scale="fault", arms=["baseline", "pld"], seeds=[1], probe_arms=["pld"])
    study["settings"]["training"]["num_steps"] = 1200
    study["settings"]["impl"]["save_every_seconds"] = 1
    (folder / "config/fault.yaml").write_text(yaml.safe_dump(study), "utf-8")
    snakemake(folder, "--cores", "2", *TARGET, "--until", "corpus", "calibrate")
    return folder


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "copy")
    snakemake(folder, "--cores", "2", *TARGET)
    return folder / RUN


@pytest.fixture(scope="module")
def disturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """Every fault in a copy of its own, at the same time: most of the time is spent waiting for Slurm."""

    def disturb(fault: str) -> Path:
        act, _, arguments = FAULTS[fault]
        folder = shutil.copytree(prepared, tmp_path_factory.mktemp("disturbed") / "copy")
        with started(folder, *arguments) as main:
            act(training(folder), folder)
            assert main.wait(DEADLINE) == 0, output(folder)
        return folder

    with ThreadPoolExecutor(len(FAULTS)) as pool:
        yield {fault: pool.submit(disturb, fault) for fault in FAULTS}


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A main process of Snakemake, which ends with the tests; what it prints goes to `output`."""
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "snakemake", *PROFILE, *TARGET, *arguments]
    with (folder / "main.log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log, text=True)


def output(folder: Path) -> str:
    """All that main processes and failed jobs in a folder have printed."""
    logs = [folder / "main.log", *folder.glob(".snakemake/slurm_logs/**/*.log")]
    return "\n".join(log.read_text("utf-8") for log in logs)


def training(folder: Path) -> int:
    """Wait until the run has saved a resume checkpoint; the number of its Slurm job."""
    wait_for((folder / RUN / "resume/state.safetensors").exists, folder)
    return jobs_in(folder, "pretrain")[-1].number


def wait_for(condition: Callable[[], bool], folder: Path) -> None:
    until = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < until, output(folder)
        time.sleep(0.2)


def first_step(folder: Path) -> int:
    """The step that the last process in the run folder went on from."""
    log = log_of_run(folder)
    found = re.search(r"\| (\d+)/1200 ", log)
    assert found, log
    return int(found[1])


def log_of_run(folder: Path) -> str:
    return (folder / "results/fault/logs/pretrain/pld/seed1.log").read_text("utf-8")


def assert_same(folder: Path, undisturbed: Path) -> None:
    assert timeless(folder / RUN) == timeless(undisturbed)
    verified(folder / RUN)
    assert not (folder / RUN / "resume").exists()
    assert not holder_path(folder / RUN).exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_attempt_ends_as_an_undisturbed_run(
    fault: str, disturbed: dict[str, Future[Path]], undisturbed: Path
) -> None:
    folder = disturbed[fault].result()
    assert [job.state for job in jobs_in(folder, "pretrain")] == [FAULTS[fault][1], "COMPLETED"]
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "memory"])
def test_the_next_attempt_goes_on_where_the_last_one_saved(fault: str, disturbed: dict[str, Future[Path]]) -> None:
    assert first_step(disturbed[fault].result()) > 0


def test_the_next_attempt_gets_more_memory_and_time(disturbed: dict[str, Future[Path]]) -> None:
    assert [job.memory for job in jobs_in(disturbed["memory"].result(), "pretrain")] == ["150M", "1200M"]
    assert [job.minutes for job in jobs_in(disturbed["time limit"].result(), "pretrain")] == ["00:01:00", "00:02:00"]


def test_a_job_that_outlives_its_main_process_is_neither_joined_nor_repeated(
    prepared: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    main = started(folder)
    job = training(folder)
    trainer = read_json(holder_path(folder / RUN))["pid"]
    os.kill(trainer, signal.SIGSTOP)  # until all else has been tried

    assert started(folder).wait(DEADLINE) == 1
    assert "Directory cannot be locked" in output(folder)

    main.kill()
    main.wait()
    snakemake(folder, *PROFILE, *TARGET, "--unlock")
    again = started(folder, "--retries", "0")
    wait_for(lambda: [one.state for one in jobs_in(folder, "pretrain")][1:] == ["FAILED"], folder)
    assert f"slurm_job {job}" in log_of_run(folder)
    assert again.wait(DEADLINE) == 1  # it removes the outputs of its failed job: the run must not have any yet

    os.kill(trainer, signal.SIGCONT)
    wait_for(lambda: jobs_in(folder, "pretrain")[0].state == "COMPLETED", folder)
    trained = (folder / RUN / "metrics.jsonl").stat().st_mtime_ns
    snakemake(folder, *PROFILE, *TARGET)
    assert [job.state for job in jobs_in(folder, "pretrain")][:2] == ["COMPLETED", "FAILED"]
    assert (folder / RUN / "metrics.jsonl").stat().st_mtime_ns == trained
    assert_same(folder, undisturbed)
