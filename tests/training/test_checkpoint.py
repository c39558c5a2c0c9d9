"""Resume checkpoints: they come back bit for bit, and a damaged one is named instead of used."""

import json
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pldrepro.errors import RecordError
from pldrepro.training import checkpoint as module
from pldrepro.training.checkpoint import FILE, load_state, save_state
from pldrepro.training.optim import adamw, set_learning_rate

PROGRESS = {"step": 3, "loss": 0.1 + 0.2, "kept": {"4": 2}}


def trained(seed: int = 0, width: int = 4, steps: int = 3, **options: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, width), nn.LayerNorm(width), nn.Linear(width, 2))
    optimizer = adamw(model, weight_decay=0.01, **options)
    for step in range(steps):
        advance(model, optimizer, step)
    return model, optimizer


def advance(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    set_learning_rate(optimizer, 0.01 * (step + 1))
    model(torch.arange(3.0) + step).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("bias_correction", [True, False])
def test_round_trip(tmp_path: Path, bias_correction: bool) -> None:
    model, optimizer = trained(bias_correction=bias_correction)
    save_state(tmp_path, model, optimizer, PROGRESS)
    other, its_optimizer = trained(seed=9, steps=1, bias_correction=bias_correction)
    assert load_state(tmp_path, other, its_optimizer) == PROGRESS
    assert same(model, other)
    for step in (3, 4):  # moments and step counters came back too
        advance(model, optimizer, step)
        advance(other, its_optimizer, step)
    assert same(model, other)


def test_a_parameter_that_never_had_a_gradient_has_no_moments_afterwards_either(tmp_path: Path) -> None:
    model, optimizer = trained()
    model.append(nn.Linear(2, 2))
    optimizer = adamw(model, weight_decay=0.0)
    set_learning_rate(optimizer, 0.1)
    model[0](torch.ones(3)).sum().backward()
    optimizer.step()
    save_state(tmp_path, model, optimizer, PROGRESS)
    fresh = adamw(model, weight_decay=0.0)
    load_state(tmp_path, model, fresh)
    assert len(fresh.state_dict()["state"]) == len(optimizer.state_dict()["state"]) == 2


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_state(tmp_path / "resume", *trained()) is None


@pytest.mark.parametrize("kept", [0, 7, 100, -1])
def test_a_file_cut_short_is_named(tmp_path: Path, kept: int) -> None:
    save_state(tmp_path, *trained(), PROGRESS)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RecordError, match=r"state\.safetensors"):
        load_state(tmp_path, *trained())


def header_length(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def test_a_flipped_byte_anywhere_in_the_tensors_is_found(tmp_path: Path) -> None:
    save_state(tmp_path, *trained(), PROGRESS)
    path = tmp_path / FILE
    content = path.read_bytes()
    start = header_length(content)
    for place in range(start, len(content), 37):
        damaged = bytearray(content)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(RecordError, match=r"state\.safetensors"):
            load_state(tmp_path, *trained())


def test_altered_progress_is_found(tmp_path: Path) -> None:
    save_state(tmp_path, *trained(), PROGRESS)
    path = tmp_path / FILE
    content = path.read_bytes()
    assert content.count(b'\\"step\\": 3') == 1
    path.write_bytes(content.replace(b'\\"step\\": 3', b'\\"step\\": 8'))
    with pytest.raises(RecordError, match="checksum differs"):
        load_state(tmp_path, *trained())


def test_a_file_without_our_metadata_is_named(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / FILE)
    with pytest.raises(RecordError, match=r"state\.safetensors"):
        load_state(tmp_path, *trained())


def test_a_model_of_another_shape_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, *trained(), PROGRESS)
    model, optimizer = trained(width=5)
    before = [tensor.clone() for tensor in model.state_dict().values()]
    with pytest.raises(RecordError, match=r"state\.safetensors"):
        load_state(tmp_path, model, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, model.state_dict().values(), strict=True))


def test_an_interrupted_write_leaves_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, optimizer = trained()
    save_state(tmp_path, model, optimizer, PROGRESS)
    before = (tmp_path / FILE).read_bytes()

    def full_disk(tensors: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(module, "save_file", full_disk)
    advance(model, optimizer, 3)
    with pytest.raises(OSError, match="No space left on device"):
        save_state(tmp_path, model, optimizer, {"step": 4})
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert (tmp_path / FILE).read_bytes() == before
    assert load_state(tmp_path, model, optimizer) == PROGRESS


def test_a_full_disk_is_named_and_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    model, optimizer = trained()
    save_state(tmp_path, model, optimizer, PROGRESS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # bytes in a file
    try:
        with pytest.raises(RecordError, match=r"state\.safetensors"):
            save_state(tmp_path, model, optimizer, {"step": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    assert load_state(tmp_path, model, optimizer) == PROGRESS


def test_progress_is_plain_json(tmp_path: Path) -> None:
    save_state(tmp_path, *trained(), PROGRESS)
    with safe_open(tmp_path / FILE, "pt") as file:
        assert json.loads(file.metadata()["progress"]) == PROGRESS
