"""A run on several ranks, each a fork of the test's process."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pldrepro.config.run import RunSettings
from pldrepro.training.distributed import process_group
from pldrepro.training.pretrain import pretrain

Make = Callable[..., RunSettings]
FORK = multiprocessing.get_context("fork")
PATIENCE = 600  # [s] for what must end soon, on however slow a machine


def on_ranks(number: int, work: Callable[[], None], environment: dict[str, str] | None = None) -> list[int | None]:
    """Exit statuses of the ranks, each of which does the work in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def main(rank: int) -> None:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **(environment or {})}
        work()

    processes = [FORK.Process(target=main, args=(rank,)) for rank in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    return [process.exitcode for process in processes]


def train(settings: RunSettings, data: Path, folder: Path, **options: Any) -> Path:
    """A whole run on as many ranks as its settings say."""

    def work() -> None:
        with process_group(settings.impl) as world:
            pretrain(settings, data, folder, progress=False, world=world, **options)

    if settings.impl.ranks == 1:
        work()
    else:
        assert on_ranks(settings.impl.ranks, work) == [0] * settings.impl.ranks
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "checkpoints/ckp186/model.safetensors")
