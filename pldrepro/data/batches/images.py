"""Batches of images, augmented; a function of (seed, step)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pldrepro.data.batches.rows import AUGMENTATION, Batch, EpochOrder


@dataclass(frozen=True)
class ImageBatch(Batch):
    """The images of one optimizer step."""

    pixels: np.ndarray  # (B, H, W, 3) uint8
    labels: np.ndarray  # (B,) int64, 0..C-1


@dataclass
class ImageBatchSampler:
    """Batches of a split; everything is a function of (seed, step), as in ``pldrepro.data.batches.masked``."""

    pixels: np.ndarray  # (N, H, W, 3) uint8
    labels: np.ndarray  # (N,) int64
    seed: int
    augment: bool
    _order: EpochOrder = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.pixels) != len(self.labels) or not len(self.labels):
            raise ValueError(
                f"{len(self.pixels)} images, {len(self.labels)} labels; expected the same number, at least one"
            )
        self._order = EpochOrder(self.num_samples, self.seed)

    @property
    def num_samples(self) -> int:
        """Images in one pass (an epoch)."""
        return len(self.labels)

    def batch(self, step: int, batch_size: int) -> ImageBatch:
        """The batch of optimizer step ``step``, augmented where ``augment``; the order is shuffled in every epoch."""
        images = self._order.batch(step, batch_size)
        pixels = self.pixels[images]
        if self.augment:
            pixels = augmented(pixels, np.random.default_rng([self.seed, AUGMENTATION, step]))
        return ImageBatch(pixels, self.labels[images])

    def validation_batch(self, count: int) -> ImageBatch:
        """The first ``count`` images (or all there are), never augmented: for validation. On disk until used."""
        return ImageBatch(self.pixels[:count], self.labels[:count])


def augmented(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Each image of (B, H, W, 3) shifted by up to an eighth of a side, and mirrored with probability 1/2.

    What the shift leaves empty is filled by the image's own reflection at that edge.
    """
    count, side = pixels.shape[:2]
    reach = side // 8
    shifts = generator.integers(-reach, reach + 1, size=(2, count, 1))
    rows, columns = (_reflected(np.arange(side) + shift, side) for shift in shifts)
    mirror = generator.random((count, 1)) < 0.5
    columns = np.where(mirror, columns[:, ::-1], columns)
    return pixels[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _reflected(places: np.ndarray, side: int) -> np.ndarray:
    """Places outside 0..side-1 folded back inside, without repeating the edge."""
    return side - 1 - np.abs(side - 1 - np.abs(places))
