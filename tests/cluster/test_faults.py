"""What befalls jobs on a cluster, done to a run through Snakemake. After each: the same result, trained once."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from pldrepro.files import read_json
from pldrepro.runs.lock import holder_path
from pldrepro.runs.manifest import verified
from tests.support.repository import copy_repository, environment, snakemake
from tests.support.slurm_jobs import MAIN, jobs_in, on_slurm, processes_of, slurm, timeless

RUN = "results/fault/runs/pretrain/pld/seed1"
TARGET = (f"{RUN}/summary.json", "--configfile", "config/fault.yaml")
PROFILE = ("--profile", "profiles/slurm-test")
STEPS = 800
DEADLINE = 900  # [s] for anything that is waited for


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
    """Something else disturbs it."""


def by_preemption(_: int, __: Path) -> None:
    """A job that comes first takes the node for a moment."""
    slurm("sbatch", "--partition=urgent", "--exclusive", "--chdir=/tmp", "--output=/dev/null", "--wrap=sleep 1")


def by_lost_node(job: int, folder: Path) -> None:
    """Everything on the node ends at once; Slurm is told, because it would wait minutes for an answer."""
    node = jobs_in(folder, "pretrain")[-1].node
    daemon = int(Path(os.environ["PLDREPRO_CLUSTER"], f"pid/slurmd.{node}").read_text("utf-8"))
    for process in (psutil.Process(daemon), *processes_of(job)):
        process.kill()
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")


@dataclass(frozen=True)
class Fault:
    """How a run is disturbed, the states of its Slurm jobs in the end, and how often Slurm starts the last again."""

    act: Callable[[int, Path], None]
    states: tuple[str, ...]
    arguments: tuple[str, ...] = ()  # that Snakemake is given
    restarts: int = 0
    sbatch: str = ""  # what is done in the place of the first call of sbatch; "$@" are its arguments


def asks(*resources: str) -> tuple[str, ...]:
    return "--set-resources", "pretrain:gpu=1", *(f"pretrain:{resource}" for resource in resources)


SACCT = ("--slurm-status-command", "sacct")
FAULTS = {
    "scancel": Fault(by_scancel, ("CANCELLED", "COMPLETED")),
    "sigterm": Fault(by_sigterm, ("FAILED", "COMPLETED"), SACCT),
    "sigusr1": Fault(by_sigusr1, ("FAILED", "COMPLETED")),
    "sigkill": Fault(by_sigkill, ("CANCELLED", "COMPLETED")),
    "time limit": Fault(by_time_limit, ("TIMEOUT", "COMPLETED"), asks("slurm_partition=gpu", "runtime=attempt")),
    "memory": Fault(by_itself, ("FAILED", "COMPLETED"), asks("slurm_partition=gpu", "mem_mb=150 * attempt ** 3")),
    "preemption": Fault(by_preemption, ("COMPLETED",), asks("slurm_partition=spot"), restarts=1),
    "lost node": Fault(by_lost_node, ("COMPLETED",), asks("slurm_partition=pair"), restarts=1),
    "slow sbatch": Fault(by_itself, ("COMPLETED",), sbatch='sleep 20; exec "$real" "$@"'),
    "failing sbatch": Fault(by_itself, ("COMPLETED",), sbatch="echo sbatch: error: no answer >&2; exit 1"),
}
STOPPED = ("scancel", "sigterm", "sigusr1", "sigkill", "time limit", "preemption", "lost node")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with all that the run needs."""
    folder = copy_repository(tmp_path_factory.mktemp("prepared"))
    study = yaml.safe_load((folder / "config/smoke.yaml").read_text("utf-8"))
    del study["companions"]
    study.update(scale="fault", arms=["baseline", "pld"], seeds=[1], probe_arms=["pld"])
    study["settings"]["training"]["num_steps"] = STEPS
    study["settings"]["impl"]["save_every_seconds"] = 0.5
    study["calibration"]["processes"] = 1
    (folder / "config/fault.yaml").write_text(yaml.safe_dump(study), "utf-8")
    snakemake(folder, "--cores", "2", *TARGET, "--until", "corpus", "calibrate")
    return folder


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(prepared, tmp_path_factory.mktemp("undisturbed") / "copy")
    snakemake(folder, "--cores", "2", *TARGET)
    return folder / RUN


@pytest.fixture(scope="module")
def befallen(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Path]]]:
    """What befalls a run, each in a copy of its own and all at the same time: most of it is waiting for Slurm."""

    def befalls(name: str) -> Path:
        folder = shutil.copytree(prepared, tmp_path_factory.mktemp("befallen") / "copy")
        if name in FAULTS:
            disturb(FAULTS[name], folder)
        else:
            STORIES[name](folder)
        return folder

    with ThreadPoolExecutor(len(FAULTS) + len(STORIES)) as pool:
        yield {name: pool.submit(befalls, name) for name in (*FAULTS, *STORIES)}


def disturb(fault: Fault, folder: Path) -> None:
    if fault.sbatch:
        write_sbatch(folder / "bin/sbatch", fault.sbatch)
    with started(folder, *fault.arguments) as main:
        fault.act(training(folder), folder)
        assert main.wait(DEADLINE) == 0, output(folder)


