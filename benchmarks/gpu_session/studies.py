"""The studies of a session: a tiny one that fails early, costs, text, and what is made of the checkpoints."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu_session.session import STEPS, Session, with_impl
from pldrepro.config.base import merge
from pldrepro.config.data import DataSettings
from pldrepro.config.run import FinetuneSettings, ProbeSettings, RunSettings
from pldrepro.config.study import Study
from pldrepro.data.contrasts import prepare_contrasts
from pldrepro.errors import OutOfTimeError
from pldrepro.evaluation.probe import probe
from pldrepro.evaluation.score_contrasts import score_contrasts
from pldrepro.files import write_json
from pldrepro.policy.drop import mean_expected_depth
from pldrepro.runs.step_times import load_calibration
from pldrepro.training.calibrate import Shape, calibrate
from pldrepro.training.device import describe
from pldrepro.training.finetune import finetune
from pldrepro.training.interleave import interleave
from pldrepro.training.objectives import open_objective
from pldrepro.training.pretrain import pretrain

SMOKE: dict[str, Any] = {
    "model": {"num_layers": 2, "hidden_size": 64, "num_heads": 1, "ffn_size": 128},
    "training": {"num_steps": 8, "batch_size": 16, "validation_points": 2, "validation_sequences": 16,
                 "checkpoints": {"ckp46": None, "ckp100": None, "ckp186": 1}},
    "impl": {"micro_batch_size": 16, "log_points": 2},
}  # fmt: skip
SMOKE_FINETUNE = {"groups": {"smoke": ("rte",)}, "seeds": (1,), "epochs": 1, "max_train_examples": 64}
MEASURED_BATCHES = 5
OVERHEAD = 0.1  # of the time of a study: compiling, validation, checkpoints, the analysis of sensitivity


# ---- does everything run here ----


def smoke(session: Session) -> None:
    """Each kind of work once, tiny, on this card and with its compiler: what would fail later fails here."""
    study, folder = session.study("gpu_text"), session.out / "smoke"
    corpus = session.prepared("corpus")

    def run(arm: str, **changes: Any) -> RunSettings:
        values = merge(study.run(arm, 1).model_dump(), SMOKE)
        return RunSettings.model_validate(merge(values, changes))

    def resumed() -> None:
        for seconds in (0.0, None):
            try:
                pretrain(run("pld"), corpus, folder / "pld", None, seconds, progress=False)
            except OutOfTimeError:
                assert seconds == 0.0

    def pairs() -> None:
        changes = {"training": {"next_sentence": True}}
        stream = {} if session.quick else {"impl": {"residual": "bfloat16"}}
        pretrain(run("sbld", **changes, **stream), corpus, folder / "sbld", progress=False)

    def tuned() -> None:
        settings = FinetuneSettings.model_validate({**study.finetune.model_dump(), **SMOKE_FINETUNE})
        finetune(folder / "pld", "ckp186", settings, "smoke", session.prepared("glue"), folder / "rte", progress=False)

    def probed() -> None:
        settings = ProbeSettings(sequences=16, gradient_batches=2, lesion_draws=2)
        probe(folder / "pld", corpus, settings, folder / "probe", progress=False)

    def gpt() -> None:
        values = session.study("gpu_gpt").run("baseline", 1).model_dump()
        values = merge(values, {"model": SMOKE["model"], "impl": {"compile": not session.quick}})
        tiny = with_impl(RunSettings.model_validate(values), device=session.impl.device, micro_batch_size=4)
        Shape(tiny, session.device).step(2)
        session.wait()

    work: dict[str, Callable[[], None]] = {
        "resume": resumed, "sentence pairs": pairs, "fine-tuning": tuned, "probe": probed, "gpt": gpt,
    }  # fmt: skip
    for name, part in work.items():
        session.part(f"smoke {name}", part)


# ---- pre-training ----


def speed(session: Session) -> None:
    """Every dialect over a short schedule; seeds in the outer loop, so that arms are interleaved."""
    session.write_study("gpu_speed")
    train(session, session.study("gpu_speed"))


def text(session: Session) -> None:
    """Pre-training on real text; the first session fixes how many steps the time pays for, later ones add seeds."""
    study = session.study("gpu_text")
    if not calibrated(session, study):
        return
    if not (session.out / STEPS).exists():
        steps = session.steps or affordable_steps(session, study)
        steps = min(steps, study.run(study.baseline, session.seeds[0]).training.num_steps)
        write_json(session.out / STEPS, {"num_steps": steps})
        print(f"  {steps} steps", flush=True)
    session.write_study("gpu_text")
    train(session, session.study("gpu_text"))


def affordable_steps(session: Session, study: Study) -> int:
    """Steps that all runs can make in the time left, by the linear fit of tau(k) at the layers that they keep.

    tau(k) is measured on one batch; that every step makes its own is added as it is measured here.
    """
    taus, cost = load_calibration(calibration_of(study)), 0.0
    for arm, seed in study.pretrain_runs():
        run = study.run(arm, seed)
        if run.training.num_steps == 0:
            continue
        depth = mean_expected_depth(run.drop, run.training.num_steps, run.model.num_layers)
        passes = -(-run.training.batch_size // run.impl.micro_batch_size)
        cost += batch_seconds(session, run) + passes * taus.shape(run).expected(depth)
    return max(20, int((1 - OVERHEAD) * session.left / cost))


def batch_seconds(session: Session, run: RunSettings) -> float:
    """Seconds that making a batch takes."""
    objective = open_objective(run, session.device)
    batches = objective.training(objective.open(session.prepared("corpus")))
    batches.batch(0, run.training.batch_size)  # shuffles the first epoch
    started = time.perf_counter()
    for step in range(1, 1 + MEASURED_BATCHES):
        batches.batch(step, run.training.batch_size)
    return (time.perf_counter() - started) / MEASURED_BATCHES


def calibration_of(study: Study) -> Path:
    """The folder of a study's calibration."""
    return Path(study.runs) / "calibration"


