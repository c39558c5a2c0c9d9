"""A session on one GPU: what a bare machine with torch can measure in about 25 minutes, as records of the suite.

    python -m benchmarks.gpu_session ceiling calibrate beside speed --data DIR --out OUT --seconds 540
    python -m benchmarks.gpu_session text glue --data DIR --out OUT --seconds 540 --seed 2

Slices, most valuable first; each can be cut off and started again, and leaves alone what it finds complete:

ceiling    bf16 matrix product and copy bandwidth of the card
calibrate  tau(k) at BERT-base shape, eager and with one compiled block, at the largest micro-batch that pays; from it
           the share of the ceiling that a full step reaches, the linear fit, and what skipping a quarter of the
           layers saves of their share
beside     a training step beside transformers' BertForMaskedLM in one process, eager and compiled
speed      config/gpu_speed.yaml: every dialect over a whole schedule of a few hundred steps
text       config/gpu_text.yaml: pre-training on prepared text, as many steps as the time given to it pays for
glue       the same runs, fine-tuned

Every call ends with OUT/records.tar: everything but weights, ready for results/recorded/<device>/.

A later session on another machine needs gpu_text/steps.json and gpu_text/runs/calibration of the first one in its
OUT, and the same card: seeds of one length and one clock are pooled. A call of ``text`` should begin with all its time.

Needed beside torch: numpy, pydantic, PyYAML, safetensors and tqdm; transformers for ``beside`` alone. A slice that
fails says so, and the next one is run.

DIR holds what Snakemake prepares elsewhere: corpus/ and glue/ of ``gpu_text``'s results/gpu_text/data (token arrays, no
text). This is no second workflow: it calls what the rules call, in their order, where Snakemake is not installed.
"""

from __future__ import annotations

import argparse
import tarfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.model_speed import MaskedBatch, OurStep, Step, estimate, interleave, transformers_steps
from pldrepro.config.base import merge
from pldrepro.config.model import ModelSettings
from pldrepro.config.run import CalibrationJob, ImplSettings, RunSettings
from pldrepro.config.study import Study, load_study, read_study
from pldrepro.costs.flops import run_flops
from pldrepro.errors import OutOfTimeError
from pldrepro.files import read_json, write_json
from pldrepro.policy.drop import mean_expected_depth
from pldrepro.runs.provenance import provenance
from pldrepro.runs.step_times import StepTimes, load_calibration
from pldrepro.training.calibrate import Shape, calibrate
from pldrepro.training.device import describe, select_device, synchronizer
from pldrepro.training.finetune import finetune
from pldrepro.training.objectives import open_objective
from pldrepro.training.pretrain import pretrain

MODES = {"eager": False, "compiled": True}
MICRO_BATCHES = (64, 128, 256, 512, 1024)
PAYS = 1.03  # a larger micro-batch pays when it is faster by this factor
SEARCH_STEPS, WARMUP = 5, 3
BEGIN_SECONDS = 60.0
# To see on a CPU that everything runs: two layers, a few steps.
QUICK: dict[str, Any] = {
    "model": {"num_layers": 2, "hidden_size": 32, "num_heads": 2, "ffn_size": 64, "vocab_size": 128,
              "max_positions": 64},
    "data": {"vocab_size": 128, "sequence_length": 24},
    "training": {"num_steps": 12, "batch_size": 8, "validation_points": 2, "validation_sequences": 8},
    "impl": {"threads": 1, "micro_batch_size": 8, "precision": "float32", "compile": False, "log_points": 4},
}  # fmt: skip


