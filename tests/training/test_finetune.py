"""Fine-tuning: predictions of every combination, and an interrupted job that repeats only what is missing."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.numpy import load_file

from pldrepro.config.model import Pooling
from pldrepro.config.run import FinetuneSettings, RunSettings
from pldrepro.data.glue import PreparedSplit, load_prepared
from pldrepro.data.manifests import GlueManifest
from pldrepro.errors import DataError, DivergedError, RecordError, SettingsError
from pldrepro.models.bert import BertForSequenceClassification
from pldrepro.models.blocks import initialise
from pldrepro.policy.drop import all_kept
from pldrepro.records import read_record
from pldrepro.runs.folder import load_finetune
from pldrepro.runs.manifest import settings_of
from pldrepro.training import finetune as module
from pldrepro.training.finetune import collate, constant_loss, finetune, task_loss, training_order
from pldrepro.training.pretrain import pretrain

CPU = torch.device("cpu")
EVALUATED = {"rte": ["dev"], "stsb": ["dev"], "cola": ["dev"], "mnli": ["dev", "dev_mismatched"]}
RATES, SEEDS = (1e-3, 3e-4), (1, 2)


def settings(**changes: Any) -> FinetuneSettings:
    return FinetuneSettings.model_validate(
        {
            "groups": {"glue": tuple(EVALUATED), "small": ("rte", "cola")},
            "learning_rates": RATES,
            "seeds": SEEDS,
            "epochs": 1,
            "batch_size": 16,
            "sequence_length": 32,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def run(tiny_run: Callable[..., RunSettings], corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training run to start from."""
    folder = tmp_path_factory.mktemp("finetune") / "run"
    pretrain(tiny_run(), corpus, folder, progress=False)
    return folder


def go(run: Path, glue: Path, folder: Path, group: str = "small", checkpoint: str = "ckp186", **changes: Any) -> Path:
    finetune(run, checkpoint, settings(**changes), group, glue, folder, progress=False)
    return folder


