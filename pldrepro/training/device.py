"""The device a run computes on: selection, precision, threads, memory, and its description for the record."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pldrepro.config.run import ImplSettings
from pldrepro.errors import SettingsError
from pldrepro.runs.schema import Device

# Kernels that are left to torch under each setting. On Hopper it tries cudnn first, which has no masks of every kind.
ATTENTION = {
    "auto": ("cudnn", "flash", "efficient"),
    "cudnn": ("cudnn", "efficient"),
    "flash": ("flash", "efficient"),
    "efficient": ("efficient",),
    "math": (),
}
SWITCHES: dict[str, Callable[[bool], None]] = {
    "cudnn": torch.backends.cuda.enable_cudnn_sdp,
    "flash": torch.backends.cuda.enable_flash_sdp,
    "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
}


def select_device(impl: ImplSettings) -> torch.device:
    """The device of the settings; "auto" takes the GPU where there is one, each rank its own.

    Also sets the number of CPU threads.
    """
    torch.set_num_threads(impl.threads)
    if impl.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("impl.device is cuda, but this machine has no usable GPU; allowed here: auto, cpu")
    if impl.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    index, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if index >= count:
        raise SettingsError(f"impl.ranks {impl.ranks}: rank {index} of this machine has no GPU; there are {count}")
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    choose_attention(impl.attention)
    return device


def choose_attention(name: str) -> None:
    """Leave torch the fused kernels that ATTENTION lists; it takes the first that can, else plain products."""
    for kernel, enable in SWITCHES.items():
        enable(kernel in ATTENTION[name])


def on_device(array: np.ndarray, device: torch.device) -> Tensor:
    """A tensor of an array; to a GPU from pinned memory, so that neither waits for the other."""
    tensor = torch.from_numpy(array)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def autocast(impl: ImplSettings, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """bfloat16 autocast, or nothing at float32."""
    if impl.precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def synchronizer(device: torch.device) -> Callable[[], None]:
    """A function that waits until the device has done all that was queued."""
    if device.type == "cuda":
        return torch.cuda.synchronize
    return lambda: None


def peak_memory_bytes(device: torch.device) -> int:
    """Peak memory of this process: allocated on the GPU, or resident on the CPU [bytes]."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def describe(device: torch.device, impl: ImplSettings) -> Device:
    """The device for the record: type, name, threads, memory of a GPU; the number of ranks where there are several."""
    ranks, nodes = (None, None) if impl.ranks == 1 else (impl.ranks, impl.nodes)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        memory = properties.total_memory
        return Device(type="cuda", name=properties.name, memory_bytes=memory, ranks=ranks, nodes=nodes)
    return Device(type="cpu", threads=impl.threads, ranks=ranks, nodes=nodes)
