"""Names that all rules share: what is trained, and which finished runs the exhibits are made from."""

import os
import re
import signal
import sys
from functools import partial
from operator import attrgetter
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

try:
    import pldrepro.config.study
except ModuleNotFoundError as missing:
    raise WorkflowError(f"{missing}: run `make setup`, then `source .venv/bin/activate`") from None

from pldrepro.config.base import read_mapping, read_yaml
from pldrepro.config.exhibits import FIGURES, PARTS, RECORDED_PARTS, TABLES
from pldrepro.config.jobs import (
    calibration_threads,
    glue_tasks,
    job_settings,
    prepared_manifest,
    rank_resource,
    run_gpus,
    run_threads,
)
from pldrepro.config.recorded import load_recorded
from pldrepro.config.start import check_data, outdated, put_python_first
from pldrepro.config.study import load_study
from pldrepro.errors import RecordError, SettingsError
from pldrepro.files import shipped
from pldrepro.runs.lock import workflow_runs
from pldrepro.runs.terminal import Terminal

put_python_first()
# Inside a Slurm job the signals of the job reach every process in it: Snakemake must outlive the run that saves its
# state. It does so at SIGTERM; SIGUSR1, which some sites send before a time limit, would end it at once.
signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def end_in_order(number, frame):
    """As at SIGTERM: wait for the jobs, which save at the same signal, and unlock the folder."""
    os.kill(os.getpid(), signal.SIGTERM)


# A terminal that is closed; what `nohup` ignores stays ignored.
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
    signal.signal(signal.SIGHUP, end_in_order)

try:
    for file in workflow.overwrite_configfiles:  # Snakemake has read them, and takes the last value of a repeated key
        read_mapping(Path(file))
    STUDY = None if config.get("scale") == "recorded" else load_study(config)
    RECORDS = load_recorded(config) if STUDY is None else None
    SETS = RECORDS.result_sets() if RECORDS else [STUDY.result_set()]
except (SettingsError, RecordError) as error:  # the line for the user, without the places of the code
    sys.exit(f"{type(error).__name__}: {error}")

# Recorded runs that are archives, to be unpacked before anything reads them.
PACKED = RECORDS.packed() if RECORDS else []
UNPACKED = {summary: records.folder for records in PACKED for summary in records.summaries}
# The study and its companions of other families of models, each by the folder of its results.
STUDIES = {} if STUDY is None else {one.results: one for one in STUDY.all}
# The finished runs of each results folder.
BY_FOLDER = {one.results: one for one in SETS}
RESULT_FOLDERS = list(BY_FOLDER)
if RECORDS:
    PARTS = RECORDED_PARTS
EXHIBITS = read_yaml(shipped(Path("workflow/report/exhibits.yaml")))
BY_PART = {(results, name): one.of(part) for results, one in BY_FOLDER.items() for name, part in PARTS.items()}


wildcard_constraints:
    results="|".join(map(re.escape, RESULT_FOLDERS)),
    study="|".join(map(re.escape, STUDIES)) or "none",
    arm="[A-Za-z0-9_.-]+",
    seed="[0-9]+",
    process="[0-9]+",
    checkpoint="[A-Za-z0-9_.-]+",
    group="[A-Za-z0-9_.-]+",
    job="[A-Za-z0-9_.-]+",
    part="|".join(PARTS),


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


GPUS = of_study(run_gpus)
THREADS = of_study(attrgetter("impl.threads"))
# A resource that is None is not asked for.
RANKS = {
    name: of_study(partial(rank_resource, name)) for name in ("nodes", "gpu", "tasks", "mpi", "gres", "tasks_per_gpu")
}


def modules(*patterns):
    """The modules of the package that match, as inputs of the rules that run them."""
    return [str(path) for pattern in patterns for path in sorted(shipped(Path("pldrepro")).glob(pattern))]


def exhibit_for_report(kind, name, suffix):
    """The file of a table or figure, with what `snakemake --report` says of it."""
    exhibit = EXHIBITS[kind][name]
    return report(
        f"{{results}}/{kind}/{name}.{suffix}",
        caption=f"../report/{kind.removesuffix('s')}.rst",
        category=exhibit["group"],
        subcategory=kind.capitalize(),
        labels={"study": "{results}", "exhibit": exhibit["label"], "shows": exhibit["shows"]},
    )


def describe(rule, text):
    """What `snakemake --list-rules` says of a rule that is made in a loop, where a docstring cannot be its own."""
    if rules.has(rule):  # a module may use others only
        getattr(rules, rule).rule.docstring = text


def described(kind, name):
    """An exhibit in words."""
    exhibit = EXHIBITS[kind][name]
    return f"{exhibit['label']}: {exhibit['shows']}"


def settings_text(wildcards):
    """The settings of a job, as its file holds them."""
    return job_settings(STUDIES[wildcards.study], wildcards.job)


def paradigm_lists(wildcards):
    """The files that say which minimal pairs judge the models of a study."""
    return [str(shipped(Path(name))) for name in STUDIES[wildcards.study].contrasts.lists]


def as_inputs(files):
    """Finished runs as inputs of a job; those of archives are unpacked together, and their folder stands for them.

    Snakemake looks at every input once for each output: with hundreds of both it spends longer on that than the job.
    """
    return list(dict.fromkeys(UNPACKED.get(file, file) for file in files))


def finetune_runs(wildcards):
    """The finished fine-tuning runs of a results folder."""
    return BY_FOLDER[wildcards.results].finetune


def scored_runs(wildcards):
    """The same, as inputs."""
    return as_inputs(finetune_runs(wildcards))


def finished_runs(wildcards):
    """Every finished run of a results folder, and their scores."""
    return as_inputs(BY_FOLDER[wildcards.results].inputs)


def runs_listing(wildcards):
    """The text of index.json."""
    return BY_FOLDER[wildcards.results].listing


def part_runs(part, wildcards):
    """The finished runs that a part of the exhibits is made from, and their scores."""
    return as_inputs(BY_PART[wildcards.results, part].inputs)


def part_listing(wildcards):
    """The text of the list of these runs."""
    return BY_PART[wildcards.results, wildcards.part].listing


# The terminal: a line for each job that starts, the error of one that fails; what cannot end well is refused at once.
TERMINAL = Terminal()
logger.addHandler(TERMINAL)
# Held until the process ends, however it does: so `pldrepro study unlock` knows whether a workflow runs here.
RUNNING = workflow_runs()


def no_cores():
    """Whether Snakemake was given no core: it would wait for ever."""
    try:
        return workflow.cores == 0
    except WorkflowError:  # no number was given: jobs of a cluster
        return False


onstart:
    if no_cores():
        raise WorkflowError("--cores 0: no job could run; allowed: 1 or more, or all")
    for study in STUDIES.values():
        for note in study.notes:
            logger.warning(note)
        check_data(study)
    # At its own limit of 100 jobs a second Snakemake looks for jobs once more per second for every job that has ended, a
    # quarter of a core by the middle of the demo; and the process waits for the look that would come after the end.
    if workflow.scheduler.job_rate_limiter and workflow.scheduler.job_rate_limiter.max_jobs == 100:
        workflow.scheduler.job_rate_limiter = None
    if warning := outdated(Path(sys.prefix)):
        logger.warning(warning)
    RUNNING.__enter__()
    TERMINAL.begin(logger.handlers)