@pytest.fixture(scope="module")
def whole(run: Path, glue: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished job over all four tasks, with its models."""
    return go(run, glue, tmp_path_factory.mktemp("whole") / "job", "glue", save_models=True)


def predictions(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "predictions.safetensors")


# ---- what a job writes ----


def test_every_combination_has_predictions(whole: Path, glue: Path) -> None:
    arrays = predictions(whole)
    expected = {f"labels/{task}/{split}" for task in EVALUATED for split in EVALUATED[task]}
    expected |= {
        f"predictions/{task}/{split}/{rate!r}/{seed}"
        for task in EVALUATED
        for split in EVALUATED[task]
        for rate in RATES
        for seed in SEEDS
    }
    assert set(arrays) == expected
    for name, array in arrays.items():
        task, split = name.split("/")[1:3]
        assert len(array) == len(load_prepared(glue, task).splits[split])
        assert array.dtype == (np.float32 if task == "stsb" else np.int8)
        if name.startswith("labels/"):
            assert np.array_equal(array, load_prepared(glue, task).splits[split].labels)
        elif task != "stsb":
            assert set(array) <= set(range(3 if task == "mnli" else 2))


def test_results_and_summary(whole: Path) -> None:
    job = load_finetune(whole)
    assert [(line.task, line.learning_rate, line.seed) for line in job.results] == [
        (task, rate, seed) for task in EVALUATED for rate in RATES for seed in SEEDS
    ]
    assert {line.steps for line in job.results} == {2}  # 32 examples in batches of 16
    assert all(np.isfinite(line.train_loss) and line.seconds > 0 for line in job.results)
    assert job.summary.tasks == list(EVALUATED)
    assert job.summary.runs == 16
    assert job.summary.seconds == pytest.approx(sum(line.seconds for line in job.results))
    for values in (job.summary, job.settings):
        assert (values.arm, values.seed, values.checkpoint, values.group) == ("pld", 1, "ckp186", "glue")
    assert job.missing == {task: {} for task in EVALUATED}
    assert job.settings.finetune == settings(save_models=True)
    assert not (whole / "parts").exists()


def test_rates_and_seeds_make_a_difference(whole: Path) -> None:
    arrays = predictions(whole)
    scores = [arrays[f"predictions/stsb/dev/{rate!r}/{seed}"].tolist() for rate in RATES for seed in SEEDS]
    assert len({tuple(score) for score in scores}) == 4


@pytest.mark.parametrize("task", ["stsb", "mnli"])
def test_saved_models_predict_the_same_in_transformers(whole: Path, glue: Path, task: str) -> None:
    transformers = pytest.importorskip("transformers")
    place = whole / "models" / f"{task}-0.001-2"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(place)
    assert transformers.AutoTokenizer.from_pretrained(place).cls_token_id == 2
    split = load_prepared(glue, task).splits["dev"]
    inputs, _ = collate(split, np.arange(len(split)), CPU)
    mask = inputs["attention_mask"]
    with torch.no_grad():
        logits = model(
            inputs["input_ids"],
            token_type_ids=inputs["token_types"],
            attention_mask=None if mask is None else mask.long(),
        ).logits
    recorded = predictions(whole)[f"predictions/{task}/dev/0.001/2"]
    if task == "stsb":
        assert logits.squeeze(-1).numpy() == pytest.approx(recorded, abs=1e-5)
    else:
        assert np.array_equal(logits.argmax(-1).numpy(), recorded)


# ---- interruptions ----


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """The combinations that are worked on."""
    made: list[tuple[str, float, int]] = []
    original = module.finetune_once

    def counted(job: Any, task: str, rate: float, seed: int, device: Any) -> None:
        made.append((task, rate, seed))
        original(job, task, rate, seed, device)

    monkeypatch.setattr(module, "finetune_once", counted)
    return made


def interrupt(run: Path, glue: Path, folder: Path, after: int, **changes: Any) -> None:
    """A job that is interrupted in the training of combination number ``after``, counted from 0."""
    with pytest.MonkeyPatch.context() as patches:
        remaining = iter(range(after))
        original = module.train

        def train(*arguments: Any) -> Any:
            trained = original(*arguments)
            if next(remaining, None) is None:
                raise KeyboardInterrupt
            return trained

        patches.setattr(module, "train", train)
        with pytest.raises(KeyboardInterrupt):
            go(run, glue, folder, **changes)
    assert not (folder / "summary.json").exists()


def test_an_interrupted_job_repeats_only_what_is_missing(
    whole: Path, run: Path, glue: Path, tmp_path: Path, calls: list[Any]
) -> None:
    interrupt(run, glue, tmp_path, after=5)
    calls.clear()
    go(run, glue, tmp_path)
    assert calls == [("cola", 1e-3, 2), ("cola", 3e-4, 1), ("cola", 3e-4, 2)]
    undisturbed, continued = predictions(whole), predictions(tmp_path)
    assert len(continued) == 2 + 8
    assert all(np.array_equal(continued[name], undisturbed[name]) for name in continued)
    assert load_finetune(tmp_path).summary.runs == 8


@pytest.mark.parametrize("changes", [{"epochs": 2}, {"checkpoint": "ckp87"}], ids=["settings", "weights"])
def test_parts_of_another_job_are_not_used(
    run: Path, glue: Path, tmp_path: Path, calls: list[Any], changes: dict[str, Any]
) -> None:
    interrupt(run, glue, tmp_path, after=3)
    calls.clear()
    go(run, glue, tmp_path, **changes)
    assert len(calls) == 8


def test_a_finished_job_is_left_alone_and_gets_its_summary_back(
    run: Path, glue: Path, tmp_path: Path, calls: list[Any]
) -> None:
    go(run, glue, tmp_path, learning_rates=(1e-3,), seeds=(1,))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    calls.clear()
    go(run, glue, tmp_path, learning_rates=(1e-3,), seeds=(1,))
    (tmp_path / "summary.json").unlink()  # as Snakemake does before it runs a job again
    go(run, glue, tmp_path, learning_rates=(1e-3,), seeds=(1,))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not calls
    go(run, glue, tmp_path, learning_rates=(2e-3,), seeds=(1,))
    assert calls


# ---- what is refused ----


def test_an_unknown_checkpoint_is_named(run: Path, glue: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"run: .*ckp99"):
        go(run, glue, tmp_path / "job", checkpoint="ckp99")
    assert not (tmp_path / "job").exists()


def test_a_run_that_is_not_there_is_named(glue: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"nowhere/manifest\.json"):
        go(tmp_path / "nowhere", glue, tmp_path / "job")


def test_a_task_that_is_not_prepared_is_named(run: Path, glue: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="sst2 "):
        go(run, glue, tmp_path / "job", groups={"small": ("sst2",)})
    assert not (tmp_path / "job").exists()


def test_an_unknown_group_is_named(run: Path, glue: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="large"):
        go(run, glue, tmp_path / "job", group="large")


def test_divergence_names_task_step_and_rate(run: Path, glue: Path, tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"rte: .*1e\+30"):
        go(run, glue, tmp_path, learning_rates=(1e30,), epochs=8)


# ---- the pieces ----


def split_of(lengths: list[int]) -> PreparedSplit:
    """Example i is the token 100 + i, repeated; its second half has token type 1."""
    ids = np.concatenate([np.full(n, 100 + i, dtype=np.int32) for i, n in enumerate(lengths)])
    types = np.concatenate([np.arange(n) >= n // 2 for n in lengths]).astype(np.int8)
    labels = np.arange(len(lengths), dtype=np.int64)
    return PreparedSplit(ids, types, np.cumsum([0, *lengths], dtype=np.int64), labels)


def test_collate_pads_to_the_longest_of_the_batch() -> None:
    inputs, labels = collate(split_of([4, 9, 2]), np.array([2, 0]), CPU)
    assert inputs["input_ids"].tolist() == [[102, 102, 0, 0], [100, 100, 100, 100]]
    assert inputs["token_types"].tolist() == [[0, 1, 0, 0], [0, 0, 1, 1]]
    assert inputs["attention_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert labels.tolist() == [2, 0]


def test_no_mask_where_nothing_is_padded() -> None:
    inputs, _ = collate(split_of([3, 3]), np.array([0, 1]), CPU)
    assert inputs["attention_mask"] is None


GPU = torch.device("cuda", 0)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches for a GPU stay here."""
    monkeypatch.setattr(module, "on_device", lambda array, _: torch.from_numpy(array))


@pytest.mark.usefixtures("copied")
def test_a_gpu_gets_few_widths_and_always_a_mask() -> None:
    split = split_of(list(range(1, 71)))
    inputs = [collate(split, np.array([row]), GPU)[0] for row in range(70)]
    assert {one["input_ids"].shape[1] for one in inputs} == {16, 32, 48, 64, 70}
    assert all(one["attention_mask"].sum() == row + 1 for row, one in enumerate(inputs))
    assert collate(split, np.array([15, 3]), GPU)[0]["input_ids"].shape == (2, 16)


@pytest.mark.usefixtures("copied")
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_wider_batch_gives_the_same_logits(tiny_run: Callable[..., RunSettings], norm: str) -> None:
    model = BertForSequenceClassification(tiny_run(model={"norm": norm}).model, num_labels=2).eval()
    initialise(model, 0)
    split, rows = split_of([5, 9, 7, 30]), np.array([0, 2, 1])
    narrow, wide = (collate(split, rows, device)[0] for device in (CPU, GPU))
    assert (narrow["input_ids"].shape[1], wide["input_ids"].shape[1]) == (9, 16)
    torch.testing.assert_close(model(**wide), model(**narrow), atol=1e-6, rtol=1e-5)


def test_every_example_is_seen_once_an_epoch() -> None:
    split = split_of(list(np.random.default_rng(0).integers(1, 30, 100)))
    epoch = list(islice(training_order(split, 100, 8, seed=1), 26))
    for rows in (epoch[:13], epoch[13:]):
        assert sorted(np.concatenate(rows).tolist()) == list(range(100))
    assert [rows.tolist() for rows in epoch[:13]] != [rows.tolist() for rows in epoch[13:]]
    again = islice(training_order(split, 100, 8, seed=1), 26)
    assert all(np.array_equal(a, b) for a, b in zip(epoch, again, strict=True))
    assert [r.tolist() for r in epoch] != [r.tolist() for r in islice(training_order(split, 100, 8, seed=2), 26)]


def test_batches_hold_examples_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 128)
    batches = list(islice(training_order(split_of(list(lengths)), 128, 8, seed=1), 16))
    assert np.mean([np.ptp(lengths[rows]) for rows in batches]) < 15


