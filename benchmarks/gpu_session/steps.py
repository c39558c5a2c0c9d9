"""Step times: tau(k) of BERT-base and of GPT-2 small, the most that a step reaches, and transformers for comparison."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_session.session import MODES, Session, with_impl
from benchmarks.model_speed import MaskedBatch, OurStep, Step, estimate, interleave, transformers_steps
from pldrepro.config.model import ModelSettings
from pldrepro.config.run import CalibrationJob, CalibrationSettings, RunSettings
from pldrepro.costs.flops import run_flops
from pldrepro.files import read_json
from pldrepro.runs.step_times import StepTimes, load_calibration
from pldrepro.training.calibrate import Shape, calibrate

PEAK_SIZE, PEAK_ROUNDS = 1024, 10
BESIDE_ROUNDS = 30


def tau(session: Session) -> None:
    """tau(k) of PreLN and PostLN, eager and compiled; the compiled one is also that of the study on speed."""
    study = session.study("gpu_speed")
    runs = [study.run(arm, 1) for arm in ("preln_higher", "baseline")]
    settings = study.settings.calibration
    for mode, compiled in MODES.items():
        changes = {"compile": compiled and not session.quick}
        folder = Path(study.runs) / "calibration" if compiled else session.out / "calibration-eager"
        measure(session, f"tau {mode}", [with_impl(run, **changes) for run in runs], settings, folder)
    if not session.quick:
        changes = {"residual": "bfloat16"}
        folder = session.out / "calibration-bfloat16-stream"
        measure(session, "tau bfloat16 stream", [with_impl(runs[0], **changes)], settings, folder)
    peak(session, runs[0])


def gpt(session: Session) -> None:
    """tau(k) of GPT-2 small, compiled: SBLD's saving of time is a claim about a GPT."""
    run = session.study("gpu_gpt").run("baseline", 1)
    compiled = with_impl(run, device=session.impl.device, compile=not session.quick)
    settings = CalibrationSettings(rounds=3 if session.quick else 15, threads=session.impl.threads)
    measure(session, "tau gpt", [compiled], settings, session.out / "calibration-gpt")


def measure(session: Session, name: str, runs: list[RunSettings], settings: CalibrationSettings, folder: Path) -> None:
    """A calibration and what follows from it, unless it is there."""

    def work() -> None:
        calibrate(CalibrationJob(runs=tuple(runs), calibration=settings), folder, progress=False)
        found = load_calibration(folder).shapes
        shares = {shape.norm: share_of_ceiling(session, run, shape) for run, shape in zip(runs, found, strict=True)}
        session.write(f"utilisation-{name.replace(' ', '-')}.json", shares)
        full = shares["pre"]
        print(f"  {full['samples_per_second']:.0f} samples/s, {100 * full['share_of_ceiling']:.1f} % of the ceiling")

    if not (folder / "summary.json").exists():
        session.part(name, work, 45)


def share_of_ceiling(session: Session, run: RunSettings, shape: StepTimes) -> dict[str, float]:
    """Share of the matrix ceiling of a full step (MFU), R2 of the fit, and share saved by skipping a quarter."""
    layers, quarter = shape.num_layers, max(1, shape.num_layers // 4)
    none, some, full = (shape.median[k] for k in (0, layers - quarter, layers))
    return {
        "micro_batch_size": shape.micro_batch_size,
        "samples_per_second": shape.micro_batch_size / full,
        "share_of_ceiling": utilisation(session, run, shape.micro_batch_size, full),
        "r2": shape.fit.r2,
        "share_saved": (full - some) / (quarter / layers * (full - none)),
    }


def utilisation(session: Session, run: RunSettings, size: int, seconds: float) -> float:
    """FLOPs of a full step of ``size`` samples over what the ceiling allows in the same time."""
    peak_flops = float(read_json(session.out / "ceiling.json")["matrix_flops"])
    return run_flops(run).of(run.model.num_layers, size) / seconds / peak_flops


def peak(session: Session, run: RunSettings) -> None:
    """The most that a full step reaches: a large batch, a bfloat16 stream, kernels chosen by measurement."""
    from torch._inductor import config

    if (session.out / "peak.json").exists():
        return
    size = 8 if session.quick else PEAK_SIZE
    compiled: dict[str, Any] = {"micro_batch_size": size, "compile": not session.quick}
    stream = {} if session.quick else {"residual": "bfloat16"}
    variants = {"compiled": (compiled, False), "bfloat16 stream": ({**compiled, **stream}, False),
                "autotuned": ({**compiled, **stream}, True)}  # fmt: skip
    found: dict[str, dict[str, float]] = {}

    def work(name: str, changes: dict[str, Any], tuned: bool) -> None:
        with config.patch(max_autotune=tuned, epilogue_fusion=True):
            shape = Shape(with_impl(run, **changes), session.device)
            seconds = session.median_seconds(partial(shape.step, run.model.num_layers), PEAK_ROUNDS)
        found[name] = {
            "micro_batch_size": size,
            "samples_per_second": size / seconds,
            "share_of_ceiling": utilisation(session, run, size, seconds),
        }
        session.write("peak.json", {"variants": found})

    for name, (changes, tuned) in variants.items():
        session.part(f"peak {name}", partial(work, name, changes, tuned), 90 if tuned else 30)


def beside(session: Session) -> None:
    """Seconds of a training step, ours and transformers', in turn in one process; ratios within a round."""
    if (session.out / "beside.json").exists():
        return
    settings = session.study("gpu_speed").run("baseline", 1).model
    assert isinstance(settings, ModelSettings)
    size, length = (4, 16) if session.quick else (256, 128)
    batch = MaskedBatch(settings.vocab_size, size, length, str(session.device))
    steps: dict[str, Step] = {}

    def build(who: str, mode: str) -> None:
        """A candidate counts once it has made a step."""
        impl = session.impl.model_copy(update={"compile": MODES[mode] and not session.quick})
        if who == "ours":
            step: Step = OurStep(settings, batch, impl)
        else:
            step = transformers_steps(settings, batch, impl)["transformers, fused AdamW"]
        step()
        session.wait()
        steps[f"{who}, {mode}"] = step

    # What may take long or fail comes last.
    for who, mode in (("ours", "eager"), ("transformers", "eager"), ("ours", "compiled"), ("transformers", "compiled")):
        session.part(f"beside: {who}, {mode}", partial(build, who, mode), 20, shared=True)
    session.part("beside", partial(_take_turns, session, steps, settings, size, length), 10)


def _take_turns(session: Session, steps: dict[str, Step], settings: ModelSettings, size: int, length: int) -> None:
    """Measure the candidates that there are, for as many rounds as the time allows."""
    started = time.perf_counter()
    interleave(steps, 1, time.perf_counter, warmup_rounds=1, wait=session.wait)
    a_round = (time.perf_counter() - started) / 2
    rounds = 3 if session.quick else max(3, min(BESIDE_ROUNDS, int((session.left - 5) / a_round)))
    seconds = interleave(steps, rounds, time.perf_counter, warmup_rounds=1, wait=session.wait)
    pairs = {mode: (f"transformers, {mode}", f"ours, {mode}") for mode in MODES}
    ratios = {
        mode: estimate(seconds[theirs] / seconds[ours])
        for mode, (theirs, ours) in pairs.items()
        if theirs in seconds and ours in seconds
    }
    session.write(
        "beside.json",
        {
            "model": settings.model_dump(mode="json"),
            "batch": size,
            "sequence": length,
            "seconds": {name: estimate(values) for name, values in seconds.items()},
            "ratios": ratios,
        },
    )
