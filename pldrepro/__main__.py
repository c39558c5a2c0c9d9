"""Command line: each verb parses its arguments, calls one function and writes one output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from pldrepro.config.base import parse_yaml, read_mapping, read_settings
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.run import CalibrationJob, FinetuneSettings, ImplSettings, ProbeSettings, RunSettings
from pldrepro.config.study import Study, load_study, study_schema
from pldrepro.runs.lock import locked

STOPPED = 75  # exit status of a run that was stopped in time and goes on when started again (EX_TEMPFAIL)


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; user errors become one line on stderr and exit status 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(arguments)
    options.arguments = arguments  # for the ranks, which are started with the same ones
    rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
    try:
        options.verb(options)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        if options.traceback:
            raise
        print(f"{rank}{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return STOPPED if type(error).__name__ == "OutOfTimeError" else 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The argument parser of all verbs."""
    main_parser = argparse.ArgumentParser(prog="python -m pldrepro", description=__doc__)
    main_parser.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    verbs = main_parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, function: Any, help_: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=help_, description=help_)
        verb.set_defaults(verb=function)
        return verb

    def settings_of(verb: argparse.ArgumentParser, what: str) -> None:
        verb.add_argument("--settings", required=True, help=f"{what}: JSON text, or a JSON or YAML file")

    def study_of(verb: argparse.ArgumentParser, default: str = "config/demo.yaml") -> None:
        verb.add_argument("--configfile", type=Path, default=Path(default), help=f"scale file (default: {default})")
        verb.add_argument("--config", nargs="*", default=[], metavar="KEY=VALUE", help="top-level keys to override")

    def evidence_of(verb: argparse.ArgumentParser) -> None:
        verb.add_argument("--evidence", type=Path, required=True, help="evidence.json: the finished runs")
        verb.add_argument("--papers", type=Path, nargs="*", default=[], help="the papers' values; default: all")
        verb.add_argument("--out", type=Path, required=True)

    verb = add("settings", print_settings, "print the complete settings of one pre-training run")
    study_of(verb)
    verb.add_argument("--experiment", required=True)
    verb.add_argument("--seed", type=int, default=1)

    verb = add("prepare-corpus", prepare_corpus, "turn text into token arrays")
    settings_of(verb, "DataSettings")
    verb.add_argument("--workers", type=int, default=1)
    verb.add_argument("--out", type=Path, required=True)

    verb = add("prepare-glue", prepare_glue, "turn GLUE tasks into token arrays")
    settings_of(verb, "DataSettings")
    verb.add_argument("--tasks", nargs="+", required=True)
    verb.add_argument("--sequence-length", type=int, required=True)
    verb.add_argument("--corpus", type=Path, required=True)
    verb.add_argument("--out", type=Path, required=True)

    verb = add("prepare-images", prepare_images, "turn labelled images into pixel arrays")
    settings_of(verb, "ImageDataSettings")
    verb.add_argument("--out", type=Path, required=True)

    verb = add("calibrate", calibrate, "measure the step time with k active layers, for every model shape")
    settings_of(verb, "CalibrationJob")
    verb.add_argument("--out", type=Path, required=True)

    verb = add("pretrain", pretrain, "pre-train one arm with one seed, or go on with it")
    settings_of(verb, "RunSettings")
    verb.add_argument("--data", type=Path, required=True, help="folder of the prepared corpus or images")
    verb.add_argument("--calibration", type=Path, help="summary.json of a calibration, to record reference time")
    verb.add_argument("--max-seconds", type=float, help=f"stop at a checkpoint after this time, with status {STOPPED}")
    verb.add_argument("--out", type=Path, required=True)

    verb = add("finetune", finetune, "fine-tune one checkpoint on a group of GLUE tasks")
    settings_of(verb, "FinetuneSettings")
    verb.add_argument("--run", type=Path, required=True, help="pre-training run folder")
    verb.add_argument("--checkpoint", required=True)
    verb.add_argument("--group", required=True)
    verb.add_argument("--glue", type=Path, required=True)
    verb.add_argument("--out", type=Path, required=True)

    verb = add("probe", probe, "measure gradients, hidden states and lesions on the checkpoints of one run")
    settings_of(verb, "ProbeSettings")
    verb.add_argument("--run", type=Path, required=True, help="pre-training run folder")
    verb.add_argument("--corpus", type=Path, required=True)
    verb.add_argument("--out", type=Path, required=True)

    verb = add("lambada", lambada, "score the checkpoints of one run on LAMBADA")
    verb.add_argument("--run", type=Path, required=True, help="pre-training run folder")
    verb.add_argument("--corpus", type=Path, required=True)
    verb.add_argument("--out", type=Path, required=True)

    verb = add("score", score, "compute all metrics from the predictions of fine-tuning runs")
    verb.add_argument("--finetune", type=Path, nargs="*", default=[], help="run folders or their summary.json")
    verb.add_argument("--out", type=Path, required=True)

    for name, function, what in (
        ("tables", make_tables, "tables as csv, md, tex and html"),
        ("figures", make_figures, "figures as pdf, png and svg, with their data and captions"),
    ):
        verb = add(name, function, f"make {what}; --out names the folder")
        verb.add_argument("names", nargs="*", metavar="NAME", help="default: all")
        evidence_of(verb)

    verb = add("claims", claims, "judge every claim of the papers")
    evidence_of(verb)

    verb = add("reviews", reviews, "answer what the reviews of the PLD paper asked")
    evidence_of(verb)

    verb = add("report", report, "make the self-contained report")
    evidence_of(verb)
    verb.add_argument("--claims", type=Path, required=True, help="claims.csv")
    verb.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    verb.add_argument("--figures", type=Path, required=True, help="folder of the figures")
    verb.add_argument("--reviews", type=Path, help="the page of answers to the reviews, to append")
    verb.add_argument("--deviations", type=Path, help="a Markdown page to append")

    verb = add("show", show, "print a finished claims.csv")
    verb.add_argument("claims", type=Path)
    verb.add_argument("--markdown", action="store_true", help="the measured claims as a Markdown table")

    verb = add("compare", compare, "say what moved beyond its interval between two results folders")
    verb.add_argument("first", type=Path, metavar="A", help="results folder with tables/ and claims.csv")
    verb.add_argument("second", type=Path, metavar="B", help="another one")
    verb.add_argument("--out", type=Path, help="Markdown file to write instead of printing")

    verb = add("explain", explain, "print keep probabilities and the gates drawn at a step")
    study_of(verb, "config/paper.yaml")
    verb.add_argument("--experiment", required=True)
    verb.add_argument("--step", type=int, required=True)
    verb.add_argument("--seed", type=int, default=1)

    verb = add("fit-schedule", fit_schedule, "fit SBLD's schedule (our reading) to a pilot pair of runs")
    verb.add_argument("--baseline", type=Path, required=True, help="run folder without dropping")
    verb.add_argument("--dropped", type=Path, required=True, help="run folder of the same length with dropping")

    verb = add("plan", plan, "print what a study will cost before it runs")
    verb.add_argument(
        "--configfile", type=Path, nargs="+", default=[Path("config/demo.yaml")], help="scale files, planned together"
    )
    verb.add_argument("--config", nargs="*", default=[], metavar="KEY=VALUE", help="top-level keys to override")
    verb.add_argument(
        "--device", nargs="*", metavar="NAME", help="devices and reference cards of config/devices.yaml; default: v100"
    )
    verb.add_argument(
        "--calibration", type=Path, nargs="+", action="append", default=[], metavar="DIR",
        help="calibration folders of one machine, as one more device; may be repeated",
    )  # fmt: skip
    verb.add_argument("--budget-hours", type=float, help="say what fits so many hours of the first device")

    verb = add("import", import_runs, "take run folders from another machine into a study")
    verb.add_argument("source", type=Path, metavar="DIR", help="a results folder, or its runs")
    study_of(verb)

    verb = add("schema", print_schema, "print the JSON schema of a scale file")
    return main_parser


