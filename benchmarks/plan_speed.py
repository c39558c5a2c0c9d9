"""How long planning takes: ``study plan``, a dry run and a run with nothing to do, for studies of many runs.

    python -m benchmarks.plan_speed                      1,000 pre-training runs
    python -m benchmarks.plan_speed --finetune           the same with all their fine-tuning jobs and probes

A copy of the workflow plans ten arms of ``config/paper.yaml``; for the run with nothing to do every output is made as
an empty file and touched by Snakemake, which writes its records of them as after a real run. Each time is the smallest
of some repetitions, on one core: wall clock, and the CPU seconds of the process and its children, which other work on
the machine changes less.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.repository import copy_repository

ARMS = 10
GOALS = {"dry run": 10.0, "nothing to do": 5.0}  # wall-clock seconds for 1,000 pre-training runs
Seconds = tuple[float, float]  # wall clock, CPU


def write_study(folder: Path, runs: int, finetune: bool) -> Path:
    """Copy the workflow, with a scale file of ``runs`` pre-training runs; returns the file."""
    copy_repository(folder)
    values = yaml.safe_load((folder / "config/paper.yaml").read_text("utf-8"))
    values |= {"scale": "many", "arms": values["arms"][:ARMS], "seeds": list(range(1, runs // ARMS + 1))}
    if not finetune:
        values |= {"finetune_checkpoints": [], "probe_arms": []}
    path = folder / "config/many.yaml"
    path.write_text(yaml.safe_dump(values), "utf-8")
    return path


def run(folder: Path, *arguments: str) -> tuple[str, Seconds]:
    """Run ``python -m`` in a folder on one core; what it printed, and its seconds."""
    core = min(os.sched_getaffinity(0))
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", **NO_CLUSTER}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=folder, env=environment, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}")
    return done.stdout, (wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


# The Slurm plugin asks for the cluster's settings whenever Snakemake starts, and where commands of Slurm are installed
# and no cluster answers it waits for ten seconds.
NO_CLUSTER = {"SLURM_CONF": os.devnull}


def make_outputs(folder: Path, config: str) -> int:
    """Make every output as if the study were finished; returns how many."""
    text, _ = run(folder, "snakemake", "--summary", "--quiet", "all", "--configfile", config)
    table = text[text.index("output_file\t") :]
    files = [folder / line.split("\t")[0] for line in table.splitlines()[1:] if "\t" in line]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    run(folder, "snakemake", "--cores", "1", "--touch", "--forceall", "--quiet", "all", "--configfile", config)
    return len(files)


def measure(folder: Path, runs: int, finetune: bool, repetitions: int, rerun: bool) -> dict[str, Seconds]:
    """What is measured -> the smallest wall clock and the smallest CPU seconds."""
    config = str(write_study(folder, runs, finetune).relative_to(folder))
    commands = {
        "plan": ["pldrepro", "study", "plan", "--configfile", config],
        "dry run": ["snakemake", "-n", "--quiet", "--configfile", config],
        "nothing to do": ["snakemake", "--cores", "1", "--configfile", config],
    }
    if not rerun:
        del commands["nothing to do"]
    seconds: dict[str, Seconds] = {}
    for name, command in commands.items():
        if name == "nothing to do":
            make_outputs(folder, config)
        texts, times = zip(*(run(folder, *command) for _ in range(repetitions)), strict=True)
        if name == "nothing to do" and "Nothing to be done" not in texts[-1]:
            raise RuntimeError(f"there was something to do:\n{texts[-1]}")
        walls, cpus = zip(*times, strict=True)
        seconds[name] = (min(walls), min(cpus))
    return seconds


def main(arguments: list[str] | None = None) -> dict[str, Seconds]:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help=f"pre-training runs, a multiple of {ARMS}")
    parser.add_argument("--finetune", action="store_true", help="with fine-tuning and probes")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--no-rerun", action="store_true", help="leave out the run with nothing to do (minutes of touching)"
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        seconds = measure(Path(place), options.runs, options.finetune, options.repetitions, not options.no_rerun)
    print(f"{options.runs:,} pre-training runs{' with fine-tuning and probes' if options.finetune else ''}")
    for name, (wall, cpu) in seconds.items():
        goal = f"   goal {GOALS[name]:g} s" if name in GOALS and options.runs == 1000 and not options.finetune else ""
        print(f"{name:<16}{wall:>8.1f} s{cpu:>8.1f} s CPU{goal}")
    return seconds


if __name__ == "__main__":
    main()
