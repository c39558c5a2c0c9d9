"""Probes: literals on blocks whose effect is known, and the run's own validation loss found again."""

import json
import math
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from pldrepro.__main__ import main
from pldrepro.config.run import ProbeSettings, RunSettings
from pldrepro.data.batches.masked import MaskedBatch
from pldrepro.data.batches.rows import IGNORED
from pldrepro.data.corpus import open_corpus
from pldrepro.errors import DivergedError, RecordError, SettingsError
from pldrepro.evaluation.probe import PARTS, Subject, depth, held_out, layers, lesions, probe
from pldrepro.files import read_json, write_json
from pldrepro.models.bert import BertForPreTraining
from pldrepro.models.blocks import initialise
from pldrepro.models.checkpoints.bert import load_pretraining
from pldrepro.policy import drop
from pldrepro.records import read_record
from pldrepro.runs.folder import load_probe
from pldrepro.runs.manifest import settings_of
from pldrepro.runs.schema import Device, Provenance
from pldrepro.runs.scored import ProbeNumber, ProbeResult
from pldrepro.training.objectives import MaskedLanguage
from pldrepro.training.pretrain import pretrain
from tests.support.runs import resealed

Make = Callable[..., RunSettings]
Numbers = Sequence[ProbeNumber]
ALL = ProbeSettings(sequences=64, gradient_batches=3, lesion_draws=4)  # more sequences than a tiny run validates on
DIALECTS = {
    "pld": {},
    "baseline": {"arm": "baseline", "model": {"norm": "post"}, "drop": {"dialect": "none"}},
    "stochastic_depth": {"arm": "stochastic_depth", "drop": {"dialect": "stochastic_depth"}},
}