class Session:
    """What the slices share: where records go, the data, and the time that is left."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.out: Path = options.out
        self.data: Path | None = options.data
        self.quick: bool = options.quick
        self.seed: int = options.seed
        self.deadline = time.monotonic() + options.seconds
        self.steps: int | None = options.steps
        self.rounds = 3 if self.quick else 30
        self.device = select_device(self.impl)
        self.wait = synchronizer(self.device)

    @property
    def impl(self) -> ImplSettings:
        """How everything but the studies is run."""
        values = {"threads": 1, "device": "cpu"} if self.quick else {"threads": 8, "precision": "bfloat16"}
        return ImplSettings.model_validate(values)

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def begin(self, what: str) -> None:
        """OutOfTimeError where too little time is left to begin something: a model must be built and compiled."""
        if self.left < (0 if self.quick else BEGIN_SECONDS):
            raise OutOfTimeError(f"stopped before {what}")

    def study(self, name: str, **training: Any) -> Study:
        """A scale file with its results under ``out``, and this session's seed."""
        values = {**read_study(Path(f"config/{name}.yaml")), "results": str(self.out / name)}
        if name == "gpu_text":
            values["seeds"] = [self.seed]
        if self.quick:
            tuning: dict[str, Any] = {"sequence_length": 24}
            if name == "gpu_text":
                tuning |= {"groups": {"small": ["rte"]}, "seeds": [1], "epochs": 0.5, "max_train_examples": 32}
            values = merge(values, {"settings": QUICK, "calibration": {"rounds": 3, "threads": 1}})
            values["finetune"] = {**values["finetune"], **tuning}
        return load_study(merge(values, {"settings": {"training": training}}))

    def prepared(self, name: str) -> Path:
        """A folder of prepared data."""
        if self.data is None:
            raise ValueError(f"--data: missing; allowed: a folder with {name}/manifest.json")
        return self.data / name

    def write(self, name: str, values: dict[str, Any]) -> None:
        """A record of a slice."""
        write_json(self.out / name, {**values, "provenance": provenance(describe(self.device, self.impl)).dump()})


# ---- the card ----


def ceiling(session: Session) -> None:
    """Matrix product [FLOP/s] and copy bandwidth [bytes/s], the best of a few sizes, medians over repetitions."""
    if (session.out / "ceiling.json").exists():
        return
    dtype = torch.float32 if session.quick else torch.bfloat16
    products, copies = {}, {}
    for size in (64, 128) if session.quick else (4096, 8192, 16384):
        a, b = (torch.randn(size, size, device=session.device, dtype=dtype) for _ in range(2))
        products[size] = 2 * size**3 / _median_seconds(session, lambda a=a, b=b: a @ b)
    for megabytes in (1, 2) if session.quick else (256, 1024):
        source = torch.empty(megabytes * 2**20, dtype=torch.uint8, device=session.device)
        target = torch.empty_like(source)
        # Read once and written once.
        copies[megabytes] = (
            2 * source.nbytes / _median_seconds(session, lambda source=source, target=target: target.copy_(source))
        )
    session.write(
        "ceiling.json",
        {
            "dtype": str(dtype),
            "matrix_flops": max(products.values()),
            "copy_bytes": max(copies.values()),
            "matrix_flops_by_size": products,
            "copy_bytes_by_megabytes": copies,
        },
    )


def _median_seconds(session: Session, work: Callable[[], Any], rounds: int | None = None) -> float:
    """Of some work, after it was done WARMUP times; rounds: none for the session's own number."""
    seconds = []
    for _ in range(WARMUP + (rounds or session.rounds)):
        session.wait()
        started = time.perf_counter()
        work()
        session.wait()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[WARMUP:]))


# ---- step time by kept layers ----


def calibrate_modes(session: Session) -> None:
    """tau(k) of PreLN and PostLN, eager and compiled, and what follows from it."""
    study = session.study("gpu_speed")
    runs = [study.run(arm, 1) for arm in ("preln_higher", "baseline")]
    found: dict[str, Any] = {}
    for mode, compiled in MODES.items():
        folder = session.out / f"calibration-{mode}"
        if not (folder / "summary.json").exists():
            size, tried = largest_that_pays(session, with_impl(runs[0], compile=compiled and not session.quick))
            impl = {"compile": compiled and not session.quick, "micro_batch_size": size}
            sized = [with_impl(run, **impl) for run in runs]
            job = CalibrationJob(runs=tuple(sized), calibration=study.settings.calibration)
            session.begin(folder.name)
            calibrate(job, folder, progress=False)
            session.write(f"micro-batches-{mode}.json", {"samples_per_second": tried, "chosen": size})
        shapes = load_calibration(folder).shapes
        found[mode] = {shape.norm: _share_of_ceiling(session, runs[0], shape) for shape in shapes}
    session.write("utilisation.json", found)


def with_impl(run: RunSettings, **changes: Any) -> RunSettings:
    """The same run, executed otherwise; a batch is at least a micro-batch."""
    values = run.model_dump()
    values["impl"] |= changes
    values["training"]["batch_size"] = max(values["training"]["batch_size"], values["impl"]["micro_batch_size"])
    return RunSettings.model_validate(values)


