"""Synthetic run folders in the format of pldrepro.records, for tests of the analysis half."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from pldrepro.analysis import inputs
from pldrepro.analysis.glue_scores import VALUES
from pldrepro.analysis.results import Evidence
from pldrepro.config.base import merge
from pldrepro.config.contrasts import ContrastSettings
from pldrepro.config.experiment import arm_tags, experiments_folder
from pldrepro.config.run import FinetuneSettings, ProbeSettings, RunSettings
from pldrepro.files import append_jsonl
from pldrepro.policy.drop import draw_gates, is_analysed, rank_layers
from pldrepro.records import Recorded, read_record, write_record
from pldrepro.runs.hits import FILE, save_hits
from pldrepro.runs.manifest import seal
from pldrepro.runs.schema import (
    AnyLine,
    Checkpoint,
    Device,
    FinetuneExamples,
    FinetuneJob,
    FinetuneResult,
    FinetuneSummary,
    PretrainJob,
    PretrainSummary,
    Provenance,
    SensitivityLine,
    TrainLine,
    ValidationLine,
)
from pldrepro.runs.scored import (
    ContrastItems,
    ContrastsJob,
    ContrastsSummary,
    EarlyJob,
    EarlySummary,
    LambadaJob,
    LambadaScores,
    LambadaSummary,
    ProbedPoint,
    ProbeJob,
    ProbeResult,
    ProbeSummary,
)
from pldrepro.runs.step_times import CalibrationSummary, Fit, InterleaveSummary, MeasuredArm, StepTime, StepTimes

STEPS, BATCH, LENGTH = 400, 8, 16
SHARES = {"ckp87": 87 / 186, "ckp100": 100 / 186, "ckp186": 1.0}
# tau(k) = 2 ms + 3 ms x k for k = 0..4, so the layers take 12/14 of a full step.
INTERCEPT, SLOPE, LAYERS = 0.002, 0.003, 4
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {"label": "PostLN baseline", "norm": "post", "rate": "baseline", "drop": {}},
    "preln_higher": {"label": "PreLN, higher learning rate", "norm": "pre", "rate": "higher", "drop": {}},
    "pld": {"label": "PLD", "norm": "pre", "rate": "higher", "drop": {"dialect": "paper_alg1"}},
}
BUDGET = {"arm": "pld", "checkpoint": "ckp186", "model": {}, "num_steps": STEPS, "kept_layers": 3.0}
# Further arms, for tests that name them; "settings" are laid over the recorded ones, "steps" replaces STEPS.
MORE_ARMS: dict[str, dict[str, Any]] = {
    "scratch": {"label": "no pre-training", "norm": "post", "rate": "baseline", "drop": {}, "steps": 0},
    "preln": {"label": "PreLN, same learning rate", "norm": "pre", "rate": "baseline", "drop": {}},
    "random": {
        "label": "random drop", "norm": "pre", "rate": "higher", "settings": {"matched_depth": "pld"},
        "drop": {"schedule": "constant", "theta_bar": 0.8},
    },
    "cosine": {
        "label": "cosine schedule", "norm": "pre", "rate": "higher",
        "drop": {"dialect": "paper_alg1", "schedule": "cosine"},
    },
    "stacking": {"label": "progressive stacking", "norm": "pre", "rate": "higher", "drop": {"dialect": "stacking"}},
    "layerdrop": {"label": "LayerDrop", "norm": "pre", "rate": "higher", "drop": {"dialect": "layerdrop"}},
    "pld_baseline_rate": {
        "label": "PLD, baseline's learning rate", "norm": "pre", "rate": "baseline", "drop": {"dialect": "paper_alg1"},
    },
    "pld_theta30": {
        "label": "PLD, theta_bar 0.3", "norm": "pre", "rate": "higher",
        "drop": {"dialect": "paper_alg1", "theta_bar": 0.3},
    },
    "baseline_at_ckp100": {
        "label": "PostLN, decayed at PLD's ckp100", "norm": "post", "rate": "baseline", "drop": {}, "steps": 160,
        "settings": {"training": {"decay": "linear"}, "budget": BUDGET | {"checkpoint": "ckp100"}},
    },
    "baseline_at_pld": {
        "label": "PostLN, decayed at PLD's end", "norm": "post", "rate": "baseline", "drop": {}, "steps": 340,
        "settings": {"training": {"decay": "linear"}, "budget": BUDGET},
    },
    "preln_higher_at_pld": {
        "label": "PreLN, decayed at PLD's end", "norm": "pre", "rate": "higher", "drop": {}, "steps": 340,
        "settings": {"training": {"decay": "linear"}, "budget": BUDGET},
    },
    "pld_at_sbld": {
        "label": "PLD at SBLD's depth", "norm": "pre", "rate": "higher", "drop": {"dialect": "paper_alg1"},
        "settings": {"matched_depth": "sbld"},
    },
    **{
        f"epochs{count}_{name}": {
            "label": f"{count} epochs, {name}", "norm": "pre", "rate": "higher",
            "drop": {"dialect": "paper_alg1"} if name == "pld" else {}, "settings": {"training": {"epochs": count}},
        }
        for count in (1, 40)
        for name in ("pld", "dropout", "neither")
    },
}  # fmt: skip
# SBLD and its controls, the arms of a study of GPT or of images beside "baseline" and "pld".
SBLD_ARMS: dict[str, dict[str, Any]] = {
    "sbld": {"label": "SBLD (our reading)", "rate": "higher", "drop": {"dialect": "sbld"}},
    "sbld_random": {"label": "SBLD, random ranking", "drop": {"dialect": "sbld", "ranking": "random"}},
    "sbld_depth": {"label": "SBLD, ranking by depth", "drop": {"dialect": "sbld", "ranking": "depth"}},
    "sbld_reversed": {"label": "SBLD, reversed ranking", "drop": {"dialect": "sbld", "ranking": "reversed"}},
    "pld_by_sensitivity": {
        "label": "PLD's schedule by sensitivity",
        "drop": {"schedule": "exponential", "allocation": "by_rank", "residual_scale": "inverse"},
    },
    "pwegd_by_depth": {
        "label": "PWEGD by depth",
        "drop": {"schedule": "pwegd", "allocation": "linear", "residual_scale": "inverse"},
    },
}
MODELS: dict[str, dict[str, Any]] = {
    "bert": {
        "num_layers": LAYERS,
        "hidden_size": 32,
        "num_heads": 2,
        "ffn_size": 64,
        "vocab_size": 64,
        "max_positions": 32,
    },
    "gpt": {
        "family": "gpt",
        "norm": "pre",
        "num_layers": LAYERS,
        "hidden_size": 32,
        "num_heads": 2,
        "ffn_size": 64,
        "vocab_size": 64,
        "max_positions": 32,
    },
    "swinv2": {
        "family": "swinv2",
        "image_size": 16,
        "stages": [1, 3],
        "hidden_size": 16,
        "num_heads": [2, 4],
        "window_size": 4,
        "num_classes": 6,
    },
    "vit": {"family": "vit", "image_size": 16, "stages": [LAYERS], "hidden_size": 16, "num_heads": [2]},
}
# What an analysis of sensitivity finds (a millionth more by seed), and what it costs: passes of 14 ms at full depth.
SCORES, ANALYSIS_PASSES = (0.4, 0.1, 0.3, 0.2), 10
TASK_LABELS = {"rte": 2, "mrpc": 2, "stsb": 0, "cola": 2, "sst2": 2, "qnli": 2, "qqp": 2, "mnli": 3}
PROVENANCE = Provenance(
    commit="0123456789abcdef0123456789abcdef01234567",
    versions={"python": "3.11.0", "torch": "2.13.0", "numpy": "2.0.0"},
    platform="Linux",
    processor="a processor",
    cpu_count=2,
    device=Device(type="cpu", name="a processor", threads=1),
)


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _append(path: Path, line: Recorded) -> None:
    append_jsonl(path, line.dump())


def run_settings(arm: str, seed: int, scale: str = "smoke", family: str = "bert") -> RunSettings:
    """Complete settings of a small run."""
    about = (ARMS | MORE_ARMS | SBLD_ARMS)[arm]
    model = MODELS[family] | ({"norm": about.get("norm", "pre")} if family == "bert" else {})
    tokenizer = "bpe" if family == "gpt" else "wordpiece"
    text = {"sequence_length": LENGTH, "vocab_size": 64, "tokenizer": tokenizer}
    return RunSettings.model_validate(
        {
            "scale": scale,
            "arm": arm,
            "label": about["label"] if family == "bert" or arm != "baseline" else "no dropping",
            "seed": seed,
            "model": model,
            "data": text if family in ("bert", "gpt") else {"kind": "images", "image_size": 16},
            "training": {
                "num_steps": about.get("steps", STEPS), "batch_size": BATCH,
                "learning_rate": about["rate"] if family == "bert" else "baseline",
            },
            "drop": about["drop"],
            "impl": {"micro_batch_size": BATCH},
        }
    )  # fmt: skip


def write_pretrain(
    root: Path,
    arm: str,
    seed: int,
    *,
    final_loss: float = 3.0,
    slowdown: float = 1.0,
    scale: str = "smoke",
    family: str = "bert",
    scores: Mapping[str, float] | None = None,
    drop: Mapping[str, Any] | None = None,
) -> Path:
    """A finished pre-training run whose gates are the real ones and whose loss falls linearly from 6.

    ``scores``: what it is validated with beside the loss, the same at every validation; ``drop``: laid over the arm's.
    """
    folder = root / "runs" / "pretrain" / arm / f"seed{seed}"
    folder.mkdir(parents=True)
    settings = run_settings(arm, seed, scale, family)
    about, steps = (ARMS | MORE_ARMS | SBLD_ARMS)[arm], settings.training.num_steps
    recorded = merge(settings.model_dump(mode="json"), {**about.get("settings", {}), "drop": drop or {}})
    settings = settings.model_copy(update={"drop": type(settings.drop).model_validate(recorded["drop"])})
    word = {name: value for name, value in (scores or {}).items() if name.startswith("lambada_")}
    scores = {name: value for name, value in (scores or {}).items() if name not in word}
    if word:
        about_run = {"scale": scale, "arm": arm, "label": settings.label, "seed": seed, "passages": 100}
        at = {name: LambadaScores(**{"lambada_accuracy": 0.2, "lambada_perplexity": 50.0, **word}) for name in SHARES}
        word_folder = root / "runs/lambada" / arm / f"seed{seed}"
        job = {key: value for key, value in about_run.items() if key != "passages"}
        write_record(word_folder / "settings.json", LambadaJob(**job))
        write_record(word_folder / "summary.json", LambadaSummary(**about_run, checkpoints=at))
        seal(word_folder)
    points, lines, kept = _course(settings, final_loss, slowdown, {"accuracy": 0.2, **scores})
    metrics: list[AnyLine] = [SensitivityLine(kind="sensitivity", **line) for line in lines]
    for point in points:
        trained = {key: value for key, value in point.items() if key not in ("accuracy", "top5")}
        metrics.append(ValidationLine(kind="validation", **point))
        metrics.append(TrainLine(kind="train", main_loss=point["loss"], **trained))
    for line in sorted(metrics, key=lambda line: line.step):
        _append(folder / "metrics.jsonl", line)
    validated = ["loss", "accuracy", *(name for name in scores if name != "accuracy")]
    checkpoints = {}
    for name, share in SHARES.items():
        line = points[round(share * steps) // (steps // 20) - 1]
        checkpoints[name] = Checkpoint(
            **{key: value for key, value in line.items() if key not in validated},
            **{f"validation_{key}": line[key] for key in validated},
            share=share,
            folder=f"checkpoints/{name}",
        )
    last, costs = points[-1], ("samples", "tokens", "train_seconds", "reference_seconds", "flops")
    write_record(folder / "settings.json", PretrainJob.model_validate(recorded))
    write_record(folder / "provenance.json", PROVENANCE)
    write_record(
        folder / "summary.json",
        PretrainSummary(
            arm=arm, label=settings.label, seed=seed, scale=scale, family=family, norm=settings.model.norm,
            steps=steps, parameters=50_000, num_layers=LAYERS,
            **{key: last[key] for key in (*costs, "analysis_seconds", "analysis_passes")},
            **{f"validation_{key}": last[key] for key in validated},
            mean_kept_layers=last["kept_layers"] / steps, passes_by_kept_layers=_counts(kept),
            passes_by_layer=[sum(layer in one for one in kept) for layer in range(LAYERS)],
            peak_memory_bytes=10**8, checkpoints=checkpoints,
        ),
    )  # fmt: skip
    seal(folder)
    return folder


def write_untrained(root: Path, seed: int) -> Path:
    """The finished run of an arm without pre-training: one checkpoint and one validation, at no cost."""
    folder = root / "runs" / "pretrain" / "scratch" / f"seed{seed}"
    settings = run_settings("scratch", seed)
    free: dict[str, Any] = {
        "samples": 0, "tokens": 0, "flops": 0.0, "train_seconds": 0.0, "reference_seconds": 0.0, "reduced_bytes": 0
    }  # fmt: skip
    point = Checkpoint(**free, step=0, share=1.0, kept_layers=0, validation_loss=6.5, folder="checkpoints/ckp186")
    folder.mkdir(parents=True)
    _append(folder / "metrics.jsonl", ValidationLine(kind="validation", loss=6.5, step=0, **free))
    write_record(folder / "settings.json", PretrainJob.model_validate(settings.model_dump()))
    write_record(folder / "provenance.json", PROVENANCE)
    write_record(
        folder / "summary.json",
        PretrainSummary(
            **free, arm="scratch", label=settings.label, seed=seed, scale="smoke", norm="post", steps=0,
            parameters=50_000, num_layers=LAYERS, validation_loss=6.5, mean_kept_layers=0.0, passes_by_kept_layers={},
            passes_by_layer=[0] * LAYERS, checkpoints={"ckp186": point},
        ),
    )  # fmt: skip
    seal(folder)
    return folder


def _counts(kept: Sequence[Sequence[int]]) -> dict[int, int]:
    sizes = [len(one) for one in kept]
    return {size: sizes.count(size) for size in sorted(set(sizes))}


def _course(
    settings: RunSettings, final_loss: float, slowdown: float, scores: Mapping[str, float]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[list[int]]]:
    """The validations of a run, its analyses of sensitivity, and the layers that it kept at each step."""
    steps, seed, points, lines = settings.training.num_steps, settings.seed, [], []
    kept: list[list[int]] = []
    sensitivity: list[float] | None = None
    for step in range(steps):
        if is_analysed(settings.drop, step, steps):
            sensitivity = [score + seed / 10**6 + len(lines) / 100 for score in SCORES]
            ranks = rank_layers(settings.drop, LAYERS, sensitivity, seed)
            costs = _costs(step, sum(map(len, kept)), ANALYSIS_PASSES * (len(lines) + 1), slowdown)
            lines.append(
                {"step": step, "measure": "lesion", "scores": sensitivity, "ranks": list(ranks or ()), **costs}
            )
        ranks = rank_layers(settings.drop, LAYERS, sensitivity, seed)
        gates = draw_gates(
            settings.drop, seed=seed, step=step, micro_step=0, num_steps=steps, num_layers=LAYERS, ranks=ranks
        )
        kept.append([layer for layer, gate in enumerate(gates) if gate.keep])
        if (step + 1) % (steps // 20) == 0:
            costs = _costs(step + 1, sum(map(len, kept)), ANALYSIS_PASSES * len(lines), slowdown)
            loss = 6 + (final_loss - 6) * (step + 1) / steps
            points.append({"step": step + 1, **costs, "loss": loss, **scores})
    return points, lines, kept


def _costs(step: int, kept: int, analysis_passes: int, slowdown: float) -> dict[str, Any]:
    analysis = analysis_passes * (INTERCEPT + SLOPE * LAYERS)
    reference = INTERCEPT * step + SLOPE * kept + analysis
    return {
        "samples": step * BATCH, "tokens": step * BATCH * LENGTH, "kept_layers": kept,
        "flops": float(1e6 * (step + kept + analysis_passes * (1 + LAYERS))), "train_seconds": slowdown * reference,
        "reference_seconds": reference, "analysis_seconds": slowdown * analysis, "analysis_passes": analysis_passes,
    }  # fmt: skip


def write_calibration(root: Path, family: str = "bert") -> Path:
    """tau(k) = 2 ms + 3 ms k; BERT: for the PostLN and the PreLN shape."""
    folder = root / "runs" / "calibration"
    folder.mkdir(parents=True)
    shapes = []
    for arm in ("baseline", "pld") if family == "bert" else ("pld",):
        model = run_settings(arm, 1, family=family).model
        times = [INTERCEPT + SLOPE * kept for kept in range(LAYERS + 1)]
        shapes.append(
            StepTimes(
                norm=model.norm, num_layers=LAYERS, model=model, micro_batch_size=BATCH,
                sequence_length=LENGTH if family in ("bert", "gpt") else None,
                tau={k: StepTime(median=t, low=0.95 * t, high=1.05 * t, n=15) for k, t in enumerate(times)},
                fit=Fit(intercept=INTERCEPT, slope=SLOPE, r2=1.0),
            )
        )  # fmt: skip
    write_record(folder / "provenance.json", PROVENANCE)
    write_record(folder / "summary.json", CalibrationSummary(threads=1, device=PROVENANCE.device, shapes=shapes))
    seal(folder)
    return folder


def write_interleave(root: Path, process: int, seconds: Mapping[str, Sequence[float]]) -> Path:
    """Steps measured in turn: arm -> seconds of its rounds; every step kept all layers."""
    folder = root / "runs" / "interleave" / f"process{process}"
    folder.mkdir(parents=True)
    arms = [
        MeasuredArm(arm=arm, label=ARMS[arm]["label"], seconds=list(times), kept_layers=[LAYERS] * len(times))
        for arm, times in seconds.items()
    ]
    about = {"scale": "smoke", "process": process, "device": PROVENANCE.device}
    write_record(folder / "provenance.json", PROVENANCE)
    write_record(folder / "summary.json", InterleaveSummary(**about, arms=arms))
    seal(folder)
    return folder


def listed_tags(family: str) -> dict[str, Any]:
    """What index.json says of the shipped arms of a family."""
    return {name: tags.model_dump() for name, tags in arm_tags(experiments_folder(family)).items()}


def resealed(*folders: Path) -> None:
    """Give run folders (or their summary.json) the manifests of what is in them now, after a test has changed it."""
    for path in folders:
        folder = path.parent if path.name == "summary.json" else path
        if (folder / "summary.json").exists():
            seal(folder)


def load_evidence(pretrain: Sequence[Path], *args: Any, **more: Any) -> Evidence:
    """The evidence of some run folders whose arms are what the shipped experiments of their names say.

    The folders are sealed anew: what a test has changed in them is what a run wrote.
    """
    summaries = [path if path.name == "summary.json" else path / "summary.json" for path in pretrain[:1]]
    family = read_record(summaries[0], PretrainSummary).family if summaries and summaries[0].is_file() else "bert"
    given = [*pretrain, *more.values(), *args]
    flat = [one for some in given for one in (some if isinstance(some, (list, tuple)) else [some])]
    resealed(*(one for one in flat if isinstance(one, Path) and one.suffix != ".csv"))
    return inputs.load_evidence(pretrain, *args, **{"tags": arm_tags(experiments_folder(family)), **more})


def sbld_study(
    root: Path,
    family: str,
    *,
    arms: Sequence[str] = ("baseline", "pld", *SBLD_ARMS),
    seeds: Sequence[int] = (1, 2),
    losses: Mapping[str, float] | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    drop: Mapping[str, Any] | None = None,
) -> Evidence:
    """A study of GPT or of images: final losses and scores by arm, 0.01 and a tenth of a percent more by seed."""
    pretrain = []
    for arm in arms:
        for seed in seeds:
            pretrain.append(
                write_pretrain(
                    root / family, arm, seed, family=family, final_loss=(losses or {}).get(arm, 3.0) + 0.01 * seed,
                    scores={name: value + 0.001 * seed for name, value in (scores or {}).get(arm, {}).items()},
                    drop=drop if arm in SBLD_ARMS else None,
                )
            )  # fmt: skip
    lambada = sorted((root / family / "runs" / "lambada").glob("*/*"))
    return load_evidence(pretrain, calibration=write_calibration(root / family, family), lambada=lambada)


def write_finetune(
    root: Path,
    arm: str,
    seed: int,
    checkpoint: str = "ckp186",
    *,
    errors: float = 0.2,
    tasks: Sequence[str] = tuple(TASK_LABELS),
    rates: Sequence[float] = (1e-4,),
    finetune_seeds: Sequence[int] = (1,),
    examples: int = 200,
    missing: Mapping[str, Mapping[str, str]] | None = None,
    train_losses: Sequence[float] | None = None,
) -> Path:
    """A finished fine-tuning job in which about a share ``errors`` of the predictions is wrong.

    ``train_losses``: of each fine-tuning seed, beside a constant's of 0.7 and with counted examples.
    """
    folder = root / "runs" / "finetune" / arm / f"seed{seed}" / checkpoint / "glue"
    folder.mkdir(parents=True)
    arrays: dict[str, np.ndarray] = {}
    losses = dict(zip(finetune_seeds, train_losses or [0.3] * len(finetune_seeds), strict=True))
    for task in tasks:
        splits = ["dev", "dev_mismatched"] if task == "mnli" and "mnli" not in (missing or {}) else ["dev"]
        for split in splits:
            labels = _labels(task, examples, np.random.default_rng(0))
            arrays[f"labels/{task}/{split}"] = labels
            for rate in rates:
                for finetune_seed in finetune_seeds:
                    rng = np.random.default_rng([seed, finetune_seed, round(1e7 * rate), len(split), len(task)])
                    wrong = rng.random(examples) < errors
                    guesses = _labels(task, examples, rng)
                    key = f"predictions/{task}/{split}/{rate!r}/{finetune_seed}"
                    arrays[key] = np.where(wrong, guesses, labels).astype(labels.dtype)
                    if split == "dev":
                        result = FinetuneResult(
                            task=task, learning_rate=rate, seed=finetune_seed, steps=10, seconds=2.0,
                            train_loss=losses[finetune_seed], constant_loss=None if train_losses is None else 0.7,
                        )  # fmt: skip
                        _append(folder / "results.jsonl", result)
    save_file(arrays, folder / "predictions.safetensors")
    about: dict[str, Any] = {
        "scale": "smoke", "arm": arm, "label": (ARMS | MORE_ARMS)[arm]["label"], "seed": seed,
        "checkpoint": checkpoint, "group": "glue",
    }  # fmt: skip
    reasons = {task: dict(splits) for task, splits in (missing or {}).items()}
    write_record(folder / "settings.json", FinetuneJob(**about, finetune=FinetuneSettings(), missing=reasons))
    write_record(folder / "provenance.json", PROVENANCE)
    counted = {
        "train": FinetuneExamples(examples=1000, cut=20, untrained=300),
        "dev": FinetuneExamples(examples=examples, cut=0, untrained=examples // 2),
    }
    inputs = {} if train_losses is None else dict.fromkeys(tasks, counted)
    summary = FinetuneSummary(**about, tasks=list(tasks), runs=len(tasks), seconds=20.0, inputs=inputs)
    write_record(folder / "summary.json", summary)
    seal(folder)
    return folder


def write_contrasts(
    root: Path, arm: str, seed: int, hits: Mapping[str, Mapping[str, Sequence[float]]], scale: str = "smoke",
    task: str = "zorro",
) -> Path:  # fmt: skip
    """Finished contrasts: checkpoint -> paradigm of a task -> hits; the paradigm "counts" does not judge."""
    folder = root / "runs" / "contrasts" / arm / f"seed{seed}"
    first = next(iter(hits.values()))
    items = {
        name: ContrastItems(
            items=len(values), left_out=int(np.isnan(values).sum()), judges=name != "counts", unigram=0.5, trigram=0.6,
            longer=0.0, reason="word counts" if name == "counts" else "",
        )
        for name, values in first.items()
    }  # fmt: skip
    checkpoints = {
        checkpoint: {task: {name: float(np.nanmean(values)) for name, values in own.items() if items[name].scored}}
        for checkpoint, own in hits.items()
    }
    folder.mkdir(parents=True)
    save_hits(folder / FILE, {f"{name}/{task}": np.concatenate(list(own.values())) for name, own in hits.items()})
    about: dict[str, Any] = {"scale": scale, "arm": arm, "label": arm, "seed": seed}
    write_record(folder / "settings.json", ContrastsJob(**about, contrasts=ContrastSettings(cloze=(("is", "are"),))))
    write_record(
        folder / "summary.json",
        ContrastsSummary(
            **about, tasks={task: items}, checkpoints=checkpoints,
        ),
    )  # fmt: skip
    seal(folder)
    return folder


def write_lambada(root: Path, arm: str, seed: int, ranks: Mapping[str, Sequence[float]]) -> Path:
    """Finished LAMBADA scores of a model that gets no word right: checkpoint -> rank of each passage's right word."""
    folder = root / "runs" / "lambada" / arm / f"seed{seed}"
    folder.mkdir(parents=True)
    save_file(
        {f"{name}/ranks": np.array(own, np.float32) for name, own in ranks.items()}, folder / "predictions.safetensors"
    )
    checkpoints = {
        name: LambadaScores(lambada_accuracy=0.0, lambada_perplexity=50.0, lambada_rank=float(np.mean(own)))
        for name, own in ranks.items()
    }
    number = len(next(iter(ranks.values())))
    about = {"scale": "smoke", "arm": arm, "label": arm, "seed": seed, "passages": number, "ranked": number}
    job = {key: value for key, value in about.items() if key not in ("passages", "ranked")}
    write_record(folder / "settings.json", LambadaJob(**job))
    write_record(folder / "summary.json", LambadaSummary(**about, checkpoints=checkpoints))
    seal(folder)
    return folder


