"""What each verb of the command line does: it reads its arguments, calls one function and writes one output.

The docstring of a verb is its help. Verbs import what they need inside themselves.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pldrepro.config.base import parse_yaml, read_mapping, read_settings
from pldrepro.config.contrasts import ContrastSettings
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.run import (
    CalibrationJob,
    EarlyRunSettings,
    FinetuneSettings,
    ImplSettings,
    InterleaveJob,
    ProbeSettings,
    RunSettings,
)
from pldrepro.config.study import Study, load_study
from pldrepro.errors import LockedError, RecordError, RefusedError
from pldrepro.files import look_around
from pldrepro.runs.lock import locked, no_workflow_runs
from pldrepro.runs.schema import PretrainJob

# ---- prepare: data become arrays ----


def prepare_corpus(options: argparse.Namespace) -> None:
    """Turn text into token arrays."""
    from pldrepro.data import corpus

    with locked(options.out):
        corpus.prepare_corpus(read_settings(DataSettings, options.settings), options.out, workers=options.workers)


def prepare_glue(options: argparse.Namespace) -> None:
    """Turn GLUE tasks into token arrays."""
    from pldrepro.data import glue

    settings = read_settings(DataSettings, options.settings)
    with locked(options.out):
        glue.prepare_glue(settings, tuple(options.tasks), options.sequence_length, options.corpus, options.out)


def prepare_contrasts(options: argparse.Namespace) -> None:
    """Turn minimal pairs and held-out text into the items that all arms are scored on."""
    from pldrepro.data import contrasts

    settings = read_settings(ContrastSettings, options.settings)
    with locked(options.out):
        contrasts.prepare_contrasts(settings, read_settings(DataSettings, options.data), options.corpus, options.out)


def prepare_images(options: argparse.Namespace) -> None:
    """Turn labelled images into pixel arrays."""
    from pldrepro.data import images

    with locked(options.out):
        images.prepare_images(read_settings(ImageDataSettings, options.settings), options.out)


# ---- run: what trains or evaluates a model; each leaves a run folder ----


@contextmanager
def ranks(impl: ImplSettings, options: argparse.Namespace) -> Iterator[Any]:
    """This process as one of the ranks that the settings ask for, which are started first; one holds the folder."""
    from pldrepro.training.distributed import launch, process_group

    launch(impl, options.arguments)
    with process_group(impl) as world, ExitStack() as held:
        # No rank starts before the first one holds the lock.
        world.on_first(lambda: held.enter_context(locked(options.out)) is None)
        yield world


def run_calibrate(options: argparse.Namespace) -> None:
    """Measure the step time with k active layers [s] of every model shape."""
    from pldrepro.training import calibrate

    job = read_settings(CalibrationJob, options.settings)
    if job.calibration.processes > 1:
        with locked(options.out):
            calibrate.calibrate_in_processes(job, options.out)
        return
    with ranks(job.runs[0].impl, options) as world:
        calibrate.calibrate(job, options.out, world=world)


def run_interleave(options: argparse.Namespace) -> None:
    """Measure optimizer steps [s] of several arms in turn, in this one process."""
    from pldrepro.training import interleave

    with locked(options.out):
        interleave.interleave(read_settings(InterleaveJob, options.settings), options.process, options.out)


def run_pretrain(options: argparse.Namespace) -> None:
    """Pre-train one arm with one seed, or go on with it; the settings.json of a run repeats it."""
    from pldrepro.training import pretrain

    job = read_settings(PretrainJob, options.settings)
    settings = RunSettings(**job.model_dump(exclude={"schema_version"}))
    with ranks(settings.impl, options) as world:
        pretrain.pretrain(settings, options.data, options.out, options.calibration, options.max_seconds, world=world)


def run_finetune(options: argparse.Namespace) -> None:
    """Fine-tune one checkpoint on a group of GLUE tasks."""
    from pldrepro.training import finetune

    settings = read_settings(FinetuneSettings, options.settings)
    with locked(options.out):
        finetune.finetune(options.run, options.checkpoint, settings, options.group, options.glue, options.out)


def run_probe(options: argparse.Namespace) -> None:
    """Measure gradients, hidden states and lesions on the checkpoints of one run."""
    from pldrepro.evaluation import probe

    with locked(options.out):
        probe.probe(options.run, options.corpus, read_settings(ProbeSettings, options.settings), options.out)


def run_early(options: argparse.Namespace) -> None:
    """Train for the first steps of a run and measure gradients there."""
    from pldrepro.evaluation import early

    with locked(options.out):
        early.probe_early(read_settings(EarlyRunSettings, options.settings), options.corpus, options.out)


def run_contrasts(options: argparse.Namespace) -> None:
    """Score the checkpoints of one run on minimal pairs and cloze contrasts."""
    from pldrepro.evaluation import score_contrasts

    settings = read_settings(ContrastSettings, options.settings)
    with locked(options.out):
        score_contrasts.score_contrasts(options.run, settings, options.corpus, options.items, options.out)


def run_lambada(options: argparse.Namespace) -> None:
    """Score the checkpoints of one run on LAMBADA."""
    from pldrepro.evaluation import lambada

    with locked(options.out):
        lambada.score_lambada(options.run, options.corpus, options.out)


# ---- make: finished runs become exhibits ----


def finished_runs(options: argparse.Namespace) -> tuple[Any, Any]:
    """The finished runs of --index, and the papers that they are compared with."""
    from pldrepro.analysis.inputs import read_evidence
    from pldrepro.analysis.reported import SHOWN, load_papers

    papers = load_papers(options.papers)
    absent = [key for key in SHOWN if key not in papers]
    if absent:
        raise ValueError(f"--papers: no file of {', '.join(absent)}; found: {', '.join(papers)}")
    return read_evidence(options.index), papers


def make_scores(options: argparse.Namespace) -> None:
    """Compute all metrics from the predictions of fine-tuning runs."""
    from pldrepro.analysis.glue_scores import write_scores

    write_scores(options.finetune, options.out)


def make_exhibits(options: argparse.Namespace) -> None:
    """Make tables as csv, md, tex and html; figures as pdf, png and svg, with their data and captions."""
    from pldrepro.config.exhibits import FIGURES, TABLES
    from pldrepro.exhibits.tables import write_table

    runs, papers = finished_runs(options)
    every = options.tables is None and options.figures is None
    for name in TABLES if every else options.tables or ():
        write_table(name, runs, papers, options.out / "tables" / name)
    if figures := FIGURES if every else options.figures or ():
        from pldrepro.exhibits.figures import write_figure  # here: parts without a figure need no matplotlib

        for name in figures:
            write_figure(name, runs, papers, options.out / "figures" / name)


def make_claims(options: argparse.Namespace) -> None:
    """Judge every claim of the papers; tell what the verdicts say (story.csv) and answer the reviewers (reviews.md)."""
    from pldrepro.analysis.claims import read_claims, write_claims
    from pldrepro.analysis.story import STORY, write_story
    from pldrepro.exhibits.reviews import ANSWERED, write_answers

    runs, papers = finished_runs(options)
    write_claims(runs, papers, options.out)
    write_story(runs, papers, read_claims(options.out), options.out.with_name(STORY))
    write_answers(runs, papers, options.out.with_name(ANSWERED))


def make_report(options: argparse.Namespace) -> None:
    """Make the self-contained page."""
    from pldrepro.exhibits.report import write_report

    runs, papers = finished_runs(options)
    write_report(runs, papers, options.claims, options.tables, options.figures, options.out, options.pages)


def make_page(options: argparse.Namespace) -> None:
    """Make the page of what finished results folders hold: claims and main tables."""
    from pldrepro.exhibits.results_page import write_results_page

    write_results_page(options.results, options.out)


def make_readme(options: argparse.Namespace) -> None:
    """Make the findings and the table of results in README.md again."""
    from pldrepro.exhibits.readme import write_readme

    write_readme(options.results, options.readme)


# ---- study: what its file says, and results folders as a whole ----


def study_with(path: Path, overrides: list[str]) -> Study:
    """The study of a file with some of its top-level keys set to KEY=VALUE."""
    look_around(path)
    values = read_mapping(path)
    for pair in overrides:
        key, separator, text = pair.partition("=")
        if not separator:
            raise ValueError(f"--config {pair}: expected KEY=VALUE")
        values[key] = parse_yaml(text, f"--config {key}")
    return load_study(values)


def study_settings(options: argparse.Namespace) -> None:
    """Print the complete settings of one pre-training run."""
    study = study_with(options.configfile, options.config)
    print(study.run(options.experiment, options.seed).model_dump_json(indent=1))


def study_explain(options: argparse.Namespace) -> None:
    """Print keep probabilities and the gates drawn at a step."""
    from pldrepro.policy.drop import explain

    run = study_with(options.configfile, options.config).run(options.experiment, options.seed)
    print(explain(run.drop, options.seed, options.step, run.training.num_steps, run.model.num_layers))


def study_plan(options: argparse.Namespace) -> None:
    """Print what studies will cost before they run: FLOPs, time of a device, disk."""
    from pldrepro.costs.plan import load_card, load_device
    from pldrepro.costs.plan_text import render_plan

    studies = [study_with(path, options.config) for path in options.configfile]
    own = "cpu-2-cores" if all(study.impl.device == "cpu" for study in studies) else "v100"
    devices = {name: load_device(name) for name in options.device or ([] if options.calibration else [own])}
    devices |= {f"measured-{n}": load_card(folders) for n, folders in enumerate(options.calibration, start=1)}
    for note in (note for study in studies for note in study.notes):
        print(note)
    print(render_plan(studies, devices))


def study_status(options: argparse.Namespace) -> None:
    """Print how far a study is: jobs done, running and missing, who works where, the time left."""
    from pldrepro.costs.status import render_status

    print(render_status(study_with(options.configfile, options.config)))


def study_import(options: argparse.Namespace) -> None:
    """Take run folders from another machine into a study."""
    from pldrepro.runs.import_runs import join

    outcomes = join(study_with(options.configfile, options.config), options.source)
    for one in outcomes:
        state = f"refused: {one.reason}" if one.reason else "imported" if one.is_new else "is here already"
        print(f"{one.run}: {state}")
    refused = sum(one.reason is not None for one in outcomes)
    if refused:
        raise RefusedError(f"{refused} of {len(outcomes)} run folders refused; the others are here")


def study_unlock(options: argparse.Namespace) -> None:
    """Let the workflow start again in this folder after it was killed; refused while it runs."""
    import subprocess
    import sys

    if any(Path(".snakemake/locks").glob("*")):
        with no_workflow_runs():
            if subprocess.run([sys.executable, "-m", "snakemake", "--unlock", "--quiet"], check=False).returncode:
                raise LockedError(
                    f"{Path.cwd()}: still locked, because snakemake --unlock failed (above); expected: the folder in "
                    "which the workflow was started"
                )


def study_seal(options: argparse.Namespace) -> None:
    """Write the manifests that finished run folders lack: from now on, a change in their files is refused."""
    from pldrepro.runs.manifest import MANIFEST, seal, verified

    folders = sorted(path.parent for root in options.folders for path in root.rglob("summary.json"))
    if not folders:
        raise RecordError(f"{', '.join(map(str, options.folders))}: no finished run")
    new = [folder for folder in folders if not (folder / MANIFEST).exists()]
    for folder in folders:
        if folder in new:
            seal(folder)
        else:
            verified(folder)
    print(f"{len(folders)} run folders: {len(new)} sealed, {len(folders) - len(new)} compared with their manifests")


def study_record(options: argparse.Namespace) -> None:
    """Archive the finished runs of a study without their models, one file for each, to be committed."""
    from pldrepro.runs.record import record_runs

    new = record_runs(options.runs, options.out)
    print(f"{len(new)} runs recorded in {options.out}; what was there is the same")


def study_unpack(options: argparse.Namespace) -> None:
    """Unpack recorded runs into run folders, each compared with its manifest."""
    from pldrepro.runs.record import unpack_runs

    print(f"{len(unpack_runs(options.records, options.out))} runs unpacked to {options.out}")


def study_claims(options: argparse.Namespace) -> None:
    """Print the story of a finished claims.csv, and its claims."""
    from pldrepro.analysis.claims import read_claims
    from pldrepro.analysis.story import STORY, read_story
    from pldrepro.exhibits.claims_text import format_claims, markdown_claims
    from pldrepro.exhibits.story_text import format_story, markdown_story

    frame, findings = read_claims(options.claims), read_story(options.claims.with_name(STORY))
    texts = (markdown_story, markdown_claims) if options.markdown else (format_story, format_claims)
    print(f"{texts[0](findings)}\n\n{texts[1](frame)}")


def study_compare(options: argparse.Namespace) -> None:
    """Say what moved beyond its interval between two results folders."""
    from pldrepro.exhibits.compare import compare
    from pldrepro.files import write_text

    text = compare(options.first, options.second)
    if options.out:
        write_text(options.out, text)
    else:
        print(text, end="")