def test_only_the_first_examples_are_used_where_asked(run: Path, glue: Path, tmp_path: Path) -> None:
    split = split_of([3] * 50)
    assert max(np.concatenate(list(islice(training_order(split, 20, 8, seed=1), 9)))) == 19
    go(run, glue, tmp_path, max_train_examples=10, epochs=3, learning_rates=(1e-3,), seeds=(1,))
    assert {line.steps for line in load_finetune(tmp_path).results} == {3}


def test_task_losses() -> None:
    assert task_loss(torch.zeros(3, 4), torch.tensor([0, 1, 2])).item() == pytest.approx(1.386294)  # log 4
    assert task_loss(torch.tensor([[1.0], [4.0]]), torch.tensor([2.0, 2.0])).item() == 2.5


# ---- whether a fit trained ----


def test_the_loss_of_the_best_constant() -> None:
    assert constant_loss(np.array([0, 1, 0, 1])) == pytest.approx(0.693147)  # log 2
    assert constant_loss(np.array([2, 2, 2])) == 0
    assert constant_loss(np.array([1.0, 3.0], dtype=np.float32)) == 1.0  # squared, of the mean 2


def test_a_fit_that_does_not_beat_a_constant_is_named(run: Path, glue: Path, tmp_path: Path) -> None:
    job = load_finetune(go(run, glue, tmp_path, learning_rates=(1e-3, 1e-12), seeds=(1,), epochs=30, dropout=0.0))
    found = {(line.task, line.learning_rate): line for line in job.results}
    labels = load_prepared(glue, "cola").splits["train"].labels
    for (task, rate), line in found.items():
        assert line.constant_loss is not None
        assert line.failed == (rate == 1e-12), (task, line.train_loss, line.constant_loss)
    share = labels.mean()
    assert found["cola", 1e-3].constant_loss == pytest.approx(-share * np.log(share) - (1 - share) * np.log(1 - share))
    assert job.summary.failed == ["rte 1e-12 seed 1", "cola 1e-12 seed 1"]


