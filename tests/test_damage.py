"""Damage: whatever file is changed, whenever, the one who reads it next says so by name, or makes it again.

A table for each state of the files, a row for each kind of file: a new kind of file has to join it. Every file is
damaged in several ways (a digit, a bit in three places, cut, emptied, removed); a case is

detected   an error that names the file
harmless   the results are what they would have been: the damaged place is not read, or the file is made again
silent     anything else; no case may be

Damage by a process that is killed is in tests/faults.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from pldrepro.config.base import merge
from pldrepro.config.contrasts import ContrastSettings
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.run import (
    CalibrationJob,
    EarlyRunSettings,
    FinetuneSettings,
    InterleaveJob,
    ProbeSettings,
    RunSettings,
)
from pldrepro.data.contrasts import load_contrasts as load_items
from pldrepro.data.contrasts import prepare_contrasts
from pldrepro.data.corpus import open_corpus, prepare_corpus
from pldrepro.data.glue import load_prepared, prepare_glue
from pldrepro.data.images import open_images, prepare_images
from pldrepro.errors import OutOfTimeError
from pldrepro.evaluation.early import probe_early
from pldrepro.evaluation.lambada import score_lambada
from pldrepro.evaluation.probe import probe
from pldrepro.evaluation.score_contrasts import score_contrasts
from pldrepro.runs import folder as runs
from pldrepro.runs.manifest import verified
from pldrepro.runs.step_times import load_calibration, load_interleave
from pldrepro.training import finetune as finetune_module
from pldrepro.training.calibrate import calibrate
from pldrepro.training.finetune import finetune
from pldrepro.training.interleave import interleave
from pldrepro.training.pretrain import pretrain

Make = Callable[..., RunSettings]
JOB = ("settings.json", "provenance.json", "manifest.json", "summary.json")
MODEL = ("model.safetensors", "config.json", "vocab.*", "merges.txt", "tokenizer*.json", "special_tokens_map.json")
CHECKPOINTS = tuple(f"checkpoints/*/{name}" for name in MODEL)
FINISHED = {  # kind of run -> how it is read, and its files
    "calibration": (load_calibration, JOB),
    "interleave": (load_interleave, JOB),
    "pretrain": (runs.load_pretrain, (*JOB, "metrics.jsonl", *CHECKPOINTS)),
    "gpt": (runs.load_pretrain, (*JOB, "metrics.jsonl", *CHECKPOINTS)),
    "finetune": (
        runs.load_finetune,
        (*JOB, "results.jsonl", "predictions.safetensors", *(f"models/*/{name}" for name in MODEL)),
    ),
    "probe": (runs.load_probe, (*JOB, "results.jsonl")),
    "early": (runs.load_early, (*JOB, "results.jsonl")),
    "lambada": (runs.load_lambada, (*JOB, "predictions.safetensors")),
    "contrasts": (runs.load_contrasts, (*JOB, "hits.safetensors")),
}
TOKENIZER = tuple(f"tokenizer/{name}" for name in MODEL[2:])
PREPARED: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {  # kind of data -> how it is read, and its files
    "corpus": (open_corpus, ("manifest.json", "train.bin", "validation.bin", *TOKENIZER)),
    "gpt_corpus": (open_corpus, ("manifest.json", "train.bin", "validation.bin", "lambada.safetensors", *TOKENIZER)),
    "glue": (lambda folder: load_prepared(folder, "rte"), ("manifest.json", "rte.safetensors")),
    "items": (load_items, ("manifest.json", "cloze.safetensors")),
    "images": (open_images, ("manifest.json", "*_pixels.npy", "*_labels.npy")),
}
INTERRUPTED = {  # what goes on -> its files
    "pretrain": (*JOB[:2], "metrics.jsonl", "resume/state.safetensors", *CHECKPOINTS),
    "finetune": (*JOB[:2], "written.json", "parts/*.safetensors", *(f"models/*/{name}" for name in MODEL)),
}
HOW = ("digit", "first", "middle", "last", "cut", "empty", "gone")

# ---- a study of everything, as small as it can be ----

TUNING = FinetuneSettings.model_validate(
    {"groups": {"one": ["rte"]}, "learning_rates": [1e-3], "seeds": [1, 2], "epochs": 0.1, "batch_size": 16,
     "sequence_length": 32, "save_models": True}
)  # fmt: skip
PROBED = ProbeSettings(sequences=4, gradient_batches=2, lesion_draws=1, checkpoints=("ckp186",))
ASKED = ContrastSettings(cloze=(("is", "are"),), max_cloze=20)
FEW = {"training": {"num_steps": 6, "validation_points": 2, "checkpoints": {"ckp87": None, "ckp100": 0.5}}}
GPT = {
    "model": {"family": "gpt", "vocab_size": 300}, "training": {"next_sentence": False},
    "data": {"tokenizer": "bpe", "vocab_size": 300, "miniature": {"num_documents": 60, "lambada_passages": 4}},
}  # fmt: skip
IMAGES = ImageDataSettings.model_validate(
    {"kind": "images", "image_size": 8, "shapes": {"train_images": 24, "validation_images": 12}}
)


def settings_of(tiny_run: Make, **changes: Any) -> RunSettings:
    return tiny_run(**merge(FEW, changes))


@pytest.fixture(scope="module")
def study(tiny_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data and a finished run of every kind, each in a folder of its name."""
    root = tmp_path_factory.mktemp("damage")
    data, done = root / "data", root / "runs"
    bert, gpt = settings_of(tiny_run), settings_of(tiny_run, **GPT)
    assert isinstance(bert.data, DataSettings)
    assert isinstance(gpt.data, DataSettings)
    prepare_corpus(bert.data, data / "corpus", workers=1, progress=False)
    prepare_corpus(gpt.data, data / "gpt_corpus", workers=1, progress=False)
    prepare_glue(bert.data, ("rte",), 32, data / "corpus", data / "glue", progress=False)
    prepare_contrasts(ASKED, bert.data, data / "corpus", data / "items")
    prepare_images(IMAGES, data / "images", progress=False)
    two = {"runs": [bert, settings_of(tiny_run, arm="preln", drop={"dialect": "none"})]}
    calibrate(CalibrationJob.model_validate({**two, "calibration": {"rounds": 3}}), done / "calibration", False)
    arms = {"interleave": {"arms": ["pld", "preln"], "rounds": 2}}
    interleave(InterleaveJob.model_validate({**two, **arms}), 1, done / "interleave", progress=False)
    pretrain(bert, data / "corpus", done / "pretrain", progress=False)
    pretrain(gpt, data / "gpt_corpus", done / "gpt", progress=False)
    for kind, stage in STAGES.items():
        stage(root, done / kind)
    early = EarlyRunSettings(**bert.model_dump(), early={"shares": [0.5], "sequences": 4, "gradient_batches": 2})
    probe_early(early, data / "corpus", done / "early", progress=False)
    return root


