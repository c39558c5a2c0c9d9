"""GPT and images in the one training loop: resumed bit for bit, and plain transformers agrees with the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from pldrepro.config.base import merge
from pldrepro.config.data import DataSettings, ImageDataSettings
from pldrepro.config.run import CalibrationJob, ImplSettings, RunSettings
from pldrepro.data.corpus import open_corpus, prepare_corpus
from pldrepro.data.images import prepare_images
from pldrepro.errors import OutOfTimeError, SettingsError
from pldrepro.evaluation.lambada import predict_last_words, score_lambada
from pldrepro.files import read_json
from pldrepro.models.checkpoints.gpt2 import load_gpt
from pldrepro.policy.drop import all_kept
from pldrepro.runs.folder import load_lambada, load_pretrain
from pldrepro.runs.step_times import load_calibration
from pldrepro.training import objectives
from pldrepro.training.calibrate import calibrate
from pldrepro.training.device import choose_attention, on_device
from pldrepro.training.objectives import Classification, NextToken, blocks_of, open_objective
from pldrepro.training.pretrain import pretrain
from tests.support.runs import read_jsonl

CPU = torch.device("cpu")
SHARED: dict[str, Any] = {
    "scale": "tiny", "arm": "sbld", "label": "SBLD (our reading)", "seed": 1,
    "drop": {"dialect": "sbld", "sensitivity": {"warmup_share": 0.25, "batches": 1}},
    "impl": {"device": "cpu", "threads": 1, "micro_batch_size": 4, "log_points": 5},
}  # fmt: skip
TRAINING = {
    "num_steps": 12, "batch_size": 8, "learning_rates": {"baseline": 3e-3, "higher": 3e-3}, "validation_points": 3,
    "validation_sequences": 16, "checkpoints": {"ckp100": "1/2", "ckp186": 1}, "next_sentence": False,
}  # fmt: skip
RUNS: dict[str, dict[str, Any]] = {
    "gpt": {
        **SHARED,
        "model": {"family": "gpt", "norm": "pre", "num_layers": 3, "hidden_size": 16, "num_heads": 2, "ffn_size": 32,
                  "vocab_size": 300, "max_positions": 48, "dropout": 0.1, "attention_dropout": 0.1, "init_std": 0.1},
        "data": {"tokenizer": "bpe", "vocab_size": 300, "sequence_length": 24, "validation_ratio": 10,
                 "miniature": {"num_documents": 60, "lambada_passages": 12}},
        "training": TRAINING,
    },
    "swinv2": {
        **SHARED,
        "model": {"family": "swinv2", "image_size": 16, "patch_size": 4, "stages": [1, 2], "hidden_size": 8,
                  "num_heads": [1, 2], "window_size": 2, "dropout": 0.1, "init_std": 0.1},
        "data": {"kind": "images", "image_size": 16, "shapes": {"train_images": 48, "validation_images": 16}},
        "training": TRAINING,
    },
}  # fmt: skip
RUNS["vit"] = merge(RUNS["swinv2"], {"model": {"family": "vit", "stages": [3], "num_heads": [2]}})
FAMILIES = list(RUNS)


def settings_of(family: str, **changes: Any) -> RunSettings:
    return RunSettings.model_validate(merge(RUNS[family], changes))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The prepared data of a family."""
    root = tmp_path_factory.mktemp("data")
    prepare_corpus(DataSettings.model_validate(RUNS["gpt"]["data"]), root / "gpt", workers=1, progress=False)
    prepare_images(ImageDataSettings.model_validate(RUNS["swinv2"]["data"]), root / "images", progress=False)
    return lambda family: root / ("gpt" if family == "gpt" else "images")