def study(options: argparse.Namespace) -> Study:
    """The study of --configfile with the overrides of --config."""
    return study_with(options.configfile, options.config)


def study_with(path: Path, overrides: list[str]) -> Study:
    """The study of a scale file with some of its top-level keys set to KEY=VALUE."""
    values = read_mapping(path)
    for pair in overrides:
        key, separator, text = pair.partition("=")
        if not separator:
            raise ValueError(f"--config {pair}: allowed: KEY=VALUE")
        values[key] = parse_yaml(text, f"--config {key}")
    return load_study(values)


def print_settings(options: argparse.Namespace) -> None:
    """Verb settings."""
    print(study(options).run(options.experiment, options.seed).model_dump_json(indent=1))


def prepare_corpus(options: argparse.Namespace) -> None:
    """Verb prepare-corpus."""
    from pldrepro.data.corpus import prepare_corpus

    with locked(options.out):
        prepare_corpus(read_settings(DataSettings, options.settings), options.out, workers=options.workers)


def prepare_glue(options: argparse.Namespace) -> None:
    """Verb prepare-glue."""
    from pldrepro.data.glue import prepare_glue

    settings = read_settings(DataSettings, options.settings)
    with locked(options.out):
        prepare_glue(settings, tuple(options.tasks), options.sequence_length, options.corpus, options.out)


