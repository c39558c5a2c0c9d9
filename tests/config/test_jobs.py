"""What the workflow asks of a study: settings files of jobs, ranks, cores."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pldrepro.config.base import read_settings
from pldrepro.config.jobs import calibration_threads, job_settings, rank_resources, rank_threads
from pldrepro.config.run import CalibrationJob, ImplSettings, RunSettings
from pldrepro.config.study import load_study


def impl(**values: Any) -> ImplSettings:
    return ImplSettings.model_validate(values)


def test_every_job_reads_back_its_own_settings(tmp_path: Path) -> None:
    study = load_study(Path("config/smoke.yaml"))
    assert read_settings(RunSettings, job_settings(study, "pld-seed2")) == study.run("pld", 2)
    assert json.loads(job_settings(study, "finetune")) == study.settings.finetune.model_dump(mode="json")
    assert json.loads(job_settings(study, "probe")) == study.settings.probe.model_dump(mode="json")
    assert json.loads(job_settings(study, "data")) == study.data().model_dump(mode="json")


def test_a_calibration_has_one_run_of_each_model_shape() -> None:
    study = load_study(Path("config/demo_full.yaml"))
    job = read_settings(CalibrationJob, job_settings(study, "calibration"))
    models = {study.run(arm, 1).model for arm in study.settings.arms}
    assert {run.model for run in job.runs} == models
    assert len(job.runs) == len(models) < len(study.settings.arms)
    assert len(job_settings(study, "calibration")) < 128 * 1024  # what Linux takes as one argument of a command


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ({"device": "cpu"}, {"nodes": 1, "gpu": 0}),
        ({"device": "cuda", "ranks": 4}, {"nodes": 1, "gpu": 4}),
        ({"device": "cpu", "ranks": 4, "nodes": 2}, {"nodes": 2, "tasks": 2, "mpi": "srun"}),
        (
            {"device": "cuda", "ranks": 8, "nodes": 2},
            {"nodes": 2, "tasks": 2, "mpi": "srun", "gres": "gpu:4", "tasks_per_gpu": 0},
        ),
    ],
)
def test_ranks_ask_for_nodes_and_gpus(values: dict[str, Any], asked: dict[str, int | str]) -> None:
    assert rank_resources(impl(**values)) == asked


def test_threads_are_of_the_ranks_of_a_node() -> None:
    assert rank_threads(impl(ranks=8, nodes=2), 3) == 12
    values = yaml.safe_load(Path("config/smoke.yaml").read_text("utf-8"))
    study = load_study({**values, "calibration": {"threads": 1}})
    assert calibration_threads(study) == 2
    assert calibration_threads(load_study({**values, "calibration": {"threads": 3}})) == 3
