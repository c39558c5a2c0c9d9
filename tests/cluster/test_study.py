"""A small study as Slurm jobs, from start to report, through ``snakemake --profile``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.support.repository import copy_repository, planned, snakemake
from tests.support.slurm_jobs import jobs_in, most_gpus_at_once, on_slurm, timeless

STUDY = ("--configfile", "config/cluster.yaml")
TOKENS = 4  # two nodes with two GPUs each
RUNS = ("runs/pretrain/pld/seed1", "runs/pretrain/baseline/seed2")


def write_study(folder: Path) -> None:
    """The smoke study with a few of its arms, its companions with two."""
    smoke = folder / "config/smoke.yaml"
    study: dict[str, Any] = {"base": "config/smoke.yaml", "scale": "cluster", "arms": ["baseline", "pld"]}
    study |= {"finetune_checkpoints": ["ckp186"], "probe_arms": ["pld"], "contrast_arms": ["pld"]}
    study["companions"] = {}
    for name, file in yaml.safe_load(smoke.read_text("utf-8"))["companions"].items():
        companion = {"base": file, "scale": f"cluster_{name}", "arms": ["baseline", "pld"]}
        study["companions"][name] = f"config/cluster_{name}.yaml"
        (folder / study["companions"][name]).write_text(yaml.safe_dump(companion), "utf-8")
    (folder / "config/cluster.yaml").write_text(yaml.safe_dump(study), "utf-8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_repository(tmp_path_factory.mktemp("cluster"))
    write_study(folder)
    on_slurm(folder, *STUDY)
    return folder / "results/cluster"


@pytest.fixture(scope="module")
def here(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the same runs from the same data, without Slurm."""
    folder = shutil.copytree(study.parent.parent, tmp_path_factory.mktemp("here") / "copy")
    for run in RUNS:
        shutil.rmtree(folder / "results/cluster" / run)
    snakemake(folder, "--cores", "2", *(f"results/cluster/{run}/summary.json" for run in RUNS), *STUDY)
    return folder / "results/cluster"


def test_it_ends_with_a_verdict_on_every_claim_and_a_report(study: Path) -> None:
    claims = pd.read_csv(study / "claims.csv")
    papers = [yaml.safe_load(Path(f"config/papers/{name}.yaml").read_text("utf-8")) for name in ("pld", "sbld")]
    assert len(claims) == sum(len(paper["claims"]) for paper in papers)
    assert claims["verdict"].notna().all()
    assert claims.set_index("claim").loc["pld.time_per_sample", "n"] == 2
    assert (study / "report.html").stat().st_size > 100_000
    assert planned(study.parent.parent, *STUDY) == {}


def test_every_job_of_training_and_data_was_a_job_of_slurm(study: Path) -> None:
    jobs = jobs_in(study.parent.parent)
    assert {job.state for job in jobs} == {"COMPLETED"}
    rules = [job.rule.split()[0] for job in jobs]
    expected = {
        "corpus": 2, "images": 1, "glue": 1, "contrasts_items": 1, "calibrate": 3, "interleave": 2,
        "pretrain": 8, "lambada": 2,
    }  # fmt: skip
    assert {rule: rules.count(rule) for rule in expected} == expected
    # 4 jobs of fine-tuning, 2 probes, 2 of contrasts and 2 early runs, each in a group.
    assert len(rules) == sum(expected.values()) + 4


def test_gpus_were_tokens(study: Path) -> None:
    jobs = jobs_in(study.parent.parent)
    assert {job.rule.split()[0] for job in jobs if job.gpus} == {"calibrate", "interleave", "pretrain"}
    assert {job.partition for job in jobs if job.gpus} == {"gpu"}
    assert {job.partition for job in jobs if not job.gpus} == {"cpu"}
    assert 2 <= most_gpus_at_once(jobs) <= TOKENS


def test_the_runs_are_those_of_a_machine_without_slurm(study: Path, here: Path) -> None:
    for run in RUNS:
        assert timeless(study / run) == timeless(here / run)
