"""What a job of the workflow gets from its study: its settings, as a file, and the cores and GPUs of its ranks."""

from __future__ import annotations

from pldrepro.config.run import ImplSettings
from pldrepro.config.study import Study

EARLY = "early."  # before the arm of a run that is probed early in training

RESERVED_CORES = 2  # that no other job may use while step times are measured


def job_settings(study: Study, job: str) -> str:
    """The settings of a job, JSON: those that a study's jobs share, or those of a run.

    Shared: ``data``, ``calibration``, ``interleave``, ``finetune``, ``probe``, ``contrasts``. A run is named
    ``ARM-seedN``, one that is probed early in training ``early.ARM-seedN``.
    """
    shared = {
        "data": study.data,
        "calibration": study.calibration_job,
        "interleave": study.interleave_job,
        "finetune": lambda: study.finetune,
        "probe": lambda: study.settings.probe,
        "contrasts": lambda: study.contrasts,
    }
    if job in shared:
        return shared[job]().model_dump_json(indent=1)
    arm, _, seed = job.rpartition("-seed")
    if arm.startswith(EARLY):
        return study.early_run(arm.removeprefix(EARLY), int(seed)).model_dump_json(indent=1)
    return study.run(arm, int(seed)).model_dump_json(indent=1)


def rank_resources(impl: ImplSettings) -> dict[str, int | str]:
    """What a job with all ranks of a run asks for, by the names of Snakemake's Slurm executor.

    On one node the ranks belong to one task; on several the job calls srun itself.
    """
    ranks, gpus = impl.ranks // impl.nodes, impl.device != "cpu"
    if impl.nodes == 1:
        return {"nodes": 1, "gpu": ranks * gpus}
    several: dict[str, int | str] = {"nodes": impl.nodes, "tasks": impl.nodes, "mpi": "srun"}
    return {**several, "gres": f"gpu:{ranks}", "tasks_per_gpu": 0} if gpus else several


def rank_resource(name: str, study: Study) -> int | str | None:
    """One of the resources that a job with all ranks of a run asks for; None: it does not ask for it."""
    return rank_resources(study.impl).get(name)


def rank_threads(impl: ImplSettings, threads: int) -> int:
    """Threads of all ranks of a run on one node, of so many each."""
    return threads * impl.ranks // impl.nodes


def run_threads(study: Study) -> int:
    """Threads of a pre-training run on one node."""
    return rank_threads(study.impl, study.impl.threads)


def run_gpus(study: Study) -> int:
    """GPUs of a job of one process."""
    return 0 if study.impl.device == "cpu" else 1


def prepared_manifest(study: Study) -> str:
    """The manifest of the data that the runs of a study are trained on."""
    return f"{study.results}/data/{study.prepared}/manifest.json"


def glue_tasks(study: Study) -> list[str]:
    """The tasks that a study fine-tunes."""
    return list(study.settings.finetune.tasks)


def calibration_threads(study: Study) -> int:
    """Threads that are kept for the measurement of step times, used or not."""
    return max(RESERVED_CORES, rank_threads(study.impl, study.settings.calibration.threads))