def calibrated(session: Session, study: Study) -> bool:
    """Whether the study has the step times of this card; they are measured when there are none."""
    folder = calibration_of(study)

    def check() -> None:
        if not (folder / "summary.json").exists():
            calibrate(study.calibration_job(), folder, progress=False)
        here = describe(session.device, study.impl)
        if load_calibration(folder).summary.device.name != here.name:
            raise ValueError(f"{folder}: step times of another card; allowed: those of {here.name}")

    return session.part(f"{study.settings.scale}: step times", check, 20)


def train(session: Session, study: Study) -> None:
    """All pre-training runs of a study, in order, as long as the time lasts."""
    if not calibrated(session, study):
        return
    summary = calibration_of(study) / "summary.json"
    for arm, seed in study.pretrain_runs():
        folder = run_folder(study, arm, seed)
        if (folder / "summary.json").exists():
            continue

        def work(arm: str = arm, seed: int = seed, folder: Path = folder) -> None:
            pretrain(study.run(arm, seed), session.prepared("corpus"), folder, summary, session.left, progress=False)

        session.part(f"{study.settings.scale}: {arm}, seed {seed}", work, 20, shared=True)


def run_folder(study: Study, arm: str, seed: int) -> Path:
    """The folder of a pre-training run."""
    return Path(study.runs) / "pretrain" / arm / f"seed{seed}"


# ---- what is made of the checkpoints ----


def has_checkpoint(study: Study, arm: str, seed: int, name: str) -> bool:
    """Whether a run is finished, and its weights are here (an earlier session's are not)."""
    folder = run_folder(study, arm, seed)
    return (folder / "summary.json").exists() and (folder / "checkpoints" / name).is_dir()


def probes(session: Session) -> None:
    """Gradients, similarities and lesions of the final checkpoints: weights do not leave the machine."""
    study = session.study("gpu_text")
    for arm, seed in study.probe_runs():
        folder = Path(study.runs) / "probe" / arm / f"seed{seed}"
        final = study.run(arm, seed).training.final_checkpoint
        if (folder / "summary.json").exists() or not has_checkpoint(study, arm, seed, final):
            continue
        settings = study.settings.probe.model_copy(update={"checkpoints": (final,)})
        run = run_folder(study, arm, seed)
        work = partial(probe, run, session.prepared("corpus"), settings, folder, progress=False)
        session.part(f"probe: {arm}, seed {seed}", work, 20)


