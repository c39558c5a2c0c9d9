"""A session on one GPU: what a bare machine with torch can measure in 25 minutes, as records of the suite.

At home, once; PARCEL/data.tar.xz, commit and the wheels travel with the repository:

    python -m benchmarks.gpu_session prepare --parcel PARCEL --data-root DIR
    python -m pip download --no-deps -r PARCEL/wheels.txt ...

On the machine, with the data unpacked in DIR; it goes on when whoever started it goes away:

    export PLDREPRO_COMMIT=$(cat PARCEL/commit)
    python -m benchmarks.gpu_session --data DIR --out OUT --seconds 1500 --detach
    python -m benchmarks.gpu_session status --out OUT     # what is done, and OUT/records.tar of it, at any time

Slices, in this order. Each is a few parts; one that fails or has no time left says so, and the next has its turn:

smoke    everything once, tiny; where it fails nothing else is begun
ceiling  matrix products, copies, kernels of attention: the fastest is used from then on
tau      tau(k) of BERT-base, eager and compiled; the most that a step reaches
gpt      tau(k) of GPT-2 small
beside   a training step of ours and of transformers, in turn, eager and compiled
speed    config/gpu_speed.yaml: every dialect over a whole schedule of some hundred steps
in_turn  the same study: steps of the baseline, PreLN and PLD measured in turn, in three processes
text     config/gpu_text.yaml: pre-training on prepared text, as many steps as the time pays for
probe    the final checkpoints of these runs
contrasts  of two checkpoints of each of them: minimal pairs (where DIR has contrasts/) and cloze contrasts
glue     the final checkpoints, fine-tuned in several processes

A later session adds seeds (--seeds 3 4): its OUT needs attention.json, ceiling.json, gpu_text/steps.json and
gpu_text/runs/calibration of the first one, and the same card.

Needed: torch, numpy, scipy, pydantic, PyYAML, safetensors and tqdm; transformers only for ``beside``. DIR holds
corpus/, glue/ and contrasts/, token arrays without text. This is no second workflow: it calls what the rules call, in
their order, where Snakemake is not installed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu_session.card import ceiling
from benchmarks.gpu_session.parcel import STUDY, pack, prepare
from benchmarks.gpu_session.session import Session
from benchmarks.gpu_session.steps import beside, gpt, tau
from benchmarks.gpu_session.studies import contrasts, glue, in_turn, probes, smoke, speed, text

LOG_TEXT = "log.txt"  # what a detached session prints
OUT_OF_TIME = 75  # exit status: the same command goes on


@dataclass(frozen=True)
class Slice:
    """A slice, and the seconds that are kept for it while earlier ones run."""

    work: Callable[[Session], None]
    seconds: float


SLICES = {
    "smoke": Slice(smoke, 60),
    "ceiling": Slice(ceiling, 30),
    "tau": Slice(tau, 190),
    "gpt": Slice(gpt, 40),
    "beside": Slice(beside, 90),
    "speed": Slice(speed, 170),
    "in_turn": Slice(in_turn, 60),
    "text": Slice(text, 480),
    "probe": Slice(probes, 60),
    "contrasts": Slice(contrasts, 80),
    "glue": Slice(glue, 200),
}
RESERVE = 20.0  # seconds for the last archive


def run(options: argparse.Namespace) -> int:
    """Run slices until they are done or the time is over; 75: the same command goes on, 1: something failed."""
    if options.detach:
        return detach(options.out)
    ends = time.monotonic() + options.seconds
    options.out.mkdir(parents=True, exist_ok=True)
    session = Session(
        out=options.out,
        data=options.data,
        seeds=tuple(options.seeds),
        deadline=ends,
        quick=options.quick,
        workers=options.workers,
        steps=options.steps,
    )
    names = options.slices or list(SLICES)
    for place, name in enumerate(names):
        # What later slices need is theirs, but this one has its own share in any case.
        later = sum(SLICES[other].seconds for other in names[place + 1 :]) + RESERVE
        left = ends - time.monotonic()
        session.deadline = time.monotonic() + max(left - later, min(SLICES[name].seconds, left - RESERVE))
        do(session, name)
        torch.compiler.reset()
        pack(session.out)
        if name == "smoke" and session.failed:
            break
    return 1 if session.failed else OUT_OF_TIME if session.cut else 0


def do(session: Session, name: str) -> None:
    """Do a slice and say how it ended."""
    started, failed, cut = time.monotonic(), len(session.failed), len(session.cut)
    try:
        SLICES[name].work(session)
    except Exception:  # not even its parts could be begun
        traceback.print_exc()
        session.failed.append(name)
    state = "FAILED" if len(session.failed) > failed else "no time" if len(session.cut) > cut else "done"
    print(f"{name}: {state} in {time.monotonic() - started:.0f} s", flush=True)


def detach(out: Path) -> int:
    """Start the same command in a session of its own, its output in OUT/log.txt."""
    out.mkdir(parents=True, exist_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
    with (out / LOG_TEXT).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "benchmarks.gpu_session", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    print(f"process {process.pid}, output in {out / LOG_TEXT}")
    return 0


def status(options: argparse.Namespace) -> int:
    """The last lines of the log, and archives of what is finished."""
    path = options.out / LOG_TEXT
    if path.exists():
        print("".join(path.read_text("utf-8", errors="replace").splitlines(keepends=True)[-options.lines :]), end="")
    for archive in pack(options.out):
        print(f"{archive}: {archive.stat().st_size / 1e6:.2f} MB")
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run", help="measure")
    running.add_argument("slices", nargs="*", metavar="SLICE", help=f"of {', '.join(SLICES)} (default: all)")
    running.add_argument("--data", type=Path, help="folder with corpus/ and glue/, prepared elsewhere")
    running.add_argument("--seconds", type=float, default=1500.0, help="for all slices (default 1500)")
    running.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="of the study on text (default 1 2)")
    running.add_argument("--steps", type=int, help="of the study on text, in the first session; none: what is paid for")
    running.add_argument("--workers", type=int, default=5, help="processes that fine-tune side by side; 0: none")
    running.add_argument("--quick", action="store_true", help="tiny, on the CPU: only to see that it runs")
    running.add_argument("--detach", action="store_true", help="in a process of its own, which nobody has to wait for")
    asking = verbs.add_parser("status", aliases=["pack"], help="what is done, and archives of it")
    asking.add_argument("--lines", type=int, default=60, help="of the log (default 60)")
    for one in (running, asking):
        one.add_argument("--out", type=Path, required=True, help="where records go")
    preparing = verbs.add_parser("prepare", help="make the parcel that travels to the machine")
    preparing.add_argument("--parcel", type=Path, required=True)
    preparing.add_argument("--data-root", type=Path, help="folder of text and GLUE, as data_root of the study")
    preparing.add_argument("--limit", type=float, default=60.0, help="MB that may travel (default 60)")
    preparing.add_argument("--study", type=Path, default=STUDY, help="(default %(default)s)")
    given = sys.argv[1:] if arguments is None else arguments
    # Without a verb it is measured: `gpu_session --seconds 1500` is `gpu_session run --seconds 1500`.
    options = parser.parse_args(
        given if given[:1] and given[0] in {*verbs.choices, "-h", "--help"} else ["run", *given]
    )
    unknown = set(getattr(options, "slices", ())) - set(SLICES)
    if unknown:
        parser.error(f"no slice {', '.join(sorted(unknown))}; allowed: {', '.join(SLICES)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit status."""
    options = parsed(arguments)
    if options.verb == "prepare":
        prepare(options.parcel, options.data_root, options.limit, options.study)
        return 0
    return run(options) if options.verb == "run" else status(options)


if __name__ == "__main__":
    raise SystemExit(main())