def largest_that_pays(session: Session, run: RunSettings) -> tuple[int, dict[int, float]]:
    """The largest micro-batch that is faster than the one before by PAYS, and samples per second of those tried."""
    tried: dict[int, float] = {}
    best = 0
    for size in (4, 8) if session.quick else MICRO_BATCHES:
        torch.compiler.reset()  # each size gets kernels of its own, and none counts against the limit of variants
        try:
            # Two models, as the calibration has: PreLN and PostLN.
            shape, _other = (Shape(with_impl(run, micro_batch_size=size), session.device) for _ in range(2))
            step = partial(shape.step, run.model.num_layers)
            tried[size] = size / _median_seconds(session, step, SEARCH_STEPS)
        except torch.OutOfMemoryError:
            break  # the sizes tried say so: this one is not among them
        finally:
            shape = _other = step = None  # type: ignore[assignment]  # their memory is needed by the next
        if best and tried[size] < PAYS * tried[best]:
            break
        best = size
    return best, tried


def _share_of_ceiling(session: Session, run: RunSettings, shape: StepTimes) -> dict[str, float]:
    """Share of the matrix ceiling of a full step (MFU), R2 of the fit, and share saved by skipping a quarter."""
    peak = read_json(session.out / "ceiling.json")["matrix_flops"]
    layers, quarter = shape.num_layers, max(1, shape.num_layers // 4)
    none, some, full = (shape.median[k] for k in (0, layers - quarter, layers))
    flops = run_flops(run).of(layers, shape.micro_batch_size)
    return {
        "micro_batch_size": shape.micro_batch_size,
        "samples_per_second": shape.micro_batch_size / full,
        "share_of_ceiling": flops / full / peak,
        "r2": shape.fit.r2,
        "share_saved": (full - some) / (quarter / layers * (full - none)),
    }


# ---- beside transformers ----


def beside(session: Session) -> None:
    """Seconds of a training step, ours and transformers', in turn in one process; ratios within a round."""
    if (session.out / "beside.json").exists():
        return
    settings = session.study("gpu_speed").run("baseline", 1).model
    assert isinstance(settings, ModelSettings)
    size, length = (4, 16) if session.quick else (256, 128)
    batch = MaskedBatch(settings.vocab_size, size, length, str(session.device))
    steps: dict[str, Step] = {}
    for mode, compiled in MODES.items():
        impl = session.impl.model_copy(update={"compile": compiled and not session.quick})
        steps[f"ours, {mode}"] = OurStep(settings, batch, impl)
        steps[f"transformers, {mode}"] = transformers_steps(settings, batch, impl)["transformers, fused AdamW"]
    seconds = interleave(steps, session.rounds, time.perf_counter, warmup_rounds=3, wait=session.wait)
    pairs = {mode: (f"transformers, {mode}", f"ours, {mode}") for mode in MODES}
    session.write(
        "beside.json",
        {
            "model": settings.model_dump(mode="json"),
            "batch": size,
            "sequence": length,
            "seconds": {name: estimate(values) for name, values in seconds.items()},
            "ratios": {mode: estimate(seconds[theirs] / seconds[ours]) for mode, (theirs, ours) in pairs.items()},
        },
    )


# ---- studies ----


def speed(session: Session) -> None:
    """Every dialect over a short schedule; seeds in the outer loop, so that arms are interleaved."""
    train(session, session.study("gpu_speed"))


def text(session: Session) -> None:
    """Pre-training on real text; the first session fixes how many steps the time pays for, later ones add seeds."""
    study = session.study("gpu_text")
    planned = session.out / "gpu_text" / "steps.json"
    calibration = calibrated(session, study)
    if not planned.exists():
        steps = session.steps or affordable_steps(session, study, calibration)
        write_json(planned, {"num_steps": min(steps, study.run("baseline", session.seed).training.num_steps)})
    train(session, session.study("gpu_text", **read_json(planned)))


def affordable_steps(session: Session, study: Study, calibration: Path) -> int:
    """Steps that all arms can make in the time left, by the linear fit of tau(k) at the layers that they keep.

    tau(k) is measured on one batch; that every step makes its own is added as it is measured here.
    """
    taus, cost = load_calibration(calibration), 0.0
    for arm in study.settings.arms:
        run = study.run(arm, session.seed)
        cost += _batch_seconds(session, run)
        depth = mean_expected_depth(run.drop, run.training.num_steps, run.model.num_layers)
        passes = -(-run.training.batch_size // run.impl.micro_batch_size)
        cost += passes * taus.shape(run).expected(depth)
    # A quarter is for compiling, validation, checkpoints and the analysis of sensitivity.
    return max(20, int(0.75 * session.left / cost))


def _batch_seconds(session: Session, run: RunSettings) -> float:
    objective = open_objective(run, session.device)
    batches = objective.training(objective.open(session.prepared("corpus")))
    batches.batch(0, run.training.batch_size)  # shuffles the first epoch
    started = time.perf_counter()
    for step in range(1, 1 + SEARCH_STEPS):
        batches.batch(step, run.training.batch_size)
    return (time.perf_counter() - started) / SEARCH_STEPS


def calibrated(session: Session, study: Study) -> Path:
    """The summary of the study's calibration, made when it is not there."""
    folder, here = Path(study.runs) / "calibration", describe(session.device, study.impl)
    if not (folder / "summary.json").exists():
        calibrate(study.calibration_job(), folder, progress=False)
    if load_calibration(folder).summary.device.name != here.name:
        raise ValueError(f"{folder}: step times of another card; allowed: those of {here.name}")
    return folder / "summary.json"


def train(session: Session, study: Study) -> None:
    """All pre-training runs of a study, in order, until the time is over."""
    calibration = calibrated(session, study)
    for arm, seed in study.pretrain_runs():
        folder = Path(study.runs) / "pretrain" / arm / f"seed{seed}"
        if not (folder / "summary.json").exists():
            session.begin(f"{arm}, seed {seed}")
        pretrain(study.run(arm, seed), session.prepared("corpus"), folder, calibration, session.left, progress=False)


def glue(session: Session) -> None:
    """Fine-tuning of the runs on text, job by job, until the time is over."""
    planned = session.out / "gpu_text" / "steps.json"
    study = session.study("gpu_text", **read_json(planned))
    for arm, seed, checkpoint, group in study.finetune_runs():
        session.begin(f"{arm}, {checkpoint}, {group}")
        run = Path(study.runs) / "pretrain" / arm / f"seed{seed}"
        folder = Path(study.runs) / "finetune" / arm / f"seed{seed}" / checkpoint / group
        finetune(run, checkpoint, study.settings.finetune, group, session.prepared("glue"), folder, progress=False)


def pack(session: Session) -> None:
    """All records but weights, tokenizers and resume checkpoints, as one archive."""
    target = session.out / "records.tar"
    with tarfile.open(target, "w") as archive:
        for path in sorted(path for path in session.out.rglob("*") if path.is_file() and path != target):
            inside = path.relative_to(session.out)
            if not {"checkpoints", "models", "resume", "parts"} & set(inside.parts) and path.name != "manifest.json":
                archive.add(path, str(inside))


SLICES: dict[str, Callable[[Session], None]] = {
    "ceiling": ceiling,
    "calibrate": calibrate_modes,
    "beside": beside,
    "speed": speed,
    "text": text,
    "glue": glue,
}


def main(arguments: list[str] | None = None) -> int:
    """Run slices until they are done or the time is over; 75: the same command goes on, 1: a slice failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slices", nargs="+", choices=SLICES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder with corpus/ and glue/, prepared elsewhere")
    parser.add_argument("--seconds", type=float, default=540.0, help="time for this call (default 540)")
    parser.add_argument("--seed", type=int, default=1, help="of the slices text and glue: one for every session")
    parser.add_argument(
        "--steps", type=int, help="of the slice text, in the first session; none: what the time pays for"
    )
    parser.add_argument("--quick", action="store_true", help="tiny, on the CPU: only to see that it runs")
    options = parser.parse_args(arguments)
    session = Session(options)
    status = 0
    for name in options.slices:
        started = time.monotonic()
        try:
            SLICES[name](session)
        except OutOfTimeError as error:
            print(f"{name}: {error}; the same command goes on", flush=True)
            status = 75
            break
        except Exception:  # the time on a GPU is short: the others come first
            traceback.print_exc()
            print(f"{name}: FAILED after {time.monotonic() - started:.0f} s", flush=True)
            status = 1
        else:
            print(f"{name}: done in {time.monotonic() - started:.0f} s", flush=True)
        torch.cuda.empty_cache()
        torch.compiler.reset()
    pack(session)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
