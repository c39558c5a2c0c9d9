"""Pre-training: an interrupted run ends bit for bit where an undisturbed one does, and records what it did."""

import json
import math
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pldrepro import records
from pldrepro.config.run import Budget, RunSettings
from pldrepro.costs.flops import run_flops
from pldrepro.data.batches.rows import IGNORED
from pldrepro.data.corpus import open_corpus
from pldrepro.errors import DivergedError, OutOfTimeError, RecordError, SettingsError
from pldrepro.files import read_json, write_json
from pldrepro.policy.drop import DropSettings, draw_gates, expected_depth
from pldrepro.runs.folder import load_pretrain
from pldrepro.training import pretrain as module
from pldrepro.training import run as run_module
from pldrepro.training import stopwatch
from pldrepro.training.device import select_device
from pldrepro.training.objectives import MaskedLanguage, open_objective
from pldrepro.training.pretrain import pretrain
from pldrepro.training.run import Run, spread
from tests.support.runs import read_jsonl, resealed

Make = Callable[..., RunSettings]
STEPS = 16
CHECKPOINTS = {"ckp87": 7, "ckp100": 9, "ckp186": 16}


def go(settings: RunSettings, corpus: Path, folder: Path, **options: Any) -> Path:
    pretrain(settings, corpus, folder, progress=False, **options)
    return folder


def setup(settings: RunSettings, data: Path, folder: Path) -> Run:
    """A run before its first step."""
    objective = open_objective(settings, select_device(settings.impl))
    return module.setup(settings, objective, objective.open(data), folder, None)


def weights(folder: Path, checkpoint: str = "ckp186") -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints" / checkpoint / "model.safetensors")


def untimed(value: Any) -> Any:
    """A record without what depends on the clock and on the process."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if k not in ("train_seconds", "peak_memory_bytes")}
    return value


def assert_same_run(first: Path, second: Path) -> None:
    assert [untimed(line) for line in read_jsonl(first / "metrics.jsonl")] == [
        untimed(line) for line in read_jsonl(second / "metrics.jsonl")
    ]
    assert untimed(read_json(first / "summary.json")) == untimed(read_json(second / "summary.json"))
    assert read_json(first / "settings.json") == read_json(second / "settings.json")
    for checkpoint in CHECKPOINTS:
        ours, theirs = weights(first, checkpoint), weights(second, checkpoint)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def calibration(tiny_run: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tau(k) = 2 + k seconds."""
    path = tmp_path_factory.mktemp("calibration") / "summary.json"
    run = tiny_run()
    shapes = []
    for norm in ("pre", "post"):
        tau = {str(k): {"median": 2.0 + k, "low": 2.0 + k, "high": 2.0 + k, "n": 3} for k in range(5)}
        about = {"norm": norm, "num_layers": 4, "micro_batch_size": 4, "sequence_length": 24}
        model = {**run.model.model_dump(mode="json"), "norm": norm}
        fit = {"intercept": 2.0, "slope": 1.0, "r2": 1.0}
        shapes.append({**about, "model": model, "tau": tau, "fit": fit})
    write_json(path, {"threads": 1, "device": {"type": "cpu"}, "shapes": shapes})
    resealed(path.parent)
    return path