def _labels(task: str, examples: int, rng: np.random.Generator) -> np.ndarray:
    if task == "stsb":
        return rng.uniform(0, 5, examples).astype(np.float32)
    return rng.integers(0, TASK_LABELS[task], examples)


def write_scores(
    path: Path,
    levels: Mapping[tuple[str, int, str], float | Mapping[str, float]],
    *,
    rates: Mapping[float, float] | None = None,
    finetune_seeds: Sequence[int] = (1,),
) -> Path:
    """scores.csv in which every value of an (arm, seed, checkpoint) has one level [%], so that its GLUE score has, too.

    A mapping gives levels by name of the value instead; ``rates``: learning rate -> what it adds to every value.
    """
    rows = []
    for (arm, seed, checkpoint), level in levels.items():
        values = level if isinstance(level, Mapping) else dict.fromkeys(VALUES, level)
        for name, value in values.items():
            task, split, metric = VALUES[name]
            rows += [
                {"arm": arm, "label": (ARMS | MORE_ARMS)[arm]["label"], "seed": seed, "checkpoint": checkpoint,
                 "task": task, "split": split, "metric": metric, "learning_rate": rate,
                 "finetune_seed": finetune_seed, "value": value + more, "n": 100}
                for rate, more in (rates or {1e-4: 0.0}).items()
                for finetune_seed in finetune_seeds
            ]  # fmt: skip
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def write_study(
    root: Path,
    *,
    seeds: Sequence[int] = (1, 2, 3),
    losses: Mapping[str, float] | None = None,
    errors: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A whole small study; the paths that the analysis verbs take."""
    losses = losses or {"baseline": 3.0, "preln_higher": 2.8, "pld": 2.5}
    errors = errors or {"baseline": 0.4, "preln_higher": 0.3, "pld": 0.2}
    pretrain, finetune = [], []
    for arm in ARMS:
        for seed in seeds:
            pretrain.append(write_pretrain(root, arm, seed, final_loss=losses[arm] + 0.01 * seed))
            for checkpoint in SHARES if arm == "pld" else ["ckp186"]:
                finetune.append(write_finetune(root, arm, seed, checkpoint, errors=errors[arm]))
    return {"pretrain": pretrain, "finetune": finetune, "calibration": write_calibration(root)}


def write_probe(root: Path, arm: str, seed: int, *, layers: int = LAYERS, draws: int = 4) -> Path:
    """A finished probe in which PreLN's upper layers matter little: gradients, angles and losses are made up."""
    folder = root / "runs" / "probe" / arm / f"seed{seed}"
    folder.mkdir(parents=True)
    about: dict[str, Any] = {"scale": "smoke", "arm": arm, "label": ARMS[arm]["label"], "seed": seed}
    points = {
        name: ProbedPoint(step=round(share * STEPS), share=share, validation_loss=3.0) for name, share in SHARES.items()
    }
    pre = ARMS[arm]["norm"] == "pre"
    for name, point in points.items():
        rows = _profile(pre, seed, layers, point.share) + _lesions(pre, seed, layers, draws)
        rows += _depth(pre, seed, layers) if name == "ckp186" else []
        for row in rows:
            _append(folder / "results.jsonl", ProbeResult(checkpoint=name, step=point.step, **row))
    write_record(folder / "settings.json", ProbeJob(**about, probe=ProbeSettings(lesion_draws=max(draws, 1))))
    write_record(folder / "provenance.json", PROVENANCE)
    write_record(
        folder / "summary.json",
        ProbeSummary(
            **about, norm=ARMS[arm]["norm"], num_layers=layers, checkpoints=points, sequences=16, lesion_keep=0.5,
            seconds=1.0,
        ),
    )  # fmt: skip
    seal(folder)
    return folder


def write_early(root: Path, arm: str, seed: int, *, layers: int = 12) -> Path:
    """A run probed at steps 2, 4 and 8 of 1,000, where PostLN's gradients halve from a layer to the one below."""
    folder = root / "runs" / "early" / arm / f"seed{seed}"
    folder.mkdir(parents=True)
    settings, norm = run_settings(arm, seed), ARMS[arm]["norm"]
    model = settings.model.model_copy(update={"num_layers": layers})
    early = settings.model_copy(update={"model": model}).model_dump() | {"early": {"shares": [0.002, 0.004, 0.008]}}
    points = {f"step{n}": ProbedPoint(step=n, share=n / 1000, validation_loss=5.0) for n in (2, 4, 8)}
    for name, point in points.items():
        for row in _profile(norm == "pre", seed, layers, point.share):
            _append(folder / "results.jsonl", ProbeResult(checkpoint=name, step=point.step, **row))
    write_record(folder / "settings.json", EarlyJob.model_validate(early))
    write_record(folder / "provenance.json", PROVENANCE)
    about = {"scale": "smoke", "arm": arm, "label": ARMS[arm]["label"], "seed": seed, "norm": norm}
    summary = EarlySummary(**about, num_layers=layers, checkpoints=points, sequences=16, num_steps=1000)
    write_record(folder / "summary.json", summary)
    seal(folder)
    return folder


def _profile(pre: bool, seed: int, layers: int, share: float) -> list[dict[str, Any]]:
    rows = []
    for layer in range(1, layers + 1):
        norm, angle = share * (1 if pre else 0.5 ** (layers - layer)), (20.0 / layer if pre else 20.0) + seed
        rows += [
            {"quantity": "gradient_norm", "layer": layer, "part": part, "value": scale * norm * (1 + 0.1 * seed)}
            for part, scale in (("block", 1.0), ("qkv", 0.5), ("attention_output", 0.5), ("ffn_up", 0.5),
                                ("ffn_down", 0.5))
        ]  # fmt: skip
        values = {
            "gradient_ratio": 1.0 if pre else 0.8, "distance": angle / 10, "relative_distance": angle / 60,
            "cosine": float(np.cos(np.radians(angle))), "angle": angle,
        }  # fmt: skip
        rows += [{"quantity": quantity, "layer": layer, "value": value} for quantity, value in values.items()]
    return rows


def _loss(pre: bool, seed: int, layers: int, selection: str, kept: Sequence[int], text: str) -> dict[str, Any]:
    """Loss 3 with all layers (4 on the text that orders); a missing layer costs 1, in PreLN 1/l, and 0.01 x seed."""
    missing = [layer for layer in range(1, layers + 1) if layer not in kept]
    value = (4.0 if text == "order" else 3.0) + sum((1 / layer if pre else 1.0) + 0.01 * seed for layer in missing)
    return {"quantity": "loss", "selection": selection, "kept": list(kept), "text": text, "value": value}


def _lesions(pre: bool, seed: int, layers: int, draws: int) -> list[dict[str, Any]]:
    """Draw d keeps the layers of the bits of d."""
    every = range(1, layers + 1)
    rows = [_loss(pre, seed, layers, "all", every, "all")]
    for draw in range(draws):
        kept = [layer for layer in every if draw >> (layer - 1) & 1]
        rows.append({**_loss(pre, seed, layers, "lesion", kept, "all"), "draw": draw})
    return rows


def _depth(pre: bool, seed: int, layers: int) -> list[dict[str, Any]]:
    every = tuple(range(1, layers + 1))
    selections = {
        "all": [every],
        "first": [every[:k] for k in range(layers + 1)],
        "last": [every[layers - k :] for k in range(layers + 1)],
        "odd": [every[0::2]],
        "even": [every[1::2]],
        "without_one": [tuple(layer for layer in every if layer != one) for one in every],
        "least_important_removed": [every[: layers - removed] for removed in range(layers + 1)],
    }
    return [
        _loss(pre, seed, layers, selection, kept, text)
        for text in ("order", "report")
        for selection, sets in selections.items()
        for kept in sets
        if text == "report" or selection in ("all", "without_one")
    ]
