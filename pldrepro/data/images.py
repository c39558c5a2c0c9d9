"""Prepared images: the pictures of a source as memory-mapped arrays. numpy only, Pillow to decode.

A folder holds, for train and validation, ``<split>_pixels.npy`` (N, H, W, 3) uint8 and ``<split>_labels.npy`` (N,)
int64, and ``manifest.json``, written last. Each split was shuffled once, so that every prefix
holds the classes in the proportions of the whole.

Shape legend: H = W pixels of a side, N images of a split, C classes.
"""

from __future__ import annotations

import hashlib
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pldrepro.config.data import ImageDataSettings
from pldrepro.data.arrays import check_hash
from pldrepro.data.batches.rows import STORAGE
from pldrepro.data.manifests import ImagesEntry, ImagesManifest, Split, read_prepared, write_prepared
from pldrepro.data.sources.image_files import ImageSource, open_image_source
from pldrepro.errors import DataError
from pldrepro.files import atomic_path, sha256

SPLITS: tuple[Split, ...] = ("train", "validation")
ARRAYS = ("pixels", "labels")
CHUNK_BYTES = 1 << 22  # of pixels that are worked on at a time; bounds the memory


@dataclass(frozen=True)
class Images:
    """Prepared images: arrays that stay on disk."""

    folder: Path
    manifest: ImagesManifest
    train_pixels: np.ndarray  # (N, H, W, 3) uint8
    train_labels: np.ndarray  # (N,) int64, 0..C-1
    validation_pixels: np.ndarray
    validation_labels: np.ndarray

    @property
    def hash(self) -> str:
        """Digest of pixels, labels and class names."""
        return self.manifest.hash

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return tuple(self.manifest.classes)

    @property
    def image_size(self) -> int:
        """Pixels of a side."""
        return self.manifest.image_size

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training images, of values in [0, 1]."""
        return tuple(self.manifest.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training images, of values in [0, 1]."""
        return tuple(self.manifest.std)


def open_images(folder: Path) -> Images:
    """Map prepared images; an array that is missing or is not what the manifest says is a DataError."""
    manifest = read_prepared(folder, ImagesManifest, "prepare images")
    arrays = []
    for split in SPLITS:
        for name in ARRAYS:
            path = folder / f"{split}_{name}.npy"
            expected = _shape(name, manifest.splits[split].images, manifest.image_size)
            try:
                array = np.load(path, mmap_mode="c")  # torch wants arrays that may be written to; the file stays
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"{path}: {error}; run `prepare images` again") from None
            if array.shape != expected or array.dtype != _dtype(name):
                raise DataError(
                    f"{path}: {array.dtype} {array.shape}, the manifest says {_dtype(name)} {expected}; "
                    "run `prepare images` again"
                )
            digest = getattr(manifest.splits[split], f"{name}_sha256")
            if digest not in ("", sha256(path)):  # earlier versions did not say
                raise DataError(f"{path}: not what the manifest says (its SHA-256 differs); run `prepare images` again")
            arrays.append(array)
    return Images(folder, manifest, *arrays)


def _shape(name: str, count: int, side: int) -> tuple[int, ...]:
    return (count, side, side, 3) if name == "pixels" else (count,)


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(np.uint8 if name == "pixels" else np.int64)


def prepare_images(settings: ImageDataSettings, out: Path, progress: bool = True) -> ImagesManifest:
    """Decode the images of a source into ``out``; returns the manifest.

    Memory is bounded whatever the source. Earlier images in ``out`` are replaced; until the new manifest is written,
    there are no prepared images there. Raises SettingsError or DataError.
    """
    from tqdm import tqdm

    source = open_image_source(settings)
    manifest_path = out / "manifest.json"
    splits: dict[Split, ImagesEntry] = {}
    manifest_path.unlink(missing_ok=True)
    with tqdm(unit="image", file=sys.stderr, disable=not progress) as bar:
        for split in SPLITS:
            bar.set_description(split)
            labels = _write_split(source, split, settings.image_size, out, bar)
            counts = np.bincount(labels, minlength=len(source.classes)).tolist()
            absent = [name for name, count in zip(source.classes, counts, strict=True) if not count]
            if absent:
                raise DataError(f"{split}: no image of class {', '.join(absent)}; allowed: some of every class")
            files = {f"{name}_sha256": sha256(out / f"{split}_{name}.npy") for name in ARRAYS}
            splits[split] = ImagesEntry(images=len(labels), images_by_class=counts, **files)
    mean, std = _moments(np.load(out / "train_pixels.npy", mmap_mode="r"))
    manifest = ImagesManifest(
        source=source.describe(),
        image_size=settings.image_size,
        classes=list(source.classes),
        mean=mean,
        std=std,
        splits=splits,
        hash=_hash(splits, source.classes),
    )
    check_hash(manifest.hash, settings.hash, "data_hash", out)
    return write_prepared(out, manifest)


def _write_split(source: ImageSource, split: str, side: int, out: Path, bar: Any) -> np.ndarray:
    """Write the two arrays of a split, shuffled; returns the labels as they are written, (N,)."""
    labels: list[int] = []
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as unordered:  # the number of images is known only after the last one
        for pixels, label in source.images(split):
            assert pixels.shape == (side, side, 3), pixels.shape
            unordered.write(pixels.tobytes())
            labels.append(label)
            bar.update()
        if not labels:
            raise DataError(f"{split}: no image; allowed: some of every class")
        array = np.array(labels, dtype=_dtype("labels"))
        order = balanced_order(array)
        shape = _shape("pixels", len(labels), side)
        images = np.memmap(unordered, dtype=np.uint8, mode="r", shape=shape)
        with atomic_path(out / f"{split}_pixels.npy") as path:
            target = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
            for part in _chunks(shape):
                target[part] = images[order[part]]
            target.flush()
    with atomic_path(out / f"{split}_labels.npy") as path, path.open("wb") as file:
        np.save(file, array[order])
    return array[order]


def _chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first dimension that hold CHUNK_BYTES of uint8, at least one row."""
    rows = max(1, CHUNK_BYTES // math.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield slice(start, start + rows)


def balanced_order(labels: np.ndarray) -> np.ndarray:
    """A fixed permutation of (N,) labels in which every prefix has the classes in the proportions of the whole.

    The images of a class are shuffled and spread evenly over the order, so that a prefix of k images has the class's
    share of k to within two.
    """
    generator = np.random.default_rng([0, STORAGE])
    keys = np.empty(len(labels))
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        keys[members] = (np.arange(len(members)) + generator.random(len(members))) / len(members)
    return np.argsort(keys, kind="stable")


def _moments(pixels: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of values in [0, 1]; the sums are exact."""
    total, squares = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    for part in _chunks(pixels.shape):
        values = pixels[part].reshape(-1, 3).astype(np.int64)
        total += values.sum(axis=0)
        squares += (values * values).sum(axis=0)
    count = pixels.size // 3
    mean = total / count
    variance = squares / count - mean * mean
    # A channel without contrast is divided by 1, not by 0.
    std = np.where(variance > 0, np.sqrt(np.maximum(variance, 0.0)), 255.0)
    return (mean / 255).tolist(), (std / 255).tolist()


def _hash(splits: Mapping[Split, ImagesEntry], classes: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for split in SPLITS:
        for name in ARRAYS:
            digest.update(bytes.fromhex(getattr(splits[split], f"{name}_sha256")))
    digest.update("\n".join(classes).encode())
    return digest.hexdigest()