@pytest.fixture(scope="module")
def undisturbed(tiny_run: Make, corpus: Path, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: PLD, dropout, next-sentence prediction, two micro batches a step."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    return go(tiny_run(), corpus, folder, calibration=calibration)


def test_a_run_without_steps_is_the_model_as_initialised(
    tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    settings = tiny_run(training={"num_steps": 0}, drop={"dialect": "none"})
    run = load_pretrain(go(settings, corpus, tmp_path / "run", calibration=calibration))
    summary = run.summary
    assert list(summary.checkpoints) == ["ckp186"]
    assert summary.validation_loss == pytest.approx(math.log(128), abs=0.5)  # 128 tokens, all about equally likely
    assert (summary.steps, summary.samples, summary.flops, summary.train_seconds) == (0, 0, 0, 0)
    assert (summary.reference_seconds, summary.mean_kept_layers, run.training) == (0, 0, [])
    go(tiny_run(training={"num_steps": 16}, drop={"dialect": "none"}), corpus, tmp_path / "trained")
    initial = setup(settings, corpus, tmp_path / "again").objective
    initial.save(initial.build(), initial.open(corpus), tmp_path / "again/checkpoints/ckp186", [1.0] * 4)
    found, expected, trained = (weights(tmp_path / name) for name in ("run", "again", "trained"))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not all(torch.equal(found[name], trained[name]) for name in trained)
    before = (tmp_path / "run/summary.json").stat().st_mtime_ns
    go(settings, corpus, tmp_path / "run", calibration=calibration)
    assert (tmp_path / "run/summary.json").stat().st_mtime_ns == before


# ---- interruptions ----


def test_two_runs_are_bit_identical(
    undisturbed: Path, tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    assert_same_run(undisturbed, go(tiny_run(), corpus, tmp_path / "run", calibration=calibration))


def test_another_seed_is_another_run(undisturbed: Path, tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    other = go(tiny_run(seed=2), corpus, tmp_path / "run")
    name = "roberta_prelayernorm.embeddings.word_embeddings.weight"
    assert not torch.equal(weights(undisturbed)[name], weights(other)[name])


@pytest.mark.parametrize(
    ("interrupted_at", "save_every_seconds"), [([5], 1e-9), ([8, 12], 1e-9), ([0], 1e9), ([8, 12], 1e9), ([15], 1e9)]
)
def test_an_interrupted_run_goes_on_bit_for_bit(
    undisturbed: Path,
    tiny_run: Make,
    corpus: Path,
    calibration: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interrupted_at: list[int],
    save_every_seconds: float,
) -> None:
    settings = tiny_run(impl={"save_every_seconds": save_every_seconds})
    train_step = Run.train_step
    for stop in interrupted_at:

        def interrupted(run: Run, stop: int = stop) -> Any:
            losses = train_step(run)  # the step is lost: the interruption comes before it is counted
            if run.progress.step == stop:
                raise KeyboardInterrupt
            return losses

        monkeypatch.setattr(Run, "train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            go(settings, corpus, tmp_path, calibration=calibration)
        assert not (tmp_path / "summary.json").exists()
    monkeypatch.setattr(Run, "train_step", train_step)
    go(settings, corpus, tmp_path, calibration=calibration)
    write_json(tmp_path / "settings.json", read_json(undisturbed / "settings.json"))  # differ in save_every_seconds
    assert_same_run(undisturbed, tmp_path)
    assert not (tmp_path / "resume").exists()


def test_max_seconds_stops_at_a_checkpoint_as_often_as_it_takes(
    undisturbed: Path, tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    for done in range(1, STEPS):
        with pytest.raises(OutOfTimeError, match=f"stopped after 0 s at step {done} of 16"):
            go(tiny_run(), corpus, tmp_path, calibration=calibration, max_seconds=0)
    go(tiny_run(), corpus, tmp_path, calibration=calibration, max_seconds=0)
    assert_same_run(undisturbed, tmp_path)


def test_no_state_is_saved_that_nothing_will_go_on_from(
    tiny_run: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda run: (saved.append(run.progress.step), save(run)))
    go(tiny_run(impl={"save_every_seconds": 1e-9}), corpus, tmp_path / "often")
    go(tiny_run(training={"checkpoints": {"ckp87": None, "ckp100": None}}), corpus, tmp_path / "never")
    assert saved == [*range(1, STEPS)]
    assert (tmp_path / "never/summary.json").is_file()


def test_enough_seconds_do_not_stop(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    go(tiny_run(), corpus, tmp_path, max_seconds=1e9)
    assert (tmp_path / "summary.json").exists()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    update = Run._update
    monkeypatch.setattr(Run, "_update", lambda run, step: die() if step == 11 else update(run, step))


def kill_while_the_state_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    save_state = run_module.save_state

    def save(folder: Path, model: Any, optimizer: Any, progress: dict[str, Any]) -> None:
        if progress["step"] == 9:
            (folder / ".state.safetensors.1.tmp").write_bytes(b"half of it")
            die()
        save_state(folder, model, optimizer, progress)

    monkeypatch.setattr(run_module, "save_state", save)


def kill_while_a_metrics_line_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    append_jsonl = run_module.append_jsonl

    def append(path: Path, value: dict[str, Any]) -> bytes:
        if value["step"] == 13:
            with path.open("a") as file:
                file.write(json.dumps(value)[:25])
                file.flush()
                die()
        return append_jsonl(path, value)

    monkeypatch.setattr(run_module, "append_jsonl", append)


def kill_before_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "finish", lambda run: die())


def kill_after(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, value: Any) -> None:
        write_json(path, value)
        if path.name == name:
            die()

    monkeypatch.setattr(records, "write_json", write)


def kill_after_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    kill_after("manifest.json", monkeypatch)


def kill_after_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    kill_after("summary.json", monkeypatch)


@pytest.mark.parametrize(
    "moment",
    [
        kill_in_a_step,
        kill_while_the_state_is_written,
        kill_while_a_metrics_line_is_written,
        kill_before_the_summary,
        kill_after_the_manifest,
        kill_after_the_summary,
    ],
)
def test_a_killed_process_is_continued_bit_for_bit(
    undisturbed: Path,
    tiny_run: Make,
    corpus: Path,
    calibration: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: Callable[[pytest.MonkeyPatch], None],
) -> None:
    with monkeypatch.context() as patches:
        moment(patches)
        process = multiprocessing.get_context("fork").Process(
            target=go, args=(tiny_run(), corpus, tmp_path), kwargs={"calibration": calibration}
        )
        process.start()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    go(tiny_run(), corpus, tmp_path, calibration=calibration)
    assert_same_run(undisturbed, tmp_path)


def test_a_complete_run_is_left_alone(undisturbed: Path, tiny_run: Make, corpus: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    go(tiny_run(), corpus, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")} == before


def test_where_the_workflow_removed_the_summary_the_run_starts_anew(
    undisturbed: Path, tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    changed = tiny_run(training={"num_steps": 14})
    go(changed, corpus, tmp_path)
    (tmp_path / "summary.json").unlink()
    go(tiny_run(), corpus, tmp_path, calibration=calibration)
    assert_same_run(undisturbed, tmp_path)


# ---- what may not be continued ----


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training": {"learning_rate": "baseline"}}, "training.learning_rate"),
        ({"drop": {"theta_bar": 0.9}}, "drop.theta_bar"),
        ({"model": {"dropout": 0.0}}, "model.dropout"),
        ({"impl": {"micro_batch_size": 8}}, "impl.micro_batch_size"),
        ({"seed": 5}, "seed"),
    ],
)
def test_other_settings_on_an_unfinished_run_are_refused(
    tiny_run: Make, corpus: Path, tmp_path: Path, changes: dict[str, Any], named: str
) -> None:
    with pytest.raises(OutOfTimeError):
        go(tiny_run(), corpus, tmp_path, max_seconds=0)
    before = (tmp_path / "settings.json").read_text()
    with pytest.raises(
        SettingsError,
        match=rf"holds a run with other settings \({named}\) by its settings\.json",
    ):
        go(tiny_run(**changes), corpus, tmp_path)
    assert (tmp_path / "settings.json").read_text() == before


def test_other_threads_and_intervals_may_go_on(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        go(tiny_run(), corpus, tmp_path, max_seconds=0)
    with pytest.raises(OutOfTimeError, match="at step 2 of 16"):
        go(tiny_run(impl={"save_every_seconds": 1, "log_points": 7}), corpus, tmp_path, max_seconds=0)


def test_other_settings_on_a_complete_run_are_refused(undisturbed: Path, tiny_run: Make, corpus: Path) -> None:
    with pytest.raises(SettingsError, match=r"\(training\.num_steps\)"):
        go(tiny_run(training={"num_steps": 30}), corpus, undisturbed)


def test_another_corpus_on_an_unfinished_run_is_refused(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        go(tiny_run(), corpus, tmp_path, max_seconds=0)
    values = read_json(tmp_path / "provenance.json")
    write_json(tmp_path / "provenance.json", {**values, "corpus": {"hash": "of another"}})
    with pytest.raises(SettingsError, match=r"\(corpus\)"):
        go(tiny_run(), corpus, tmp_path)


def test_a_vocabulary_that_does_not_fit_is_refused(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"model\.vocab_size 64"):
        go(tiny_run(model={"vocab_size": 64}), corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_calibration_of_another_shape_is_refused(
    tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecordError, match="pld, seed 1"):
        go(tiny_run(model={"num_layers": 3}), corpus, tmp_path / "run", calibration=calibration)
    assert not (tmp_path / "run").exists()


def test_a_damaged_resume_checkpoint_is_named(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        go(tiny_run(), corpus, tmp_path, max_seconds=0)
    state = tmp_path / "resume" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(RecordError, match=r"resume/state\.safetensors"):
        go(tiny_run(), corpus, tmp_path)


def test_metrics_that_were_cut_are_named(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(impl={"log_points": STEPS})
    with pytest.raises(OutOfTimeError):
        go(settings, corpus, tmp_path, max_seconds=0)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RecordError, match=r"metrics\.jsonl"):
        go(settings, corpus, tmp_path)


# ---- divergence ----


def test_a_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(
    tiny_run: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Run.train_step

    def poisoned(run: Run) -> Any:
        loss, *others = train_step(run)
        return loss * float("nan") if run.progress.step == 12 else loss, *others

    monkeypatch.setattr(Run, "train_step", poisoned)
    with pytest.raises(DivergedError, match="step 12") as e:
        go(tiny_run(), corpus, tmp_path)
    assert "checkpoint: ckp100, resume state in " in str(e.value)
    assert not (tmp_path / "summary.json").exists()
    with pytest.raises(DivergedError, match="at step 12"):  # the resume state is from before
        go(tiny_run(), corpus, tmp_path)
    monkeypatch.setattr(Run, "train_step", train_step)
    go(tiny_run(), corpus, tmp_path)


def test_an_absurd_learning_rate_diverges(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    wild = tiny_run(training={"learning_rates": {"baseline": 1.0, "higher": 1e30}})
    with pytest.raises(DivergedError, match=r"step \d, .*none$"):
        go(wild, corpus, tmp_path)


# ---- what is computed ----


@pytest.mark.parametrize("next_sentence", [True, False])
def test_accumulated_micro_batches_equal_one_batch(
    tiny_run: Make, corpus: Path, tmp_path: Path, next_sentence: bool
) -> None:
    lines = []
    for size in (3, 16):
        settings = tiny_run(
            model={"dropout": 0.0, "attention_dropout": 0.0},
            training={"batch_size": 16, "next_sentence": next_sentence},
            impl={"micro_batch_size": size, "log_points": STEPS},
        )
        folder = go(settings, corpus, tmp_path / str(size))
        lines.append(read_jsonl(folder / "metrics.jsonl"))
    assert len(lines[0]) == STEPS + len({5, 11, 16, 7, 9})
    for small, large in zip(*lines, strict=True):
        assert small["loss"] == pytest.approx(large["loss"], abs=1e-5)
        assert small["flops"] == pytest.approx(large["flops"])
        if small["kind"] == "train":
            assert small["gradient_norm"] == pytest.approx(large["gradient_norm"], rel=1e-3)
            assert (small["loss"] == small["main_loss"]) == (not next_sentence)


@pytest.mark.parametrize("dialect", ["paper_alg1", "deepspeed", "no_train_no_gain", "layerdrop"])
def test_recorded_layers_are_those_of_an_offline_replay(
    tiny_run: Make, corpus: Path, tmp_path: Path, dialect: str
) -> None:
    settings = tiny_run(drop={"dialect": dialect}, impl={"log_points": STEPS})
    folder = go(settings, corpus, tmp_path)
    passes, totals = Counter(), []
    for step in range(STEPS):
        for micro_step in range(2):
            gates = draw_gates(settings.drop, seed=1, step=step, micro_step=micro_step, num_steps=STEPS, num_layers=4)
            passes[sum(gate.keep for gate in gates)] += 1
        totals.append(sum(kept * count for kept, count in passes.items()))
    train = [line for line in read_jsonl(folder / "metrics.jsonl") if line["kind"] == "train"]
    assert [line["kept_layers"] for line in train] == totals
    assert load_pretrain(folder).summary.passes_by_kept_layers == passes


@pytest.mark.parametrize(("gradients", "moves"), [("none", False), ("zero", True)])
def test_dropped_layers_rest_or_are_moved_by_decay(
    tiny_run: Make, corpus: Path, tmp_path: Path, gradients: str, moves: bool
) -> None:
    drop = {"dialect": None, "schedule": "constant", "allocation": "uniform", "theta_bar": 1e-6}
    run = setup(tiny_run(drop={**drop, "dropped_gradients": gradients}), corpus, tmp_path)
    before = [block.qkv.weight.detach().clone() for block in run.model.bert.blocks]
    embeddings = run.model.bert.word_embeddings.weight.detach().clone()
    run.train_step()
    changed = [not torch.equal(w, b.qkv.weight) for w, b in zip(before, run.model.bert.blocks, strict=True)]
    assert changed == [moves] * 4
    assert not torch.equal(embeddings, run.model.bert.word_embeddings.weight)


def test_the_deepspeed_dialect_gives_zeros(tiny_run: Make) -> None:
    assert tiny_run(drop={"dialect": "deepspeed"}).drop.dropped_gradients == "zero"


def test_training_learns(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(
        training={"num_steps": 40, "next_sentence": False},
        model={"dropout": 0.0, "attention_dropout": 0.0},
        impl={"micro_batch_size": 8},
    )
    losses = [line.loss for line in load_pretrain(go(settings, corpus, tmp_path)).validation]
    assert losses[-1] < losses[0] - 0.05
    assert losses[-1] < math.log(128) - 0.3  # of a guess among all 128 tokens


# ---- what is recorded ----


def test_summary_is_consistent(undisturbed: Path, tiny_run: Make, corpus: Path) -> None:
    run, settings = load_pretrain(undisturbed), tiny_run()
    summary = run.summary
    assert (summary.arm, summary.label, summary.seed, summary.scale) == ("pld", "PLD", 1, "tiny")
    assert (summary.norm, summary.num_layers, summary.steps) == ("pre", 4, STEPS)
    assert summary.samples == STEPS * 8
    assert summary.tokens == STEPS * 8 * 24
    passes = summary.passes_by_kept_layers
    assert sum(passes.values()) == STEPS * 2
    assert summary.mean_kept_layers == pytest.approx(sum(k * n for k, n in passes.items()) / (STEPS * 2))
    flops = run_flops(settings)
    assert summary.flops == pytest.approx(sum(flops.of(k, 4) * n for k, n in passes.items()))
    assert summary.reference_seconds == pytest.approx(sum((2 + k) * n for k, n in passes.items()))
    tensors = weights(undisturbed)
    assert summary.parameters >= sum(t.numel() for t in tensors.values()) - 10_000
    assert summary.peak_memory_bytes > 10_000_000
    assert {name: c.step for name, c in summary.checkpoints.items()} == CHECKPOINTS
    for name, checkpoint in summary.checkpoints.items():
        line = next(line for line in run.validation if line.step == CHECKPOINTS[name])
        assert (checkpoint.validation_loss, checkpoint.validation_accuracy) == (line.loss, line.accuracy)
        for key in ("samples", "train_seconds", "reference_seconds", "flops"):
            assert getattr(checkpoint, key) == getattr(line, key)
        assert checkpoint.folder == f"checkpoints/{name}"
        assert (undisturbed / checkpoint.folder / "config.json").is_file()
    assert summary.validation_loss == summary.checkpoints["ckp186"].validation_loss


def test_metrics_lines_stand_where_they_were_asked_for(undisturbed: Path) -> None:
    lines = read_jsonl(undisturbed / "metrics.jsonl")
    train = [line for line in lines if line["kind"] == "train"]
    assert [line["step"] for line in train] == [3, 6, 10, 13, 16]
    assert [line["step"] for line in lines if line["kind"] == "validation"] == [5, 7, 9, 11, 16]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    for key in ("samples", "tokens", "kept_layers", "flops", "train_seconds", "reference_seconds"):
        values = [line[key] for line in lines]
        assert values == sorted(values)
    assert train[0]["theta"] == pytest.approx(0.5, abs=1e-5)
    assert train[0]["samples"] == 24


def test_train_lines_are_means_of_all_steps_since_the_last_one(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    each = go(tiny_run(impl={"log_points": STEPS}), corpus, tmp_path / "each")
    some = go(tiny_run(impl={"log_points": 2}), corpus, tmp_path / "some")
    losses = [line["loss"] for line in read_jsonl(each / "metrics.jsonl") if line["kind"] == "train"]
    means = [line["loss"] for line in read_jsonl(some / "metrics.jsonl") if line["kind"] == "train"]
    assert means == pytest.approx([np.mean(losses[:8]), np.mean(losses[8:])])


def slower(method: Any, now: list[float], seconds: float) -> Any:
    def slow(run: Run, *args: Any) -> Any:
        now[0] += seconds
        return method(run, *args)

    return slow


def test_validation_and_saving_are_not_training_time(
    tiny_run: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    for name, seconds in (("train_step", 1.0), ("validate", 100.0), ("save", 1000.0), ("save_checkpoint", 1e4)):
        monkeypatch.setattr(Run, name, slower(getattr(Run, name), now, seconds))
    go(tiny_run(), corpus, tmp_path)
    assert read_json(tmp_path / "summary.json")["train_seconds"] == STEPS


def test_all_arms_and_seeds_are_validated_on_the_same_sequences(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    first = setup(tiny_run(), corpus, tmp_path / "a")
    other = setup(tiny_run(seed=2, arm="baseline", model={"norm": "post"}, drop={"dialect": "none"}), corpus,
                  tmp_path / "b")  # fmt: skip
    assert np.array_equal(first.validation.input_ids, other.validation.input_ids)
    assert np.array_equal(first.validation.labels, other.validation.labels)
    same_seed = setup(tiny_run(arm="baseline", drop={"dialect": "none"}), corpus, tmp_path / "c")
    for step in (0, 5):
        ours, theirs = first.train_batches.batch(step, 8), same_seed.train_batches.batch(step, 8)
        assert np.array_equal(ours.input_ids, theirs.input_ids)
    assert all(torch.equal(a, b) for a, b in zip(first.model.parameters(), same_seed.model.parameters(), strict=True))


def test_a_checkpoint_gives_its_validation_loss_in_transformers(
    undisturbed: Path, tiny_run: Make, corpus: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    place, opened = undisturbed / "checkpoints" / "ckp87", open_corpus(corpus)
    model = transformers.AutoModelForMaskedLM.from_pretrained(place)
    assert transformers.AutoTokenizer.from_pretrained(place)("the dog").input_ids[0] == 2
    batch = MaskedLanguage(tiny_run(), torch.device("cpu")).validation(opened)
    with torch.no_grad():
        logits = model(torch.from_numpy(batch.input_ids), token_type_ids=torch.from_numpy(batch.token_types)).logits
    rows = torch.arange(16)[:, None]
    loss = torch.nn.functional.cross_entropy(
        logits[rows, torch.from_numpy(batch.positions)].flatten(0, 1),
        torch.from_numpy(batch.labels).flatten(),
        ignore_index=IGNORED,
    )
    recorded = read_json(undisturbed / "summary.json")["checkpoints"]["ckp87"]["validation_loss"]
    assert loss.item() == pytest.approx(recorded, abs=1e-5)


@pytest.mark.parametrize(("count", "steps", "expected"), [(3, 24, {8, 16, 24}), (5, 3, {1, 2, 3}), (1, 7, {7})])
def test_spread(count: int, steps: int, expected: set[int]) -> None:
    assert spread(count, steps) == expected


# ---- budgets of reference time ----


def budget(tiny_run: Make, **changes: Any) -> RunSettings:
    """A PostLN run that may take the time of 8 PLD steps with 3.25 layers on average."""
    other = {"arm": "pld", "checkpoint": "ckp87", "num_steps": 8, "kept_layers": 3.25}
    settings = tiny_run(arm="short", model={"norm": "post"}, drop={"dialect": "none"}, **changes)
    return settings.model_copy(update={"budget": Budget(model=tiny_run().model, **other)})


def test_a_budget_of_reference_time_sets_the_steps(
    tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    go(budget(tiny_run), corpus, tmp_path / "run", calibration=calibration)
    summary = read_json(tmp_path / "run" / "summary.json")
    assert summary["steps"] == 7  # 8 x 5.25 s = 7 x 6 s
    last = [line for line in read_jsonl(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "train"][-1]
    assert last["step"] == 7
    assert read_json(tmp_path / "run" / "settings.json")["budget"]["arm"] == "pld"


def test_a_budget_holds_for_a_policy_that_drops_layers(
    tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path
) -> None:
    half = {"schedule": "constant", "theta_bar": 0.25, "allocation": "uniform"}
    settings = budget(tiny_run).model_copy(update={"drop": DropSettings(**half)})
    go(settings, corpus, tmp_path / "run", calibration=calibration)
    assert read_json(tmp_path / "run" / "summary.json")["steps"] == 14  # 42 s at 2 s + 1 layer a step


def test_a_run_that_has_begun_keeps_its_steps(tiny_run: Make, corpus: Path, calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(OutOfTimeError):
        go(budget(tiny_run), corpus, tmp_path / "run", calibration=calibration, max_seconds=0)
    slower = read_json(calibration)
    slower["shapes"][0]["fit"]["intercept"] = 20.0
    write_json(tmp_path / "slower" / "summary.json", slower)
    resealed(tmp_path / "slower")
    go(budget(tiny_run), corpus, tmp_path / "run", calibration=tmp_path / "slower")
    assert read_json(tmp_path / "run" / "summary.json")["steps"] == 7


def test_a_budget_needs_a_calibration(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"short: .*calibration"):
        go(budget(tiny_run), corpus, tmp_path / "run")


# ---- a part of the corpus, and stacks that grow ----


def test_epochs_repeat_the_first_part_of_the_corpus(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(training={"epochs": 4})
    train, cpu = open_corpus(corpus).train, torch.device("cpu")
    maker = MaskedLanguage(settings, cpu).training(open_corpus(corpus))
    assert maker.num_sequences == 32  # 16 steps x 8 sequences / 4
    assert (maker.tokens == train[: len(maker.tokens)]).all()
    assert len(MaskedLanguage(tiny_run(), cpu).training(open_corpus(corpus)).tokens) == len(train)


def test_fewer_epochs_than_the_corpus_allows_are_refused(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"training\.epochs 0\.01"):
        go(tiny_run(training={"epochs": 0.01}), corpus, tmp_path / "run")


def test_progressive_stacking_copies_the_layers_below(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    run = setup(tiny_run(drop={"dialect": "stacking"}), corpus, tmp_path / "run")
    names = ("qkv.weight", "ffn_norm.bias", "attention_output.bias")
    seen = []
    for step in range(11):
        if step in (5, 10):
            seen.append([[b.state_dict()[name].clone() for name in names] for b in run.model.bert.blocks])
            run._join_layers(step)
            seen.append([[b.state_dict()[name].clone() for name in names] for b in run.model.bert.blocks])
        run.train_step()
        run.progress.step += 1
    depths = {step: expected_depth(run.settings.drop, step, 16, 4) for step in range(16)}
    assert [depths[s] for s in (0, 4, 5, 9, 10, 15)] == [1, 1, 2, 2, 4, 4]
    alone, two, two_trained, four = seen

    def same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

    assert not same(alone[1], alone[0])
    assert same(two[1], alone[0])
    assert same(four[2], two_trained[0])
    assert same(four[3], two_trained[1])
    assert not same(four[1], four[0])


def test_a_growing_stack_is_validated_as_deep_as_it_is(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    run = setup(tiny_run(drop={"dialect": "stacking"}), corpus, tmp_path / "run")
    run.train_step()
    run.progress.step += 1
    before = run.validate()
    for block in list(run.model.bert.blocks)[1:]:
        block.ffn_down.weight.data.normal_()
    assert run.validate() == before
    run.progress.step = 16
    assert run.validate() != before