def write_sbatch(path: Path, first: str) -> None:
    """A command that does something else the first time, and then what sbatch does."""
    path.parent.mkdir()
    real = shutil.which("sbatch")
    path.write_text(
        f'#!/bin/bash\nreal={real}\nmkdir {path}.called 2> /dev/null || exec "$real" "$@"\n{first}\n', "utf-8"
    )
    path.chmod(0o755)


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of a main process: commands of its own in bin/ come first."""
    inherited = environment(folder)
    return {**inherited, "PATH": f"{folder}/bin{os.pathsep}{inherited['PATH']}"}


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """A main process of Snakemake, which ends with the tests; what it prints goes to `output`."""
    command = ["setpriv", "--pdeathsig", "KILL", *MAIN, *PROFILE, *TARGET, *arguments]
    with (folder / "main.log").open("a") as log:
        return subprocess.Popen(command, cwd=folder, env=surroundings(folder), stdout=log, stderr=log, text=True)


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
    found = re.search(rf"\| (\d+)/{STEPS} ", log)
    assert found, log
    return int(found[1])


def log_of_run(folder: Path) -> str:
    return (folder / "results/fault/logs/pretrain/pld/seed1.log").read_text("utf-8")


def assert_same(folder: Path, undisturbed: Path) -> None:
    assert timeless(folder / RUN) == timeless(undisturbed)
    verified(folder / RUN)
    assert not (folder / RUN / "resume").exists()
    assert not holder_path(folder / RUN).exists()


def refused_by_the_cluster(folder: Path) -> None:
    assert started(folder, "--retries", "0", *asks("slurm_partition=none")).wait(DEADLINE) == 1


def main_process_in_a_job(folder: Path) -> None:
    command = shlex.join([*MAIN, *PROFILE, *TARGET])
    asked = ["sbatch", "--partition=cpu", "--mem=1000", f"--chdir={folder}", "--output=main.log", f"--wrap={command}"]
    subprocess.run(asked, env=surroundings(folder), check=True, stdout=subprocess.DEVNULL)
    wait_for(lambda: jobs_in(folder)[0].state in ENDED, folder)


def main_process_killed(folder: Path) -> None:
    """Its job goes on; a second main process is refused at first, then takes what the job has made."""
    main = started(folder)
    job = training(folder)
    trainer = read_json(holder_path(folder / RUN))["pid"]
    os.kill(trainer, signal.SIGSTOP)  # until all else has been tried

    assert started(folder).wait(DEADLINE) == 1
    assert "Directory cannot be locked" in output(folder)

    main.kill()
    main.wait()
    unlock = [sys.executable, "-m", "pldrepro", "study", "unlock"]
    subprocess.run(unlock, cwd=folder, env=environment(folder), check=True)
    again = started(folder, "--retries", "0")
    wait_for(lambda: [one.state for one in jobs_in(folder, "pretrain")][1:] == ["FAILED"], folder)
    assert f"slurm_job {job}" in log_of_run(folder)
    assert again.wait(DEADLINE) == 1  # it removes the outputs of its failed job: the run must not have any yet

    os.kill(trainer, signal.SIGCONT)
    wait_for(lambda: jobs_in(folder, "pretrain")[0].state == "COMPLETED", folder)
    trained = (folder / RUN / "metrics.jsonl").stat().st_mtime_ns
    on_slurm(folder, *TARGET)
    assert (folder / RUN / "metrics.jsonl").stat().st_mtime_ns == trained


ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
STORIES = {
    "refused by the cluster": refused_by_the_cluster,
    "main process in a job": main_process_in_a_job,
    "main process killed": main_process_killed,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_next_attempt_ends_as_an_undisturbed_run(
    fault: str, befallen: dict[str, Future[Path]], undisturbed: Path
) -> None:
    folder = befallen[fault].result()
    jobs = jobs_in(folder, "pretrain")
    assert [job.state for job in jobs] == list(FAULTS[fault].states)
    assert jobs[-1].restarts == FAULTS[fault].restarts
    assert_same(folder, undisturbed)


@pytest.mark.parametrize("fault", STOPPED)
def test_the_next_attempt_goes_on_where_the_last_one_saved(fault: str, befallen: dict[str, Future[Path]]) -> None:
    assert first_step(befallen[fault].result()) > 0


def test_the_next_attempt_gets_more_memory_and_time(befallen: dict[str, Future[Path]]) -> None:
    assert [job.memory for job in jobs_in(befallen["memory"].result(), "pretrain")] == ["150M", "1200M"]
    assert [job.minutes for job in jobs_in(befallen["time limit"].result(), "pretrain")] == ["00:01:00", "00:02:00"]


def test_a_job_that_the_cluster_does_not_take_is_named_in_one_line(befallen: dict[str, Future[Path]]) -> None:
    first = (befallen["failing sbatch"].result() / "main.log").read_text("utf-8")
    assert "pretrain was not submitted: SLURM sbatch failed. The error message was 'sbatch: error: no answer'." in first
    refused = befallen["refused by the cluster"].result()
    (line,) = [line for line in (refused / "main.log").read_text("utf-8").splitlines() if "sbatch: error" in line]
    assert re.match(r"pretrain was not submitted: .*invalid partition", line), line
    assert not jobs_in(refused)


def test_a_main_process_may_be_a_job_itself(befallen: dict[str, Future[Path]], undisturbed: Path) -> None:
    folder = befallen["main process in a job"].result()
    main, *jobs = jobs_in(folder)
    assert (main.state, main.rule, main.gpus) == ("COMPLETED", "", 0), output(folder)
    assert [(job.state, job.rule.split()[0], job.gpus) for job in jobs] == [("COMPLETED", "pretrain", 1)]
    assert_same(folder, undisturbed)


def test_a_job_that_outlives_its_main_process_is_neither_joined_nor_repeated(
    befallen: dict[str, Future[Path]], undisturbed: Path
) -> None:
    folder = befallen["main process killed"].result()
    assert [job.state for job in jobs_in(folder, "pretrain")][:2] == ["COMPLETED", "FAILED"]
    assert_same(folder, undisturbed)
