"""Resume checkpoints: everything that a run needs to go on bit for bit, in one safetensors file. No pickle.

Random numbers need no state here: gates, batches, masks and dropout are functions of (seed, step).
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from pldrepro.errors import RecordError
from pldrepro.files import atomic_path

FILE = "state.safetensors"


def save_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write model, optimizer and progress atomically, with a checksum."""
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer/{index}/{key}": value for key, value in state.items()})
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    text = json.dumps(progress)
    metadata = {"progress": text, "checksum": _checksum(tensors, text)}
    with atomic_path(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
    """Restore model and optimizer in place and return the progress; None when there is no checkpoint.

    A file that is cut short, altered or from another model is a RecordError that names it and says what to do.
    """
    path = folder / FILE
    if not path.exists():
        return None
    tensors, metadata = _read(path)
    if metadata.get("checksum") != _checksum(tensors, metadata.get("progress", "")):
        raise RecordError(f"{path}: damaged (its checksum differs); delete it to start this run again")
    weights = {name.removeprefix("model/"): t for name, t in tensors.items() if name.startswith("model/")}
    expected = model.state_dict()
    if {name: t.shape for name, t in weights.items()} != {name: t.shape for name, t in expected.items()}:
        raise RecordError(f"{path}: belongs to a model of another shape; delete it to start this run again")
    model.load_state_dict(weights)
    state = optimizer.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "optimizer":
            index, _, key = rest.partition("/")
            state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(state)
    progress: dict[str, Any] = json.loads(metadata["progress"])
    return progress


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise RecordError(f"{path}: damaged or cut short ({error}); delete it to start this run again") from None


def _checksum(tensors: dict[str, torch.Tensor], progress: str) -> str:
    digest = blake2b(progress.encode(), digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