STAGES: dict[str, Callable[[Path, Path], None]] = {  # what is made from a checkpoint: (study, its folder)
    "finetune": lambda root, out: finetune(
        root / "runs/pretrain", "ckp186", TUNING, "one", root / "data/glue", out, progress=False
    ),
    "probe": lambda root, out: probe(root / "runs/pretrain", root / "data/corpus", PROBED, out, progress=False),
    "contrasts": lambda root, out: score_contrasts(
        root / "runs/pretrain", ASKED, root / "data/corpus", root / "data/items", out, progress=False
    ),
    "lambada": lambda root, out: score_lambada(root / "runs/gpt", root / "data/gpt_corpus", out, progress=False),
}


# ---- what is damaged, and what becomes of it ----


def files_of(folder: Path) -> list[str]:
    """The files of a folder, by name; of several checkpoints, models or parts those of the last one."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
    one = {re.sub(r"(checkpoints|models|parts)/[^/]*?(/|\.safetensors$)", r"\1/*\2", name): name for name in found}
    return sorted(name for name in one.values() if not name.startswith("."))


def damage(path: Path, how: str) -> bool:
    """Change one digit or one bit, cut a file, empty or remove it; False where it has no digit."""
    content = bytearray(path.read_bytes())
    digits = [at for at, byte in enumerate(content) if chr(byte).isdigit()]
    if how == "gone":
        path.unlink()
        return True
    if how == "digit":
        if path.suffix not in (".json", ".jsonl") or not digits:
            return False
        at = random.Random(path.name).choice(digits)
        content[at] = ord("8") if content[at] != ord("8") else ord("3")
    elif how in ("cut", "empty"):
        content = content[: int(0.85 * len(content)) if how == "cut" else 0]
    else:
        content[{"first": 0, "middle": len(content) // 2, "last": -1}[how]] ^= 4
    path.write_bytes(content)
    return True


def outcome(path: Path, read: Callable[[], bool]) -> str:
    """What becomes of a damaged file when it is read; ``read`` returns whether the results are the undamaged ones."""
    try:
        return "harmless" if read() else "silent"
    except (ValueError, RuntimeError, OSError) as error:
        return "detected" if path.name in str(error) else f"an error without the name: {error}"


def cases(table: dict[str, Any]) -> Iterator[Any]:
    for kind in table:
        yield from (pytest.param(kind, how, id=f"{kind}-{how}") for how in HOW)


def numbers(read: Any) -> Any:
    """What a reader gave, without where it was read."""
    return {key: value for key, value in vars(read).items() if key != "folder"}


def test_the_tables_have_every_kind_of_file(study: Path) -> None:
    tables = [*((study / "runs" / kind, row[1]) for kind, row in FINISHED.items())]
    tables += [(study / "data" / kind, row[1]) for kind, row in PREPARED.items()]
    for folder, patterns in tables:
        for name in files_of(folder):
            assert any(fnmatch(name, pattern) for pattern in patterns), f"{folder.name}: {name}: in no table"
    assert {path.name for path in (study / "runs").iterdir() if path.is_dir()} == set(FINISHED)
    assert {path.name for path in (study / "data").iterdir()} == set(PREPARED)


@pytest.mark.parametrize(("kind", "how"), cases(FINISHED))
def test_a_finished_run(study: Path, tmp_path: Path, kind: str, how: str) -> None:
    folder, load = tmp_path / kind, FINISHED[kind][0]
    good = numbers(load(study / "runs" / kind))
    for name in files_of(study / "runs" / kind):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(study / "runs" / kind, folder)
        is_weights = name.startswith(("checkpoints", "models"))

        def read(is_weights: bool = is_weights) -> bool:
            if is_weights:  # as everybody does who loads them, and the same job when it is started again
                verified(folder)
            return bool(numbers(load(folder)) == good)

        if damage(folder / name, how):
            found = outcome(folder / name, read)
            assert found == "detected", name


@pytest.mark.parametrize(("kind", "how"), cases(PREPARED))
def test_prepared_data(study: Path, tmp_path: Path, kind: str, how: str) -> None:
    folder, load = tmp_path / kind, PREPARED[kind][0]
    for name in files_of(study / "data" / kind):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(study / "data" / kind, folder)
        if damage(folder / name, how):
            found = outcome(folder / name, lambda: load(folder) is None)
            assert found == "detected", name


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["digit", "middle", "cut", "gone"])
def test_a_stage_compares_the_run_that_it_is_made_from(study: Path, tmp_path: Path, stage: str, how: str) -> None:
    run = "gpt" if stage == "lambada" else "pretrain"
    (tmp_path / "data").symlink_to(study / "data")
    for name in files_of(study / "runs" / run):
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        shutil.copytree(study / "runs" / run, tmp_path / "runs" / run)
        path = tmp_path / "runs" / run / name
        if not damage(path, how):
            continue

        def read() -> bool:
            STAGES[stage](tmp_path, tmp_path / "out")
            return False

        found = outcome(path, read)
        assert found == "detected", name
        assert not (tmp_path / "out/summary.json").exists()


# ---- interrupted, then started again ----


@pytest.fixture(scope="module")
def interrupted(study: Path, tiny_run: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pre-training run that was stopped after its first checkpoint, and a fine-tuning after its first combination."""
    root = tmp_path_factory.mktemp("interrupted")
    while not (root / "pretrain/checkpoints").exists():
        with pytest.raises(OutOfTimeError):
            pretrain(settings_of(tiny_run), study / "data/corpus", root / "pretrain", max_seconds=0, progress=False)
    with pytest.raises(OutOfTimeError):  # a step later, so that the checkpoint cannot be written again
        pretrain(settings_of(tiny_run), study / "data/corpus", root / "pretrain", max_seconds=0, progress=False)
    once = finetune_module.finetune_once
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_module, "finetune_once", lambda *about: once(*about) if about[3] == 1 else stop())
        with pytest.raises(KeyboardInterrupt):
            STAGES["finetune"](study, root / "finetune")
    return {kind: root / kind for kind in INTERRUPTED}


