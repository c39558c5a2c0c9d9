"""Sensitivity of layers: known answers, and what an analysis does to the run that it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pldrepro.config.experiment import experiments_folder, read_experiments
from pldrepro.config.run import RunSettings
from pldrepro.costs.flops import run_flops
from pldrepro.data.corpus import open_corpus
from pldrepro.errors import OutOfTimeError, SettingsError
from pldrepro.policy.drop import DropSettings, Gate, SensitivitySettings, all_kept, draw_gates
from pldrepro.runs.folder import load_pretrain
from pldrepro.training.distributed import SINGLE
from pldrepro.training.objectives import MaskedLanguage, blocks_of
from pldrepro.training.pretrain import pretrain
from pldrepro.training.run import Run
from pldrepro.training.sensitivity import SCORES, Analysis, layer_sensitivity
from tests.support.runs import read_jsonl

Make = Callable[..., RunSettings]
CPU = torch.device("cpu")
SBLD = {"dialect": "sbld", "sensitivity": {"measure": "lesion", "warmup_share": 0.25, "batches": 2}}


def analysis(
    run: RunSettings, corpus: Path, measure: str = "lesion", planted: int | None = None, only: tuple[str, ...] = ("",)
) -> Analysis:
    """A model of seed 1 on eight training sequences; one block may be planted that does nothing.

    only: the parameters of the planted block that are set to 0, by the beginning of their names.
    """
    objective = MaskedLanguage(run, CPU)
    model = objective.build()
    if planted is not None:
        with torch.no_grad():
            for name, parameter in blocks_of(model)[planted].named_parameters():
                if name.startswith(only):
                    parameter.zero_()
    batch = objective.training(open_corpus(corpus)).batch(0, 8)
    settings = SensitivitySettings(measure=measure, batches=2)
    return Analysis(model, objective, batch, run_flops(run), settings, trial_of(model, objective))


def trial_of(model: nn.Module, objective: MaskedLanguage) -> Callable[[Any, Any], list[float]]:
    """Plain gradient steps that are taken back."""

    def trial(parts: Any, gates: Any) -> list[float]:
        saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        losses = []
        for part in parts:
            loss, _ = objective.loss(model, part, part, gates)
            loss.backward()
            losses.append(float(loss.detach()))
            optimizer.step()
            optimizer.zero_grad()
        model.load_state_dict(saved)
        return losses

    return trial


# ---- known answers ----


OUTPUTS = ("attention_output", "ffn_down")  # a block whose output projections are 0 is the identity


@pytest.mark.parametrize(
    ("name", "only"),
    [(name, only) for name in SCORES for only in (("",), OUTPUTS) if (name, only) != ("gradient_norm", OUTPUTS)],
)
@pytest.mark.parametrize("planted", [0, 2])
def test_a_planted_useless_layer_is_the_least_sensitive(
    tiny_run: Make, corpus: Path, name: Any, only: tuple[str, ...], planted: int
) -> None:
    one = analysis(tiny_run(model={"dropout": 0.0, "attention_dropout": 0.0}), corpus, name, planted, only)
    if name in ("lesion", "train_lesion"):
        trained(one)  # where a layer does harm, as at the start of training it may, one without effect is not the least
    scores = layer_sensitivity(one)
    assert len(scores) == 4
    assert min(range(4), key=scores.__getitem__) == planted


def trained(one: Analysis, steps: int = 60) -> None:
    """Fit the model to the samples of its analysis, the planted block left out."""
    useless = [
        not any(block.get_parameter(f"{name}.weight").any() for name in OUTPUTS) for block in blocks_of(one.model)
    ]
    gates = [Gate(not off) for off in useless]
    optimizer = torch.optim.AdamW(one.model.parameters(), lr=3e-3, weight_decay=0)
    for _ in range(steps):
        optimizer.zero_grad()
        one.objective.loss(one.model, one.batch, one.batch, gates)[0].backward()
        optimizer.step()


def test_gate_taylor_agrees_with_a_finite_difference_of_the_loss(tiny_run: Make, corpus: Path) -> None:
    one = analysis(tiny_run(impl={"micro_batch_size": 8}), corpus, "gate_taylor")
    one.model.double()
    scores = layer_sensitivity(one)
    for layer, score in enumerate(scores):
        up, down = (
            one.loss([Gate(True, 1 + h if index == layer else 1.0) for index in range(4)]) for h in (1e-5, -1e-5)
        )
        assert score == pytest.approx(abs(up - down) / 2e-5, rel=1e-4)


def test_lesion_is_the_rise_of_the_loss(tiny_run: Make, corpus: Path) -> None:
    one = analysis(tiny_run(), corpus)
    scores = layer_sensitivity(one)
    without_second = one.loss([Gate(True), Gate(False), Gate(True), Gate(True)])
    assert scores[1] == pytest.approx(without_second - one.loss(all_kept(4)), abs=1e-7)


def test_gradient_norm_and_fisher_are_those_of_autograd(tiny_run: Make, corpus: Path) -> None:
    run = tiny_run(impl={"micro_batch_size": 8})  # one micro-batch: the mean over them is it
    one, other = (analysis(run, corpus, measure) for measure in ("gradient_norm", "fisher"))
    one.model.eval()
    one.objective.loss(one.model, one.batch, one.batch, all_kept(4))[0].backward()
    expected = [[(p.grad.double(), p.detach().double()) for p in block.parameters()] for block in blocks_of(one.model)]  # type: ignore[union-attr]
    norms = [sum(g.square().sum() for g, _ in block).sqrt().item() for block in expected]  # type: ignore[union-attr]
    assert layer_sensitivity(one) == pytest.approx(norms, rel=1e-5)
    information = [float(sum((g * w).square().sum() for g, w in block)) for block in expected]
    assert layer_sensitivity(other) == pytest.approx(information, rel=1e-5)


def test_gradient_norm_does_not_depend_on_the_micro_batches(tiny_run: Make, corpus: Path) -> None:
    whole, parts = (
        layer_sensitivity(analysis(tiny_run(impl={"micro_batch_size": size}), corpus, "gradient_norm"))
        for size in (8, 2)
    )
    assert whole == pytest.approx(parts, rel=1e-4)


def test_cosine_of_a_block_that_turns_by_a_right_angle_is_1(tiny_run: Make, corpus: Path) -> None:
    class Turn(nn.Module):
        def forward(self, hidden: torch.Tensor, mask: Any, scale: float) -> torch.Tensor:
            first, second = hidden.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)

    one = analysis(tiny_run(), corpus, "cosine")
    blocks_of(one.model)[2] = Turn()  # type: ignore[index]
    assert layer_sensitivity(one)[2] == pytest.approx(1)


def test_cosine_without_modules_that_are_called_is_refused(tiny_run: Make, corpus: Path) -> None:
    one = analysis(tiny_run(), corpus, "cosine")
    blocks_of(one.model)._compiled = lambda block, *rest: type(block).forward(block, *rest)  # type: ignore[attr-defined]
    with pytest.raises(SettingsError, match=r"allowed without impl\.compile"):
        layer_sensitivity(one)


@pytest.mark.parametrize("name", SCORES)
def test_an_analysis_leaves_the_model_as_it_was(tiny_run: Make, corpus: Path, name: Any) -> None:
    one = analysis(tiny_run(), corpus, name)
    before = {key: value.clone() for key, value in one.model.state_dict().items()}
    layer_sensitivity(one)
    assert all(torch.equal(value, before[key]) for key, value in one.model.state_dict().items())
    assert all(parameter.grad is None for parameter in one.model.parameters())


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        # in training passes of the 8 samples: forward alone is a third; a lesion has 1 of 4 layers less
        ("lesion", lambda f: (f.of(4) + 4 * f.of(3)) / 3),
        ("cosine", lambda f: f.of(4) / 3),
        ("gate_taylor", lambda f: f.of(4)),
        ("gradient_norm", lambda f: f.of(4)),
        ("fisher", lambda f: f.of(4)),
        # 4 steps of a micro-batch of half of the samples
        ("train_lesion", lambda f: 4 * (f.of(4) + 4 * f.of(3)) / 2),
    ],
)
def test_the_cost_is_counted(tiny_run: Make, corpus: Path, name: Any, passes: Callable[[Any], float]) -> None:
    one = analysis(tiny_run(), corpus, name)
    layer_sensitivity(one)
    assert one.flops == pytest.approx(8 * passes(one.flops_of))


# ---- in a run ----


def test_a_measure_that_there_is_not_is_refused_before_the_run_begins(
    tiny_run: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = tiny_run(drop={"dialect": "sbld", "sensitivity": {"measure": "guess"}})
    with pytest.raises(SettingsError, match=r"drop\.sensitivity\.measure: expected one of train_lesion, lesion"):
        go(settings, corpus, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_every_shipped_arm_has_a_measure_that_there_is(family: str) -> None:
    for name, experiment in read_experiments(experiments_folder(family)).items():
        assert DropSettings.model_validate(experiment.drop).sensitivity.measure in SCORES, name


def go(settings: RunSettings, corpus: Path, folder: Path, **options: Any) -> Path:
    pretrain(settings, corpus, folder, progress=False, **options)
    return folder


def test_a_run_measures_once_charges_it_and_records_it(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(arm="sbld", drop=SBLD)
    run = load_pretrain(go(settings, corpus, tmp_path / "run"))
    (line,) = run.sensitivity
    assert (line.step, line.measure, len(line.scores)) == (4, "lesion", 4)
    assert sorted(line.ranks) == [1, 2, 3, 4]
    assert line.ranks[line.scores.index(max(line.scores))] == 1
    flops = run_flops(settings)
    cost = 8 * (flops.of(4) + 4 * flops.of(3)) / 3
    assert run.summary.analysis_passes == pytest.approx(cost / (4 * flops.of(4)))
    passes = run.summary.passes_by_kept_layers
    trained_flops = sum(n * flops.of(k, 4) for k, n in passes.items())
    assert run.summary.flops == pytest.approx(trained_flops + cost)
    assert 0 < run.summary.analysis_seconds < run.summary.train_seconds
    assert sum(run.summary.passes_by_layer) == sum(k * n for k, n in passes.items())


def test_recorded_ranks_replay_the_gates(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(arm="sbld", drop=SBLD)
    run = load_pretrain(go(settings, corpus, tmp_path / "run"))
    kept = [0, 0, 0, 0]
    for step in range(16):
        ranks = run.sensitivity[0].ranks if step >= 4 else None
        gates = draw_gates(settings.drop, seed=1, step=step, micro_step=0, num_steps=16, num_layers=4, ranks=ranks)
        for layer, gate in enumerate(gates):
            kept[layer] += 2 * gate.keep  # two micro-batches a step
    assert run.summary.passes_by_layer == kept
    assert min(kept) < 32


@pytest.mark.parametrize("name", SCORES)
def test_a_stopped_run_goes_on_bit_for_bit(tiny_run: Make, corpus: Path, tmp_path: Path, name: str) -> None:
    sensitivity = {"warmup_share": 0.25, "refresh_share": 0.25, "batches": 1, "measure": name, "train_steps": 2}
    settings = tiny_run(arm="sbld", drop={"dialect": "sbld", "sensitivity": sensitivity})
    whole = go(settings, corpus, tmp_path / "whole")
    for _ in range(40):
        try:
            go(settings, corpus, tmp_path / "stopped", max_seconds=0.0)
        except OutOfTimeError:
            continue
        break
    first, second = (read_jsonl(folder / "metrics.jsonl") for folder in (whole, tmp_path / "stopped"))
    timeless = [[{k: v for k, v in line.items() if not k.endswith("seconds")} for line in lines] for lines in (first, second)]  # fmt: skip  # noqa: E501
    assert timeless[0] == timeless[1]
    assert sum(line["kind"] == "sensitivity" for line in first) == 3
    weights = [(folder / "checkpoints/ckp186/model.safetensors").read_bytes() for folder in (whole, tmp_path / "stopped")]  # fmt: skip  # noqa: E501
    assert weights[0] == weights[1]


def test_scores_that_are_measured_again_are_averaged(
    tiny_run: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([[4.0, 0.0, 0.0, 1.0], [0.0, 10.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
    monkeypatch.setattr("pldrepro.training.run.layer_sensitivity", lambda *_: next(found))
    sensitivity = {"warmup_share": 0.25, "refresh_share": 0.25, "moving_average": 0.5}
    folder = go(tiny_run(arm="sbld", drop={"dialect": "sbld", "sensitivity": sensitivity}), corpus, tmp_path)
    lines = load_pretrain(folder).sensitivity
    assert [line.scores for line in lines] == [[4, 0, 0, 1], [2, 5, 0, 1], [1, 2.5, 0, 1]]
    assert [line.ranks for line in lines] == [[1, 3, 4, 2], [2, 1, 4, 3], [2, 1, 4, 3]]


def test_a_trial_is_taken_back(tiny_run: Make, corpus: Path, tmp_path: Path) -> None:
    settings = tiny_run(drop={"dialect": "sbld"})
    objective = MaskedLanguage(settings, CPU)
    run = Run(settings, objective, open_corpus(corpus), None, tmp_path, SINGLE)
    run.train_step()
    before = {key: value.clone() for key, value in run.model.state_dict().items()}
    moments = {key: {k: v.clone() for k, v in s.items()} for key, s in run.optimizer.state_dict()["state"].items()}
    batch = run.train_batches.batch(0, 4)
    losses = run._trial([batch, batch, batch], all_kept(4))
    assert losses[2] < losses[0]
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    after = run.optimizer.state_dict()["state"]
    assert all(torch.equal(after[key][k], v) for key, state in moments.items() for k, v in state.items())