@pytest.fixture(scope="module")
def finished(data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    for family in FAMILIES:
        pretrain(settings_of(family), data(family), root / family, progress=False)
    return {family: root / family for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stopped_run_ends_where_an_undisturbed_one_does(
    finished: dict[str, Path], data: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    for _ in range(20):
        try:
            pretrain(settings_of(family), data(family), tmp_path, max_seconds=0.0, progress=False)
        except OutOfTimeError:
            continue
        break
    weights = [
        (folder / "checkpoints/ckp186/model.safetensors").read_bytes() for folder in (finished[family], tmp_path)
    ]
    assert weights[0] == weights[1]
    lines = [
        [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in read_jsonl(path)]
        for path in (finished[family] / "metrics.jsonl", tmp_path / "metrics.jsonl")
    ]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_records_its_family_and_what_it_kept(finished: dict[str, Path], family: str) -> None:
    run = load_pretrain(finished[family])
    assert run.family == family
    assert len(run.summary.passes_by_layer) == 3
    passes = run.summary.passes_by_kept_layers
    assert sum(passes.values()) == 24  # 12 steps of two micro-batches
    assert sum(run.summary.passes_by_layer) == sum(kept * count for kept, count in passes.items()) < 72
    assert run.summary.analysis_passes > 0
    assert (run.summary.validation_top5 is not None) == (family != "gpt")


def test_a_gpts_validation_loss_is_that_of_transformers(finished: dict[str, Path], data: Callable[[str], Path]) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(finished["gpt"] / "checkpoints/ckp186")
    assert type(model).__name__ == "GPT2LMHeadModel"
    batch = NextToken(settings_of("gpt"), CPU).validation(open_corpus(data("gpt")))
    with torch.no_grad():
        logits = model(torch.from_numpy(batch.input_ids)).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.labels).flatten())
    assert loss.item() == pytest.approx(load_pretrain(finished["gpt"]).summary.validation_loss, abs=1e-5)


@pytest.mark.parametrize("family", ["swinv2", "vit"])
def test_an_image_models_accuracy_is_that_of_transformers(
    finished: dict[str, Path], data: Callable[[str], Path], family: str
) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForImageClassification.from_pretrained(finished[family] / "checkpoints/ckp186")
    objective = Classification(settings_of(family), CPU)
    images = objective.open(data(family))
    batch = objective.validation(images)
    mean, std = np.array(images.mean), np.array(images.std)
    pixels = torch.from_numpy(((batch.pixels / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.no_grad():
        logits = model(pixels).logits
    labels = torch.from_numpy(batch.labels)
    summary = load_pretrain(finished[family]).summary
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert loss == pytest.approx(summary.validation_loss, abs=1e-5)
    assert (logits.argmax(-1) == labels).float().mean().item() == summary.validation_accuracy
    top5 = (logits.topk(5).indices == labels[:, None]).any(-1).float().mean().item()
    assert top5 == summary.validation_top5


@pytest.mark.parametrize("family", FAMILIES)
def test_micro_batches_do_not_change_the_loss(data: Callable[[str], Path], family: str) -> None:
    objective = open_objective(settings_of(family, model={"dropout": 0.0}), CPU)
    model = objective.build().eval()
    batch = objective.training(objective.open(data(family))).batch(0, 8)
    whole, _ = objective.loss(model, batch, batch, all_kept(3))
    parts = [objective.loss(model, part, batch, all_kept(3))[0] for part in batch.micro_batches(3)]
    assert whole.item() == pytest.approx(sum(part.item() for part in parts), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_validation_is_the_same_for_every_seed_and_not_augmented(data: Callable[[str], Path], family: str) -> None:
    batches = []
    for seed in (1, 2):
        objective = open_objective(settings_of(family, seed=seed), CPU)
        batches.append(objective.validation(objective.open(data(family))))
    fields = vars(batches[0])
    assert all(np.array_equal(array, vars(batches[1])[name]) for name, array in fields.items())
    if family != "gpt":
        stored = np.load(data(family) / "validation_pixels.npy")
        assert np.array_equal(batches[0].pixels, stored[:16])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_calibration_prices_the_run(data: Callable[[str], Path], tmp_path: Path, family: str) -> None:
    settings = settings_of(family)
    job = CalibrationJob.model_validate({"runs": [settings], "calibration": {"rounds": 3, "warmup_rounds": 1}})
    calibrate(job, tmp_path / "calibration", progress=False)
    pretrain(settings, data(family), tmp_path / "run", tmp_path / "calibration/summary.json", progress=False)
    run, (shape,) = load_pretrain(tmp_path / "run"), load_calibration(tmp_path / "calibration").shapes
    assert shape.fits(run.settings)
    counts, layers = run.summary.passes_by_kept_layers, run.summary.passes_by_layer
    price = shape.price(counts, layers, run.summary.analysis_passes)
    assert run.summary.reference_seconds == pytest.approx(price)
    if family == "swinv2":
        first, second = shape.layer_seconds[0], shape.layer_seconds[1]
        by_hand = 24 * shape.median[0] + layers[0] * first + (layers[1] + layers[2]) * second
        assert price == pytest.approx(by_hand + run.summary.analysis_passes * shape.median[3])
        assert second == pytest.approx((shape.median[3] - shape.median[1]) / 2)


def test_data_that_do_not_suit_the_model_are_refused(data: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="num_classes 3"):
        pretrain(settings_of("swinv2", model={"num_classes": 3}), data("swinv2"), tmp_path / "a", progress=False)
    with pytest.raises(SettingsError, match=r"model\.vocab_size 100"):
        pretrain(settings_of("gpt", model={"vocab_size": 100}), data("gpt"), tmp_path / "b", progress=False)


# ---- LAMBADA as a stage ----


def test_lambada_scores_every_checkpoint_of_a_run(
    finished: dict[str, Path], data: Callable[[str], Path], tmp_path: Path
) -> None:
    score_lambada(finished["gpt"], data("gpt"), tmp_path, progress=False)
    scores = load_lambada(tmp_path).summary
    assert (scores.passages, list(scores.checkpoints)) == (12, ["ckp100", "ckp186"])
    arrays = load_file(tmp_path / "predictions.safetensors")
    for name, score in scores.checkpoints.items():
        assert score.lambada_accuracy == arrays[f"{name}/correct"].mean()
        assert score.lambada_perplexity == pytest.approx(np.exp(-arrays[f"{name}/log_probabilities"].mean()))


def test_lambada_looks_no_farther_back_than_the_model_was_trained(
    finished: dict[str, Path], data: Callable[[str], Path], tmp_path: Path
) -> None:
    """The tiny GPT has 48 positions of which 24 were trained."""
    score_lambada(finished["gpt"], data("gpt"), tmp_path, progress=False)
    model = load_gpt(finished["gpt"] / "checkpoints/ckp186", settings_of("gpt").model)
    lambada = open_corpus(data("gpt")).lambada
    assert lambada is not None
    assert max(len(lambada.passage(index)[0]) for index in range(12)) > 24
    impl = settings_of("gpt").impl
    found = load_file(tmp_path / "predictions.safetensors")["ckp186/log_probabilities"]
    assert found == pytest.approx(predict_last_words(model, lambada, impl, CPU, all_kept(3), 24).log_probabilities)
    assert found != pytest.approx(predict_last_words(model, lambada, impl, CPU, all_kept(3)).log_probabilities)


def test_lambada_needs_a_gpt_its_corpus_and_passages(
    finished: dict[str, Path], data: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="a model of family swinv2; allowed: gpt"):
        score_lambada(finished["swinv2"], data("gpt"), tmp_path, progress=False)
    without = merge(RUNS["gpt"]["data"], {"miniature": {"lambada_passages": 0}})
    prepare_corpus(DataSettings.model_validate(without), tmp_path / "corpus", workers=1, progress=False)
    with pytest.raises(SettingsError, match="not the corpus that"):
        score_lambada(finished["gpt"], tmp_path / "corpus", tmp_path / "out", progress=False)
    pretrain(settings_of("gpt", data=without), tmp_path / "corpus", tmp_path / "run", progress=False)
    with pytest.raises(SettingsError, match="no LAMBADA passages"):
        score_lambada(tmp_path / "run", tmp_path / "corpus", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert read_json(tmp_path / "run" / "summary.json")["family"] == "gpt"


# ---- copies to the device ----


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_copied_before_the_model_is_called(
    data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, family: str
) -> None:
    """A copy that is asked for later waits for the whole forward pass."""
    objective = open_objective(settings_of(family), CPU)
    objective.open(data(family))
    model, batch, events = objective.build().train(), objective.random(4), []
    monkeypatch.setattr(objectives, "on_device", lambda a, d: (events.append("copy"), torch.from_numpy(a))[1])
    model.register_forward_pre_hook(lambda *_: events.append("call"))
    for block in blocks_of(model):
        block.register_forward_pre_hook(lambda *_: events.append("block"))
    objective.loss(model, batch, batch, all_kept(3))
    assert events[:2] == ["copy", "copy"]
    assert "copy" not in events[events.index("block") :]


class Pinned(torch.Tensor):
    """Records where it is pinned and copied to."""

    log: list[Any]

    def pin_memory(self, *_: Any) -> Any:  # type: ignore[override]
        self.log.append("pinned")
        return self

    def to(self, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]
        self.log.append((arguments, options))
        return self


def test_copies_to_a_gpu_leave_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[Any] = []

    def pinned(array: np.ndarray) -> Any:
        tensor = torch.tensor(array).as_subclass(Pinned)
        tensor.log = log
        return tensor

    monkeypatch.setattr(torch, "from_numpy", pinned)
    on_device(np.zeros(3), CPU)
    assert log == []
    on_device(np.zeros(3), torch.device("cuda", 0))
    assert log == ["pinned", ((torch.device("cuda", 0),), {"non_blocking": True})]


# ---- a residual stream in bfloat16 ----


def test_two_hundred_steps_with_a_residual_stream_in_bfloat16_learn_as_much(
    data: Callable[[str], Path], tmp_path: Path
) -> None:
    """Two seeds differ by 0.3 nats here, the two streams by less than 0.002."""
    losses = {}
    for residual in ("float32", "bfloat16"):
        settings = settings_of(
            "gpt",
            drop={"dialect": "paper_alg1"},
            model={"dropout": 0.0, "attention_dropout": 0.0},
            training={"num_steps": 200},
            impl={"precision": "bfloat16", "residual": residual},
        )
        pretrain(settings, data("gpt"), tmp_path / residual, progress=False)
        losses[residual] = [line.loss for line in load_pretrain(tmp_path / residual).validation]
    assert losses["float32"][-1] < losses["float32"][0] - 0.5
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.01)
    assert losses["bfloat16"] != losses["float32"]


def test_a_residual_stream_is_as_precise_as_its_matrices_at_most() -> None:
    with pytest.raises(ValidationError, match="residual"):
        settings_of("gpt", impl={"residual": "bfloat16"})
    with pytest.raises(ValidationError, match=r"impl\.residual"):
        settings_of("vit", impl={"residual": "bfloat16", "precision": "bfloat16"})


# ---- kernels of attention ----


@pytest.fixture
def switches() -> Iterator[None]:
    """Leaves torch's choice of kernels as it is by default."""
    yield
    choose_attention("auto")


@pytest.mark.usefixtures("switches")
@pytest.mark.parametrize("name", get_args(ImplSettings.model_fields["attention"].annotation))
def test_every_setting_of_attention_leaves_the_kernels_that_it_names(name: str) -> None:
    enabled = {
        "cudnn": torch.backends.cuda.cudnn_sdp_enabled,
        "flash": torch.backends.cuda.flash_sdp_enabled,
        "efficient": torch.backends.cuda.mem_efficient_sdp_enabled,
    }
    choose_attention(name)
    left = [kernel for kernel in enabled if enabled[kernel]()]
    assert left == {"auto": [*enabled], "math": [], "efficient": ["efficient"]}.get(name, [name, "efficient"])
    assert torch.backends.cuda.math_sdp_enabled()
