"""Command line: the table of all verbs (VERBS), and what becomes of their errors."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

try:
    from pldrepro import __version__, verbs
    from pldrepro.errors import STOPPED, OutOfTimeError
except ModuleNotFoundError as missing:  # another Python than that of the environment
    sys.exit(f"{missing}: run `make setup`, then `source .venv/bin/activate`")

SAVED = ("resume", "parts")  # what an interrupted run has in its folder to go on from


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; user errors become one line on stderr and exit status 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (len(arguments) == 1 and arguments[0] in GROUPS):  # what is there to choose from
        arguments = [*arguments, "--help"]
    try:
        try:
            status = run(parser().parse_args(arguments), arguments)
        finally:  # after --help, too: here, and not after the end, it shows that nobody reads any more
            sys.stdout.flush()
    except BrokenPipeError:  # what is printed goes to `head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def run(options: argparse.Namespace, arguments: list[str]) -> int:
    """Run the verb that was parsed; the exit status."""
    options.arguments = arguments  # for the ranks, which are started with the same ones
    rank = f"rank {os.environ['RANK']}: " if "RANK" in os.environ else ""
    try:
        options.function(options)
    except KeyboardInterrupt:
        out = getattr(options, "out", None)
        saved = [out / name for name in SAVED if (out / name).exists()] if out else []
        then = f"; the same command goes on from {saved[0]}" if saved else ""
        print(f"interrupted{then}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except (ValueError, RuntimeError, OSError) as error:
        if options.traceback:
            raise
        print(f"{rank}{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return STOPPED if isinstance(error, OutOfTimeError) else 1
    return 0


# ---- the table of verbs ----


class Argument(NamedTuple):
    """An argument as argparse takes it."""

    flags: tuple[str, ...]
    options: dict[str, Any]


def argument(*flags: str, **options: Any) -> Argument:
    """One argument; every one has a ``help``, with its unit where it has one."""
    return Argument(flags, options)


def path(flag: str, help_: str, **options: Any) -> Argument:
    """An argument that is a path; one with a flag is required unless the options say otherwise."""
    required = {"required": True} if flag.startswith("-") else {}
    return argument(flag, **{"type": Path, "help": help_, **required, **options})


def at_least(least: int, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """The type of a number that may not be smaller."""

    def number(text: str) -> float:
        value = kind(text)
        if not value >= least:
            raise argparse.ArgumentTypeError(f"{text}: allowed: {least} or more")
        return value

    return number


def settings(kind: str) -> Argument:
    """The settings of a job, of a class in pldrepro.config."""
    return argument("--settings", required=True, help=f"{kind}: a JSON or YAML file, or JSON text")


def study_file(default: str) -> tuple[Argument, ...]:
    """The file of a study, and what is changed in it."""
    return (
        path("--configfile", f"the study's file (default: {default})", required=False, default=Path(default)),
        OVERRIDES,
    )


OVERRIDES = argument("--config", nargs="*", default=[], metavar="KEY=VALUE", help="top-level keys to override")
RUN = path("--run", "folder of a pre-training run")
CORPUS = path("--corpus", "folder of the prepared corpus")
OUT_RUN = path("--out", "run folder to write")
OUT_DATA = path("--out", "folder of the arrays to write")
EXPERIMENT = argument("--experiment", required=True, metavar="ARM", help="an arm, by the name of its file")
SEED = argument("--seed", type=at_least(0), default=1, help="seed of the run (default: 1)")
FINISHED = (
    path("--index", "index.json: the finished runs"),
    path("--papers", "the papers' values, YAML files (default: all)", required=False, nargs="*", default=[]),
)

ABOUT = "Layer dropping, measured again. For people: `study`. The workflow calls the others; each works by itself."
GROUPS = {
    "study": "plan studies, look into them, compare their results",
    "prepare": "turn data into arrays",
    "run": "train or evaluate a model",
    "make": "make exhibits from finished runs",
}
VERBS: dict[str, tuple[Callable[[argparse.Namespace], None], tuple[Argument, ...]]] = {
    "prepare corpus": (verbs.prepare_corpus, (
        settings("DataSettings"), argument("--workers", type=at_least(1), default=1, help="processes (default: 1)"),
        OUT_DATA,
    )),
    "prepare glue": (verbs.prepare_glue, (
        settings("DataSettings"), argument("--tasks", nargs="+", required=True, help="names such as rte, stsb"),
        argument("--sequence-length", type=at_least(8), required=True, help="longest example [tokens]"),
        CORPUS, OUT_DATA,
    )),
    "prepare contrasts": (verbs.prepare_contrasts, (
        settings("ContrastSettings"), argument("--data", required=True, help="DataSettings"), CORPUS, OUT_DATA,
    )),
    "prepare images": (verbs.prepare_images, (settings("ImageDataSettings"), OUT_DATA)),
    "run calibrate": (verbs.run_calibrate, (settings("CalibrationJob"), OUT_RUN)),
    "run interleave": (verbs.run_interleave, (
        settings("InterleaveJob"),
        argument("--process", type=at_least(1), default=1, help="its number, which draws its gates (default: 1)"),
        OUT_RUN,
    )),
    "run pretrain": (verbs.run_pretrain, (
        settings("RunSettings"), path("--data", "folder of the prepared corpus or images"),
        path("--calibration", "summary.json of a calibration, to record reference time [s]", required=False),
        argument("--max-seconds", type=at_least(0, float), help=f"stop after this time [s], with status {STOPPED}"),
        OUT_RUN,
    )),
    "run finetune": (verbs.run_finetune, (
        settings("FinetuneSettings"), RUN, argument("--checkpoint", required=True, help="its name, such as ckp100"),
        argument("--group", required=True, help="a group of tasks in the settings"),
        path("--glue", "folder of the prepared tasks"), OUT_RUN,
    )),
    "run probe": (verbs.run_probe, (settings("ProbeSettings"), RUN, CORPUS, OUT_RUN)),
    "run early": (verbs.run_early, (settings("EarlyRunSettings"), CORPUS, OUT_RUN)),
    "run contrasts": (verbs.run_contrasts, (
        settings("ContrastSettings"), RUN, CORPUS, path("--items", "folder of the prepared items"), OUT_RUN,
    )),
    "run lambada": (verbs.run_lambada, (RUN, CORPUS, OUT_RUN)),
    "make scores": (verbs.make_scores, (
        path("--finetune", "run folders or their summary.json", required=False, nargs="*", default=[]),
        path("--out", "scores.csv to write"),
    )),
    "make exhibits": (verbs.make_exhibits, (
        argument("--tables", nargs="*", metavar="NAME", help="such as table1 (default: all, if no figure is named)"),
        argument("--figures", nargs="*", metavar="NAME", help="such as figure1 (default: all, if no table is named)"),
        *FINISHED, path("--out", "results folder, for its tables/ and figures/"),
    )),
    "make claims": (verbs.make_claims, (
        *FINISHED, path("--out", "claims.csv to write; story.csv and reviews.md go next to it"),
    )),
    "make report": (verbs.make_report, (
        *FINISHED, path("--claims", "claims.csv"), path("--tables", "folder of the tables"),
        path("--figures", "folder of the figures"),
        path("--pages", "Markdown pages to append", required=False, nargs="*", default=[]),
        path("--out", "report.html to write"),
    )),
    "make page": (verbs.make_page, (
        path("results", "results folders with claims.csv and tables/, in the order in which they are shown", nargs="+"),
        path("--out", "Markdown page to write"),
    )),
    "make readme": (verbs.make_readme, (
        path("results", "results folders with claims.csv, in the order in which they are shown", nargs="+"),
        path("--readme", "the file with the markers (default: README.md)", required=False, default=Path("README.md")),
    )),
    "study settings": (verbs.study_settings, (*study_file("config/demo.yaml"), EXPERIMENT, SEED)),
    "study explain": (verbs.study_explain, (
        *study_file("config/paper.yaml"), EXPERIMENT, SEED,
        argument("--step", type=at_least(0), required=True, help="training step, from 0"),
    )),
    "study plan": (verbs.study_plan, (
        path("--configfile", "studies, planned together (default: config/demo.yaml)", required=False, nargs="+",
             default=[Path("config/demo.yaml")]),
        OVERRIDES,
        argument("--device", nargs="*", metavar="NAME", help="of config/devices.yaml (default: v100, or cpu-2-cores)"),
        path("--calibration", "calibration folders of one machine, as one more device; may be repeated", required=False,
             nargs="+", action="append", default=[], metavar="DIR"),
    )),
    "study status": (verbs.study_status, study_file("config/demo.yaml")),
    "study import": (
        verbs.study_import, (path("source", "a results folder, or its runs"), *study_file("config/demo.yaml")),
    ),
    "study unlock": (verbs.study_unlock, ()),
    "study record": (verbs.study_record, (
        path("runs", "the runs of a study, results/NAME/runs"), path("--out", "folder of the records"),
    )),
    "study unpack": (verbs.study_unpack, (
        path("records", "folder of recorded runs"), path("--out", "folder to write the run folders to"),
    )),
    "study seal": (verbs.study_seal, (path("folders", "results folders or run folders", nargs="+"),)),
    "study claims": (verbs.study_claims, (
        path("claims", "the file", metavar="CSV"),
        argument("--markdown", action="store_true", help="the measured claims, as a Markdown table"),
    )),
    "study compare": (verbs.study_compare, (
        path("first", "results folder with tables/ and claims.csv", metavar="A"),
        path("second", "another one", metavar="B"),
        path("--out", "Markdown file to write instead of printing", required=False),
    )),
}  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The argument parser of VERBS."""
    whole = argparse.ArgumentParser(prog="python -m pldrepro", description=ABOUT)
    whole.add_argument("--traceback", action="store_true", help="show the whole traceback of an error")
    whole.add_argument("--version", action="version", version=f"pldrepro {__version__}")
    groups = whole.add_subparsers(required=True, metavar="GROUP")
    parsers = {
        name: groups.add_parser(name, help=help_, description=help_).add_subparsers(required=True, metavar="VERB")
        for name, help_ in GROUPS.items()
    }
    for name, (function, arguments) in VERBS.items():
        group, verb = name.split()
        help_ = (function.__doc__ or "").strip().partition("\n")[0]
        own = parsers[group].add_parser(verb, help=help_, description=help_)
        own.set_defaults(function=function)
        for flags, options in arguments:
            own.add_argument(*flags, **options)
    return whole


if __name__ == "__main__":
    sys.exit(main())