def prepare_images(options: argparse.Namespace) -> None:
    """Verb prepare-images."""
    from pldrepro.data.images import prepare_images

    with locked(options.out):
        prepare_images(read_settings(ImageDataSettings, options.settings), options.out)


def calibrate(options: argparse.Namespace) -> None:
    """Verb calibrate."""
    from pldrepro.training.calibrate import calibrate

    job = read_settings(CalibrationJob, options.settings)
    with ranks(job.runs[0].impl, options) as world:
        calibrate(job, options.out, world=world)


@contextmanager
def ranks(impl: ImplSettings, options: argparse.Namespace) -> Iterator[Any]:
    """This process as one of the ranks that the settings ask for, which are started first; one holds the folder."""
    from pldrepro.training.distributed import joined, launch

    launch(impl, options.arguments)
    with joined(impl) as world, locked(options.out) if world.is_first else nullcontext():
        world.largest(0)  # no rank starts before the first one holds the lock
        yield world


def pretrain(options: argparse.Namespace) -> None:
    """Verb pretrain."""
    from pldrepro.training.pretrain import pretrain

    settings = read_settings(RunSettings, options.settings)
    with ranks(settings.impl, options) as world:
        pretrain(settings, options.data, options.out, options.calibration, options.max_seconds, world=world)


def finetune(options: argparse.Namespace) -> None:
    """Verb finetune."""
    from pldrepro.training.finetune import finetune

    settings = read_settings(FinetuneSettings, options.settings)
    with locked(options.out):
        finetune(options.run, options.checkpoint, settings, options.group, options.glue, options.out)


def probe(options: argparse.Namespace) -> None:
    """Verb probe."""
    from pldrepro.evaluation.probe import probe

    with locked(options.out):
        probe(options.run, options.corpus, read_settings(ProbeSettings, options.settings), options.out)


def lambada(options: argparse.Namespace) -> None:
    """Verb lambada."""
    from pldrepro.evaluation.lambada import score_lambada

    with locked(options.out):
        score_lambada(options.run, options.corpus, options.out)


def score(options: argparse.Namespace) -> None:
    """Verb score."""
    from pldrepro.analysis.glue_scores import write_scores

    write_scores(options.finetune, options.out)


def evidence(options: argparse.Namespace) -> tuple[Any, Any]:
    """The evidence of finished runs and the papers, for the analysis verbs."""
    from pldrepro.analysis.reported import SHOWN, load_papers
    from pldrepro.analysis.results import read_evidence

    papers = load_papers(options.papers)
    absent = [key for key in SHOWN if key not in papers]
    if absent:
        raise ValueError(f"--papers: no file of {', '.join(absent)}; found: {', '.join(papers)}")
    return read_evidence(options.evidence), papers