def contrasts(session: Session) -> None:
    """Minimal pairs and cloze contrasts at the checkpoints of the finished runs on text.

    Without prepared items in the data the study has cloze contrasts only, which are made of the corpus.
    """
    study = session.study("gpu_text")
    prepared, corpus, settings = session.prepared("contrasts"), session.prepared("corpus"), study.contrasts
    if not (prepared / "manifest.json").exists():
        prepared = Path(study.results) / "data/contrasts"
        work = partial(prepare_contrasts, settings, text_data(study), corpus, prepared)
        if not (prepared / "manifest.json").exists() and not session.part("contrasts: items of the corpus", work, 5):
            return
    for arm, seed in study.contrast_runs():
        folder = Path(study.runs) / "contrasts" / arm / f"seed{seed}"
        final = study.run(arm, seed).training.final_checkpoint
        if (folder / "summary.json").exists() or not has_checkpoint(study, arm, seed, final):
            continue
        work = partial(
            score_contrasts, run_folder(study, arm, seed), settings, corpus, prepared, folder, progress=False
        )
        session.part(f"contrasts: {arm}, seed {seed}", work, 15)


def text_data(study: Study) -> DataSettings:
    """The data settings of a study on text."""
    data = study.data()
    assert isinstance(data, DataSettings)
    return data


def glue(session: Session) -> None:
    """Fine-tuning of the finished runs on text, in processes side by side: they wait for launches, not for the card."""
    study = session.study("gpu_text")
    jobs: dict[str, Callable[[], None]] = {}
    for arm, seed, checkpoint, group in study.finetune_runs():
        folder = Path(study.runs) / "finetune" / arm / f"seed{seed}" / checkpoint / group
        if not (folder / "summary.json").exists() and has_checkpoint(study, arm, seed, checkpoint):
            jobs[f"glue: {arm}, seed {seed}, {checkpoint}, {group}"] = partial(
                finetune, run_folder(study, arm, seed), checkpoint, study.finetune, group, session.prepared("glue"),
                folder, progress=False,
            )  # fmt: skip
    if session.workers:
        side_by_side(session, jobs)
    else:
        for name, job in jobs.items():
            session.part(name, job, 10)


def in_turn(session: Session) -> None:
    """Steps of the baseline, PreLN and PLD of BERT-base in turn, in processes one after another."""
    study = session.study("gpu_speed")
    for process in study.interleave_processes():
        folder = Path(study.runs) / "interleave" / f"process{process}"
        if not (folder / "summary.json").exists():
            work = partial(interleave, study.interleave_job(), process, folder, progress=False)
            session.part(f"in turn: process {process}", partial(in_a_process, session, work), 15)


def in_a_process(session: Session, work: Callable[[], None]) -> None:
    """Some work in a process of its own (with no workers: in this one), which is ended at the deadline."""
    if not session.workers:
        return work()
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    try:
        pool.submit(work).result(timeout=max(1.0, session.left))
    except TimeoutError:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise OutOfTimeError("the time of the slice is over") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def side_by_side(session: Session, jobs: dict[str, Callable[[], None]]) -> None:
    """Jobs in processes of their own; at the deadline those in progress are ended and the others not begun."""
    pool = ProcessPoolExecutor(session.workers, multiprocessing.get_context("spawn"))
    futures: dict[Future[None], str] = {pool.submit(job): name for name, job in jobs.items()}
    waiting = dict(futures)
    try:
        for future in as_completed(futures, timeout=max(1.0, session.left)):
            session.part(waiting.pop(future), future.result, shared=True)
    except TimeoutError:
        for process in list((pool._processes or {}).values()):
            process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)
    for name in waiting.values():
        session.part(name, _not_begun, shared=True)


def _not_begun() -> None:
    raise OutOfTimeError("the time of the slice is over")
