"""What jobs ask Slurm for: through the profile for sites, and with several ranks on one node and on two."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from pldrepro.files import read_json
from tests.support.repository import copy_repository, snakemake
from tests.support.slurm_jobs import jobs_in, on_slurm

RUN = "results/ranks/runs/pretrain/pld/seed1"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the text that the runs read, and a run of one process."""
    folder = copy_repository(tmp_path_factory.mktemp("ranks"))
    snakemake(folder, "--cores", "2", *target(folder))
    return folder


def target(folder: Path, **impl: int) -> tuple[str, ...]:
    """The run in a study with these ranks and nodes."""
    study = yaml.safe_load((folder / "config/smoke.yaml").read_text("utf-8"))
    del study["companions"]
    study.update(scale="ranks", arms=["baseline", "pld"], seeds=[1], probe_arms=["pld"])
    study["settings"]["impl"].update(impl)
    study["calibration"]["processes"] = 1
    (folder / "config/ranks.yaml").write_text(yaml.safe_dump(study), "utf-8")
    return f"{RUN}/summary.json", "--configfile", "config/ranks.yaml"


@pytest.mark.parametrize(("nodes", "gpus"), [(1, 2), (2, 4)])
def test_ranks_learn_what_one_process_learns(nodes: int, gpus: int, prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    alone = read_json(folder / RUN / "summary.json")
    shutil.rmtree(folder / RUN)
    shutil.rmtree(folder / "results/ranks/runs/calibration")
    ranks = 2 * nodes
    # As the rules would have it if the device were not a CPU.
    asked = (f"gpu={ranks}",) if nodes == 1 else ("gres='gpu:2'", "tasks_per_gpu=0")
    resources = ("--set-resources", *(f"{rule}:{one}" for rule in ("calibrate", "pretrain") for one in asked))
    on_slurm(folder, *target(folder, ranks=ranks, nodes=nodes), *resources)
    together = read_json(folder / RUN / "summary.json")
    assert together["validation_loss"] == pytest.approx(alone["validation_loss"], rel=1e-4)
    assert together["passes_by_kept_layers"] == alone["passes_by_kept_layers"]
    assert [(job.rule.split()[0], job.nodes, job.gpus) for job in jobs_in(folder)] == [
        ("calibrate", nodes, gpus),
        ("pretrain", nodes, gpus),
    ]


def test_slurm_takes_the_profile_for_sites(prepared: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(prepared, tmp_path / "copy")
    shutil.rmtree(folder / RUN)
    here = ("--slurm-init-seconds-before-status-checks", "1")
    snakemake(folder, "--profile", "profiles/slurm", *target(folder), *here)
    (job,) = jobs_in(folder)
    assert (job.state, job.partition, job.memory, job.minutes) == ("COMPLETED", "gpu", "16000M", "12:00:00")