@pytest.fixture(scope="module")
def finished(tiny_run: Make, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One finished run per entry of DIALECTS."""
    root = tmp_path_factory.mktemp("pretrain")
    for arm, changes in DIALECTS.items():
        pretrain(tiny_run(**changes), corpus, root / arm, progress=False)
    return {arm: root / arm for arm in DIALECTS}


@pytest.fixture(scope="module")
def probed(finished: dict[str, Path], corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A probe of each of the finished runs."""
    root = tmp_path_factory.mktemp("probe")
    for arm, folder in finished.items():
        probe(folder, corpus, ALL, root / arm, progress=False)
    return {arm: root / arm for arm in finished}


@pytest.fixture(scope="module")
def text(tiny_run: Make, corpus: Path) -> MaskedBatch:
    return held_out(objective(tiny_run()), open_corpus(corpus), 64)


def objective(settings: RunSettings) -> MaskedLanguage:
    return MaskedLanguage(settings, torch.device("cpu"))


def fresh(settings: RunSettings) -> Subject:
    """A model with its initial weights, in evaluation mode."""
    model = BertForPreTraining(settings.model)
    initialise(model, 3)
    return Subject(model.eval(), objective(settings))


def results_of(folder: Path) -> Sequence[ProbeResult]:
    return load_probe(folder).results


def pick(rows: Numbers, **keys: Any) -> Numbers:
    return [row for row in rows if all(getattr(row, key) == value for key, value in keys.items())]


def values(rows: Numbers, **keys: Any) -> list[float]:
    return [row.value for row in pick(rows, **keys)]


# ---- the intact model ----


@pytest.mark.parametrize("arm", list(DIALECTS))
def test_the_intact_loss_is_the_validation_loss_of_the_run(
    finished: dict[str, Path], probed: dict[str, Path], arm: str
) -> None:
    results = results_of(probed[arm])
    for name, point in read_json(finished[arm] / "summary.json")["checkpoints"].items():
        intact = values(results, checkpoint=name, quantity="loss", selection="all", text="all")
        # Factors of the blocks at evaluation are folded into the saved weights, which may round otherwise.
        tolerance = 1e-6 if arm == "stochastic_depth" else 0
        assert intact == pytest.approx([point["validation_loss"]], rel=tolerance, abs=0)


def test_a_probe_is_the_same_when_made_again(
    finished: dict[str, Path], probed: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    probe(finished["pld"], corpus, ALL, tmp_path / "again", progress=False)
    for name in ("results.jsonl", "settings.json"):
        assert (tmp_path / "again" / name).read_bytes() == (probed["pld"] / name).read_bytes()


def test_fewer_sequences_are_the_first_of_the_same_text(tiny_run: Make, corpus: Path, text: MaskedBatch) -> None:
    fewer = held_out(objective(tiny_run()), open_corpus(corpus), 5)
    assert (len(fewer), len(text)) == (5, 16)
    assert np.array_equal(fewer.input_ids, text.input_ids[:5])
    assert np.array_equal(fewer.labels, text.labels[:5])
    other = held_out(objective(tiny_run(seed=2, arm="other")), open_corpus(corpus), 5)
    assert np.array_equal(fewer.input_ids, other.input_ids)


# ---- blocks whose effect is known ----


class Turn(nn.Module):
    """Turns every pair of elements by a right angle."""

    def forward(self, hidden: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        first, second = hidden.chunk(2, dim=-1)
        return torch.cat([-second, first], dim=-1)


class Times(nn.Module):
    """Multiplies by a number."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, hidden: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        return self.factor * hidden


def test_doubling_turning_and_inverting(tiny_run: Make, text: MaskedBatch) -> None:
    subject = fresh(tiny_run(model={"num_layers": 3}))
    subject.model.bert.blocks = nn.ModuleList([Times(2.0), Turn(), Times(-1.0)])
    rows = layers(subject, text, 3)
    assert values(rows, quantity="gradient_ratio") == pytest.approx([2, 1, 1], rel=1e-6)
    assert values(rows, quantity="relative_distance") == pytest.approx([1, math.sqrt(2), 2], rel=1e-6)
    assert values(rows, quantity="cosine") == pytest.approx([1, 0, -1], abs=1e-6)
    assert values(rows, quantity="angle") == pytest.approx([0, 90, 180], abs=1e-4)
    # LayerNorm has weight 1 and bias 0 at first, so that the embeddings' norm is the root of their number.
    assert values(rows, quantity="distance")[0] == pytest.approx(math.sqrt(16), rel=1e-3)


def test_a_block_without_output_is_the_identity(tiny_run: Make, text: MaskedBatch) -> None:
    subject = fresh(tiny_run())
    silent = subject.model.bert.blocks[1]
    with torch.no_grad():
        for module in (silent.attention_output, silent.ffn_down):
            module.weight.zero_()
            module.bias.zero_()
    rows = layers(subject, text, 2)
    for quantity in ("distance", "relative_distance", "angle"):
        assert values(rows, quantity=quantity, layer=2) == [0.0]
        assert values(rows, quantity=quantity, layer=1) > [0.1]
    assert values(rows, quantity="cosine", layer=2) == [1.0]
    assert values(rows, quantity="gradient_ratio", layer=2) == [1.0]
    assert values(rows, quantity="gradient_ratio", layer=1) != [1.0]
    assert values(rows, quantity="gradient_norm", layer=2, part="ffn_up") == [0.0]
    assert values(rows, quantity="gradient_norm", layer=2, part="ffn_down") > [0.0]
    deep = depth(subject, text)
    for half in ("order", "report"):
        without = values(deep, selection="without_one", kept=[1, 3, 4], text=half)
        assert without == values(deep, selection="all", text=half)
        assert without != values(deep, selection="without_one", kept=[2, 3, 4], text=half)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_gradients_are_those_of_autograd(tiny_run: Make, text: MaskedBatch, norm: str) -> None:
    subject = fresh(tiny_run(model={"norm": norm, "num_layers": 2}))
    rows, model = layers(subject, text, 1), subject.model
    ids, types, positions, labels, is_next = (
        torch.from_numpy(array)
        for array in (text.input_ids, text.token_types, text.positions, text.labels, text.is_random_next)
    )
    logits, next_logits = model(ids, types, positions, drop.all_kept(2))
    loss = functional.cross_entropy(logits, labels.view(-1), ignore_index=IGNORED)
    (loss + functional.cross_entropy(next_logits, is_next)).backward()
    for number, block in enumerate(model.bert.blocks, start=1):
        gradient = torch.cat([parameter.grad.flatten() for parameter in block.parameters()])
        measured = values(rows, quantity="gradient_norm", layer=number, part="block")
        assert measured == pytest.approx([float(gradient.norm())], rel=1e-4)
        for part in PARTS:
            module = block.get_submodule(part)
            whole = torch.cat([module.weight.grad.flatten(), module.bias.grad])
            measured = values(rows, quantity="gradient_norm", layer=number, part=part)
            assert measured == pytest.approx([float(whole.norm())], rel=1e-4)


def test_means_over_tokens_do_not_depend_on_the_batches(tiny_run: Make, text: MaskedBatch) -> None:
    subject = fresh(tiny_run())
    one, five = (layers(subject, text, count) for count in (1, 5))  # 16 sequences: batches of 3 and of 4
    for quantity in ("distance", "relative_distance", "cosine"):
        assert values(five, quantity=quantity) == pytest.approx(values(one, quantity=quantity), rel=1e-9)
    assert values(five, quantity="gradient_norm") != pytest.approx(values(one, quantity="gradient_norm"), rel=1e-3)


# ---- layers taken out ----


def test_lesions_are_the_same_for_all(probed: dict[str, Path]) -> None:
    drawn = {
        (arm, name): [row.kept for row in pick(results_of(folder), checkpoint=name, selection="lesion")]
        for arm, folder in probed.items()
        for name in ("ckp87", "ckp186")
    }
    assert set(map(str, drawn.values())) == {str([[1], [2], [3], [1, 3]])}


def test_a_lesion_keeps_half_of_the_layers_on_average(tiny_run: Make, text: MaskedBatch) -> None:
    kept = [len(row.kept or ()) for row in lesions(fresh(tiny_run()), text.rows(0, 2), 200) if row.draw is not None]
    assert np.mean(kept) == pytest.approx(2, abs=0.2)
    assert set(kept) == {0, 1, 2, 3, 4}


def test_depth_at_its_ends(finished: dict[str, Path], probed: dict[str, Path], text: MaskedBatch) -> None:
    rows = pick(results_of(probed["pld"]), checkpoint="ckp186", quantity="loss", text="report")
    all_layers = values(rows, selection="all")
    for selection in ("first", "last", "least_important_removed"):
        assert values(rows, selection=selection, kept=[1, 2, 3, 4]) == all_layers
        assert len(pick(rows, selection=selection)) == 5
    folder = finished["pld"]
    model = load_pretraining(folder / "checkpoints" / "ckp186", settings_of(folder).model).eval()
    half = text.rows(8, 16)
    with torch.no_grad():
        hidden = model.bert.final_norm(model.bert.embed(*map(torch.from_numpy, (half.input_ids, half.token_types))))
        masked = hidden.gather(1, torch.from_numpy(half.positions)[..., None].expand(-1, -1, hidden.shape[-1]))
        logits = model.mlm_head(masked.flatten(0, 1), model.bert.word_embeddings.weight)
    by_hand = float(functional.cross_entropy(logits, torch.from_numpy(half.labels).view(-1), ignore_index=IGNORED))
    for selection in ("first", "last", "least_important_removed"):
        assert values(rows, selection=selection, kept=[]) == pytest.approx([by_hand], rel=1e-6)


def test_ways_of_leaving_out_layers(probed: dict[str, Path]) -> None:
    rows = pick(results_of(probed["baseline"]), checkpoint="ckp186", quantity="loss", text="report")
    kept = {s: [row.kept for row in pick(rows, selection=s)] for s in ("first", "last", "odd", "even")}
    assert kept["first"] == [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 4]]
    assert kept["last"] == [[], [4], [3, 4], [2, 3, 4], [1, 2, 3, 4]]
    assert kept["odd"] == [[1, 3]]
    assert kept["even"] == [[2, 4]]
    assert values(rows, selection="first", kept=[1, 2, 3]) == values(rows, selection="without_one", kept=[1, 2, 3])


def test_depth_is_probed_at_the_last_checkpoint_alone(probed: dict[str, Path]) -> None:
    results = results_of(probed["pld"])
    assert {row.checkpoint for row in results if row.selection == "first"} == {"ckp186"}
    assert {row.checkpoint for row in results if row.selection == "lesion"} == {"ckp87", "ckp100", "ckp186"}


class Opinionated:
    """Three layers, which the first half of the text values 3, 1, 2 and the second one 1, 2, 3."""

    num_layers = 3

    def numbers(self, kept: Iterable[int]) -> list[int]:
        return [layer + 1 for layer in kept]

    def loss(self, text: MaskedBatch, kept: Iterable[int]) -> float:
        worth = (3.0, 1.0, 2.0) if text.input_ids[0, 0] == 0 else (1.0, 2.0, 3.0)
        return 10.0 + sum(worth) - sum(worth[layer] for layer in kept)


def test_importance_is_measured_on_one_half_and_reported_on_the_other() -> None:
    ids = np.array([[0], [0], [1], [1]])
    rows = depth(Opinionated(), MaskedBatch(ids, None, ids, ids, None))  # type: ignore[arg-type]
    assert values(rows, selection="without_one", text="order") == [13, 11, 12]
    assert values(rows, selection="without_one", text="report") == [11, 12, 13]
    removed = pick(rows, selection="least_important_removed")
    assert [row.kept for row in removed] == [[1, 2, 3], [1, 3], [1], []]
    assert [row.value for row in removed] == [10, 12, 15, 16]
    assert {row.text for row in removed} == {"report"}


# ---- the run folder ----


def test_what_a_probe_records(finished: dict[str, Path], probed: dict[str, Path], corpus: Path) -> None:
    run = load_probe(probed["pld"] / "summary.json")
    assert run.folder == probed["pld"]
    assert run.summary.model_dump(exclude={"schema_version", "checkpoints", "lesion_keep", "seconds"}) == {
        "scale": "tiny", "arm": "pld", "label": "PLD", "seed": 1, "norm": "pre", "num_layers": 4, "sequences": 16,
    }  # fmt: skip
    assert {name: point.step for name, point in run.summary.checkpoints.items()} == {
        "ckp87": 7, "ckp100": 9, "ckp186": 16,
    }  # fmt: skip
    assert run.settings.probe.gradient_batches == 3
    assert run.settings.inputs.corpus == open_corpus(corpus).hash
    assert set(run.settings.inputs.weights) == {"ckp87", "ckp100", "ckp186"}
    assert read_record(run.folder / "provenance.json", Provenance).device == Device(type="cpu", threads=1)
    assert len(pick(results_of(run.folder), quantity="gradient_norm")) == 3 * 4 * 5


def test_some_checkpoints_alone(finished: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    arguments = ["--run", str(finished["pld"]), "--corpus", str(corpus), "--out", str(tmp_path / "some")]
    settings = {"checkpoints": ["ckp100", "ckp87"], "lesion_draws": 1, "gradient_batches": 1, "sequences": 4}
    assert main(["run", "probe", "--settings", json.dumps(settings), *arguments]) == 0
    run = load_probe(tmp_path / "some")
    assert list(run.summary.checkpoints) == ["ckp87", "ckp100"]
    assert {row.checkpoint for row in run.results if row.selection == "odd"} == {"ckp100"}


def test_what_cannot_be_probed(finished: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    settings = ProbeSettings(checkpoints=("ckp87", "ckp99"))
    with pytest.raises(RecordError, match="ckp99"):
        probe(finished["pld"], corpus, settings, tmp_path / "out", progress=False)
    with pytest.raises(RecordError, match=r"none/manifest.json: no such file"):
        probe(tmp_path / "none", corpus, ALL, tmp_path / "out", progress=False)
    shutil.copytree(finished["pld"], tmp_path / "run")
    provenance = read_json(tmp_path / "run" / "provenance.json")
    write_json(tmp_path / "run" / "provenance.json", {**provenance, "corpus": {"hash": "other"}})
    resealed(tmp_path / "run")
    with pytest.raises(SettingsError, match="corpus"):
        probe(tmp_path / "run", corpus, ALL, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_one_sequence_cannot_be_halved(tiny_run: Make, corpus: Path) -> None:
    with pytest.raises(SettingsError, match="1 validation sequence"):
        held_out(objective(tiny_run(training={"validation_sequences": 1})), open_corpus(corpus), 64)


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(ValidationError, match="gradient_batches 8"):
        ProbeSettings(sequences=4)
    with pytest.raises(ValidationError, match="an entry is repeated"):
        ProbeSettings(checkpoints=("ckp87", "ckp87"))


def test_a_probe_that_fails_leaves_no_summary(
    finished: dict[str, Path], probed: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished["pld"], tmp_path / "run")
    shutil.copytree(probed["pld"], tmp_path / "out")
    (tmp_path / "run/checkpoints/ckp186/config.json").unlink()
    resealed(tmp_path / "run")
    probe(tmp_path / "run", corpus, ALL, tmp_path / "out", progress=False)  # is left alone: the same job
    fewer = ALL.model_copy(update={"lesion_draws": 2})
    with pytest.raises(RecordError, match=r"config.json: no such file"):
        probe(tmp_path / "run", corpus, fewer, tmp_path / "out", progress=False)
    with pytest.raises(RecordError, match="the run is not complete"):
        load_probe(tmp_path / "out")


def test_a_number_that_is_not_finite_is_refused(finished: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(finished["baseline"], tmp_path / "run")
    weights = load_file(tmp_path / "run/checkpoints/ckp87/model.safetensors")
    weights["bert.encoder.layer.1.output.LayerNorm.bias"][0] = torch.inf
    save_file(weights, tmp_path / "run/checkpoints/ckp87/model.safetensors", {"format": "pt"})
    resealed(tmp_path / "run")
    with pytest.raises(DivergedError, match=r"run: ckp87: gradient_norm is not finite: layer 1, part block"):
        probe(tmp_path / "run", corpus, ALL, tmp_path / "out", progress=False)
    assert not (tmp_path / "out/summary.json").exists()


def test_an_incomplete_probe_names_its_log(probed: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "probe" / "pld" / "seed1"
    with pytest.raises(RecordError, match=r"logs/probe/pld/seed1\.log"):
        load_probe(folder)
    shutil.copytree(probed["pld"], folder)
    summary = read_json(folder / "summary.json")
    del summary["norm"]
    write_json(folder / "summary.json", summary)
    with pytest.raises(RecordError, match=r"summary\.json: norm: "):
        load_probe(folder)
