"""What each stage of a study costs on a device, and of how many jobs it is.

What is short is priced roughly. Runs probed early: their share of the steps of a whole run. Steps measured in turn and
calibration: rounds times the time of a step; a calibration's at half depth, the mean over k = 0..L. Contrasts: forward
passes, of a cloze item with the whole sequence, of a sentence with SENTENCE_TOKENS tokens; an encoder passes it once
for each token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from pldrepro.config.contrasts import read_paradigms
from pldrepro.config.data import DataSettings
from pldrepro.config.run import RunSettings
from pldrepro.config.study import Study
from pldrepro.costs.flops import BACKWARD_FACTOR, run_flops, step_flops
from pldrepro.costs.plan import AnyDevice, Price, finetune_flops, planned_steps

SENTENCE_TOKENS = 12  # of a minimal pair, roughly
PARADIGM_PAIRS = 1000  # of a paradigm without a limit: BLiMP's; Zorro's have 2,000


def stage_jobs(study: Study) -> dict[str, int]:
    """Stage -> its jobs, of a study without its companions; the stages that it has, in the order in which they run."""
    jobs = {
        "calibration": 1,
        "measured in turn": len(study.interleave_processes()),
        "pre-training": len(study.pretrain_runs()),
        "probed early": len(study.early_runs()),
        "fine-tuning": len(study.finetune_runs()),
        "contrasts": len(study.contrast_runs()),
    }
    return {stage: count for stage, count in jobs.items() if count}


def study_prices(study: Study, device: AnyDevice) -> dict[str, Price]:
    """Prices of the stages of a study, without its companions."""
    settings = study.settings
    runs = [study.run(arm, settings.seeds[0]) for arm in settings.arms]
    prices = {
        "calibration": (calibration(study, run, device) for run in study.calibration_job().runs),
        "measured in turn": (in_turn(study, run, device) for run in _in_turn(study)),
        "pre-training": (device.training(run) for _ in settings.seeds for run in runs),
        "probed early": (early(study, arm, seed, device) for arm, seed in study.early_runs()),
        "fine-tuning": (
            device.other(run, len(study.finetune_checkpoints(run.arm)) * finetune_flops(study, run))
            for _ in settings.seeds
            for run in runs
        ),
        "contrasts": (
            device.other(run, asked_checkpoints(study, run) * contrast_flops(study, run))
            for run in (study.run(arm, seed) for arm, seed in study.contrast_runs())
        ),
    }
    return {stage: sum_prices(prices[stage]) for stage in stage_jobs(study)}


def sum_prices(prices: Iterable[Price]) -> Price:
    """Prices added up; extrapolated where one of them is."""
    prices = list(prices)
    return Price(math.fsum(one.seconds for one in prices), any(one.extrapolated for one in prices))


def calibration(study: Study, run: RunSettings, device: AnyDevice) -> Price:
    """Of one model shape: a micro-batch with k layers for k = 0..L, in every round of every process."""
    settings, layers = study.settings.calibration, run.model.num_layers
    steps = settings.processes * (settings.warmup_rounds + settings.rounds) * (layers + 1)
    size = min(run.impl.micro_batch_size, run.training.batch_size)
    return device.other(run, steps * run_flops(run).of(layers / 2, size))


def _in_turn(study: Study) -> tuple[RunSettings, ...]:
    return () if study.settings.interleave is None else study.interleave_job().runs


def in_turn(study: Study, run: RunSettings, device: AnyDevice) -> Price:
    """Of one arm: a step of its schedule in every round of every process."""
    settings = study.settings.interleave
    assert settings is not None
    return steps_price(run, settings.processes * (settings.warmup_rounds + settings.rounds), device)


def early(study: Study, arm: str, seed: int, device: AnyDevice) -> Price:
    """Of the steps of one run that is probed early in training; its probes are not counted."""
    run = study.early_run(arm, seed)
    return steps_price(run, run.steps[-1], device)


def steps_price(run: RunSettings, steps: int, device: AnyDevice) -> Price:
    """Of some steps of a run, at the mean of all."""
    whole = device.training(run)
    return whole._replace(seconds=whole.seconds * steps / max(1, planned_steps(run)))


def asked_checkpoints(study: Study, run: RunSettings) -> int:
    """Checkpoints of a run that are scored on contrasts; the last one always."""
    names, training = study.contrasts.checkpoints, run.training
    known: Mapping[str, int] = training.checkpoint_steps()
    return sum(names is None or name in (*names, training.final_checkpoint) for name in known)


def contrast_flops(study: Study, run: RunSettings) -> float:
    """FLOPs of asking one checkpoint all minimal pairs and cloze items, roughly (see the module)."""
    settings = study.contrasts
    assert isinstance(run.data, DataSettings)
    pairs = 0
    for one in settings.pairs.values():
        paradigms = read_paradigms(Path(one.paradigms))
        pairs += (len(paradigms.judging) + len(paradigms.not_judging)) * (one.max_pairs or PARADIGM_PAIRS)
    is_encoder = run.model.family == "bert"
    sentences = 2 * pairs * (SENTENCE_TOKENS if is_encoder else 1)
    windows = 2 * len(settings.cloze) * settings.max_cloze * (1 if is_encoder else 2)
    return sentences * _forward(run, SENTENCE_TOKENS) + windows * _forward(run, run.data.sequence_length)


def _forward(run: RunSettings, tokens: int) -> float:
    """FLOPs of a sequence of some tokens, one of which an encoder predicts."""
    assert isinstance(run.data, DataSettings)
    data = run.data.model_copy(update={"sequence_length": tokens})
    training = run.training.model_copy(update={"mask_fraction": 0.0})
    return step_flops(run.model, training, data).of(run.model.num_layers) / BACKWARD_FACTOR