def make_tables(options: argparse.Namespace) -> None:
    """Verb tables."""
    from pldrepro.exhibits.tables import TABLES, write_table

    runs, papers = evidence(options)
    for name in options.names or TABLES:
        write_table(name, runs, papers, options.out / name)


def make_figures(options: argparse.Namespace) -> None:
    """Verb figures."""
    from pldrepro.exhibits.figures import FIGURES, write_figure

    runs, papers = evidence(options)
    for name in options.names or FIGURES:
        write_figure(name, runs, papers, options.out / name)


def claims(options: argparse.Namespace) -> None:
    """Verb claims."""
    from pldrepro.analysis.claims import write_claims

    runs, papers = evidence(options)
    write_claims(runs, papers, options.out)


def reviews(options: argparse.Namespace) -> None:
    """Verb reviews."""
    from pldrepro.exhibits.questions import write_answers

    runs, papers = evidence(options)
    write_answers(runs, papers["pld"], options.out)


def report(options: argparse.Namespace) -> None:
    """Verb report."""
    from pldrepro.exhibits.report import write_report

    runs, papers = evidence(options)
    pages = [page for page in (options.reviews, options.deviations) if page is not None]
    write_report(runs, papers, options.claims, options.tables, options.figures, options.out, pages)


def show(options: argparse.Namespace) -> None:
    """Verb show."""
    from pldrepro.analysis.claims import format_claims, markdown_claims, read_claims

    frame = read_claims(options.claims)
    print(markdown_claims(frame) if options.markdown else format_claims(frame))


def compare(options: argparse.Namespace) -> None:
    """Verb compare."""
    from pldrepro.exhibits.compare import compare
    from pldrepro.files import write_text

    text = compare(options.first, options.second)
    if options.out:
        write_text(options.out, text)
    else:
        print(text, end="")


def explain(options: argparse.Namespace) -> None:
    """Verb explain."""
    from pldrepro.policy.drop import explain

    run = study(options).run(options.experiment, options.seed)
    print(explain(run.drop, options.seed, options.step, run.training.num_steps, run.model.num_layers))


def fit_schedule(options: argparse.Namespace) -> None:
    """Verb fit-schedule."""
    from pldrepro.analysis.fit_schedule import fitted_schedule
    from pldrepro.runs.folder import load_pretrain

    print(fitted_schedule(load_pretrain(options.baseline), load_pretrain(options.dropped)))


def plan(options: argparse.Namespace) -> None:
    """Verb plan."""
    from pldrepro.costs.plan import load_card, load_device, render_plan

    names = options.device or ([] if options.calibration else ["v100"])
    devices = {name: load_device(name) for name in names}
    cards = {f"measured-{number}": load_card(folders) for number, folders in enumerate(options.calibration, start=1)}
    studies = [study_with(path, options.config) for path in options.configfile]
    devices |= cards
    print(render_plan(studies, devices))
    if options.budget_hours is not None:
        from pldrepro.analysis.seeds_for_budget import render_grant

        name, device = next(iter(devices.items()))
        print(f"\n{render_grant(studies, name, device, options.budget_hours)}")


def import_runs(options: argparse.Namespace) -> None:
    """Verb import."""
    from pldrepro.errors import RefusedError
    from pldrepro.runs.import_runs import join

    outcomes = join(study(options), options.source)
    for one in outcomes:
        print(
            f"{one.run}: {'refused: ' + one.reason if one.reason else 'imported' if one.is_new else 'is here already'}"
        )
    refused = sum(one.reason is not None for one in outcomes)
    if refused:
        raise RefusedError(f"{refused} of {len(outcomes)} run folders refused; the others are here")


def print_schema(options: argparse.Namespace) -> None:
    """Verb schema."""
    print(json.dumps(study_schema(), indent=1))


if __name__ == "__main__":
    sys.exit(main())
