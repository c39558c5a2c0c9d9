"""Several ranks: the same run as one process, and gradients of dropped layers not sent. Faults: tests/faults."""

from __future__ import annotations

import math
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from pldrepro.config.run import CalibrationJob, RunSettings
from pldrepro.data.batches.rows import Batch
from pldrepro.data.images import prepare_images
from pldrepro.errors import STOPPED, SettingsError
from pldrepro.files import read_json
from pldrepro.policy.drop import Gate
from pldrepro.runs.folder import load_pretrain
from pldrepro.runs.schema import Device
from pldrepro.runs.step_times import load_calibration
from pldrepro.training.calibrate import calibrate
from pldrepro.training.distributed import SINGLE, ProcessGroup, launch, process_group
from pldrepro.training.gradient_sum import GradientSum, in_buckets
from pldrepro.training.pretrain import pretrain
from pldrepro.training.run import Run
from tests.support.ranks import Make, on_ranks, train
from tests.support.runs import read_jsonl

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0}


SETTINGS: dict[str, dict[str, Any]] = {
    "pld": {"drop": {"dialect": "paper_alg1", "resample_gates": "micro_batch"}},
    "sbld": {"drop": {"dialect": "sbld", "sensitivity": {"warmup_share": 0.2, "batches": 2}}},
    "sbld_train_lesion": {"drop": {"dialect": "sbld", "sensitivity": {"measure": "train_lesion", "batches": 2}}},
    "sbld_fisher": {"drop": {"dialect": "sbld", "sensitivity": {"measure": "fisher", "batches": 2}}},
    "sbld_cosine": {"drop": {"dialect": "sbld", "sensitivity": {"measure": "cosine", "batches": 2}}},
    "zero_gradients": {"drop": {"dialect": "deepspeed"}},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_losses_on_several_ranks_are_those_of_one(tiny_run: Make, corpus: Path, tmp_path: Path, name: str) -> None:
    """PLD on 1, 2 and 4 ranks, the others on 1 and 2."""
    runs = {}
    for number in (1, 2, 4) if name == "pld" else (1, 2):
        impl = {"ranks": number, "log_points": 16}
        runs[number] = train(tiny_run(model=NO_DROPOUT, impl=impl, **SETTINGS[name]), corpus, tmp_path / str(number))
    lines = {number: read_jsonl(folder / "metrics.jsonl") for number, folder in runs.items()}
    for number in list(runs)[1:]:
        assert len(lines[number]) == len(lines[1]) > 16
        for ours, alone in zip(lines[number], lines[1], strict=True):
            assert ours.keys() == alone.keys()
            assert [ours[key] for key in ("kind", "step", "kept_layers", "samples")] == [
                alone[key] for key in ("kind", "step", "kept_layers", "samples")
            ]
            assert ours["flops"] == pytest.approx(alone["flops"], rel=1e-12)
            for key in ("loss", "main_loss", "accuracy", "scores"):
                assert ours.get(key) == (pytest.approx(alone[key], abs=1e-5) if key in alone else None)
            if "gradient_norm" in ours:
                assert ours["gradient_norm"] == pytest.approx(alone["gradient_norm"], rel=1e-3)
            assert ours["reduced_bytes"] > 0 or ours["kind"] == "sensitivity"
            assert alone["reduced_bytes"] == 0
        summary = load_pretrain(runs[number]).summary
        assert summary.passes_by_layer == load_pretrain(runs[1]).summary.passes_by_layer


def test_images_on_two_ranks(tmp_path: Path) -> None:
    values = {
        "scale": "tiny", "arm": "pld", "label": "PLD", "seed": 1,
        "model": {"family": "vit", "image_size": 8, "stages": [2], "hidden_size": 16, "num_heads": [2]},
        "data": {"kind": "images", "image_size": 8, "shapes": {"train_images": 64, "validation_images": 19}},
        "training": {"num_steps": 4, "batch_size": 8, "checkpoints": {"end": 1}, "validation_points": 2},
        "drop": {"dialect": "paper_alg1"},
    }  # fmt: skip
    runs = []
    for number in (1, 2):
        settings = RunSettings.model_validate({**values, "impl": {"ranks": number, "micro_batch_size": 8}})
        prepare_images(settings.data, tmp_path / "images", progress=False)  # type: ignore[arg-type]
        runs.append(train(settings, tmp_path / "images", tmp_path / str(number)))
    alone, ours = (read_json(folder / "summary.json") for folder in runs)
    for key in ("validation_loss", "validation_accuracy", "validation_top5"):
        assert ours[key] == pytest.approx(alone[key], abs=1e-5)


def test_ranks_that_differ_stop(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(impl={"ranks": 2})

    def work() -> None:
        train_step = Run.train_step

        def wrong(run: Run) -> Any:
            if run.world.rank == 1 and run.progress.step == 2:
                with torch.no_grad():
                    next(run.model.parameters())[0, 0] += 1e-6
            return train_step(run)

        Run.train_step = wrong  # type: ignore[method-assign]  # in this process alone
        with (
            process_group(settings.impl) as world,
            pytest.raises(RuntimeError, match="ranks hold different models at step 5"),
        ):
            pretrain(settings, corpus, tmp_path / "run", progress=False, world=world)

    assert on_ranks(2, work) == [0, 0]


# ---- what is sent, and when ----


class Stack(torch.nn.Module):
    """Two blocks of a scalar each, what comes before and after them, and a parameter that the loss never reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = torch.nn.Parameter(torch.ones(()))
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(1, 1, bias=False) for _ in range(2)])
        self.head = torch.nn.Parameter(torch.ones(()))
        self.unused = torch.nn.Parameter(torch.ones(()))

    def backward(self, kept: tuple[bool, bool], scale: float) -> None:
        """Gradients of scale x stem x (the kept blocks) x head."""
        value = scale * self.stem.reshape(1, 1)
        for block, keep in zip(self.blocks, kept, strict=True):
            value = block(value) if keep else value
        (value * self.head).sum().backward()


def test_gradients_travel_while_the_backward_pass_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a first step each is sent when it is ready, from the last layer to the first, none of a dropped layer."""
    monkeypatch.setattr("pldrepro.training.gradient_sum.BUCKET_BYTES", 4)  # a parameter a message
    settings = RunSettings.model_validate(
        {"scale": "tiny", "arm": "pld", "label": "PLD", "seed": 1, "model": {}, "data": {}, "training": {}, "drop": {},
         "impl": {"ranks": 2, "device": "cpu"}}
    )  # fmt: skip

    def work() -> None:
        with process_group(settings.impl) as world:
            torch.manual_seed(0)
            model = Stack()
            gradients = GradientSum(world, model)
            # The layers that each pass keeps, and the messages on their way after the last one, and after finish.
            steps = [
                ([(True, True)], 0, 4),
                ([(True, True)], 4, 4),
                ([(True, False)], 3, 3),
                ([(True, True), (False, True)], 4, 4),
                ([(False, False)], 2, 2),
            ]
            for passes, early, messages in steps:
                model.zero_grad()
                for kept in passes[:-1]:
                    model.backward(kept, 1.0 + world.rank)
                gradients.start([Gate(keep) for keep in passes[-1]])
                model.backward(passes[-1], 1.0 + world.rank)
                assert len(gradients.sent) == early
                assert gradients.finish() == 4 * messages  # bytes: nothing of the parameter that no loss reaches
                weights = [block.weight.item() for block in model.blocks]
                values = [math.prod(w for w, keep in zip(weights, kept, strict=True) if keep) for kept in passes]
                assert float(model.stem.grad) == pytest.approx(3 * sum(values))
                assert model.unused.grad is None

    assert on_ranks(2, work) == [0, 0]


def test_the_bytes_that_are_sent_fall_with_the_kept_layers(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    """Each step sends the gradients of the kept layers and of what all steps train, and no others."""
    drop = {"dialect": "paper_alg1", "theta_bar": 0.1}
    folder = train(tiny_run(drop=drop, impl={"ranks": 2, "log_points": 16}), corpus, tmp_path / "run")
    lines = [line for line in read_jsonl(folder / "metrics.jsonl") if line["kind"] == "train"]
    kept = [b["kept_layers"] - a["kept_layers"] for a, b in zip([{"kept_layers": 0}, *lines], lines, strict=False)]
    sent = [
        b["reduced_bytes"] - a["reduced_bytes"] for a, b in zip([{"reduced_bytes": 0}, *lines], lines, strict=False)
    ]
    by_layers: dict[int, set[int]] = {}
    for layers, size in zip(kept, sent, strict=True):
        by_layers.setdefault(layers // 2, set()).add(size)  # two micro batches a step, with the same gates
    layer = 4 * 2224  # bytes of 4 x 16 x 16 + 64 + 2 x 16 x 32 + 48 + 4 x 16 parameters in float32
    assert len(by_layers) >= 3
    for layers, sizes in by_layers.items():
        assert sizes == {min(by_layers[4]) - (4 - layers) * layer}


def test_buckets_keep_order_size_and_dtype() -> None:
    sizes = (3_000_000, 3_000_000, 1, 7_000_000, 2)
    parts = [torch.nn.Parameter(torch.zeros(n)) for n in sizes]
    parts.append(torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)))
    found = [[len(parameter) for parameter in bucket] for bucket in in_buckets(parts)]
    assert found == [[3_000_000, 3_000_000, 1], [7_000_000], [2], [2]]
    assert list(in_buckets([])) == []


def test_one_process_sends_nothing() -> None:
    model = Stack()
    model.head.grad = torch.ones(())
    gradients = GradientSum(SINGLE, model)
    gradients.start([Gate(True), Gate(True)])
    assert gradients.finish() == 0
    assert SINGLE.all_reduce_max(3) == 3
    assert SINGLE.broadcast([0.5]) == [0.5]
    assert SINGLE.all_equal(torch.tensor([float("nan")]))


def test_the_parts_of_the_ranks_make_up_the_batch() -> None:
    from pldrepro.data.batches.causal import CausalBatch

    rows: Batch = CausalBatch(torch.arange(7).numpy(), torch.arange(7).numpy())
    parts = [ProcessGroup(rank, 3).shard(rows).input_ids.tolist() for rank in range(3)]  # type: ignore[attr-defined]
    assert parts == [[0, 1], [2, 3], [4, 5, 6]]


# ---- settings, calibration, and the command line ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"impl": {"ranks": 3}}, "micro_batch_size 4; allowed with ranks 3: a multiple"),
        ({"impl": {"ranks": 4, "nodes": 3}}, "ranks 4; allowed with nodes 3: a multiple of it"),
        ({"impl": {"ranks": 2}, "training": {"batch_size": 5}}, r"batch_size 5; allowed with impl\.ranks 2: a multip"),
    ],
)
def test_samples_divide_by_the_ranks(tiny_run: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_run(**changes)


def test_another_number_of_processes_is_refused(tiny_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SettingsError, match="ranks 4, but 2 were started"):
        process_group(tiny_run(impl={"ranks": 4}).impl).__enter__()


def test_several_nodes_need_a_slurm_job(tiny_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SettingsError, match=r"impl\.nodes 2: allowed inside a Slurm job"):
        launch(tiny_run(impl={"ranks": 4, "nodes": 2}).impl, ["pretrain"])


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ({}, "srun --nodes 2 --ntasks 2 --ntasks-per-node 1 --cpus-per-task 2 PYTHON -m pldrepro run pretrain --out x"),
        (
            {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NODEID": "1", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.7"},
            "torchrun --nproc-per-node 2 --signals-to-handle "
            "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --nnodes 2 --node-rank 1 --master-addr 10.0.0.7 "
            "--master-port 20417 -m pldrepro run pretrain --out x",
        ),
    ],
)
def test_two_nodes_are_started_by_srun_and_each_starts_its_ranks(
    tiny_run: Make, monkeypatch: pytest.MonkeyPatch, inside: dict[str, str], expected: str
) -> None:
    started: list[str] = []

    def ranks(arguments: list[str]) -> int:
        started.extend(["torchrun", *arguments])
        return STOPPED

    monkeypatch.setattr(os, "execvp", lambda file, command: started.extend(command))
    monkeypatch.setattr("pldrepro.training.distributed.run_ranks", ranks)
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NODEID", "SLURM_LAUNCH_NODE_IPADDR", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"SLURM_JOB_ID": "417", **inside}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=str(STOPPED)) if inside else nullcontext():
        launch(tiny_run(impl={"ranks": 4, "nodes": 2}).impl, ["run", "pretrain", "--out", "x"])
    assert " ".join(started).replace(sys.executable, "PYTHON") == expected


def test_a_calibration_on_two_ranks_prices_runs_on_two_ranks(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(impl={"ranks": 2})
    about = {"runs": [settings], "calibration": {"rounds": 3, "warmup_rounds": 1}}
    job = CalibrationJob.model_validate(about)

    def work() -> None:
        with process_group(settings.impl) as world:
            calibrate(job, tmp_path / "tau", progress=False, world=world)

    assert on_ranks(2, work) == [0, 0]
    taus = load_calibration(tmp_path / "tau")
    assert taus.summary.device == Device(type="cpu", threads=1, ranks=2, nodes=1)
    assert taus.shape(settings).ranks == 2
    with pytest.raises(RuntimeError, match="no step times for the model of pld"):
        taus.shape(tiny_run())
