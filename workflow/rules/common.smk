"""Names that all rules share: what is trained, and which finished runs the exhibits are made from."""

import re
import signal

# Inside a Slurm job the signals of the job reach every process in it: Snakemake must outlive the run that saves its
# state. It does so at SIGTERM; SIGUSR1, which some sites send before a time limit, would end it at once.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

# The typed settings first: their messages name the key and what is allowed there.
STUDY = None if config["scale"] == "recorded" else load_study(config)
SETS = load_recorded(config).result_sets() if STUDY is None else [STUDY.result_set()]
# The study and its companions of other families of models, each by the folder of its results.
STUDIES = {} if STUDY is None else {one.results: one for one in STUDY.all}
# Generated from the typed settings by `python -m pldrepro schema`; a test keeps the two alike.
validate(config, "../schemas/config.schema.json", set_default=False)


wildcard_constraints:
    study="|".join(map(re.escape, STUDIES)) or "none",
    arm="[A-Za-z0-9_.-]+",
    seed="[0-9]+",
    checkpoint="[A-Za-z0-9_.-]+",
    group="[A-Za-z0-9_.-]+",


def of_study(value):
    """A parameter or resource of a job from the study that its wildcards name.

    Worked out once: thousands of jobs ask. A number that all studies share needs no function at all; a text would be
    read as a pattern of wildcards.
    """
    values = {name: value(study) for name, study in STUDIES.items()}
    distinct = set(map(str, values.values()))
    if len(distinct) == 1 and all(isinstance(one, int) for one in values.values()):
        return next(iter(values.values()))
    return lambda wildcards: values[wildcards.study]


GPUS = of_study(lambda study: 0 if study.impl.device == "cpu" else 1)


def rank_resources(study):
    """Of a job with all ranks of a run: on one node they belong to one task, on several the job calls srun itself."""
    impl = study.impl
    ranks, gpus = impl.ranks // impl.nodes, impl.device != "cpu"
    if impl.nodes == 1:
        return {"nodes": 1, "gpu": ranks * gpus}
    several = {"nodes": impl.nodes, "tasks": impl.nodes, "mpi": "srun"}
    return {**several, "gres": f"gpu:{ranks}", "tasks_per_gpu": 0} if gpus else several


def rank_threads(study, threads):
    """Threads of all ranks of a run on one node."""
    return threads * study.impl.ranks // study.impl.nodes


def calibration_threads(study):
    """Threads that are kept for the measurement of step times, used or not."""
    calibration = study.settings.calibration
    return max(calibration.reserved_cores, rank_threads(study, calibration.threads))


# The names are those of the Slurm executor. A resource that is None is not asked for.
RANKS = {
    name: of_study(lambda study, name=name: rank_resources(study).get(name))
    for name in ("nodes", "gpu", "tasks", "mpi", "gres", "tasks_per_gpu")
}