def stop() -> None:
    raise KeyboardInterrupt


def results(folder: Path) -> Any:
    """What a run is for: its final weights, or its predictions; every file is what its manifest says."""
    verified(folder)
    path = folder / "checkpoints/ckp186/model.safetensors"
    arrays = load_file(path if path.exists() else folder / "predictions.safetensors")
    return {name: array.tobytes() for name, array in arrays.items()}


def test_the_table_has_what_an_interrupted_job_leaves(interrupted: dict[str, Path]) -> None:
    for kind, folder in interrupted.items():
        for name in files_of(folder):
            assert any(fnmatch(name, pattern) for pattern in INTERRUPTED[kind]), f"{kind}: {name}: in no table"


@pytest.mark.parametrize("how", ["digit", "middle", "cut", "gone"])
@pytest.mark.parametrize("kind", INTERRUPTED)
def test_an_interrupted_run(
    study: Path, interrupted: dict[str, Path], tiny_run: Make, tmp_path: Path, kind: str, how: str
) -> None:
    folder = tmp_path / kind
    for name in files_of(interrupted[kind]):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(interrupted[kind], folder)
        if not damage(folder / name, how):
            continue

        def read() -> bool:
            if kind == "pretrain":
                pretrain(settings_of(tiny_run), study / "data/corpus", folder, progress=False)
            else:
                STAGES["finetune"](study, folder)
            return bool(results(folder) == results(study / "runs" / kind))

        found = outcome(folder / name, read)
        assert found in ("detected", "harmless"), name
        if kind == "finetune" and not name.endswith(".json"):
            assert found == "harmless", name  # the combination is made again


def test_a_checkpoint_of_the_step_of_the_resume_state_is_written_again(
    study: Path, tiny_run: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    while not (folder / "checkpoints").exists():
        with pytest.raises(OutOfTimeError):
            pretrain(settings_of(tiny_run), study / "data/corpus", folder, max_seconds=0, progress=False)
    shutil.rmtree(folder / "checkpoints")
    pretrain(settings_of(tiny_run), study / "data/corpus", folder, progress=False)
    assert results(folder) == results(study / "runs/pretrain")
