"""What Slurm itself says about its jobs, and what a run says that no clock decides."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from pldrepro.files import read_json
from tests.support.repository import snakemake
from tests.support.runs import read_jsonl

# Snakemake that looks at its jobs every 2 s, and is the same in all else. Its plugin for Slurm waits 10 s longer after
# each look that finds no job ended, which is right for jobs of hours.
QUICK = """
import asyncio, sys
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
async def sleep(executor): await asyncio.sleep(2)
RemoteExecutor.sleep = sleep
sys.exit(main())
"""
MAIN = (sys.executable, "-c", QUICK)


def on_slurm(folder: Path, *arguments: str) -> str:
    """Run a quick main process through the profile of the tests, and return what it printed."""
    return snakemake(folder, "--profile", "profiles/slurm-test", *arguments, command=MAIN)


@dataclass(frozen=True)
class Job:
    """A job as `scontrol show job` has it."""

    number: int
    rule: str  # of the workflow, with the wildcards; empty for jobs from elsewhere
    state: str  # PENDING, RUNNING, COMPLETED, FAILED, CANCELLED, TIMEOUT ...
    partition: str
    nodes: int
    gpus: int  # on all nodes together
    memory: str
    minutes: str  # [hours:]minutes:seconds that it may take
    start: datetime | None
    end: datetime | None
    node: str  # that the job began on
    restarts: int  # how often Slurm has put it back into the queue


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def processes_of(job: int) -> list[psutil.Process]:
    """All that runs in a job, with what Slurm itself has running for it."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("SLURM_JOB_ID") == str(job)
        or " ".join(process.info["cmdline"] or ()).startswith(f"slurmstepd: [{job}.")
    ]


def jobs_in(folder: Path, rule: str = "") -> list[Job]:
    """Every job that was submitted from a folder since the cluster was started, in that order."""
    lines = slurm("scontrol", "show", "job", "--oneliner").splitlines()
    jobs = [_job(line) for line in lines if f" WorkDir={folder} " in line]
    return sorted((job for job in jobs if job.rule.startswith(rule)), key=lambda job: job.number)


def most_gpus_at_once(jobs: list[Job]) -> int:
    """GPUs in use, at the moment when most were. A job that ends as another starts comes before it."""
    changes = [(moment, sign * job.gpus) for job in jobs for moment, sign in ((job.start, 1), (job.end, -1))]
    used, most = 0, 0
    for _, change in sorted(changes, key=lambda one: (one[0] or datetime.max, one[1])):
        used += change
        most = max(most, used)
    return most


def _job(line: str) -> Job:
    values = dict(re.findall(r"(\S+?)=(\S*)", line))
    tres = dict(re.findall(r"([\w/]+)=(\w+)", values.get("TRES", "")))
    per_job = re.search(r"gpu:(\d+)", values.get("TresPerJob", ""))
    per_node = re.search(r"gpu:(\d+)", values.get("TresPerNode", ""))
    nodes = int(values["NumNodes"].split("-")[0])
    return Job(
        number=int(values["JobId"]),
        rule=values.get("Comment", "").removeprefix("rule_").replace("_wildcards_", " "),
        state=values["JobState"],
        partition=values["Partition"],
        nodes=nodes,
        gpus=int(per_job[1]) if per_job else int(per_node[1]) * nodes if per_node else 0,
        memory=tres.get("mem", ""),
        minutes=values["TimeLimit"],
        start=_moment(values["StartTime"]),
        end=_moment(values["EndTime"]),
        node=values.get("BatchHost", ""),
        restarts=int(values["Restarts"]),
    )


def _moment(text: str) -> datetime | None:
    return None if text == "Unknown" else datetime.fromisoformat(text)


def timeless(folder: Path) -> list[dict[str, Any]]:
    """The summary of a run and every line of its metrics, bit for bit, without what depends on the speed."""
    summary = read_json(folder / "summary.json")
    final = {key: value for key, value in summary.items() if key.startswith(("validation_", "steps", "passes"))}
    lines = read_jsonl(folder / "metrics.jsonl")
    return [final, *({key: line[key] for key in line if not key.endswith("_seconds")} for line in lines)]