def test_the_training_loss_is_that_of_the_last_epoch(run: Path, glue: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 8, 8 and 4 examples: an epoch of three steps, the last three count, by their examples."""
    values = iter([9.0, 9.0, 9.0, 1.0, 2.0, 3.0])
    sizes: list[int] = []

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(labels))
        return logits.sum() * 0 + next(values)

    monkeypatch.setattr(module, "task_loss", loss)
    model = module.load_for_finetuning(run / "checkpoints" / "ckp186", 2, 1, 0.0)
    chosen = settings(epochs=2, batch_size=8, max_train_examples=20)
    job = module.Job(settings_of(run), chosen, "glue", "ckp186", run, glue, run)
    steps, final = module.train(model, load_prepared(glue, "rte"), job, 1e-3, 1, CPU)
    assert steps == 6
    assert sorted(sizes[3:]) == [4, 8, 8]
    assert final == pytest.approx(np.average([1.0, 2.0, 3.0], weights=sizes[3:]))


def test_examples_that_were_cut_or_outgrow_pretraining_are_counted(whole: Path, run: Path, glue: Path) -> None:
    summary, manifest = load_finetune(whole).summary, read_record(glue / "manifest.json", GlueManifest)
    trained = settings_of(run).data.sequence_length
    assert summary.trained_positions == trained
    assert {task: list(splits) for task, splits in summary.inputs.items()} == {
        task: ["train", *splits] for task, splits in EVALUATED.items()
    }
    for task, splits in summary.inputs.items():
        for split, counted in splits.items():
            lengths = np.diff(load_prepared(glue, task).splits[split].offsets)
            assert counted.examples == len(lengths)
            assert counted.cut == manifest.tasks[task][split].cut
            assert counted.untrained == sum(int(length) > trained for length in lengths)
    assert any(counted.untrained for splits in summary.inputs.values() for counted in splits.values())


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_what_the_classifier_sees(run: Path, pooling: Pooling) -> None:
    """Padding changes nothing; the mean sees every real token, [CLS] is the first one's state."""
    model = module.load_for_finetuning(run / "checkpoints" / "ckp186", 2, 1, 0.0, pooling).eval()
    ids = torch.tensor([[2, 9, 8, 3]])
    padded, mask = torch.tensor([[2, 9, 8, 3, 0, 0]]), torch.tensor([[True] * 4 + [False] * 2])
    with torch.no_grad():
        hidden = model.bert(ids, None, None, all_kept(model.bert.settings.num_layers))[0]
        state = hidden[0] if pooling == "cls" else sum(hidden) / 4
        logits = model.classifier(torch.tanh(model.pooler.dense(state)))
        assert model(ids, None, None)[0].tolist() == pytest.approx(logits.tolist(), abs=1e-6)
        assert model(padded, None, mask)[0].tolist() == pytest.approx(logits.tolist(), abs=1e-6)


def test_pooling_is_a_setting_of_the_job(run: Path, glue: Path, tmp_path: Path) -> None:
    one = {"groups": {"small": ("stsb",)}, "learning_rates": (1e-3,), "seeds": (1,)}
    name = "predictions/stsb/dev/0.001/1"
    scores = [predictions(go(run, glue, tmp_path / how, pooling=how, **one))[name].tolist() for how in ("cls", "mean")]
    assert scores[0] != scores[1]
    with pytest.raises(ValidationError, match="save_models"):
        settings(pooling="mean", save_models=True)


def test_rates_rise_over_the_warm_up_and_fall_to_zero(
    run: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates: list[float] = []
    monkeypatch.setattr(module, "set_learning_rate", lambda optimizer, rate: rates.append(rate))
    go(run, glue, tmp_path, groups={"small": ("rte",)}, learning_rates=(1.0,), seeds=(1,), epochs=5, warmup=0.2)
    assert rates == pytest.approx([1 / 2, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_predictions_do_not_depend_on_their_batches(
    whole: Path, run: Path, glue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order by length, in which predictions are made, is undone."""
    monkeypatch.setattr(np, "argsort", lambda values, **_: np.arange(len(values)))
    model = module.load_for_finetuning(run / "checkpoints" / "ckp186", 1, 1, 0.1)
    job = module.Job(settings_of(run), settings(), "glue", "ckp186", run, glue, tmp_path)
    split = load_prepared(glue, "stsb").splits["dev"]
    unsorted = module.predict(model, split, job, CPU)
    monkeypatch.undo()
    assert module.predict(model, split, job, CPU) == pytest.approx(unsorted, abs=1e-6)
