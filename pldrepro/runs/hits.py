"""Results of single items: hits in two bits each (which of two a model preferred), and ranks. numpy only.

A hit is 1 (the right one), 1/2 (a tie), 0 (the other), or nan (the item was left out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pldrepro.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "hits.safetensors"
LEFT_OUT = 3  # code of nan; the others are twice the hit


def pack(hits: np.ndarray) -> np.ndarray:
    """(N,) hits -> (ceil(N / 4),) uint8, the first item in the lowest bits."""
    codes = np.where(np.isnan(hits), LEFT_OUT, 2 * np.nan_to_num(hits)).astype(np.uint8)
    padded = np.pad(codes, (0, -len(codes) % 4), constant_values=LEFT_OUT).reshape(-1, 4)
    packed: np.ndarray = (padded << np.array([0, 2, 4, 6], np.uint8)).sum(axis=1, dtype=np.uint8)
    return packed


def unpack(packed: np.ndarray, count: int) -> np.ndarray:
    """(N,) float32 hits of ``count`` items; an array of another length is a ValueError."""
    if packed.dtype != np.uint8 or len(packed) != -(-count // 4):
        raise ValueError(f"{len(packed)} bytes of {packed.dtype} for {count} items; allowed: {-(-count // 4)} of uint8")
    codes = ((packed[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3).reshape(-1)[:count]
    return np.where(codes == LEFT_OUT, np.nan, codes / 2).astype(np.float32)


def save_hits(path: Path, hits: Mapping[str, np.ndarray]) -> None:
    """Write the hits of every CHECKPOINT/TASK."""
    from safetensors.numpy import save_file

    from pldrepro.files import atomic_path

    with atomic_path(path) as temporary:
        save_file({name: pack(values) for name, values in hits.items()}, temporary)


def load_hits(path: Path, counts: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The hits of every CHECKPOINT/TASK, of so many items each; a damaged file is a RecordError."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        return {name: unpack(arrays[name], count) for name, count in counts.items()}
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise RecordError(f"{path}: damaged or cut short ({error})") from None


def load_ranks(path: Path, checkpoint: str) -> np.ndarray:
    """Rank of the right word in each ranked passage of LAMBADA; a damaged file, or one without, is a RecordError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            ranks: np.ndarray = file.get_tensor(f"{checkpoint}/ranks")
            return ranks
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path}: damaged, or without ranks at {checkpoint} ({error})") from None
